// SPDX-License-Identifier: Apache-2.0
#include "rl/objective.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "tensor/check.h"

namespace swarr {
namespace {

using doctest::Approx;
using doctest::Contains;

ObjectiveOptions With(PolicyTermKind term) {
  ObjectiveOptions options;
  options.term = term;
  return options;
}

ObjectiveOptions With(Aggregation aggregation) {
  ObjectiveOptions options;
  options.aggregation = aggregation;
  options.max_completion_length = 50;
  return options;
}

TEST_CASE("an advantage is the reward less the mean of its own group") {
  const std::vector<double> rewards = {1, 0, 0, 0, 1, 0.5, 0, 0.5};
  CHECK(Advantages(rewards, 4, {}) == std::vector<double>{0.75, -0.25, -0.25, -0.25, 0.5, 0, -0.5, 0});
  CHECK(Advantages(rewards, 2, {}) == std::vector<double>{0.5, -0.5, 0, 0, 0.25, -0.25, -0.25, 0.25});
  CHECK(Advantages({}, 4, {}).empty());
}

TEST_CASE("scaled advantages are divided by the standard deviation with Bessel's correction plus 1e-4") {
  ObjectiveOptions options;
  options.scale_rewards = true;
  // Squares about the mean 0.25: 3 * 0.0625 + 0.5625 = 0.75, divided by 4 - 1.
  const double deviation = 0.5;
  const std::vector<double> a = Advantages(std::vector<double>{1, 0, 0, 0}, 4, options);
  CHECK(a[0] == Approx(0.75 / (deviation + 1e-4)).epsilon(1e-14));
  CHECK(a[3] == Approx(-0.25 / (deviation + 1e-4)).epsilon(1e-14));
}

TEST_CASE("a group without spread has advantages of exactly 0, whatever its reward") {
  for (bool scale : {false, true}) {
    ObjectiveOptions options;
    options.scale_rewards = scale;
    // The mean of three times 0.1 is not 0.1 in binary.
    CHECK(Advantages(std::vector<double>{0.1, 0.1, 0.1, 1, 1, 1, 0, 0, 0}, 3, options) == std::vector<double>(9, 0.0));
    CHECK(Advantages(std::vector<double>{0.7, 0.2}, 1, options) == std::vector<double>{0, 0});
  }
}

TEST_CASE("rewards that are no whole number of groups are refused") {
  CHECK_THROWS_WITH_AS(Advantages(std::vector<double>{1, 0, 1}, 2, {}), Contains("3 rewards"), Error);
  CHECK_THROWS_AS(Advantages(std::vector<double>{1, 0}, 0, {}), Error);
}

TEST_CASE("token-mean divides by all tokens, sequence-mean by each length and the count, constant by the limit") {
  const std::vector<int> lengths = {10, 30, 40};
  for (double w : SequenceWeights(lengths, With(Aggregation::kTokenMean))) CHECK(w == Approx(1.0 / 80));
  const std::vector<double> by_sequence = SequenceWeights(lengths, With(Aggregation::kSequenceMean));
  CHECK(by_sequence[0] == Approx(1.0 / (3 * 10)));
  CHECK(by_sequence[1] == Approx(1.0 / (3 * 30)));
  CHECK(by_sequence[2] == Approx(1.0 / (3 * 40)));
  for (double w : SequenceWeights(lengths, With(Aggregation::kConstant))) CHECK(w == Approx(1.0 / (3 * 50)));
}

TEST_CASE("with completions of one length, which is the limit, the three normalisers coincide") {
  const std::vector<int> lengths = {50, 50, 50, 50};
  for (Aggregation a : {Aggregation::kTokenMean, Aggregation::kSequenceMean, Aggregation::kConstant}) {
    for (double w : SequenceWeights(lengths, With(a))) CHECK(w == Approx(1.0 / 200).epsilon(1e-15));
  }
}

TEST_CASE("the normalisers weigh completions: each token alike, or each completion alike") {
  const std::vector<int> lengths = {10, 30, 40};
  const auto total = [&](Aggregation a) {
    const std::vector<double> w = SequenceWeights(lengths, With(a));
    return std::inner_product(w.begin(), w.end(), lengths.begin(), 0.0);
  };
  CHECK(total(Aggregation::kTokenMean) == Approx(1));
  CHECK(total(Aggregation::kSequenceMean) == Approx(1));
  CHECK(total(Aggregation::kConstant) == Approx(80.0 / 150));
}

TEST_CASE("the constant normaliser without a length is refused, and no completion of no length divides by 0") {
  ObjectiveOptions options = With(Aggregation::kConstant);
  options.max_completion_length = 0;
  CHECK_THROWS_WITH_AS(SequenceWeights(std::vector<int>{3}, options), Contains("longest completion's length"), Error);
  for (Aggregation a : {Aggregation::kTokenMean, Aggregation::kSequenceMean}) {
    CHECK(SequenceWeights(std::vector<int>{0}, With(a)) == std::vector<double>{0});
  }
}

TEST_CASE("the REINFORCE term is -A log p") {
  const PolicyTerm term = EvaluateTerm(-2.0, -5.0, 0.5, With(PolicyTermKind::kReinforce));
  CHECK(term.value == 1.0);
  CHECK(term.derivative == -0.5);
  CHECK(!term.clipped);
}

TEST_CASE("the GRPO term stops where the ratio has gone too far in the advantage's direction, and only there") {
  const ObjectiveOptions grpo = With(PolicyTermKind::kGrpo);
  struct Case {
    double ratio, advantage, value;
    bool clipped;
  };
  for (const Case& c : {Case{1.5, 2, -1.2 * 2, true}, Case{1.1, 2, -1.1 * 2, false}, Case{0.5, 2, -0.5 * 2, false},
                        Case{1.5, -2, 1.5 * 2, false}, Case{0.9, -2, 0.9 * 2, false}, Case{0.5, -2, 0.8 * 2, true}}) {
    INFO("ratio ", c.ratio, ", advantage ", c.advantage);
    const PolicyTerm term = EvaluateTerm(-1 + std::log(c.ratio), -1, c.advantage, grpo);
    CHECK(term.value == Approx(c.value).epsilon(1e-14));
    CHECK(term.clipped == c.clipped);
    if (c.clipped) CHECK(term.derivative == 0.0);
  }
  ObjectiveOptions narrow = grpo;
  narrow.epsilon = 0.05;
  CHECK(EvaluateTerm(std::log(1.1), 0, 1, narrow).value == Approx(-1.05).epsilon(1e-14));
}

TEST_CASE("the derivative of a term is that of its value") {
  const double h = 1e-5;  // the quotient errs by h^2/6 and 1e-16/h, both near 1e-11
  for (PolicyTermKind kind : {PolicyTermKind::kReinforce, PolicyTermKind::kGrpo}) {
    for (double advantage : {1.5, -0.7}) {
      for (double shift : {-0.6, -0.1, 0.0, 0.1, 0.6}) {
        const auto value = [&](double logp) { return EvaluateTerm(logp, -2, advantage, With(kind)).value; };
        const double slope = (value(-2 + shift + h) - value(-2 + shift - h)) / (2 * h);
        CHECK(std::fabs(EvaluateTerm(-2 + shift, -2, advantage, With(kind)).derivative - slope) < 1e-9);
      }
    }
  }
}

TEST_CASE("on-policy, GRPO has REINFORCE's gradient exactly and nothing is clipped") {
  for (double logp : {-0.1, -3.7, -20.0}) {
    for (double advantage : {0.75, -0.25, 0.0}) {
      const PolicyTerm grpo = EvaluateTerm(logp, logp, advantage, With(PolicyTermKind::kGrpo));
      CHECK(grpo.derivative == EvaluateTerm(logp, logp, advantage, With(PolicyTermKind::kReinforce)).derivative);
      CHECK(grpo.value == -advantage);
      CHECK(!grpo.clipped);
    }
  }
}

TEST_CASE("objectives are chosen by name, and an unknown name lists the known ones") {
  CHECK(ParsePolicyTerm("reinforce") == PolicyTermKind::kReinforce);
  CHECK(ParsePolicyTerm("grpo") == PolicyTermKind::kGrpo);
  CHECK(ParseAggregation("token-mean") == Aggregation::kTokenMean);
  CHECK(ParseAggregation("sequence-mean") == Aggregation::kSequenceMean);
  CHECK(ParseAggregation("constant") == Aggregation::kConstant);
  CHECK_THROWS_WITH_AS(ParsePolicyTerm("ppo"), Contains("'ppo'; use reinforce or grpo"), UsageError);
  CHECK_THROWS_WITH_AS(ParseAggregation("mean"), Contains("'mean'; use token-mean, sequence-mean or constant"),
                       UsageError);
}

}  // namespace
}  // namespace swarr
