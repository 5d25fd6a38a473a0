// SPDX-License-Identifier: Apache-2.0
#include "model/hf_rope.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "model/hf_config.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr const char* kDefaultRope = "default";
constexpr const char* kLlama3Rope = "llama3";
constexpr const char* kOriginalPositions = "original_max_position_embeddings";

// Types that divide or interpolate by `factor`, and so do nothing at factor 1.
bool ScalesByFactor(const std::string& type) { return type == "linear" || type == "dynamic" || type == "yarn"; }

// default or llama3, from the new key and the old one.
std::string ReadRopeType(ConfigFields& rope, const std::string& where) {
  std::string type = rope.Get<std::string>("rope_type", rope.Get<std::string>("type", kDefaultRope));
  const std::string old = rope.Get<std::string>("type", type);
  SWARR_CHECK(old == type, rope.where(), ": rope_type is '", Excerpt(type), "', but type is '", Excerpt(old), "'");
  if (ScalesByFactor(type) && rope.Get<double>("factor", 0) == 1) return kDefaultRope;
  SWARR_CHECK(type == kDefaultRope || type == kLlama3Rope, where, ": RoPE of type '", Excerpt(type),
              "' is not supported; use ", kDefaultRope, " or ", kLlama3Rope);
  return type;
}

// The length that the model was pretrained with, from `rope` or from outside of it (transformers 5 takes the latter).
int ReadOriginalPositions(ConfigFields& rope, ConfigFields& fields) {
  if (fields.Find(kOriginalPositions) == nullptr) return rope.Get<int>(kOriginalPositions);
  const int outside = fields.Get<int>(kOriginalPositions), inside = rope.Get<int>(kOriginalPositions, outside);
  SWARR_CHECK(inside == outside, rope.where(), ": ", kOriginalPositions, " is ", inside, ", but ", outside,
              " beside it; which one do the weights want?");
  return outside;
}

Llama3Scaling ReadLlama3(ConfigFields& rope, ConfigFields& fields) {
  const Llama3Scaling scaling = {rope.Get<double>("factor"), rope.Get<double>("low_freq_factor"),
                                 rope.Get<double>("high_freq_factor"), ReadOriginalPositions(rope, fields)};
  SWARR_CHECK(std::isfinite(scaling.factor) && scaling.factor >= 1, rope.where(), ": factor must be at least 1, not ",
              scaling.factor);
  SWARR_CHECK(std::isfinite(scaling.high_freq_factor) && scaling.low_freq_factor > 0 &&
                  scaling.high_freq_factor > scaling.low_freq_factor,
              rope.where(), ": high_freq_factor ", scaling.high_freq_factor, " must be above low_freq_factor ",
              scaling.low_freq_factor, ", and that above 0");
  SWARR_CHECK(scaling.original_positions >= 1, rope.where(), ": ", kOriginalPositions, " must be at least 1");
  return scaling;
}

void CheckPartial(ConfigFields& fields) {
  const double partial = fields.Get<double>("partial_rotary_factor", 1);
  SWARR_CHECK(partial == 1, fields.where(), ": partial_rotary_factor must be 1, not ", partial);
}

// Refuses what is left of a spelling of RoPE, but for values that change nothing.
void CheckNoOtherSetting(const ConfigFields& rope, const std::string& where, int positions) {
  const ordered_json unused = rope.Unused();
  for (const auto& [key, value] : unused.items()) {
    const bool neutral = value.is_null() || ((key == "factor" || key == "attention_factor") && value == 1) ||
                         (key == kOriginalPositions && value == positions);
    SWARR_CHECK(neutral, where, ": the RoPE setting '", Excerpt(key), "' is not supported");
  }
}

// Throws unless both spellings scale alike, with what differs first.
void CheckSame(const ordered_json& old, const ordered_json& found, const std::string& where) {
  if (old == found) return;
  const auto text = [](const ordered_json& scaling, const std::string& key) {
    return scaling.is_null() ? std::string("none") : scaling.at(key).dump();
  };
  const ordered_json& longer = old.is_null() ? found : old;
  for (const auto& [key, value] : longer.items()) {
    SWARR_CHECK(text(old, key) == text(found, key), where,
                ": rope_scaling and rope_parameters scale RoPE differently: ", key, " is ", text(old, key), " and ",
                text(found, key));
  }
}

}  // namespace

void ReadRope(ConfigFields& fields, ModelConfig& config) {
  const std::string& where = fields.where();
  std::optional<double> theta;
  if (fields.Find("rope_theta") != nullptr) theta = fields.Get<double>("rope_theta");
  std::optional<std::optional<Llama3Scaling>> scaling;  // outer: whether a spelling of it was seen
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const ordered_json* value = fields.Find(key);
    if (value == nullptr) continue;
    ConfigFields rope(*value, where + ": " + key);
    std::optional<Llama3Scaling> found;
    if (ReadRopeType(rope, where) == kLlama3Rope) found = ReadLlama3(rope, fields);
    if (scaling) CheckSame(ToJson(*scaling), ToJson(found), where);
    scaling = found;
    if (rope.Find("rope_theta") != nullptr) {
      const double inner = rope.Get<double>("rope_theta");
      SWARR_CHECK(!theta || *theta == inner, where, ": rope_theta is ", *theta, ", but ", inner, " in ", key);
      theta = inner;
    }
    CheckPartial(rope);
    CheckNoOtherSetting(rope, where, config.max_positions);
  }
  CheckPartial(fields);
  config.rope_theta = theta.value_or(config.rope_theta);
  config.rope_scaling = scaling.value_or(std::nullopt);
}

void WriteRope(const ModelConfig& config, ordered_json& json) {
  json["rope_theta"] = config.rope_theta;
  const ordered_json scaling = ToJson(config.rope_scaling);
  if (config.rope_scaling) json["rope_scaling"] = scaling;
  json["rope_parameters"] = config.rope_scaling ? scaling : ordered_json{{"rope_type", kDefaultRope}};
  json["rope_parameters"]["rope_theta"] = config.rope_theta;
}

ordered_json ToJson(const std::optional<Llama3Scaling>& scaling) {
  if (!scaling) return nullptr;
  return {{"rope_type", kLlama3Rope},
          {"factor", scaling->factor},
          {"low_freq_factor", scaling->low_freq_factor},
          {"high_freq_factor", scaling->high_freq_factor},
          {kOriginalPositions, scaling->original_positions}};
}

}  // namespace swarr
