// SPDX-License-Identifier: Apache-2.0
// With one update per rollout every ratio is exactly 1. Which objectives have the same gradient then, which differ by a
// factor, and which truly differ.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "rl/objective_names.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

struct Completions {
  std::vector<int> lengths;
  std::vector<double> rewards;
};
constexpr int kGroupSize = 4;
const Completions kUneven = {{3, 7, 1, 5, 2, 2, 6, 4, 5, 1, 1, 3}, {1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1}};
const Completions kEven = {{4, 4, 4, 4, 4, 4, 4, 4}, {1, 0, 0, 1, 0, 0, 0, 1}};

// dL/dlog p of all tokens, at log p = log p_old = log p_ref.
std::vector<double> Gradient(const Completions& batch, ordered_json switches) {
  switches["max_completion_length"] = 20;  // none is long enough for the overlong penalty
  const ObjectiveOptions options = ObjectiveFromJson(switches);
  std::vector<double> logp;
  for (int length : batch.lengths) {
    for (int t = 0; t < length; ++t) logp.push_back(-0.3 - 0.7 * static_cast<double>(logp.size() % 5));
  }
  const std::vector<double> advantages = Advantages({batch.lengths, kGroupSize, batch.rewards, logp, logp}, options);
  const std::vector<double> weights = SequenceWeights(batch.lengths, options);
  std::vector<double> term(logp.size()), dlogp(logp.size());
  std::size_t begin = 0;
  for (std::size_t i = 0; i < batch.lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(batch.lengths[i]);
    const auto part = [&](std::vector<double>& values) { return std::span(values).subspan(begin, length); };
    const std::span<const double> now = part(logp);
    const CompletionLoss loss = EvaluateCompletion(
        {now, now, now, {}, std::span(advantages).subspan(begin, length), weights[i], part(term), part(dlogp)},
        options);
    CHECK(loss.clipped == 0);
    begin += length;
  }
  return dlogp;
}

// The factor by which b is a, or NaN if there is none. The bound: some roundings of f64 on the way to each value.
double Factor(const std::vector<double>& a, const std::vector<double>& b) {
  double factor = std::nan("");
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == 0 && b[i] == 0) continue;
    if (std::isnan(factor)) factor = b[i] / a[i];
    if (!(std::fabs(b[i] - factor * a[i]) <= 1e-14 * std::fabs(b[i]))) return std::nan("");
  }
  return factor;
}

TEST_CASE("on-policy no clip, whatever its kind and range, changes a bit of the gradient") {
  for (const Completions& batch : {kUneven, kEven}) {
    const std::vector<double> grpo = Gradient(batch, {{"objective", "grpo"}});
    CHECK(Gradient(batch, {{"objective", "grpo"}, {"epsilon", 1e-9}}) == grpo);
    CHECK(Gradient(batch, {{"objective", "grpo"}, {"epsilon_high", 5}}) == grpo);
    CHECK(Gradient(batch, {{"objective", "grpo"}, {"clip", "none"}}) == grpo);
    CHECK(Gradient(batch, {{"objective", "grpo"}, {"clip", "weight"}}) == grpo);
    CHECK(Gradient(batch, {{"objective", "grpo"}, {"ratio", "none"}, {"clip", "none"}}) == grpo);
  }
}

TEST_CASE("on-policy CISPO is DAPO without its sampling and penalty, bit for bit") {
  CHECK(Gradient(kUneven, {{"objective", "cispo"}}) == Gradient(kUneven, {{"objective", "dapo"}}));
}

TEST_CASE("on-policy GSPO is GRPO") {
  CHECK(Factor(Gradient(kUneven, {{"objective", "grpo"}}), Gradient(kUneven, {{"objective", "gspo"}})) ==
        doctest::Approx(1).epsilon(1e-14));
}

TEST_CASE("on-policy RLOO is REINFORCE with a group baseline, times G/(G-1)") {
  CHECK(Factor(Gradient(kUneven, {{"objective", "reinforce"}}), Gradient(kUneven, {{"objective", "rloo"}})) ==
        doctest::Approx(4.0 / 3).epsilon(1e-14));
}

TEST_CASE("on-policy Dr. GRPO is REINFORCE over the longest length, and the token mean is either times a factor") {
  const std::vector<double> reinforce = Gradient(kUneven, {{"objective", "reinforce"}});
  const std::vector<double> dr_grpo = Gradient(kUneven, {{"objective", "dr_grpo"}});
  CHECK(Factor(reinforce, dr_grpo) == doctest::Approx(1.0 / 20).epsilon(1e-14));
  // 12 completions of at most 20 tokens, 40 tokens in all.
  CHECK(Factor(dr_grpo, Gradient(kUneven, {{"objective", "dr_grpo"}, {"normalizer", "token-mean"}})) ==
        doctest::Approx(12.0 * 20 / 40).epsilon(1e-14));
}

TEST_CASE("on-policy GRPO and DAPO are one where all completions have one length, and not where they differ") {
  CHECK(Factor(Gradient(kEven, {{"objective", "grpo"}}), Gradient(kEven, {{"objective", "dapo"}})) ==
        doctest::Approx(1).epsilon(1e-14));
  CHECK(std::isnan(Factor(Gradient(kUneven, {{"objective", "grpo"}}), Gradient(kUneven, {{"objective", "dapo"}}))));
}

TEST_CASE("on-policy the group's deviation turns the gradient, the batch's only stretches it") {
  const auto scaled = [](const char* by) {
    return Gradient(kUneven, {{"objective", "dr_grpo"}, {"scale_rewards", by}});
  };
  CHECK(std::isnan(Factor(scaled("none"), scaled("group"))));
  CHECK(Factor(scaled("none"), scaled("batch")) > 1);  // a deviation of 0/1 rewards is below 1
}

TEST_CASE("on-policy whitening stretches the gradient of one length, and shifts that of several") {
  const auto whitened = [](const Completions& batch, bool whiten) {
    return Gradient(batch, {{"objective", "reinforce++-baseline"}, {"whiten", whiten}});
  };
  CHECK(Factor(whitened(kEven, false), whitened(kEven, true)) > 1);
  CHECK(std::isnan(Factor(whitened(kUneven, false), whitened(kUneven, true))));
}

TEST_CASE("at the reference k2 and k3 pull nowhere, and k1 pushes every token down alike") {
  const auto with = [](const char* kl, double beta) {
    return Gradient(kUneven, {{"objective", "dr_grpo"}, {"kl", kl}, {"beta", beta}});
  };
  CHECK(with("k2", 1) == with("k2", 0));
  CHECK(with("k3", 1) == with("k3", 0));
  const std::vector<double> k1 = with("k1", 1), none = with("k1", 0);
  for (std::size_t i = 0; i < k1.size(); ++i) CHECK(k1[i] - none[i] == doctest::Approx(1.0 / (12 * 20)));
}

}  // namespace
}  // namespace swarr
