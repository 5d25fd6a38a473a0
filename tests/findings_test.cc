// SPDX-License-Identifier: Apache-2.0
// The sentences of a study's report follow its numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "made_up_study.h"
#include "study/report.h"

namespace swarr {
namespace {

bool Says(const StudyResults& results, std::string_view words) {
  for (const std::string& sentence : Findings(results)) {
    if (sentence.find(words) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("other ways are told beside RL, by how far RL is from them") {
  StudyResults r = MadeUpResults(40, 45, 93);
  for (const auto& [arm, right] : {std::pair("swa_kl", 50), std::pair("swa_own_3", 93), std::pair("extra", 99)}) {
    r.runs.push_back(MadeUpRun(arm, right, 2, r.task));
    r.runs.back().trained_tokens = 1000;
  }
  r.looks = {{"swa_kl", "SWA, distilled from SA", "imitating SA"}};
  r.summary = Summarize(r.runs);
  const std::vector<WayAgainstRl>& ways = r.summary.ways;
  REQUIRE(ways.size() == 4);
  CHECK(ways[0].arm == "swa_sft_more");
  CHECK(ways[1].rl_over.mean == doctest::Approx(0.43));
  const TextTable table = TableOfWays(r);
  REQUIRE(table.size() == 7);  // heads, the start, RL, four ways
  CHECK(table[4][0] == "SWA, distilled from SA");
  CHECK(table[4][2].starts_with("0.430 ["));
  CHECK(table[4][6] == "1000");
  CHECK(Says(r, "RL is better than 1 of 3 other ways"));
  CHECK(Says(r, "Not clearly apart from it: swa_own_3. Better than it: extra."));
}

TEST_CASE("the table of ways has the most accurate first, RL and what it starts from among them") {
  StudyResults r = MadeUpResults(40, 45, 93);
  r.runs.push_back(MadeUpRun("extra", 99, 2, r.task));
  r.summary = Summarize(r.runs);
  const TextTable table = TableOfWays(r);
  REQUIRE(table.size() == 5);
  CHECK(table[1][0] == "extra");
  CHECK(table[2][0] == "SWA, RL");
  CHECK(table[2][2] == "-");
  CHECK(table[4][0] == "SWA, SFT");
}

TEST_CASE("an arm with full attention is no other way, whatever its name is") {
  StudyResults r = MadeUpResults(40, 45, 93);
  r.runs.push_back(MadeUpRun("teacher", 90, 2, r.task));
  CHECK(Summarize(r.runs).ways.size() == 2);
  r.runs.back().window = 0;
  CHECK(Summarize(r.runs).ways.size() == 1);
}

TEST_CASE("the sentences follow the numbers: RL that recovers is said to") {
  const StudyResults results = MadeUpResults(40, 45, 96);
  CHECK(Says(results, "RL recovered nearly all of it"));
  CHECK(Says(results, "RL did more than more training"));
  CHECK(Says(results, "the SWA policy restates more (0.20 to 0.70 per step, 3.50 times)"));
  CHECK(Says(results, "the SA policy restates less (0.20 to 0.10 per step"));
  CHECK(Says(results, "SA is at its ceiling here"));
  CHECK(Says(results, "One seed"));
  CHECK(!Says(results, "not finite"));
}

TEST_CASE("the sentences follow the numbers: RL that fails is said to") {
  const StudyResults unmoved = MadeUpResults(40, 45, 40);
  CHECK(Says(unmoved, "RL did not clearly recover any of it"));
  CHECK(!Says(unmoved, "RL recovered"));
  CHECK(!Says(unmoved, "RL did more"));
  const StudyResults worse = MadeUpResults(60, 65, 20);
  CHECK(Says(worse, "RL did not recover accuracy, it widened the gap"));
  CHECK(Says(worse, "RL did worse than more SFT"));
  CHECK(Says(MadeUpResults(40, 45, 60), "RL recovered part, less than half, of it"));
}

TEST_CASE("two seeds that agree by chance recover nothing, and both intervals are told") {
  StudyResults r = MadeUpResults(46, 46, 50);
  // RL gains 50 of every 100 problems and loses 46 others, with both seeds nearly alike: little spread over seeds, much
  // over problems.
  for (ProblemOutcome& o : r.runs[5].outcomes) {
    const int place = static_cast<int>(o.problem * 37 % 100);
    o.correct_sampled = place >= 46 && place < 96;
  }
  Complete(r.runs[5], r.task);
  for (std::size_t i = 0; i < 6; ++i) r.runs.push_back(r.runs[i]), r.runs.back().seed = 1;
  r.runs[11].outcomes[0].correct_sampled = true;
  Complete(r.runs[11], r.task);
  r.summary = Summarize(r.runs);
  // Reductions of 0.04 and 0.045: 0.0425 +- 12.706 * 0.0025.
  REQUIRE(r.summary.gap_reduction.Claimed().low > 0);
  CHECK(!Says(r, "RL recovered"));
  CHECK(Says(r, "RL did not clearly recover any of it (reduction 0.04"));
  CHECK(Says(r, ", [0.011, 0.074] over 2 seeds but [-0.0"));
  CHECK(Says(r, "] over problems)"));
}

TEST_CASE("seeds that agree to the last problem claim no more than their problems do") {
  StudyResults r = MadeUpResults(40, 45, 93, 100, 100);
  for (std::size_t i = 0; i < 6; ++i) r.runs.push_back(r.runs[i]), r.runs.back().seed = 1;
  r.summary = Summarize(r.runs);
  CHECK(Says(r, "RL leaves SA where it was (+0.000 [-0.010, 0.010])"));  // 3.84 / (400 + 3.84)
  CHECK(Says(r, "Where all seeds have one value the interval is over their problems."));
  for (const std::string& sentence : Findings(r)) {
    CHECK_MESSAGE(sentence.find("[0.930, 0.930]") == std::string::npos, sentence);
  }
}

TEST_CASE("a gap that shrinks because SA got worse is not passed over") {
  const StudyResults results = MadeUpResults(40, 45, 42, 90, 50);
  CHECK(Says(results, "RL made SA worse"));
  CHECK(!Says(results, "SA is at its ceiling here"));
}

TEST_CASE("SFT that closes the gap, or passes the ceiling, is said to") {
  CHECK(Says(MadeUpResults(99, 99, 99), "nothing for RL to recover"));
  CHECK(Says(MadeUpResults(40, 80, 93), "above it by"));
  CHECK(Says(MadeUpResults(20, 25, 93), "below it by"));
}

TEST_CASE("placement and competence are told apart") {
  StudyResults results = MadeUpResults(40, 45, 93);
  CHECK(Says(results, "goes from 0.600 after SFT (0.600 with more of it) to 1.000 after RL, up by RL (+0.400 ["));
  CHECK(Says(results, "the accuracy on those traces goes from 0.667 ["));
  for (ProblemOutcome& o : results.runs[5].outcomes) o.in_reach = results.runs[2].outcomes[o.problem].in_reach;
  Complete(results.runs[5], results.task);
  results.summary = Summarize(results.runs);
  CHECK(Says(results, "to 0.600 after RL, no clear change by RL (+0.000 [-0.019, 0.019])"));
  for (ProblemOutcome& o : results.runs[5].outcomes) o.in_reach = false;
  Complete(results.runs[5], results.task);
  results.summary = Summarize(results.runs);
  CHECK(Says(results, "to 0.000 after RL, down by RL (-0.600 ["));
  CHECK(Says(results, "to n/a after RL."));  // no trace in reach, no competence
}

TEST_CASE("an arm above the reach bound is said to be, and how clearly") {
  const StudyResults below = MadeUpResults(40, 45, 93), slightly = MadeUpResults(40, 64, 93),
                     clearly = MadeUpResults(40, 80, 93);
  CHECK(Says(below, "No SWA arm is above the reach bound"));
  CHECK(!Says(below, "better than a guess"));
  CHECK(Says(slightly,
             "Above the reach bound, which its own traces set: SWA after SFT with equal extra tokens, 0.640 ["));
  CHECK(Says(slightly, "against 0.633, not clearly."));
  CHECK(!Says(slightly, "No SWA arm is above"));
  CHECK(!Says(slightly, "better than a guess"));  // 8 of 80 are right out of reach; a guess gives 7
  CHECK(Says(clearly, "against 0.633, clearly."));
  CHECK(Says(clearly,
             "better than a guess, so they infer what is lost or carry it in another form: SWA after SFT with equal "
             "extra tokens 0.500 ["));
  CHECK(Says(clearly, "] against 0.083."));
  CHECK(TerminalReport(clearly).find("0.500 (80)  0.633    yes") != std::string::npos);
  CHECK(!Says(clearly, "Above the reach bound, which its own traces set: SA"));  // SA has none
}

TEST_CASE("inexact rollouts are said") {
  StudyResults results = MadeUpResults(40, 45, 93);
  CHECK(TerminalReport(results).find("exact: difference 0 over all 1000 sampled tokens") != std::string::npos);
  results.checks.rollout_logprob_max_abs_diff = 1e-6;
  CHECK(TerminalReport(results).find("NOT exact: differences up to 1e-06") != std::string::npos);
  results.checks.rollout_logprob_tokens = 0;
  CHECK(TerminalReport(results).find("not measured") != std::string::npos);
}

TEST_CASE("a warning of training is a finding with its arm, seed and step, and a row of results.json") {
  StudyResults results = MadeUpResults(50, 60, 90);
  const std::size_t before = Findings(results).size();
  results.checks.warnings.push_back({.arm = "swa_rl", .seed = 3, .step = 40, .text = "the reward collapses"});
  const std::vector<std::string> findings = Findings(results);
  CHECK(findings.size() == before + 1);
  CHECK(std::ranges::find(findings, "Warning, SWA, RL, seed 3, step 40: the reward collapses.") != findings.end());
  const nlohmann::ordered_json row = {{"arm", "swa_rl"}, {"seed", 3}, {"step", 40}, {"text", "the reward collapses"}};
  CHECK(ToJson(results)["checks"]["warnings"] == nlohmann::ordered_json::array({row}));
}

}  // namespace swarr
