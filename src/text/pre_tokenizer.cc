// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "text/component.h"
#include "text/nfc.h"

namespace swarr {
namespace {

using nlohmann::json;

constexpr const char* kRole = "pre_tokenizer";
// Radford et al. 2019, as their encoder has it.
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

using Visit = std::function<void(std::string_view)>;

void SplitBy(std::vector<Regex::Splitter>& splitters, std::size_t step, std::string_view text, const Visit& visit) {
  if (step == splitters.size()) return visit(text);
  if (step + 1 == splitters.size()) return splitters[step].Split(text, visit);
  splitters[step].Split(text, [&](std::string_view piece) { SplitBy(splitters, step + 1, piece, visit); });
}

// The regex of a Split. `tokenizers` also takes a String there, and cuts in other ways.
std::string PatternOf(const json& split, const std::string& where) {
  const bool by_regex = split.contains("pattern") && split["pattern"].is_object() &&
                        split["pattern"].contains("Regex") && split["pattern"]["Regex"].is_string();
  SWARR_CHECK(by_regex, where, ": the pre_tokenizer Split needs a pattern of the form {\"Regex\": \"...\"}");
  SWARR_CHECK(split.contains("behavior") && split["behavior"] == "Isolated" && IsOff(split, "invert"), where,
              ": the pre_tokenizer Split is supported with the behavior Isolated and invert false, not as ",
              split.dump());
  return split["pattern"]["Regex"].get<std::string>();
}

}  // namespace

PreTokenizer::PreTokenizer(const json& json, const std::string& where) {
  for (const auto& step : StepsOf(where, kRole, json, "pretokenizers")) {
    SWARR_CHECK(!byte_level_, where, ": the pre_tokenizer ByteLevel must be the last of its Sequence");
    ReadStep(step, where);
  }
}

void PreTokenizer::ReadStep(const json& json, const std::string& where) {
  const std::string name = NameOf(json);
  if (name == "Split") {
    regexes_.emplace_back(PatternOf(json, where), where);
  } else if (name == "Digits") {
    regexes_.emplace_back(IsOff(json, "individual_digits") ? "\\p{N}+" : "\\p{N}", where);
  } else if (name == "ByteLevel") {
    NeedUnicodeLibraries(where + ": the pre_tokenizer ByteLevel");
    SWARR_CHECK(IsOff(json, "add_prefix_space"), where,
                ": add_prefix_space of the pre_tokenizer ByteLevel is not supported");
    if (!json.contains("use_regex") || json["use_regex"] == true) regexes_.emplace_back(kGpt2, where);
    byte_level_ = true;
  } else {
    RefuseComponent(where, kRole, json);
  }
}

void PreTokenizer::Split(std::string_view text, const Visit& visit) const {
  std::vector<Regex::Splitter> splitters;
  splitters.reserve(regexes_.size());
  for (const Regex& regex : regexes_) splitters.emplace_back(regex);
  if (!text.empty()) SplitBy(splitters, 0, text, visit);
}

}  // namespace swarr
