// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "base/check.h"
#include "task/chain.h"

namespace swarr {
namespace {

// Positions of each fact's last mention.
struct Mentions {
  int a = kOffsetA, b = kOffsetB, n = kOffsetN;
};

// The facts of a restatement that starts at the start of `text`.
std::optional<ChainFacts> ParseRestatement(std::string_view text) {
  if (text.size() < kRestatementLength || text[0] != '[' || text[kRestatementLength - 1] != ']') return std::nullopt;
  return ParseFacts(text.substr(1));
}

}  // namespace

TraceMeasures MeasureTrace(const ChainProblem& problem, std::string_view completion) {
  TraceMeasures measures;
  measures.length = static_cast<int>(completion.size());
  Mentions last;
  std::optional<int> stop_distance;  // of n, for the last '#' so far
  for (int i = 0; i < measures.length; ++i) {
    const int position = kPromptLength + i;
    const std::string_view rest = completion.substr(static_cast<std::size_t>(i));
    if (rest[0] == '[') {
      ++measures.restatements;
      measures.runs.push_back(0);
      // A well-formed restatement holds no query, so its mentions may be entered before its end.
      if (const std::optional<ChainFacts> facts = ParseRestatement(rest)) {
        if (facts->a == problem.a) last.a = position + 1 + kOffsetA;
        if (facts->b == problem.b) last.b = position + 1 + kOffsetB;
        if (facts->n == problem.n) last.n = position + 1 + kOffsetN;
      }
    } else if (rest[0] == ':') {
      ++measures.steps;
      ++measures.runs.back();
      measures.distances.push_back(position - last.a);
      measures.distances.push_back(position - last.b);
    } else if (rest[0] == '#') {
      stop_distance = position - 1 - last.n;
    }
  }
  if (stop_distance) measures.distances.push_back(*stop_distance);
  return measures;
}

int FactsInWindow(const TraceMeasures& measures, int window) {
  SWARR_CHECK(window >= 0, "mechanism: the window is ", window, "; give 0 (full attention) or a positive length.");
  const auto visible = [window](int distance) { return window == 0 || distance < window; };
  return static_cast<int>(std::count_if(measures.distances.begin(), measures.distances.end(), visible));
}

}  // namespace swarr
