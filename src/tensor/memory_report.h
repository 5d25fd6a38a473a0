// SPDX-License-Identifier: Apache-2.0
// Where memory goes, by name. Owners of long-lived memory note what they hold; the arena knows the labels of its own.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tensor/memory.h"

namespace swarr {

class MemoryReport {
 public:
  // `bytes` are held under this name. If a later owner notes the same name, the larger number counts.
  void Note(const std::string& name, std::size_t bytes);

  // The sum of what was noted.
  std::size_t held_bytes() const;

  // {"held": {name: bytes}, "arena": {"high_water": bytes, "by_op": {label: bytes}}, "peak_resident": bytes}. Names
  // stand in the order of their first note, labels largest first; peak_resident counts the whole process.
  nlohmann::ordered_json ToJson(const Arena& arena) const;
  // The same as a table.
  std::string ToText(const Arena& arena) const;

 private:
  std::vector<std::pair<std::string, std::size_t>> held_;
};

}  // namespace swarr
