// SPDX-License-Identifier: Apache-2.0
// Where memory goes, by name: the owners of long-lived memory note what they hold, and the arena knows who took its.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tensor/memory.h"

namespace swarr {

class MemoryReport {
 public:
  // `bytes` are held under this name. If it is noted again, for a later owner, the largest counts.
  void Note(const std::string& name, std::size_t bytes);

  // {"held": {name: bytes}, "arena": {"high_water": bytes, "by_op": {label: bytes}}, "peak_resident": bytes}: names in
  // the order of their first note, labels largest first; the last is of the whole process.
  nlohmann::ordered_json ToJson(const Arena& arena) const;
  // The same as a table.
  std::string ToText(const Arena& arena) const;

 private:
  std::vector<std::pair<std::string, std::size_t>> held_;
};

}  // namespace swarr
