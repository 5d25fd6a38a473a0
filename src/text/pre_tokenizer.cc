// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "text/component.h"
#include "text/unicode.h"

#ifdef SWARR_UNICODE
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

namespace swarr {
namespace {

using nlohmann::json;

constexpr const char* kRole = "pre_tokenizer";
// Radford et al. 2019, as their encoder has it.
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// The regex of a Split. `tokenizers` also takes a String there, and cuts in other ways.
std::string PatternOf(const json& split, const std::string& where) {
  const json::json_pointer regex("/pattern/Regex");
  SWARR_CHECK(split.contains(regex) && split[regex].is_string(), where,
              ": the pre_tokenizer Split needs a pattern of the form {\"Regex\": \"...\"}");
  SWARR_CHECK(split.contains("behavior") && split["behavior"] == "Isolated" && IsOff(split, "invert"), where,
              ": the pre_tokenizer Split is supported with the behavior Isolated and invert false, not as ",
              Excerpt(split.dump()));
  return split[regex].get<std::string>();
}

}  // namespace

PreTokenizer::PreTokenizer(const json& json, std::string where) : where_(std::move(where)) {
  for (const auto& step : StepsOf(where_, kRole, json, "pretokenizers")) {
    SWARR_CHECK(!byte_level_, where_, ": the pre_tokenizer ByteLevel must be the last of its Sequence");
    ReadStep(step);
  }
}

void PreTokenizer::ReadStep(const json& json) {
  const std::string name = NameOf(json);
  if (name == "Split") {
    AddRegex(PatternOf(json, where_));
  } else if (name == "Digits") {
    AddRegex(IsOff(json, "individual_digits") ? "\\p{N}+" : "\\p{N}");
  } else if (name == "ByteLevel") {
    NeedUnicodeLibraries(where_ + ": the pre_tokenizer ByteLevel");
    SWARR_CHECK(IsOff(json, "add_prefix_space"), where_,
                ": add_prefix_space of the pre_tokenizer ByteLevel is not supported");
    if (!json.contains("use_regex") || json["use_regex"] == true) AddRegex(kGpt2);
    byte_level_ = true;
  } else {
    RefuseComponent(where_, kRole, json);
  }
}

#ifdef SWARR_UNICODE
namespace {

std::string MessageOf(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

void PreTokenizer::AddRegex(std::string_view pattern) {
  const std::string translated = TranslatePattern(pattern, where_);
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  SWARR_CHECK(code != nullptr, where_, ": the regex ", Excerpt(pattern), " is wrong: ", MessageOf(error));
  regexes_.emplace_back(code, pcre2_code_free);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it can't, the interpreter finds the same matches
}

void PreTokenizer::SplitBy(std::size_t step, std::string_view text, const Visit& visit, pcre2_match_data& match) const {
  if (step == regexes_.size()) return visit(text);
  std::size_t done = 0;
  while (done < text.size()) {
    const auto find = [&](std::uint32_t options) {
      return pcre2_match(regexes_[step].get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                         PCRE2_NO_UTF_CHECK | options, &match, nullptr);
    };
    int found = find(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = find(PCRE2_NO_JIT);  // which has the heap for a stack
    if (found == PCRE2_ERROR_NOMATCH) break;
    SWARR_CHECK(found >= 0, where_, ": a regex of the pre_tokenizer fails on this text: ", MessageOf(found));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(&match);
    const std::size_t begin = span[0], end = span[1];
    SWARR_CHECK(begin < end && begin >= done, where_,
                ": a regex of the pre_tokenizer matches the empty text, which splits nothing");
    if (begin > done) SplitBy(step + 1, text.substr(done, begin - done), visit, match);
    SplitBy(step + 1, text.substr(begin, end - begin), visit, match);
    done = end;
  }
  if (done < text.size()) SplitBy(step + 1, text.substr(done), visit, match);
}

void PreTokenizer::Split(std::string_view text, const Visit& visit) const {
  // One pair of places is enough: only the whole match counts, not its groups.
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(pcre2_match_data_create(1, nullptr),
                                                                             pcre2_match_data_free);
  SWARR_CHECK(match != nullptr, where_, ": there is no memory to match a regex");
  if (!text.empty()) SplitBy(0, text, visit, *match);
}
#else
void PreTokenizer::AddRegex(std::string_view) { NeedUnicodeLibraries(where_ + ": the pre_tokenizer"); }

void PreTokenizer::Split(std::string_view text, const Visit& visit) const {
  if (!text.empty()) visit(text);  // there is no regex
}
#endif

}  // namespace swarr
