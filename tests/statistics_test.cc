// SPDX-License-Identifier: Apache-2.0
#include "study/statistics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

using namespace swarr;

namespace {

// An arm whose problem i is right iff correct(i).
template <class Correct>
ArmRun Run(const std::string& arm, std::uint64_t seed, int problems, Correct&& correct) {
  ArmRun run;
  run.arm = arm;
  run.seed = seed;
  for (int i = 0; i < problems; ++i) {
    ProblemOutcome o;
    o.problem = i;
    o.correct_sampled = correct(i);
    o.in_reach = i % 4 == 0;
    run.outcomes.push_back(o);
  }
  Aggregate(run, {}, {});
  return run;
}

const auto kRight = [](int) { return true; };
const auto kWrong = [](int) { return false; };
const auto kEven = [](int i) { return i % 2 == 0; };

// The four arms of one seed, by how SWA fares after SFT and after RL while SA is always right.
template <class Sft, class Rl>
std::vector<ArmRun> FourArms(std::uint64_t seed, int problems, Sft&& swa_sft, Rl&& swa_rl) {
  return {Run("sa_sft", seed, problems, kRight), Run("swa_sft", seed, problems, swa_sft),
          Run("sa_rl", seed, problems, kRight), Run("swa_rl", seed, problems, swa_rl)};
}

double First(const std::vector<double>& means) { return means[0]; }
double Difference(const std::vector<double>& means) { return means[0] - means[1]; }

}  // namespace

TEST_CASE("the Wilson interval has its closed form") {
  const double z2 = kZ95 * kZ95;
  // k = 0: [0, z^2 / (n + z^2)]; k = n: its mirror image; k = n/2: 1/2 -+ z / (2 sqrt(n + z^2)). The values are of
  // order 1, so that 1e-15 is a few roundings.
  CHECK(WilsonInterval(0, 10).low == 0);
  CHECK(std::abs(WilsonInterval(0, 10).high - z2 / (10 + z2)) < 1e-15);
  CHECK(std::abs(WilsonInterval(10, 10).low - 10 / (10 + z2)) < 1e-15);
  CHECK(WilsonInterval(10, 10).high == 1);
  CHECK(std::abs(WilsonInterval(50, 100).low - (0.5 - kZ95 / (2 * std::sqrt(100 + z2)))) < 1e-15);
  CHECK(std::abs(WilsonInterval(50, 100).high - (0.5 + kZ95 / (2 * std::sqrt(100 + z2)))) < 1e-15);
}

TEST_CASE("the Wilson interval of no trials says nothing, and impossible counts are refused") {
  CHECK(WilsonInterval(0, 0).low == 0);
  CHECK(WilsonInterval(0, 0).high == 1);
  CHECK_THROWS_AS(WilsonInterval(3, 2), Error);
  CHECK_THROWS_AS(WilsonInterval(-1, 2), Error);
}

TEST_CASE("Student's 95% points are those of the published tables") {
  // Three decimals, as tables print them.
  for (const auto& [degrees, point] :
       {std::pair{1, 12.706}, {2, 4.303}, {3, 3.182}, {4, 2.776}, {9, 2.262}, {30, 2.042}}) {
    CHECK(std::abs(StudentT95(degrees) - point) < 6e-4);
  }
  CHECK(std::abs(StudentT95(100'000) - kZ95) < 1e-4);  // it nears the normal distribution by 2.4 / degrees
  CHECK_THROWS_AS(StudentT95(0), Error);
}

TEST_CASE("over seeds the interval is Student's, and claims rest on it") {
  // Accuracies 1/2, 3/4 and 1: mean 3/4, deviation 1/4, so 3/4 +- 4.3027 / (4 sqrt(3)).
  const auto three_quarters = [](int i) { return i % 4 != 0; };
  const std::vector<ArmRun> runs = {Run("x", 0, 400, kEven), Run("x", 1, 400, three_quarters),
                                    Run("x", 2, 400, kRight)};
  const Estimate e = PairedBootstrap(runs, {"x"}).Of(First);
  CHECK(e.seeds == 3);
  CHECK(std::abs(e.ci95_seeds.low - (0.75 - 4.3027 / (4 * std::sqrt(3.0)))) < 1e-4);
  CHECK(std::abs(e.ci95_seeds.high - (0.75 + 4.3027 / (4 * std::sqrt(3.0)))) < 1e-4);
  CHECK(e.Claimed().low == e.ci95_seeds.low);
  const Estimate one = PairedBootstrap({runs[0]}, {"x"}).Of(First);
  CHECK(std::isnan(one.ci95_seeds.low));
  CHECK(one.Claimed().low == one.ci95.low);
}

TEST_CASE("a recovery that one of the seeds leaves undefined has no interval over seeds") {
  std::vector<ArmRun> runs = FourArms(0, 40, kEven, kRight), without_gap = FourArms(1, 40, kRight, kRight);
  runs.insert(runs.end(), without_gap.begin(), without_gap.end());
  const StudySummary s = Summarize(runs);
  CHECK(s.recovery.mean == 1);
  CHECK(std::isnan(s.recovery.Claimed().low));
  CHECK(std::isfinite(s.gap_sft.Claimed().low));
}

TEST_CASE("outcomes without chance leave room for what did not happen: gaps and recovery have no empty interval") {
  const StudySummary s = Summarize(FourArms(0, 20, kWrong, kRight));
  // A share b of other problems, the most that Wilson grants to none of 20, may turn SA wrong and SWA right after SFT,
  // which takes 2 b from the gap, and SWA wrong after RL, where SA is right again.
  const double b = WilsonInterval(0, 20).high;
  CHECK(std::abs(s.gap_sft.ci95.low - (1 - 2 * b)) < 1e-12);
  CHECK(std::abs(s.gap_reduction.ci95.low - (1 - 3 * b)) < 1e-12);
  CHECK(std::abs(s.recovery.ci95.low - (1 - b / (1 - 2 * b))) < 1e-12);
  for (const Estimate* e : {&s.gap_sft, &s.gap_reduction, &s.recovery}) {
    CHECK(e->mean == 1);
    CHECK(e->ci95.high >= 1);
  }
  CHECK(s.gap_sft.ci95.high == 1);
  CHECK(s.gap_rl.mean == 0);
  CHECK(std::isnan(s.rl_over_more_sft.mean));  // that control was not run
}

TEST_CASE(
    "an arm that is always or never right has Wilson's interval from the bootstrap too, over all seeds' problems") {
  for (const bool right : {true, false}) {
    const auto same = [&](int) { return right; };
    const std::vector<ArmRun> runs = {Run("x", 0, 30, same), Run("x", 1, 50, same)};
    const Interval wilson = WilsonInterval(right ? 80 : 0, 80);
    const Estimate e = PairedBootstrap(runs, {"x"}).Of(First);
    for (const Interval& interval : {e.ci95, e.Claimed(), MeansByArm(runs)[0].accuracy_ci95}) {
      CHECK(std::abs(interval.low - wilson.low) < 1e-15);
      CHECK(std::abs(interval.high - wilson.high) < 1e-15);
    }
  }
}

TEST_CASE("seeds that agree show no spread, so that the interval is over their problems") {
  // Gaps of 1/2 - 1/4 and 3/4 - 1/2.
  const auto quarter = [](int i) { return i % 4 == 0; };
  const auto three_quarters = [](int i) { return i % 4 != 0; };
  const std::vector<ArmRun> runs = {Run("x", 0, 400, kEven), Run("y", 0, 400, quarter),
                                    Run("x", 1, 400, three_quarters), Run("y", 1, 400, kEven)};
  const Estimate e = PairedBootstrap(runs, {"x", "y"}).Of(Difference);
  CHECK(e.mean == 0.25);
  CHECK(e.ci95.low < 0.23);
  CHECK(e.ci95.high > 0.27);
  CHECK(e.Claimed().low == e.ci95.low);
  CHECK(e.Claimed().high == e.ci95.high);
  const std::vector<ArmRun> alike = {Run("x", 0, 60, kEven), Run("x", 1, 40, kEven)};
  CHECK(MeansByArm(alike)[0].accuracy_ci95.low == WilsonInterval(50, 100).low);
}

TEST_CASE("means are those of the data: gaps 1/2 and 1/4 make a recovery of 1/2") {
  const auto three_quarters = [](int i) { return i % 4 != 0; };
  const StudySummary s = Summarize(FourArms(0, 400, kEven, three_quarters));
  CHECK(s.gap_sft.mean == 0.5);
  CHECK(s.gap_rl.mean == 0.25);
  CHECK(s.gap_reduction.mean == 0.25);
  CHECK(s.recovery.mean == 0.5);
  CHECK(s.recovery.ci95.low < 0.5);
  CHECK(s.recovery.ci95.high > 0.5);
}

TEST_CASE("a gap that shrinks because SA got worse counts against the better SA, so that nothing is recovered") {
  const StudySummary s = Summarize({Run("sa_sft", 0, 40, kRight), Run("swa_sft", 0, 40, kEven),
                                    Run("sa_rl", 0, 40, kEven), Run("swa_rl", 0, 40, kEven)});
  CHECK(s.gap_sft.mean == 0.5);
  CHECK(s.gap_rl.mean == 0.5);
  CHECK(s.recovery.mean == 0);
  CHECK(s.rl_gain.mean == 0);
}

TEST_CASE("arms share the resampled problems, so that equal outcomes differ by no more than what none of them showed") {
  const std::vector<ArmRun> runs = {Run("x", 0, 50, kEven), Run("y", 0, 50, kEven), Run("x", 1, 50, kWrong),
                                    Run("y", 1, 50, kWrong)};
  const Estimate e = PairedBootstrap(runs, {"x", "y"}).Of(Difference);
  CHECK(e.mean == 0);
  const double unseen = WilsonInterval(0, 100).high;
  CHECK(std::abs(e.ci95.low + unseen) < 1e-15);
  CHECK(std::abs(e.ci95.high - unseen) < 1e-15);
}

TEST_CASE("within one seed the interval is the binomial's") {
  const Estimate e = PairedBootstrap({Run("x", 0, 100, kEven)}, {"x"}).Of(First);
  CHECK(e.mean == 0.5);
  // The 2.5% and 97.5% points of Binomial(100, 1/2) are 40 and 60; of 2000 draws the points are known to about one
  // count.
  CHECK(std::abs(e.ci95.low - 0.40) <= 0.0101);
  CHECK(std::abs(e.ci95.high - 0.60) <= 0.0101);
}

TEST_CASE("seeds are resampled: two that disagree wholly span everything") {
  // Resamples are 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4; without resampling of seeds all would be 1/2.
  const Estimate e = PairedBootstrap({Run("x", 0, 10, kRight), Run("x", 1, 10, kWrong)}, {"x"}).Of(First);
  CHECK(e.mean == 0.5);
  CHECK(e.ci95.low == 0);
  CHECK(e.ci95.high == 1);
}

TEST_CASE("seeds weigh equally however many problems they have") {
  CHECK(PairedBootstrap({Run("x", 0, 10, kRight), Run("x", 1, 1000, kWrong)}, {"x"}).Of(First).mean == 0.5);
}

TEST_CASE("a seed that lacks an arm and a problem that lacks an outcome are left out") {
  std::vector<ArmRun> runs = {Run("x", 0, 10, kRight), Run("y", 0, 20, [](int i) { return i >= 10; }),
                              Run("x", 1, 10, kWrong)};
  CHECK(PairedBootstrap(runs, {"x", "y"}).Of(Difference).mean == 1);
  CHECK(std::isnan(PairedBootstrap(runs, {"x", "z"}).Of(Difference).mean));
}

TEST_CASE("two outcomes for one problem are refused") {
  ArmRun run = Run("x", 0, 3, kRight);
  run.outcomes[2].problem = 1;
  CHECK_THROWS_AS(PairedBootstrap({run}, {"x"}), Error);
}

TEST_CASE("the order of rows and runs changes no bit of an interval") {
  const auto third = [](int i) { return i % 3 == 0; };
  std::vector<ArmRun> runs = FourArms(7, 90, third, kEven);
  const StudySummary before = Summarize(runs);
  std::reverse(runs.begin(), runs.end());
  std::reverse(runs[1].outcomes.begin(), runs[1].outcomes.end());
  const StudySummary after = Summarize(runs);
  CHECK(before.recovery.ci95.low < before.recovery.ci95.high);
  CHECK(before.recovery.ci95.low == after.recovery.ci95.low);
  CHECK(before.recovery.ci95.high == after.recovery.ci95.high);
  CHECK(before.gap_rl.ci95.low == after.gap_rl.ci95.low);
}

TEST_CASE("where SFT leaves no gap the recovery is undefined, and the gaps are not") {
  const StudySummary s = Summarize(FourArms(0, 30, kRight, kEven));
  CHECK(s.gap_sft.mean == 0);
  CHECK(s.gap_rl.mean == 0.5);
  CHECK(std::isfinite(s.gap_reduction.ci95.low));
  CHECK(std::isnan(s.recovery.mean));
  CHECK(std::isnan(s.recovery.ci95.low));
}

TEST_CASE("a gap that vanishes in some resamples has a recovery but no interval of it") {
  // One problem of 30 is wrong: a resample misses it with probability (29/30)^30 = 0.36.
  const StudySummary s = Summarize(FourArms(
      0, 30, [](int i) { return i > 0; }, kRight));
  CHECK(s.recovery.mean == 1);
  CHECK(std::isnan(s.recovery.ci95.low));
  CHECK(std::isnan(s.recovery.ci95.high));
}

TEST_CASE("an arm's mean has Wilson's interval for one seed and Student's for several") {
  std::vector<ArmRun> runs = {Run("x", 0, 10, kRight)};
  CHECK(MeansByArm(runs)[0].accuracy_ci95.low == WilsonInterval(10, 10).low);
  runs[0].ceiling = 0.5;
  runs.push_back(Run("x", 1, 10, kWrong));
  CHECK(MeansByArm(runs).size() == 1);
  CHECK(MeansByArm(runs)[0].accuracy == 0.5);
  CHECK(std::abs(MeansByArm(runs)[0].accuracy_ci95.low - (0.5 - 12.7062 / 2)) < 1e-4);
  CHECK(std::isnan(MeansByArm(runs)[0].ceiling));  // one run has none
  runs[1].ceiling = 0.75;
  CHECK(MeansByArm(runs)[0].ceiling == 0.625);
}

TEST_CASE("any outcome can be bootstrapped: the share in reach has its own interval") {
  std::vector<ArmRun> runs = {Run("x", 0, 40, kRight), Run("y", 0, 40, kRight)};
  for (ProblemOutcome& o : runs[1].outcomes) o.in_reach = true;
  const Estimate e = PairedBootstrap(runs, {"y", "x"}, &ProblemOutcome::in_reach).Of(Difference);
  CHECK(e.mean == 0.75);
  CHECK(e.ci95.low < 0.75);
  CHECK(e.ci95.high > 0.75);
  CHECK(PairedBootstrap(runs, {"y", "x"}).Of(Difference).mean == 0);  // all are right
}

TEST_CASE("an arm's accuracies in and out of reach pool the traces of its seeds") {
  const std::vector<ArmRun> runs = {Run("x", 0, 8, [](int i) { return i < 5; }), Run("x", 1, 4, kWrong)};
  CHECK(runs[0].in_reach == 0.25);
  CHECK(runs[0].within.accuracy() == 1);  // problems 0 and 4
  CHECK(runs[0].beyond.accuracy() == 0.5);
  const ArmMeans means = MeansByArm(runs)[0];
  CHECK(means.within.traces == 3);
  CHECK(means.within.right == 2);
  CHECK(means.beyond.traces == 9);
  CHECK(AccuracyOf(means.beyond).mean == 3.0 / 9);
  CHECK(AccuracyOf(means.beyond).ci95.low == WilsonInterval(3, 9).low);
  CHECK(std::isnan(AccuracyOf({}).mean));
  CHECK(std::isnan(AccuracyOf({}).ci95.low));
}
