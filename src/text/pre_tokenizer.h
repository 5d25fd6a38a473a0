// SPDX-License-Identifier: Apache-2.0
// Cuts a text into the words within which BPE merges.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace swarr {

// The pre_tokenizer of tokenizer.json: null, or one or a Sequence of
//   Split(Regex, Isolated)    the matches of a regex and what lies between them
//   Digits                    each digit (character of category N) by itself, or each run of digits
//   ByteLevel                 GPT-2's regex if use_regex is on; the words are bytes from then on: the last step
class PreTokenizer {
 public:
  // Throws on anything else, by name; `where` opens the sentence.
  PreTokenizer(const nlohmann::json& json, const std::string& where);

  // Whether tokens are strings of bytes (text/byte_alphabet.h), not of characters.
  bool byte_level() const { return byte_level_; }

  // Calls visit(word) for the words of `text` in order; together they are the text.
  void Split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  void ReadStep(const nlohmann::json& json, const std::string& where);

  std::vector<Regex> regexes_;  // each cuts what the one before has cut out
  bool byte_level_ = false;
};

}  // namespace swarr
