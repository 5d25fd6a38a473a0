// SPDX-License-Identifier: Apache-2.0
// TranslatePattern of text/pre_tokenizer.h: a reader of the part of the syntax that Oniguruma (Ruby's) and PCRE2 share.
#include <cctype>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"
#include "text/pre_tokenizer.h"

namespace swarr {
namespace {

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string Run() {
    while (at_ < pattern_.size()) Next();
    return std::move(out_);
  }

 private:
  std::string_view Rest() const { return pattern_.substr(at_); }
  void Copy(std::size_t bytes) { Replace(bytes, pattern_.substr(at_, bytes)); }
  void Replace(std::size_t bytes, std::string_view by) {
    out_ += by;
    at_ += bytes;
  }
  [[noreturn]] void Refuse(std::size_t bytes) const {
    throw Error(Concat(where_, ": '", Excerpt(pattern_.substr(at_, bytes)), "' at byte ", at_, " of the regex ",
                       Excerpt(pattern_), " is not supported"));
  }

  void Next() {
    const char c = pattern_[at_];
    if (c == '\\') return Escape();
    if (c == '[') return Class();
    if (c == '(') return Group();
    if (c == '{') return Repeat();
    if (c == '.' || c == '^' || c == '$') Refuse(1);  // what ends a line is not the same in both
    Copy(1);
  }

  void Escape() {
    const char c = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (c == 's') return Replace(2, "\\p{White_Space}");
    if (c == 'S') return Replace(2, "\\P{White_Space}");
    if (c == 'p' || c == 'P') return Property();
    const bool literal = std::ispunct(static_cast<unsigned char>(c)) != 0;
    if (literal || c == 'r' || c == 'n' || c == 't' || c == 'd') return Copy(2);
    Refuse(2);
  }

  // \p{L}, \P{Nd}: general categories alone; the engines name other properties differently.
  void Property() {
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) Refuse(Rest().size());
    const std::string_view name = pattern_.substr(at_ + 2, end - at_ - 2);  // with the opening brace
    const bool category = (name.size() == 2 || name.size() == 3) && name[0] == '{' &&
                          std::string_view("LMNPSZC").find(name[1]) != std::string_view::npos &&
                          (name.size() == 2 || std::islower(static_cast<unsigned char>(name[2])) != 0);
    if (!category) Refuse(end + 1 - at_);
    Copy(end + 1 - at_);
  }

  void Class() {
    Copy(Rest().starts_with("[^") ? 2 : 1);
    if (Rest().starts_with("]")) Refuse(1);
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      if (pattern_[at_] == '\\') {
        Escape();
      } else if (pattern_[at_] == '[' || Rest().starts_with("&&")) {  // Ruby's sets within sets
        Refuse(pattern_[at_] == '[' ? 1 : 2);
      } else {
        Copy(1);
      }
    }
    SWARR_CHECK(at_ < pattern_.size(), where_, ": the regex ", Excerpt(pattern_), " lacks a ']'");
    Copy(1);
  }

  void Group() {
    for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (Rest().starts_with(opening)) return Copy(opening.size());
    }
    if (Rest().starts_with("(?") || Rest().starts_with("(*")) Refuse(3);
    Copy(1);
  }

  // {2}, {2,} or {2,3}, which in PCRE2 alone a + makes possessive and a ? lazy.
  void Repeat() {
    std::size_t end = 1;
    const auto digits = [&] {
      const std::size_t begin = end;
      while (end < Rest().size() && std::isdigit(static_cast<unsigned char>(Rest()[end])) != 0) ++end;
      return end > begin;
    };
    bool good = digits();
    if (good && Rest().substr(end).starts_with(",")) {
      ++end;
      digits();
    }
    good = good && Rest().substr(end).starts_with("}");
    for (const std::string_view other : {"}+", "}?"}) good = good && !Rest().substr(end).starts_with(other);
    if (!good) Refuse(end + 1);
    Copy(end + 1);
  }

  std::string_view pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string TranslatePattern(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).Run();
}

}  // namespace swarr
