// SPDX-License-Identifier: Apache-2.0
#include "model/hf_rope.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "tensor/check.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr const char* kDefault = "default";
constexpr const char* kLlama3 = "llama3";

// "default" or "llama3", from the new key and the old one.
std::string ReadType(ConfigFields& rope, const std::string& where) {
  const std::string type = rope.Get<std::string>("rope_type", rope.Get<std::string>("type", kDefault));
  SWARR_CHECK(rope.Get<std::string>("type", type) == type, rope.where(), ": rope_type is '", type, "', but type is '",
              rope.Get<std::string>("type"), "'");
  SWARR_CHECK(type == kDefault || type == kLlama3, where, ": RoPE of type '", type, "' is not supported; use ",
              kDefault, " or ", kLlama3);
  return type;
}

Llama3Scaling ReadLlama3(ConfigFields& rope) {
  const Llama3Scaling scaling = {rope.Get<double>("factor"), rope.Get<double>("low_freq_factor"),
                                 rope.Get<double>("high_freq_factor"),
                                 rope.Get<int>("original_max_position_embeddings")};
  SWARR_CHECK(std::isfinite(scaling.factor) && scaling.factor >= 1, rope.where(), ": factor must be at least 1, not ",
              scaling.factor);
  SWARR_CHECK(std::isfinite(scaling.high_freq_factor) && scaling.low_freq_factor > 0 &&
                  scaling.high_freq_factor > scaling.low_freq_factor,
              rope.where(), ": high_freq_factor ", scaling.high_freq_factor, " must be above low_freq_factor ",
              scaling.low_freq_factor, ", and that above 0");
  SWARR_CHECK(scaling.original_positions >= 1, rope.where(), ": original_max_position_embeddings must be at least 1");
  return scaling;
}

}  // namespace

RopeSettings ReadRope(ConfigFields& fields) {
  const std::string& where = fields.where();
  std::optional<double> theta;
  if (fields.Find("rope_theta") != nullptr) theta = fields.Get<double>("rope_theta");
  std::optional<std::optional<Llama3Scaling>> scaling;  // outer: whether a spelling of it was seen
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const ordered_json* value = fields.Find(key);
    if (value == nullptr) continue;
    ConfigFields rope(*value, where + ": " + key);
    std::optional<Llama3Scaling> found;
    if (ReadType(rope, where) == kLlama3) found = ReadLlama3(rope);
    SWARR_CHECK(!scaling || *scaling == found, where, ": rope_scaling and rope_parameters scale RoPE differently");
    scaling = found;
    if (rope.Find("rope_theta") != nullptr) {
      const double inner = rope.Get<double>("rope_theta");
      SWARR_CHECK(!theta || *theta == inner, where, ": rope_theta is ", *theta, ", but ", inner, " in ", key);
      theta = inner;
    }
    const ordered_json unused = rope.Unused();
    SWARR_CHECK(unused.empty(), where, ": the RoPE setting '", unused.begin().key(), "' is not supported");
  }
  SWARR_CHECK(fields.Get<double>("partial_rotary_factor", 1) == 1, where, ": partial_rotary_factor must be 1, not ",
              fields.Get<double>("partial_rotary_factor", 1));
  RopeSettings settings;
  if (theta) settings.theta = *theta;
  if (scaling) settings.scaling = *scaling;
  return settings;
}

void WriteRope(const RopeSettings& rope, ordered_json& json) {
  ordered_json scaling = {{"rope_type", rope.scaling ? kLlama3 : kDefault}};
  if (rope.scaling) {
    scaling["factor"] = rope.scaling->factor;
    scaling["low_freq_factor"] = rope.scaling->low_freq_factor;
    scaling["high_freq_factor"] = rope.scaling->high_freq_factor;
    scaling["original_max_position_embeddings"] = rope.scaling->original_positions;
  }
  json["rope_theta"] = rope.theta;
  if (rope.scaling) json["rope_scaling"] = scaling;
  scaling["rope_theta"] = rope.theta;
  json["rope_parameters"] = scaling;
}

}  // namespace swarr
