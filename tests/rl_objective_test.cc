// SPDX-License-Identifier: Apache-2.0
// What an objective makes of a run of RL: its gradient, several updates, the reference model, dynamic sampling.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>

#include "autograd/gradient_check.h"
#include "resume_checks.h"
#include "rl/objective_names.h"
#include "rl_runs.h"
#include "temp_directory.h"
#include "train/data.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Computes the gradient of the step of a run with groups of 6, from its completions file and the weights before it: of
// w_i sum_t (-A_it log p + beta KL_it - entropy_coef H_it), written down once more. Checks what the file says of
// advantages and KL on the way.
void ExpectGradient(const Transformer& model, const Transformer& reference, const fs::path& run,
                    const ObjectiveOptions& objective) {
  const SampledStep step(CompletionsOf(run, 1));
  const std::vector<double> logp = step.LogprobsUnder(model), ref_logp = step.LogprobsUnder(reference);
  const std::vector<double> w = SequenceWeights(step.lengths, objective);
  const std::vector<double> A = Advantages({step.lengths, 6, step.rewards, logp, ref_logp}, objective);
  std::size_t rows = 0;
  for (const Tokens& d : step.documents) rows += d.size();
  std::vector<double> c(rows, 0.0), e(rows, 0.0), in_file, kl(step.rows.size(), 0.0);
  step.ForTokens([&](std::size_t i, std::size_t n) {
    const std::size_t t = in_file.size(),
                      of_completion = in_file.size() - static_cast<std::size_t>(std::accumulate(
                                                           step.lengths.begin(),
                                                           step.lengths.begin() + static_cast<std::ptrdiff_t>(i), 0));
    const json& row = step.rows[i];
    in_file.push_back(row.contains("advantages") ? row["advantages"][of_completion] : row["advantage"]);
    const double d = logp[t] - ref_logp[t];
    const double derivative = objective.kl == KlEstimator::kK1   ? 1.0
                              : objective.kl == KlEstimator::kK2 ? d
                                                                 : 1.0 - std::exp(-d);
    kl[i] += EvaluateKl(d, objective.kl).value;
    c[n] = w[i] * (-A[t] + (objective.kl_in == KlPlace::kLoss ? objective.beta * derivative : 0.0));
    e[n] = -objective.entropy_coef * w[i];
  });
  CHECK(in_file == A);
  for (std::size_t i = 0; i < kl.size(); ++i) {
    CHECK(step.rows[i].contains("kl") == (objective.beta != 0));
    if (objective.beta != 0) CHECK(step.rows[i]["kl"].get<double>() == doctest::Approx(kl[i]).epsilon(1e-12));
  }
  TestContext t;
  RunBackward(t.ctx, model, step.documents, c, false, e);
}

TEST_CASE("the gradient of a step is that of its objective at the sampled tokens") {
  const std::vector<nlohmann::ordered_json> objectives = {
      {{"objective", "grpo"}},
      {{"objective", "dr_grpo"}},
      {{"normalizer", "token-mean"}, {"scale_rewards", "batch"}},
      {{"objective", "reinforce"}, {"baseline", "none"}},
      {{"objective", "reinforce"}, {"beta", 0.3}},  // KL k1 in the reward
      {{"baseline", "leave-one-out"}, {"kl", "k2"}, {"kl_in", "reward"}, {"beta", 0.1}},
      {{"objective", "reinforce++"}, {"beta", 0.1}},  // in the return: every token has its own advantage
      {{"objective", "reinforce++-baseline"}, {"beta", 0.2}},
      {{"objective", "cispo"}, {"kl", "k1"}, {"beta", 0.2}},
      {{"objective", "grpo"}, {"beta", 0.5}},
      {{"objective", "opd"}},
      {{"objective", "opd"}, {"reward_weight", 1}, {"beta", 0.2}},
      {{"objective", "grpo"}, {"entropy_coef", 0.1}, {"overlong_share", 0.5}},
      {{"objective", "reinforce++"}, {"kl_in", "loss"}, {"kl", "k3"}, {"beta", 0.2}, {"entropy_coef", 0.1}}};
  for (const auto& switches : objectives) {
    INFO(switches.dump());
    const TempDirectory dir;
    RlTrainee t(TextConfig(), DType::kF64, GradientProbe()), same(TextConfig(), DType::kF64);
    const Transformer reference = Reference(TextConfig(), DType::kF64);
    RlOptions rl = Steps(1);
    rl.objective = ObjectiveFromJson(switches);
    rl.objective.max_completion_length = rl.max_completion_length;
    Train(t, ShareTask(), rl, In(dir / "run"), &reference);
    ExpectGradient(same.model, reference, dir / "run", rl.objective);
    // Documents are packed differently, so sums over rows run in another order: units in the last place of f64.
    CHECK(RelativeError(t.optimizer.first_moment(), same.model.parameters().flat_gradients()) < 1e-12);
  }
}

TEST_CASE("exactly on-policy, objectives that differ in ratio and clip alone end with the same weights bit for bit") {
  const TempDirectory dir;
  RlOptions rl = Steps(4);
  RlTrainee reinforce(TextConfig(), DType::kF32);
  rl.objective.ratio = RatioKind::kNone;
  rl.objective.clip = ClipKind::kNone;
  Train(reinforce, ShareTask(), rl, In(dir / "reinforce"));
  rl.objective.ratio = RatioKind::kToken;
  for (ClipKind clip : {ClipKind::kNone, ClipKind::kPpo, ClipKind::kWeight}) {
    RlTrainee other(TextConfig(), DType::kF32);
    rl.objective.clip = clip;
    Train(other, ShareTask(), rl, In(dir / Concat("clip", static_cast<int>(clip))));
    CHECK(SameState(other, reinforce));
  }
}

TEST_CASE("groups without spread teach where the loss holds more than advantages, or lengths tell them apart") {
  const Transformer reference = Reference(TextConfig(), DType::kF32);
  for (const nlohmann::ordered_json& switches : std::vector<nlohmann::ordered_json>{
           {{"entropy_coef", 1.0}}, {{"beta", 0.1}}, {{"beta", 0.1}, {"kl_in", "reward"}}, {{"overlong_share", 1.0}}}) {
    INFO(switches.dump());
    const TempDirectory dir;
    RlTrainee t(TextConfig(), DType::kF32), untouched(TextConfig(), DType::kF32);
    RlOptions rl = Steps(1);
    rl.objective = ObjectiveFromJson(switches);
    rl.objective.max_completion_length = rl.max_completion_length;
    Train(t, ConstantTask(), rl, In(dir / "run"), &reference);
    CHECK(!SameState(t, untouched));
    const auto row = MetricsWithoutTimes(dir / "run")[0];
    CHECK(row["num_updates"] == 1);
    CHECK(row["reward"] == 0.25);  // the task's own
    CHECK(row["frac_reward_zero_std"] == 1.0);
  }
}

TEST_CASE("a step tells its loss, the mean entropy where its tokens were sampled, and how many rows it has fed") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF64), same(TextConfig(), DType::kF64);
  const RlOptions rl = Steps(1);
  Train(t, ShareTask(), rl, In(dir / "run"));
  const SampledStep step(CompletionsOf(dir / "run", 1));
  std::vector<Document> documents;
  for (std::size_t i = 0; i < step.documents.size(); ++i) {
    const Tokens& tokens = step.documents[i];
    documents.push_back({tokens, static_cast<int>(tokens.size()) - step.lengths[i]});
  }
  TestContext c;
  const PackedPass pass = ForwardPacked(c.ctx, same.model, documents, /*checkpoint_blocks=*/false);
  double entropy = 0, sampled = 0;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const std::int64_t first = pass.packed.first_row(d) + documents[d].first_predicting_row();
    for (std::int64_t n = first; n < pass.packed.first_row(d + 1); ++n, ++sampled) {
      entropy += ValueAt(pass.result.entropy.value, n);
    }
  }
  const std::vector<double> w = SequenceWeights(step.lengths, rl.objective),
                            A = Advantages({step.lengths, 6, step.rewards, {}, {}}, rl.objective);
  double loss = 0;  // exactly on-policy every ratio is 1
  std::size_t at = 0;
  step.ForTokens([&](std::size_t i, std::size_t) { loss -= w[i] * A[at++]; });
  const auto row = MetricsWithoutTimes(dir / "run")[0];
  CHECK(std::abs(loss) > 1e-3);  // else a loss that is told as nothing would pass
  // Sums of some hundred numbers in f64, perhaps in another order, err by some 1e-14.
  CHECK(row["loss"].get<double>() == doctest::Approx(loss).epsilon(1e-12));
  CHECK(row["entropy"].get<double>() == doctest::Approx(entropy / sampled).epsilon(1e-12));
  CHECK(row["num_tokens"] == pass.packed.rows());
}

TEST_CASE("several updates of a step go over one rollout, and the first is exactly on-policy") {
  const TempDirectory dir;
  RlTrainee once(TextConfig(), DType::kF32), twice(TextConfig(), DType::kF32), two_steps(TextConfig(), DType::kF32);
  RlOptions rl = Steps(1);
  rl.objective.epsilon = rl.objective.epsilon_high = 1e-4;
  Train(once, ShareTask(), rl, In(dir / "once"));
  rl.num_iterations = 2;
  const OnPolicyCheck check = Train(twice, ShareTask(), rl, In(dir / "twice"));
  rl.num_iterations = 1;
  rl.steps = 2;
  Train(two_steps, ShareTask(), rl, In(dir / "two steps"));

  CHECK(twice.optimizer.steps_taken() == 2);
  CHECK(!SameState(twice, once));
  CHECK(!SameState(twice, two_steps));
  CHECK(CompletionsOf(dir / "twice", 1) == CompletionsOf(dir / "once", 1));
  const auto row = MetricsWithoutTimes(dir / "twice")[0], first = MetricsWithoutTimes(dir / "once")[0];
  CHECK(check.max_abs_diff == 0.0);
  CHECK(check.tokens == first["rollout_logprob_tokens"]);
  CHECK(row["rollout_logprob_max_abs_diff"] == 0.0);
  CHECK(row["kl"] == 0.0);
  CHECK(row["entropy"] == first["entropy"]);
  CHECK(row["num_updates"] == 2);
  CHECK(row["num_tokens"] == 2 * first["num_tokens"].get<std::int64_t>());
  // At the first update no ratio is clipped, whatever the range; at the second many are.
  CHECK(first["clip_ratio/region_mean"] == 0.0);
  CHECK(row["clip_ratio/region_mean"] > 0.1);
  CHECK(row["clip_ratio/region_mean"] <= 0.5);
}

TEST_CASE("on-policy distillation: a student that is its teacher learns nothing, any other moves towards it") {
  const TempDirectory dir;
  RlOptions rl = Steps(1);
  rl.objective = ObjectiveFromJson({{"objective", "opd"}});
  RlTrainee t(TextConfig(), DType::kF32), same(TextConfig(), DType::kF32);
  Train(t, ShareTask(), rl, In(dir / "same"), &same.model);
  CHECK(SameState(t, same));
  CHECK(MetricsWithoutTimes(dir / "same")[0]["num_updates"] == 0);
  for (const json& row : CompletionsOf(dir / "same", 1)) CHECK(row["advantage"] == 0.0);

  const Transformer teacher = Reference(TextConfig(), DType::kF32);
  rl.steps = 30;
  OptimizerOptions options;
  options.lr = 0.01;
  RlTrainee student(TextConfig(), DType::kF32, options);
  Train(student, ShareTask(), rl, In(dir / "run"), &teacher);
  const auto metrics = MetricsWithoutTimes(dir / "run");
  CHECK(metrics.back()["kl"].get<double>() < 0.5 * metrics.front()["kl"].get<double>());
  for (const auto& row : metrics) CHECK(row["rollout_logprob_max_abs_diff"] == 0.0);
}

TEST_CASE(
    "the KL is measured from the reference model, once a rollout, and is 0 where the policy is still that model") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32), same(TextConfig(), DType::kF32);
  RlOptions rl = Steps(3);
  rl.objective.beta = 0.1;
  Train(t, ShareTask(), rl, In(dir / "run"), &same.model);
  const auto metrics = MetricsWithoutTimes(dir / "run");
  CHECK(metrics[0]["kl"] == 0.0);
  CHECK(metrics[1]["kl"] > 0.0);
  CHECK(metrics[2]["kl"] > 0.0);
  for (std::size_t i = 0; i < 3; ++i) {
    double sum = 0;
    for (const json& row : CompletionsOf(dir / "run", static_cast<int>(i) + 1)) sum += row["kl"].get<double>();
    const auto tokens = metrics[i]["rollout_logprob_tokens"].get<double>();
    CHECK(metrics[i]["kl"].get<double>() == doctest::Approx(sum / tokens).epsilon(1e-12));
    CHECK(metrics[i]["rollout_logprob_max_abs_diff"] == 0.0);
  }

  CHECK_THROWS_WITH_AS(Train(t, ShareTask(), rl, In(dir / "none")), doctest::Contains("no reference model"), Error);
  ModelConfig wider = TextConfig();
  ++wider.vocab;
  const Transformer other = Reference(wider, DType::kF32);
  CHECK_THROWS_WITH_AS(Train(t, ShareTask(), rl, In(dir / "wider"), &other), doctest::Contains("vocabulary"), Error);
}

TEST_CASE("dynamic sampling fills the step, and replaces exactly the groups without spread") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  RlOptions rl = Steps(3);
  rl.prompts_per_step = 2;
  rl.seed = 1;  // one by which every step is filled within 10 rounds
  rl.objective.dynamic_sampling = true;
  const OnPolicyCheck check = Train(t, PickyTask(), rl, In(dir / "run"));
  const auto metrics = MetricsWithoutTimes(dir / "run");
  std::int64_t compared = 0;
  for (int step = 1; step <= 3; ++step) {
    const SampledStep sampled(CompletionsOf(dir / "run", step));
    std::size_t kept = 0, dropped = 0;
    double reward = 0;
    std::map<std::string, int> texts;
    for (std::size_t begin = 0; begin < sampled.rows.size(); begin += 6) {
      const bool was_dropped = sampled.rows[begin]["dropped"];
      (was_dropped ? dropped : kept) += 6;
      CHECK(HasSpread(std::span(sampled.rewards).subspan(begin, 6)) == !was_dropped);
      std::string group;
      for (std::size_t i = begin; i < begin + 6; ++i) {
        CHECK(sampled.rows[i]["prompt"] == sampled.rows[begin]["prompt"]);
        CHECK(sampled.rows[i]["dropped"] == was_dropped);
        if (was_dropped) CHECK(sampled.rows[i]["advantage"] == 0.0);
        if (!was_dropped) compared += sampled.lengths[i];
        reward += sampled.rewards[i];
        group += sampled.rows[i]["completion"].get<std::string>() + "/";
      }
      ++texts[sampled.rows[begin]["prompt"].get<std::string>() + group];
    }
    for (const auto& [text, times] : texts) CHECK(times == 1);  // rounds draw their own noise
    const auto& row = metrics[static_cast<std::size_t>(step - 1)];
    CHECK(kept == 12);
    CHECK(dropped > 0);
    CHECK(row["dynamic_sampling/rounds"] >= 2);
    CHECK(row["dynamic_sampling/dropped_ratio"] == static_cast<double>(dropped) / static_cast<double>(kept + dropped));
    CHECK(row["reward"].get<double>() == doctest::Approx(reward / static_cast<double>(kept + dropped)).epsilon(1e-12));
    CHECK(row["rollout_logprob_max_abs_diff"] == 0.0);
  }
  CHECK(check.tokens == compared);
}

TEST_CASE("dynamic sampling gives up after 10 rounds, which read the problems of a step's own stretch of the order") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32), untouched(TextConfig(), DType::kF32);
  RlOptions rl = Steps(2);
  rl.prompts_per_step = 3;
  rl.objective.dynamic_sampling = true;
  rl.objective.overlong_share = 1;  // a spread of lengths is none of rewards
  rl.objective.max_completion_length = rl.max_completion_length;
  CHECK(Train(t, ConstantTask(), rl, In(dir / "run")).tokens == 0);
  CHECK(SameState(t, untouched));
  ProblemOrder order(4, rl.seed);
  for (int step = 1; step <= 2; ++step) {
    const std::vector<json> rows = CompletionsOf(dir / "run", step);
    REQUIRE(rows.size() == 10 * 3 * 6);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int64_t position = (step - 1) * 30 + static_cast<std::int64_t>(i) / 6;
      CHECK(rows[i]["prompt"] == ConstantTask().Get(order.At(position).problem, 0).prompt);
    }
    const auto row = MetricsWithoutTimes(dir / "run")[static_cast<std::size_t>(step - 1)];
    CHECK(row["dynamic_sampling/rounds"] == 10);
    CHECK(row["dynamic_sampling/dropped_ratio"] == 1.0);
    CHECK(row["num_updates"] == 0);
    CHECK(row["reward"] == 0.25);
  }

  // Where no group is dropped, it changes nothing of the first step.
  RlTrainee plain(TextConfig(), DType::kF32), dynamic(TextConfig(), DType::kF32);
  RlOptions one = Steps(1);
  one.num_generations = 24;
  Train(plain, ShareTask(), one, In(dir / "plain"));
  one.objective.dynamic_sampling = true;
  Train(dynamic, ShareTask(), one, In(dir / "dynamic"));
  CHECK(MetricsWithoutTimes(dir / "dynamic")[0]["dynamic_sampling/rounds"] == 1);
  CHECK(SameState(dynamic, plain));
}

TEST_CASE("groups of one completion are refused where there is a baseline, and learned from without one") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32), untouched(TextConfig(), DType::kF32);
  RlOptions rl = Steps(1);
  rl.num_generations = 1;
  CHECK_THROWS_WITH_AS(Train(t, ShareTask(), rl, In(dir / "baseline")), doctest::Contains("at least 2 completions"),
                       UsageError);
  rl.objective = ObjectiveFromJson({{"objective", "reinforce++"}});
  Train(t, ShareTask(), rl, In(dir / "none"));
  CHECK(!SameState(t, untouched));
}

}  // namespace
}  // namespace swarr
