// SPDX-License-Identifier: Apache-2.0
#include "text/regex.h"

#include <array>
#include <utility>

#include "tensor/check.h"
#include "text/nfc.h"

#ifdef SWARR_UNICODE
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

namespace swarr {

#ifdef SWARR_UNICODE
namespace {

std::string MessageOf(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Regex::Regex(std::string_view pattern, std::string where) : where_(std::move(where)) {
  const std::string translated = TranslatePattern(pattern, where_);
  int error = 0;
  PCRE2_SIZE at = 0;
  code_ = {pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), PCRE2_UTF | PCRE2_UCP,
                         &error, &at, nullptr),
           pcre2_code_free};
  SWARR_CHECK(code_ != nullptr, where_, ": the regex ", pattern, " is wrong: ", MessageOf(error));
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where it can't, the interpreter finds the same matches
}

Regex::Splitter::Splitter(const Regex& regex)
    : regex_(regex), match_(pcre2_match_data_create_from_pattern(regex.code_.get(), nullptr), pcre2_match_data_free) {
  SWARR_CHECK(match_ != nullptr, regex_.where_, ": there is no memory to match a regex");
}

void Regex::Splitter::Split(std::string_view text, const std::function<void(std::string_view)>& visit) {
  std::size_t done = 0;
  while (done < text.size()) {
    const auto find = [&](std::uint32_t options) {
      return pcre2_match(regex_.code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                         PCRE2_NO_UTF_CHECK | options, match_.get(), nullptr);
    };
    int found = find(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = find(PCRE2_NO_JIT);  // which has the heap for a stack
    if (found == PCRE2_ERROR_NOMATCH) break;
    SWARR_CHECK(found >= 0, regex_.where_, ": a regex of the pre_tokenizer fails on this text: ", MessageOf(found));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match_.get());
    SWARR_CHECK(span[0] < span[1] && span[0] >= done, regex_.where_,
                ": a regex of the pre_tokenizer matches the empty text, which splits nothing");
    if (span[0] > done) visit(text.substr(done, span[0] - done));
    done = span[1];
    visit(text.substr(span[0], done - span[0]));
  }
  if (done < text.size()) visit(text.substr(done));
}
#else
Regex::Regex(std::string_view, std::string where) : where_(std::move(where)) {
  NeedUnicodeLibraries(Concat(where_, ": the pre_tokenizer"));
}

Regex::Splitter::Splitter(const Regex& regex) : regex_(regex) {}
void Regex::Splitter::Split(std::string_view, const std::function<void(std::string_view)>&) {
  NeedUnicodeLibraries(regex_.where_);
}
#endif

}  // namespace swarr
