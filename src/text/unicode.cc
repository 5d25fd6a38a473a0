// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

#include "base/check.h"

#ifdef SWARR_UNICODE
#include <utf8proc.h>
#endif

namespace swarr {

void CheckUtf8(std::string_view text, const std::string& where) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = UnitAt(text, at);
    SWARR_CHECK(unit.kind == Utf8Unit::Kind::kCharacter, where, ": the text is no UTF-8 at byte ", at);
    at += unit.bytes;
  }
}

std::string DescribeCharacter(std::string_view text, std::size_t at) {
  const Utf8Unit c = UnitAt(text, at);
  std::array<char, 16> number{};
  static_cast<void>(std::snprintf(number.data(), number.size(), "U+%04X", static_cast<unsigned>(c.code)));
  const bool control = c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0);
  return control ? number.data() : Concat("'", text.substr(at, c.bytes), "' (", number.data(), ")");
}

std::string Utf8Joiner::Add(std::string_view bytes) {
  held_ += bytes;
  std::string text;
  std::size_t at = 0;
  while (at < held_.size()) {
    const Utf8Unit unit = UnitAt(held_, at);
    if (unit.kind == Utf8Unit::Kind::kCut) break;
    text += unit.kind == Utf8Unit::Kind::kCharacter ? std::string_view(held_).substr(at, unit.bytes) : kReplacement;
    at += unit.bytes;
  }
  held_.erase(0, at);
  return text;
}

std::string Utf8Joiner::Finish() {
  return std::exchange(held_, {}).empty() ? std::string() : std::string(kReplacement);
}

void NeedUnicodeLibraries(const std::string& what) {
  SWARR_CHECK(HasUnicodeLibraries(), what,
              " needs PCRE2 and utf8proc, which this build lacks; install libpcre2-dev and libutf8proc-dev and build "
              "again");
}

#ifdef SWARR_UNICODE
bool HasUnicodeLibraries() { return true; }

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
  if (std::ranges::all_of(text, settled)) return std::string(text);
  std::vector<std::int32_t> codes = Decompose(text);
  OrderMarks(codes);
  const auto size = static_cast<utf8proc_ssize_t>(codes.size());
  codes.push_back(0);  // utf8proc composes and writes UTF-8 in place, with a byte 0 behind it
  const auto bytes = utf8proc_reencode(codes.data(), size, kOptions);
  SWARR_CHECK(bytes >= 0, "utf8proc can't compose a text: ", utf8proc_errmsg(bytes));
  return {reinterpret_cast<const char*>(codes.data()), static_cast<std::size_t>(bytes)};
}
#else
bool HasUnicodeLibraries() { return false; }

std::string ToNfc(std::string_view) {
  NeedUnicodeLibraries("NFC");
  return {};
}
#endif

}  // namespace swarr
