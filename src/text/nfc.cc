// SPDX-License-Identifier: Apache-2.0
#include "text/nfc.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "tensor/check.h"
#include "text/utf8.h"

#ifdef SWARR_UNICODE
#include <utf8proc.h>
#endif

namespace swarr {

bool HasUnicodeLibraries() {
#ifdef SWARR_UNICODE
  return true;
#else
  return false;
#endif
}

void NeedUnicodeLibraries(const std::string& what) {
  SWARR_CHECK(HasUnicodeLibraries(), what,
              " needs PCRE2 and utf8proc, which this build lacks; install libpcre2-dev and libutf8proc-dev and build "
              "again");
}

#ifdef SWARR_UNICODE
namespace {

// Composition without what Unicode excludes from it.
constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);

int CombiningClass(std::int32_t code) { return utf8proc_get_property(code)->combining_class; }

std::vector<std::int32_t> Decompose(std::string_view text) {
  std::vector<std::int32_t> codes;
  codes.reserve(text.size());
  std::array<std::int32_t, 32> parts{};  // the longest canonical decomposition has 4
  int boundary = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit c = UnitAt(text, at);
    const auto count = utf8proc_decompose_char(static_cast<std::int32_t>(c.code), parts.data(),
                                               static_cast<utf8proc_ssize_t>(parts.size()), kOptions, &boundary);
    SWARR_CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()), "utf8proc can't decompose ",
                DescribeCharacter(text, at));
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
    at += c.bytes;
  }
  return codes;
}

// Puts the marks of each letter in the canonical order. utf8proc would do it in quadratic time.
void OrderMarks(std::vector<std::int32_t>& codes) {
  const auto is_mark = [](std::int32_t code) { return CombiningClass(code) != 0; };
  for (auto begin = codes.begin(); begin != codes.end();) {
    begin = std::find_if(begin, codes.end(), is_mark);
    const auto end = std::find_if_not(begin, codes.end(), is_mark);
    std::stable_sort(begin, end, [](std::int32_t a, std::int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
}

}  // namespace

std::string ToNfc(std::string_view text) {
  // No character below U+0300, whose first byte is 0xCC, composes with another or has another form.
  const auto settled = [](char c) { return static_cast<unsigned char>(c) < 0xCC; };
  if (std::all_of(text.begin(), text.end(), settled)) return std::string(text);
  std::vector<std::int32_t> codes = Decompose(text);
  OrderMarks(codes);
  const auto size = static_cast<utf8proc_ssize_t>(codes.size());
  codes.push_back(0);  // utf8proc composes and writes UTF-8 in place, with a byte 0 behind it
  const auto bytes = utf8proc_reencode(codes.data(), size, kOptions);
  SWARR_CHECK(bytes >= 0, "utf8proc can't compose a text: ", utf8proc_errmsg(bytes));
  return {reinterpret_cast<const char*>(codes.data()), static_cast<std::size_t>(bytes)};
}
#else
std::string ToNfc(std::string_view) {
  NeedUnicodeLibraries("NFC");
  return {};
}
#endif

}  // namespace swarr
