// SPDX-License-Identifier: Apache-2.0
// Which numbers the lines of a worked solution use, and how far back these were last mentioned.
#include "task/numbers.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

namespace swarr {
namespace {

using nlohmann::json;

// With every byte a token.
NumberMeasures Measured(const std::string& prompt, const std::string& text) {
  std::vector<std::size_t> starts(prompt.size() + text.size());
  std::iota(starts.begin(), starts.end(), std::size_t{0});
  return MeasureNumbers(prompt, text, starts);
}

using Distances = std::vector<std::int64_t>;

TEST_CASE("a line's numbers are as far away as their last mention, in the prompt, a bracket or a line") {
  CHECK(Measured("12 a 5\n", "12+5=17").distances == Distances{6, 4});    // from bytes 6 and 9 to 0 and 5
  CHECK(Measured("12 a 5\n", "[5 a]\n5+1=6").distances == Distances{4});  // the bracket's 5 is nearer, 1 is new
  CHECK(Measured("12 a 5\n", "12+5=17\n17-5=12").distances == Distances{6, 4, 2, 7});
}

TEST_CASE("what stands behind = is made, not used, and a number that nothing has mentioned has no distance") {
  const NumberMeasures trace = Measured("7 days\n", "7*60 = $420\n[420; 7 days]\n[x]\n\n420/7=60\n#### 60 and 7");
  CHECK(trace.lines == 2);
  CHECK(trace.brackets == 2);
  CHECK(trace.carried == 2);
  CHECK(trace.used == 4);  // 7, 60, 420, 7
  CHECK(trace.distances.size() == 3);
}

TEST_CASE("numbers are the same by value: thousands with commas, currencies, per cent, decimals") {
  CHECK(Measured("$1,200 and 40% of it\n", "1200*0.40").distances.size() == 2);
  CHECK(Measured("it is 0.5.\n", "0.50").distances.size() == 1);
  CHECK(Measured("£3\n", "€3").distances.size() == 1);
  CHECK(Measured("x3 and 1.5.2\n", "3 and 5").distances.empty());  // x3 is a name, of 1.5.2 only 1.5 is read
  CHECK(Measured("1,5\n", "5").distances.size() == 1);             // a list
  CHECK(Measured("1\n", std::string(400, '9')).used == 1);         // too large for a double
}

TEST_CASE("distances count tokens: from the one before a number's first byte to the one of its mention") {
  const std::vector<std::size_t> starts = {0, 3, 4, 6, 9};  // "12 ", "a", " 5", "\n12", "+5"
  CHECK(MeasureNumbers("12 a 5\n", "12+5", starts).distances == Distances{2, 1});
}

TEST_CASE("a solution has as many lines as text stands before the end, brackets not counted") {
  CHECK(SolutionLines("[1 a]\none\n\n two \n#### 2\nthree") == 2);
  CHECK(SolutionLines("#### 2") == 0);
}

TEST_CASE("a trace of numbers is in reach as long as no distance is above the reach, else worth the guess") {
  const TraceRule rule = NumberTraces(0.25);
  const json row = {{"prompt", "12 a 5\n"}, {"completion", "[5]\none\ntwo\n#### 1"}};
  std::vector<std::size_t> starts(14);
  std::iota(starts.begin(), starts.end(), std::size_t{0});
  const TraceCounts in = rule.count(row, "12+5=17", 6, 6, starts).value();
  CHECK(in.in_reach);
  CHECK(in.size == 2);
  CHECK(in.counts == std::vector<std::int64_t>{1, 0, 0, 2, 2, 1, 10, 6});
  const TraceCounts out = rule.count(row, "12+5=17", 7, 5, starts).value();
  CHECK(!out.in_reach);
  CHECK(out.best_chance == 0.25);
  CHECK(out.counts[5] == 2);
  CHECK(!rule.count({{"prompt", json::array()}}, "1", 7, 5, starts));
}

}  // namespace
}  // namespace swarr
