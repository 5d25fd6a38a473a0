// SPDX-License-Identifier: Apache-2.0
#include "tensor/memory_report.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace swarr {
namespace {

std::string Line(const std::string& name, std::size_t bytes) {
  char text[96];
  std::snprintf(text, sizeof text, "%-38s %12.3f MB\n", name.c_str(), static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

void MemoryReport::Note(const std::string& name, std::size_t bytes) {
  auto found = std::find_if(held_.begin(), held_.end(), [&](const auto& h) { return h.first == name; });
  if (found == held_.end()) found = held_.insert(found, {name, 0});
  found->second = std::max(found->second, bytes);
}

std::size_t MemoryReport::held_bytes() const {
  std::size_t sum = 0;
  for (const auto& [name, bytes] : held_) sum += bytes;
  return sum;
}

nlohmann::ordered_json MemoryReport::ToJson(const Arena& arena) const {
  using nlohmann::ordered_json;
  ordered_json held = ordered_json::object(), by_op = ordered_json::object();
  for (const auto& [name, bytes] : held_) held[name] = bytes;
  for (const auto& [label, bytes] : arena.HighWaterByLabel()) by_op[label] = bytes;
  return {{"held", std::move(held)},
          {"arena", {{"high_water", arena.high_water_bytes()}, {"by_op", std::move(by_op)}}},
          {"peak_resident", PeakResidentBytes()}};
}

std::string MemoryReport::ToText(const Arena& arena) const {
  std::string text = "memory\n";
  for (const auto& [name, bytes] : held_) text += Line("  " + name, bytes);
  text += Line("  step arena, high-water mark", arena.high_water_bytes());
  for (const auto& [label, bytes] : arena.HighWaterByLabel()) text += Line("    " + label, bytes);
  return text + Line("  peak resident size of the process", PeakResidentBytes());
}

}  // namespace swarr
