// SPDX-License-Identifier: Apache-2.0
// The regexes of tokenizer.json. `tokenizers` runs them with Oniguruma, this program with PCRE2, so a pattern is read
// first: what both take for the same is passed on, \s and \S are spelt out as the property White_Space (the two differ
// in U+180E), and all else is refused by name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace swarr {

class Regex {
 public:
  // Throws if the pattern is wrong or holds what the two engines may take differently; `where` opens the sentence.
  // Without PCRE2 (nfc.h) it always throws.
  Regex(std::string_view pattern, std::string where);

  // Cuts `text`, which must be UTF-8, into the matches of the pattern and what lies between them, and calls
  // visit(piece) for each in order. Throws if the pattern matches the empty text, or takes too many steps. It reuses
  // its memory for every match, so it is for one thread at a time.
  class Splitter {
   public:
    explicit Splitter(const Regex& regex);
    void Split(std::string_view text, const std::function<void(std::string_view)>& visit);

   private:
    const Regex& regex_;
    std::unique_ptr<pcre2_real_match_data_8, void (*)(pcre2_real_match_data_8*)> match_{nullptr, nullptr};
  };

 private:
  std::string where_;
  std::unique_ptr<pcre2_real_code_8, void (*)(pcre2_real_code_8*)> code_{nullptr, nullptr};
};

// The pattern for PCRE2 (options UTF and UCP) that matches what Oniguruma matches by `pattern`. Throws as Regex does.
std::string TranslatePattern(std::string_view pattern, const std::string& where);

}  // namespace swarr
