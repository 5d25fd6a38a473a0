// SPDX-License-Identifier: Apache-2.0
#include "task/math/recurring.h"

#include <algorithm>

#include "task/math/words.h"

namespace swarr {
namespace {

std::size_t SkipSpaces(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(kSpaces, at), text.size());
}
std::size_t SkipDigits(std::string_view text, std::size_t at) {
  while (at < text.size() && IsDigit(text[at])) ++at;
  return at;
}

// The digits that `text` begins with under `mark`: \overline{27}, \overline 2.
Cycle MarkedDigits(std::string_view text, std::string_view mark) {
  if (!text.starts_with(mark)) return {};
  std::size_t begin = SkipSpaces(text, mark.size());
  const bool braced = begin < text.size() && text[begin] == '{';
  begin += braced ? 1 : 0;
  const std::size_t end = braced ? SkipDigits(text, begin) : std::min(SkipDigits(text, begin), begin + 1);
  if (end == begin || (braced && (end == text.size() || text[end] != '}'))) return {};
  return {std::string(text.substr(begin, end - begin)), end + (braced ? 1 : 0)};
}

}  // namespace

Cycle CycleAt(std::string_view text) {
  if (text.starts_with('(')) {
    const std::size_t end = SkipDigits(text, 1);
    const bool closed = end > 1 && end < text.size() && text[end] == ')';
    return closed ? Cycle{std::string(text.substr(1, end - 1)), end + 1} : Cycle{};
  }
  Cycle cycle;
  const auto overlined = [&] {
    const std::string_view rest = text.substr(cycle.bytes);
    const Cycle next = MarkedDigits(rest, "\\overline");
    return next.bytes > 0 ? next : MarkedDigits(rest, "\\bar");
  };
  for (Cycle next; (next = overlined()).bytes > 0;) {
    cycle = {cycle.digits + next.digits, cycle.bytes + next.bytes};
  }
  if (cycle.bytes > 0) return cycle;
  cycle = MarkedDigits(text, "\\dot");
  if (cycle.bytes == 0) return cycle;
  // A second dot marks the last digit of the cycle.
  const std::size_t last = SkipDigits(text, cycle.bytes);
  const Cycle end = MarkedDigits(text.substr(last), "\\dot");
  if (end.bytes == 0) return cycle;
  return {cycle.digits + std::string(text.substr(cycle.bytes, last - cycle.bytes)) + end.digits, last + end.bytes};
}

}  // namespace swarr
