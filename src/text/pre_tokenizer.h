// SPDX-License-Identifier: Apache-2.0
// Cuts a text into the words within which BPE merges.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace swarr {

// The pre_tokenizer of tokenizer.json: null, or one or a Sequence of
//   Split(Regex, Isolated)    the matches of a regex and what lies between them
//   Digits                    each digit (character of category N) by itself, or each run of digits
//   ByteLevel                 GPT-2's regex if use_regex is on; the words are bytes from then on: the last step
class PreTokenizer {
 public:
  using Visit = std::function<void(std::string_view)>;

  // Throws on anything else, by name, and without PCRE2 (unicode.h) on everything but null. `where` opens the sentence
  // of every error.
  PreTokenizer(const nlohmann::json& json, std::string where);

  // Whether tokens are strings of bytes (BytesOfLetters in bpe.h), not of characters.
  bool byte_level() const { return byte_level_; }

  // Calls visit(word) for the words of `text`, which must be UTF-8, in order; together they are the text. Throws if a
  // regex matches the empty text, or takes too many steps.
  void Split(std::string_view text, const Visit& visit) const;

 private:
  void ReadStep(const nlohmann::json& json);
  void AddRegex(std::string_view pattern);
  // Cuts `text` by the regexes from number `step` on.
  void SplitBy(std::size_t step, std::string_view text, const Visit& visit, pcre2_real_match_data_8& match) const;

  std::string where_;
  // Each cuts what the one before has cut out.
  std::vector<std::unique_ptr<pcre2_real_code_8, void (*)(pcre2_real_code_8*)>> regexes_;
  bool byte_level_ = false;
};

// The pattern for PCRE2 (options UTF and UCP) that matches what Oniguruma, the engine of `tokenizers`, matches by
// `pattern`: what both take for the same is passed on, and \s and \S are spelt out as the property White_Space (the two
// differ in U+180E). All else is refused by name; `where` opens the sentence.
std::string TranslatePattern(std::string_view pattern, const std::string& where);

}  // namespace swarr
