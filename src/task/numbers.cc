// SPDX-License-Identifier: Apache-2.0
#include "task/numbers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "task/math/words.h"

namespace swarr {
namespace {

constexpr std::string_view kEnd = "####";
constexpr double kMicro = 1e6;     // values are compared in millionths
constexpr double kLargest = 1e12;  // so that they fit into 64 bits; all above are one

bool IsOfWord(char c) { return IsDigit(c) || IsLetter(c) || c == '_'; }

struct FoundNumber {
  std::size_t begin;  // with the sign of a currency
  bool made;          // stands behind "="
  std::vector<std::int64_t> values{};
};

// The byte at which the sign of a currency before `at` begins; `at` without one.
std::size_t BeginOf(std::string_view text, std::size_t at) {
  static constexpr std::array<std::string_view, 3> kCurrencies = {"$", "£", "€"};
  for (const std::string_view sign : kCurrencies) {
    if (text.substr(0, at).ends_with(sign)) return at - sign.size();
  }
  return at;
}

std::size_t DigitsFrom(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && IsDigit(text[end])) ++end;
  return end;
}

// Reads the number whose digits begin at `at`, and sets `at` to its end.
FoundNumber ReadNumber(std::string_view text, std::size_t& at) {
  FoundNumber number{.begin = BeginOf(text, at), .made = false};
  number.made = TrimSpace(text.substr(0, number.begin)).ends_with('=');
  std::string digits;
  const auto take = [&](std::size_t end) {
    for (; at < end; ++at) {
      if (text[at] != ',') digits += text[at];
    }
  };
  take(DigitsFrom(text, at));
  while (at < text.size() && text[at] == ',' && DigitsFrom(text, at + 1) >= at + 4) take(at + 4);
  if (at < text.size() && text[at] == '.' && DigitsFrom(text, at + 1) > at + 1) take(DigitsFrom(text, at + 1));
  double value = kLargest;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);  // one out of range leaves it
  value = std::min(value, kLargest);
  number.values.push_back(std::llround(value * kMicro));
  if (at < text.size() && text[at] == '%') {
    number.values.push_back(std::llround(value / 100 * kMicro));
    ++at;
  }
  return number;
}

std::vector<FoundNumber> NumbersOf(std::string_view text) {
  std::vector<FoundNumber> numbers;
  for (std::size_t at = 0; at < text.size();) {
    const bool starts = IsDigit(text[at]) && (at == 0 || (!IsOfWord(text[at - 1]) && text[at - 1] != '.'));
    if (starts) {
      numbers.push_back(ReadNumber(text, at));
    } else {
      ++at;
    }
  }
  return numbers;
}

bool IsBracket(std::string_view line) { return line.starts_with('[') && line.ends_with(']'); }

// Calls see(line, its place) for all lines with text before the end.
template <class See>
void ForEachLine(std::string_view text, const See& see) {
  text = text.substr(0, text.find(kEnd));
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (!TrimSpace(line).empty()) see(line, begin);
    begin = end + 1;
  }
}

std::optional<TraceCounts> CountNumbers(const nlohmann::json& row, std::string_view text, int window,
                                        std::int64_t reach, std::span<const std::size_t> starts, double guess) {
  if (!row.contains("prompt") || !row["prompt"].is_string() || !row.contains("completion")) return std::nullopt;
  const NumberMeasures trace = MeasureNumbers(row["prompt"].get<std::string>(), text, starts);
  TraceCounts counts{.size = std::min(SolutionLines(row["completion"].get<std::string>()), kMostSolutionLines)};
  std::int64_t visible = 0, sum = 0, farthest = 0;
  for (const std::int64_t distance : trace.distances) {
    visible += window == 0 || distance < window;
    sum += distance;
    farthest = std::max(farthest, distance);
  }
  counts.in_reach = farthest <= reach;
  counts.best_chance = counts.in_reach ? 1 : guess;
  counts.counts = {trace.lines,
                   trace.brackets,
                   trace.carried,
                   trace.used,
                   static_cast<std::int64_t>(trace.distances.size()),
                   visible,
                   sum,
                   farthest};
  return counts;
}

}  // namespace

NumberMeasures MeasureNumbers(std::string_view prompt, std::string_view text, std::span<const std::size_t> starts) {
  SWARR_CHECK(!starts.empty() && starts[0] == 0, "numbers: the tokens of the text must begin at byte 0");
  NumberMeasures measures;
  std::map<std::int64_t, std::int64_t> last;  // the token of each value's last mention
  const auto token_at = [&](std::size_t byte) { return std::ranges::upper_bound(starts, byte) - starts.begin() - 1; };
  const auto mention = [&](const FoundNumber& number, std::size_t place) {
    for (const std::int64_t value : number.values) last[value] = token_at(place + number.begin);
  };
  for (const FoundNumber& number : NumbersOf(prompt)) mention(number, 0);
  ForEachLine(text, [&](std::string_view line, std::size_t begin) {
    const bool bracket = IsBracket(line);
    ++(bracket ? measures.brackets : measures.lines);
    for (const FoundNumber& number : NumbersOf(line)) {
      measures.carried += bracket;
      std::int64_t source = -1;
      for (const std::int64_t value : number.values) {
        if (const auto found = last.find(value); found != last.end()) source = std::max(source, found->second);
      }
      const bool used = !bracket && !number.made;
      measures.used += used;
      const std::size_t place = prompt.size() + begin;
      if (used && source >= 0) measures.distances.push_back(token_at(place + number.begin) - 1 - source);
      mention(number, place);
    }
  });
  return measures;
}

int SolutionLines(std::string_view solution) {
  int lines = 0;
  ForEachLine(solution, [&](std::string_view line, std::size_t) { lines += !IsBracket(line); });
  return lines;
}

TraceRule NumberTraces(double guess) {
  enum : std::size_t { kLines, kBrackets, kCarried, kUsed, kKnown, kVisible, kDistances };
  return {.counts = {"lines", "brackets", "carried", "used", "needs", "needs_in_window", "distance_sum", "farthest"},
          .measures = {{"carry_rate", "brackets per line", kBrackets, kLines},
                       {"dependency_distance_mean", "distance", kDistances, kKnown, 1},
                       {"needs_in_window", "needs in window", kVisible, kKnown},
                       {"mentioned_share", "used numbers mentioned before", kKnown, kUsed},
                       {"carried_per_line", "carried per line", kCarried, kLines}},
          .guess = guess,
          .count = [guess](const nlohmann::json& row, std::string_view text, int window, std::int64_t reach,
                           std::span<const std::size_t> starts) {
            return CountNumbers(row, text, window, reach, starts, guess);
          }};
}

}  // namespace swarr
