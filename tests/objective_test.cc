// SPDX-License-Identifier: Apache-2.0
// By hand, what one can follow by hand; tests/objective_fixture_test.cc compares every objective with an independent
// computation.
#include "rl/objective.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/check.h"
#include "rl/objective_names.h"

namespace swarr {
namespace {

using doctest::Approx;
using doctest::Contains;
using nlohmann::ordered_json;

ObjectiveOptions Named(const char* name) {
  return ObjectiveFromJson({{"objective", name}, {"max_completion_length", 50}});
}

ObjectiveOptions With(Aggregation aggregation) {
  ObjectiveOptions options;
  options.aggregation = aggregation;
  options.max_completion_length = 50;
  return options;
}

// One advantage per completion, for completions of one token each.
std::vector<double> OnePerCompletion(const std::vector<double>& rewards, int group_size,
                                     const ObjectiveOptions& options) {
  const std::vector<int> lengths(rewards.size(), 1);
  const std::vector<double> logp(rewards.size(), 0.0);
  return Advantages({lengths, group_size, rewards, logp, logp}, options);
}

struct Evaluated {
  CompletionLoss sums;
  std::vector<double> term, dlogp;
};

// old and reference log-probabilities and entropies default to values that depend on the token.
Evaluated Evaluate(const std::vector<double>& logp, const std::vector<double>& old_logp,
                   const std::vector<double>& advantage, const ObjectiveOptions& options, double weight = 1) {
  std::vector<double> ref_logp, entropy;
  for (std::size_t t = 0; t < logp.size(); ++t) {
    ref_logp.push_back(-0.7 - 0.2 * static_cast<double>(t));
    entropy.push_back(0.5 + static_cast<double>(t));
  }
  Evaluated e{{}, std::vector<double>(logp.size()), std::vector<double>(logp.size())};
  e.sums = EvaluateCompletion({logp, old_logp, ref_logp, entropy, advantage, weight, e.term, e.dlogp}, options);
  return e;
}

TEST_CASE("an advantage is the reward less the mean of its own group") {
  const std::vector<double> rewards = {1, 0, 0, 0, 1, 0.5, 0, 0.5};
  CHECK(OnePerCompletion(rewards, 4, {}) == std::vector<double>{0.75, -0.25, -0.25, -0.25, 0.5, 0, -0.5, 0});
  CHECK(OnePerCompletion(rewards, 2, {}) == std::vector<double>{0.5, -0.5, 0, 0, 0.25, -0.25, -0.25, 0.25});
  CHECK(OnePerCompletion({}, 4, {}).empty());
}

TEST_CASE("leaving a completion out of its own baseline makes the advantage larger by G/(G-1)") {
  const std::vector<double> rewards = {1, 0, 0, 0, 1, 0.5, 0, 0.5};
  ObjectiveOptions rloo;
  rloo.baseline = Baseline::kLeaveOneOut;
  const std::vector<double> a = OnePerCompletion(rewards, 4, rloo), mean = OnePerCompletion(rewards, 4, {});
  CHECK(a[0] == 1.0);  // the others of its group have 0
  CHECK(a[1] == Approx(-1.0 / 3));
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == Approx(mean[i] * 4 / 3).epsilon(1e-15));
}

TEST_CASE("scaled advantages are divided by the standard deviation with Bessel's correction plus 1e-4") {
  ObjectiveOptions options;
  options.scale_rewards = RewardScale::kGroup;
  // Squares about the mean 0.25: 3 * 0.0625 + 0.5625 = 0.75, divided by 4 - 1.
  const double deviation = 0.5;
  const std::vector<double> a = OnePerCompletion({1, 0, 0, 0}, 4, options);
  CHECK(a[0] == Approx(0.75 / (deviation + 1e-4)).epsilon(1e-14));
  CHECK(a[3] == Approx(-0.25 / (deviation + 1e-4)).epsilon(1e-14));
}

TEST_CASE("scaling by the batch divides every group by the deviation of all rewards") {
  ObjectiveOptions options;
  options.scale_rewards = RewardScale::kBatch;
  // The mean of all is 0.5, their squares about it 4 * 0.25, divided by 4 - 1.
  const double deviation = std::sqrt(1.0 / 3);
  const std::vector<double> a = OnePerCompletion({1, 0, 1, 0}, 2, options);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(a[i] == Approx((i % 2 == 0 ? 0.5 : -0.5) / (deviation + 1e-4)).epsilon(1e-14));
  }
  CHECK(OnePerCompletion({1, 1, 0, 0}, 2, options) ==
        std::vector<double>(4, 0.0));  // a batch with spread, no group has
}

TEST_CASE("a group without spread has advantages of exactly 0, whatever its reward, baseline and scale") {
  for (Baseline baseline : {Baseline::kGroupMean, Baseline::kLeaveOneOut}) {
    for (RewardScale scale : {RewardScale::kNone, RewardScale::kGroup, RewardScale::kBatch}) {
      ObjectiveOptions options;
      options.baseline = baseline;
      options.scale_rewards = scale;
      // The mean of three times 0.1 is not 0.1 in binary.
      CHECK(OnePerCompletion({0.1, 0.1, 0.1, 1, 1, 1, 0, 0, 0}, 3, options) == std::vector<double>(9, 0.0));
      CHECK(OnePerCompletion({0.7, 0.2}, 1, options) == std::vector<double>{0, 0});
    }
  }
}

TEST_CASE("without a baseline the reward is the advantage") {
  ObjectiveOptions options;
  options.baseline = Baseline::kNone;
  CHECK(OnePerCompletion({1, 1, 0, 0.25}, 2, options) == std::vector<double>{1, 1, 0, 0.25});
}

TEST_CASE("whitened advantages have mean 0 and variance 1 over the tokens, so long completions count more in both") {
  ObjectiveOptions options;
  options.baseline = Baseline::kNone;
  options.whiten = true;
  const std::vector<int> lengths = {3, 1};
  const std::vector<double> rewards = {1, 0}, logp(4, 0.0);
  const std::vector<double> a = Advantages({lengths, 1, rewards, logp, {}}, options);
  // Values 1 1 1 0: mean 3/4, variance (3/16 + 9/16) / 3 = 1/4.
  REQUIRE(a.size() == 4);
  CHECK(a[0] == Approx(0.25 / std::sqrt(0.25 + 1e-8)).epsilon(1e-14));
  CHECK(a[0] == a[2]);
  CHECK(a[3] == Approx(-0.75 / std::sqrt(0.25 + 1e-8)).epsilon(1e-14));
}

TEST_CASE("a KL in the reward is summed over the completion before the baseline") {
  ObjectiveOptions options;
  options.beta = 0.1;
  options.kl = KlEstimator::kK1;
  options.kl_in = KlPlace::kReward;
  const std::vector<int> lengths = {2, 1};
  const std::vector<double> rewards = {1, 0}, old_logp = {-1, -2, -3}, ref_logp = {-1.5, -2.25, -2};
  // Rewards 1 - 0.1 (0.5 + 0.25) and 0 - 0.1 (-1); their mean is 0.5125.
  const std::vector<double> a = Advantages({lengths, 2, rewards, old_logp, ref_logp}, options);
  CHECK(a[0] == Approx(0.925 - 0.5125).epsilon(1e-14));
  CHECK(a[0] == a[1]);
  CHECK(a[2] == Approx(0.1 - 0.5125).epsilon(1e-14));
}

TEST_CASE("a KL in the return takes off what is still to come, the token's own included") {
  ObjectiveOptions options;
  options.baseline = Baseline::kNone;
  options.beta = 0.1;
  options.kl = KlEstimator::kK1;
  options.kl_in = KlPlace::kReturn;
  const std::vector<int> lengths = {3};
  const std::vector<double> rewards = {1}, old_logp = {-1, -2, -3}, ref_logp = {-1.5, -2.25, -2};
  const std::vector<double> a = Advantages({lengths, 1, rewards, old_logp, ref_logp}, options);
  CHECK(a[0] == Approx(1 - 0.1 * (0.5 + 0.25 - 1)).epsilon(1e-14));
  CHECK(a[1] == Approx(1 - 0.1 * (0.25 - 1)).epsilon(1e-14));
  CHECK(a[2] == Approx(1 - 0.1 * -1).epsilon(1e-14));
}

TEST_CASE(
    "on-policy distillation: a token's advantage is log p_teacher - log p of its own, beside the weighted reward") {
  ObjectiveOptions options = Named("opd");
  const std::vector<int> lengths = {3, 1};
  const std::vector<double> rewards = {1, 0}, old_logp = {-1, -2, -3, -1}, teacher = {-1.5, -2.25, -2, -1};
  CHECK(Advantages({lengths, 2, rewards, old_logp, teacher}, options) == std::vector<double>{-0.5, -0.25, 1, 0});
  options.reward_weight = 0.5;  // about the group's mean, +-0.25
  options.beta = 2;
  CHECK(Advantages({lengths, 2, rewards, old_logp, teacher}, options) ==
        std::vector<double>{-0.75, -0.25, 2.25, -0.25});
}

TEST_CASE("on-policy distillation: a student that is its teacher has advantages of exactly 0") {
  const std::vector<int> lengths = {3, 1};
  const std::vector<double> rewards = {1, 0}, logp = {-0.1, -2.3, -1e-9, -77};
  CHECK(Advantages({lengths, 2, rewards, logp, logp}, Named("opd")) == std::vector<double>(4, 0.0));
}

TEST_CASE("the overlong penalty falls from 0 to -1 over the last share of the longest length") {
  ObjectiveOptions options;
  options.max_completion_length = 100;
  CHECK(OverlongPenalty(100, options) == 0.0);  // no share
  options.overlong_share = 0.2;
  CHECK(OverlongPenalty(80, options) == 0.0);
  CHECK(OverlongPenalty(81, options) == Approx(-0.05));
  CHECK(OverlongPenalty(90, options) == Approx(-0.5));
  CHECK(OverlongPenalty(100, options) == Approx(-1));
  CHECK(OverlongPenalty(120, options) == -1.0);
}

TEST_CASE("rewards that are no whole number of groups are refused, and so are completions without one") {
  const std::vector<double> rewards = {1, 0, 1}, logp(3, 0.0);
  const std::vector<int> three = {1, 1, 1}, two = {1, 2};
  CHECK_THROWS_WITH_AS(Advantages({three, 2, rewards, logp, {}}, {}), Contains("3 rewards"), Error);
  CHECK_THROWS_AS(Advantages({three, 0, rewards, logp, {}}, {}), Error);
  CHECK_THROWS_WITH_AS(Advantages({two, 3, rewards, logp, {}}, {}), Contains("2 completions have 3 rewards"), Error);
}

TEST_CASE("the normalisers divide by all tokens, by each length and the count, by the limit and it, by the count") {
  const std::vector<int> lengths = {10, 30, 40};
  for (double w : SequenceWeights(lengths, With(Aggregation::kTokenMean))) CHECK(w == Approx(1.0 / 80));
  const std::vector<double> by_sequence = SequenceWeights(lengths, With(Aggregation::kSequenceMean));
  CHECK(by_sequence[0] == Approx(1.0 / (3 * 10)));
  CHECK(by_sequence[1] == Approx(1.0 / (3 * 30)));
  CHECK(by_sequence[2] == Approx(1.0 / (3 * 40)));
  for (double w : SequenceWeights(lengths, With(Aggregation::kConstant))) CHECK(w == Approx(1.0 / (3 * 50)));
  for (double w : SequenceWeights(lengths, With(Aggregation::kSequenceSum))) CHECK(w == Approx(1.0 / 3));
}

TEST_CASE("with completions of one length, which is the limit, all normalisers but the sum coincide") {
  const std::vector<int> lengths = {50, 50, 50, 50};
  for (Aggregation a : {Aggregation::kTokenMean, Aggregation::kSequenceMean, Aggregation::kConstant}) {
    for (double w : SequenceWeights(lengths, With(a))) CHECK(w == Approx(1.0 / 200).epsilon(1e-15));
  }
}

TEST_CASE("a completion without tokens divides nothing by 0 and counts among the completions") {
  for (Aggregation a : {Aggregation::kTokenMean, Aggregation::kSequenceMean}) {
    CHECK(SequenceWeights(std::vector<int>{0}, With(a)) == std::vector<double>{0});
  }
  const std::vector<double> w = SequenceWeights(std::vector<int>{0, 10}, With(Aggregation::kSequenceMean));
  CHECK(w[0] == 0.0);
  CHECK(w[1] == Approx(1.0 / 20));
  const Evaluated none = Evaluate({}, {}, {}, Named("gspo"));
  CHECK(none.sums.loss == 0.0);
}

TEST_CASE("the REINFORCE term is -A log p") {
  const Evaluated e = Evaluate({-2.0}, {-5.0}, {0.5}, Named("reinforce"), 3);
  CHECK(e.term[0] == 1.0);
  CHECK(e.dlogp[0] == -1.5);
  CHECK(e.sums.loss == 3.0);
  CHECK(e.sums.clipped == 0);
}

TEST_CASE("the clipped term stops where the ratio has gone too far in the advantage's direction, and only there") {
  struct Case {
    double ratio, advantage, value;
    bool clipped;
  };
  ObjectiveOptions options;
  options.epsilon_high = 0.3;
  for (const Case& c : {Case{1.5, 2, -1.3 * 2, true}, Case{1.25, 2, -1.25 * 2, false}, Case{0.5, 2, -0.5 * 2, false},
                        Case{1.5, -2, 1.5 * 2, false}, Case{0.9, -2, 0.9 * 2, false}, Case{0.5, -2, 0.8 * 2, true}}) {
    INFO("ratio ", c.ratio, ", advantage ", c.advantage);
    const Evaluated e = Evaluate({-1 + std::log(c.ratio)}, {-1}, {c.advantage}, options);
    CHECK(e.term[0] == Approx(c.value).epsilon(1e-14));
    CHECK(e.sums.clipped == c.clipped);
    CHECK(e.dlogp[0] == (c.clipped ? 0.0 : Approx(c.value).epsilon(1e-14)));
  }
}

TEST_CASE("an unclipped ratio never stops") {
  ObjectiveOptions options;
  options.clip = ClipKind::kNone;
  const Evaluated e = Evaluate({-1 + std::log(5.0)}, {-1}, {2}, options);
  CHECK(e.term[0] == Approx(-10));
  CHECK(e.dlogp[0] == Approx(-10));
  CHECK(e.sums.clipped == 0);
}

TEST_CASE("CISPO caps the weight of a token and never loses its gradient") {
  ObjectiveOptions options = Named("cispo");
  options.epsilon_high = 0.5;
  for (double ratio : {0.1, 1.0, 1.4, 9.0}) {
    const double logp = -1 + std::log(ratio), weight = std::min(ratio, 1.5);
    const Evaluated e = Evaluate({logp}, {-1}, {2}, options);
    CHECK(e.term[0] == Approx(-weight * 2 * logp).epsilon(1e-14));
    CHECK(e.dlogp[0] == Approx(-weight * 2).epsilon(1e-14));
    CHECK(e.sums.clipped == (ratio > 1.5));
  }
}

TEST_CASE("a sequence's ratio is the product of the tokens' ratios, or their geometric mean") {
  ObjectiveOptions options;
  options.clip = ClipKind::kNone;
  const std::vector<double> logp = {-1, -2, -0.5}, old_logp = {-1.5, -1.75, -0.5}, advantage(3, 1.0);
  options.ratio = RatioKind::kSequence;
  const Evaluated product = Evaluate(logp, old_logp, advantage, options);
  options.ratio = RatioKind::kSequenceMean;
  const Evaluated mean = Evaluate(logp, old_logp, advantage, options);
  for (std::size_t t = 0; t < 3; ++t) {
    CHECK(product.term[t] == Approx(-std::exp(0.25)));
    CHECK(mean.term[t] == Approx(-std::exp(0.25 / 3)));
    CHECK(product.dlogp[t] == Approx(-3 * std::exp(0.25)));  // every token moves all three terms
    CHECK(mean.dlogp[t] == Approx(-std::exp(0.25 / 3)));
  }
}

TEST_CASE("the estimators of the KL are d, d^2/2 and exp(-d) + d - 1") {
  for (double d : {-1.5, 0.0, 0.3}) {
    CHECK(EvaluateKl(d, KlEstimator::kK1).value == d);
    CHECK(EvaluateKl(d, KlEstimator::kK2).value == Approx(d * d / 2));
    CHECK(EvaluateKl(d, KlEstimator::kK3).value == Approx(std::exp(-d) + d - 1));
  }
  CHECK(EvaluateKl(0, KlEstimator::kK3).value == 0.0);
}

TEST_CASE("a KL in the loss is added to every token's term with its weight, and its sum is reported before beta") {
  ObjectiveOptions options = Named("grpo");
  options.beta = 0.5;
  const Evaluated e = Evaluate({-1, -1}, {-1, -1}, {0, 0}, options, 2);  // d = -0.3, -0.1
  const double first = std::exp(0.3) - 0.3 - 1, second = std::exp(0.1) - 0.1 - 1;
  CHECK(e.term[0] == Approx(0.5 * first));
  CHECK(e.dlogp[1] == Approx(2 * 0.5 * (1 - std::exp(0.1))));
  CHECK(e.sums.kl == Approx(first + second));
  CHECK(e.sums.loss == Approx(2 * 0.5 * (first + second)));
}

TEST_CASE("an entropy bonus lowers the loss by its coefficient and leaves dL/dlog p alone") {
  ObjectiveOptions options = Named("grpo");
  options.entropy_coef = 0.1;
  const Evaluated with = Evaluate({-1, -2}, {-1, -2}, {1, 1}, options);
  const Evaluated without = Evaluate({-1, -2}, {-1, -2}, {1, 1}, Named("grpo"));
  CHECK(with.sums.loss == Approx(without.sums.loss - 0.1 * (0.5 + 1.5)));
  CHECK(with.dlogp == without.dlogp);
}

TEST_CASE("the gradient of every objective, with KL and entropy in its loss, is that of its value") {
  const double h = 1e-5;  // the quotient errs by h^2/6 and 1e-16/h, both near 1e-11
  const std::vector<double> logp = {-1.0, -2.5, -0.3, -1.7}, advantage = {0.8, -0.6, 1.1, 0.8};
  for (const auto& [name, switches] : NamedObjectives()) {
    for (double shift : {-0.5, -0.03, 0.02, 0.5}) {
      ObjectiveOptions options = Named(name.c_str());
      options.beta = 0.3;
      options.kl_in = KlPlace::kLoss;
      options.entropy_coef = 0.2;
      std::vector<double> old_logp = logp;
      for (std::size_t t = 0; t < old_logp.size(); ++t) old_logp[t] += shift * (t % 2 == 0 ? 1 : -0.5);
      const Evaluated e = Evaluate(logp, old_logp, advantage, options, 0.7);
      for (std::size_t t = 0; t < logp.size(); ++t) {
        const auto loss = [&](double step) {
          std::vector<double> moved = logp;
          moved[t] += step;
          // CISPO's factor is a constant: moving the old log-probability along keeps it.
          std::vector<double> old = old_logp;
          if (options.clip == ClipKind::kWeight) old[t] += step;
          return Evaluate(moved, old, advantage, options, 0.7).sums.loss;
        };
        INFO(name, ", shift ", shift, ", token ", t);
        CHECK(std::fabs(e.dlogp[t] - (loss(h) - loss(-h)) / (2 * h)) < 1e-9);
      }
    }
  }
}

TEST_CASE("objectives are chosen by name and changed by switches, and their switches give the same again") {
  for (const auto& [name, switches] : NamedObjectives()) {
    const ObjectiveOptions options = Named(name.c_str());
    CheckObjective(options);
    CHECK(ToJson(ObjectiveFromJson(ToJson(options))) == ToJson(options));
  }
  const ordered_json dapo = ToJson(ObjectiveFromJson({{"objective", "dapo"}, {"beta", 0.5}, {"kl", "k2"}}));
  CHECK(dapo["epsilon_high"] == 0.28);
  CHECK(dapo["beta"] == 0.5);
  CHECK(dapo["kl"] == "k2");
  CHECK(dapo["dynamic_sampling"] == true);
  CHECK(ToJson(ObjectiveFromJson(ordered_json::object())) == ToJson(ObjectiveFromJson({{"objective", "grpo"}})));
  CHECK(ObjectiveFromJson({{"epsilon", 0.1}}).epsilon_high == 0.1);
  CHECK(ObjectiveFromJson({{"epsilon", 0.1}, {"epsilon_high", 0.3}}).epsilon_high == 0.3);
  CHECK(ObjectiveFromJson({{"objective", "dapo"}, {"epsilon", 0.1}}).epsilon_high ==
        0.28);  // its clip is not one range
}

TEST_CASE("an unknown objective, switch or value is refused with those that there are") {
  const auto refused = [](const ordered_json& switches, const char* sentence) {
    CHECK_THROWS_WITH_AS(ObjectiveFromJson(switches), Contains(sentence), UsageError);
  };
  refused({{"objective", "ppo"}}, "unknown objective \"ppo\"; use reinforce, rloo,");
  refused({{"normalizer", "mean"}}, "token-mean, sequence-mean, constant or sequence-sum");
  refused({{"kl", 3}}, "k1, k2 or k3");
  refused({{"beta", "much"}}, "beta is \"much\", which has the wrong type");
  refused({{"gamma", 1}}, "no switch 'gamma'; it has objective, reward_weight");
}

TEST_CASE("switches that contradict each other are refused") {
  const auto refused = [](ordered_json switches, const char* sentence) {
    CHECK_THROWS_WITH_AS(CheckObjective(ObjectiveFromJson(switches)), Contains(sentence), UsageError);
  };
  refused({{"ratio", "none"}}, "nothing to clip");
  refused({{"objective", "dr_grpo"}}, "longest completion's length");
  refused({{"overlong_share", 0.2}}, "longest completion's length");
  refused({{"overlong_share", 1.5}, {"max_completion_length", 9}}, "between 0 and 1");
  refused({{"baseline", "none"}}, "after a baseline is subtracted");
  refused({{"baseline", "none"}, {"scale_rewards", "none"}, {"dynamic_sampling", true}},
          "only where there is a baseline");
  refused({{"beta", -1}}, "beta");
  refused({{"epsilon", -0.1}, {"epsilon_high", 0.2}}, "epsilon");
  refused({{"epsilon", 0.2}, {"epsilon_high", -0.1}}, "epsilon");
}

}  // namespace
}  // namespace swarr
