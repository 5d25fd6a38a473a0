// SPDX-License-Identifier: Apache-2.0
#include "rl/rl.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "autograd/gradient_check.h"
#include "cuda_report.h"
#include "resume_checks.h"
#include "rl/objective_names.h"
#include "temp_directory.h"
#include "tensor/files.h"
#include "train/data.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Rewards the share of 'a' in a finished text: a bandit with as many pulls as the text has letters.
class ShareTask : public TableTask {
 public:
  ShareTask() : TableTask({{"b?", "", "x"}, {"abc?", "", "y"}, {"dd?", "", "z"}, {"cabd?", "", "w"}}) {}
  double Reward(const Example&, std::string_view text, bool finished) const override {
    if (!finished || text.empty()) return 0.0;
    return static_cast<double>(std::count(text.begin(), text.end(), 'a')) / static_cast<double>(text.size());
  }
};

// The same reward for everything: no group has any spread.
class ConstantTask : public ShareTask {
 public:
  double Reward(const Example&, std::string_view, bool) const override { return 0.25; }
};

// Only prompts that begin with 'a' can earn anything.
class PickyTask : public ShareTask {
 public:
  double Reward(const Example& example, std::string_view text, bool finished) const override {
    return example.prompt[0] == 'a' ? ShareTask::Reward(example, text, finished) : 0.0;
  }
};

RlOptions Steps(std::int64_t steps) {
  RlOptions options;
  options.steps = steps;
  options.prompts_per_step = 4;
  options.num_generations = 6;
  options.max_completion_length = 12;
  options.micro_batch = 5;
  options.slots = 7;
  options.seed = 11;
  return options;
}

RlOptions EverythingOn(std::int64_t steps);

TrainingRun StartRun(Trainee& t, const RlOptions& options, const RunOptions& run_options) {
  return {run_options, {{"steps", options.steps}, {"seed", options.seed}}, t.model, t.optimizer, t.tokenizer};
}

OnPolicyCheck Train(Trainee& t, const Task& task, const RlOptions& options, const RunOptions& run_options,
                    const Transformer* reference = nullptr) {
  TrainingRun run = StartRun(t, options, run_options);
  return RunRl(t.ctx, t.model, t.tokenizer, task, options, t.optimizer, run, reference);
}

// A policy unlike any that is trained.
Transformer Reference(const ModelConfig& config, DType dtype, MemoryKind kind = MemoryKind::kHost) {
  Transformer reference(config, dtype, /*with_gradients=*/false, kind);
  Randomize(reference, /*stream=*/5);
  return reference;
}

std::vector<json> CompletionsOf(const fs::path& run, int step) {
  std::vector<json> rows;
  ForEachJsonLine(run / "completions" / Concat("step-0000000", step, ".jsonl"),
                  [&](int, const json& row) { rows.push_back(row); });
  return rows;
}

// A trainee whose policy is far from uniform.
struct RlTrainee : Trainee {
  RlTrainee(const ModelConfig& config, DType dtype, const OptimizerOptions& options = {}, int threads = 1,
            Device device = Device::kCpu)
      : Trainee(config, dtype, options, threads, device) {
    Randomize(model);
  }
};

void CheckOnPolicy(Device device) {
  const TempDirectory dir;
  int run = 0;
  for (ModelCase c : ModelCases()) {
    c.config.vocab = TextConfig().vocab;
    c.config.eos_id = 0;
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      INFO(c.name, " ", Name(dtype));
      RlTrainee t(c.config, dtype, {}, 1, device);
      const fs::path out = dir / Concat("run", run++);
      const OnPolicyCheck check = Train(t, PickyTask(), Steps(3), In(out));  // skipped groups are compared too
      CHECK(check.max_abs_diff == 0.0);
      std::int64_t tokens = 0, in_files = 0;
      for (const auto& row : MetricsWithoutTimes(out)) {
        CHECK(row["rollout_logprob_max_abs_diff"] == 0.0);
        CHECK(row["kl"] == 0.0);
        CHECK(row["clip_ratio/region_mean"] == 0.0);
        tokens += row["rollout_logprob_tokens"].get<std::int64_t>();
      }
      for (int step = 1; step <= 3; ++step) {
        for (const json& row : CompletionsOf(out, step)) {
          in_files +=
              static_cast<std::int64_t>(row["completion"].get<std::string>().size()) + row["finished"].get<bool>();
        }
      }
      CHECK(check.tokens == tokens);
      CHECK(check.tokens == in_files);  // one token a character, and the end of text
    }
  }
}

TEST_CASE("the training pass computes the very log-probabilities that the sampler recorded, for all kinds of models") {
  CheckOnPolicy(Device::kCpu);
}

TEST_CASE("CUDA: RL: the training pass computes the very log-probabilities that the sampler recorded (P8)") {
  if (SkippedWithoutCuda()) return;
  CheckOnPolicy(Device::kCuda);
}

TEST_CASE("RL raises the reward of a bandit") {
  const TempDirectory dir;
  ModelConfig config = TextConfig();
  config.hidden = 16;
  config.attention = {{}, {3, 1}};
  OptimizerOptions options;
  options.lr = 0.01;
  options.schedule = Schedule::kConstant;
  Trainee t(config, DType::kF32, options);
  RlOptions rl = Steps(60);
  rl.num_generations = 16;
  rl.micro_batch = 64;
  Train(t, ShareTask(), rl, In(dir / "run"));
  const auto metrics = MetricsWithoutTimes(dir / "run");
  const auto mean = [&](std::size_t begin, std::size_t end) {
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += metrics[i]["reward"].get<double>();
    return sum / static_cast<double>(end - begin);
  };
  CHECK(mean(0, 3) < 0.3);  // a fifth of random letters are 'a', less what empty and cut texts lose
  CHECK(mean(57, 60) > 0.8);
}

// A step as its completions file tells it, group by group.
struct SampledStep {
  std::vector<json> rows;
  std::vector<Tokens> documents;
  std::vector<int> lengths;
  std::vector<double> rewards;

  explicit SampledStep(std::vector<json> from) : rows(std::move(from)) {
    for (const json& row : rows) {
      documents.push_back(TextTokenizer().Encode(row["prompt"].get<std::string>()));
      Tokens text = TextTokenizer().Encode(row["completion"].get<std::string>());
      if (row["finished"]) text.push_back(0);
      documents.back().insert(documents.back().end(), text.begin(), text.end());
      lengths.push_back(static_cast<int>(text.size()));
      rewards.push_back(row["reward"]);
    }
  }

  // Calls f(completion, row of the packed documents) for every sampled token: the row predicts it.
  void ForTokens(const std::function<void(std::size_t, std::size_t)>& f) const {
    std::size_t first = 0;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const std::size_t size = documents[i].size(), length = static_cast<std::size_t>(lengths[i]);
      for (std::size_t t = 0; t < length; ++t) f(i, first + size - length - 1 + t);
      first += size;
    }
  }

  // Of the sampled tokens under a model in f64.
  std::vector<double> LogprobsUnder(const Transformer& model) const {
    TestContext t;
    const Pass pass = RunForward(t.ctx, model, documents);
    std::vector<double> logp;
    ForTokens([&](std::size_t, std::size_t n) { logp.push_back(ValueAt(pass.logp, static_cast<std::int64_t>(n))); });
    return logp;
  }
};

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

TEST_CASE("groups without spread teach nothing and are counted") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32), untouched(TextConfig(), DType::kF32);
  const OnPolicyCheck check = Train(t, ConstantTask(), Steps(3), In(dir / "constant"));
  CHECK(SameState(t, untouched));  // not even weight decay
  CHECK(check.tokens > 100);
  for (const auto& row : MetricsWithoutTimes(dir / "constant")) {
    CHECK(row["num_updates"] == 0);
    CHECK(row["frac_reward_zero_std"] == 1.0);
    CHECK(row["reward"] == 0.25);
    CHECK(row["reward_std"] == 0.0);
    CHECK(row["grad_norm"] == 0.0);
  }

  Trainee picky(TextConfig(), DType::kF32, {}), fresh(TextConfig(), DType::kF32, {});  // of almost uniform policies
  Train(picky, PickyTask(), Steps(1), In(dir / "picky"));                              // each of the 4 prompts once
  CHECK(MetricsWithoutTimes(dir / "picky")[0]["frac_reward_zero_std"] == 0.75);
  CHECK(!SameState(picky, fresh));
  for (const json& row : CompletionsOf(dir / "picky", 1)) {
    if (row["prompt"] != "abc?") CHECK(row["advantage"] == 0.0);
  }
}

TEST_CASE("groups without spread teach where the loss holds more than advantages, or lengths tell them apart") {
  const Transformer reference = Reference(TextConfig(), DType::kF32);
  for (const nlohmann::ordered_json& switches : std::vector<nlohmann::ordered_json>{
           {{"entropy_coef", 0.1}}, {{"beta", 0.1}}, {{"beta", 0.1}, {"kl_in", "reward"}}, {{"overlong_share", 1.0}}}) {
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

TEST_CASE("every prompt, sample and step draws its own noise") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  Train(t, ConstantTask(), Steps(2), In(dir / "run"));  // the weights stay as they are
  const auto texts = [&](int step) {
    std::map<std::string, std::vector<std::string>> by_prompt;
    for (const json& row : CompletionsOf(dir / "run", step)) by_prompt[row["prompt"]].push_back(row["completion"]);
    return by_prompt;
  };
  const auto first = texts(1), second = texts(2);
  REQUIRE(first.size() == 4);
  for (const auto& [prompt, samples] : first) {
    CHECK(samples != second.at(prompt));
    CHECK(samples != std::vector<std::string>(6, samples[0]));
  }
}

TEST_CASE("answers that are cut at the limit are worth 0 and are counted") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  RlOptions rl = Steps(1);
  rl.num_generations = 40;
  rl.max_completion_length = 3;
  Train(t, ShareTask(), rl, In(dir / "run"));
  double cut = 0, cut_with_a = 0, rewarded = 0;
  for (const json& row : CompletionsOf(dir / "run", 1)) {
    const std::string text = row["completion"];
    if (row["finished"]) {
      rewarded += row["reward"] > 0.0;
      CHECK(text.size() < 3);
      continue;
    }
    ++cut;
    cut_with_a += text.find('a') != std::string::npos;
    CHECK(text.size() == 3);
    CHECK(row["reward"] == 0.0);
  }
  CHECK(cut_with_a > 0);  // they would have earned something
  CHECK(rewarded > 0);
  CHECK(MetricsWithoutTimes(dir / "run")[0]["completions/clipped_ratio"] == cut / 160);
}

TEST_CASE("completions are kept for every step, group by group, and the metrics summarise them") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  Train(t, ShareTask(), Steps(2), In(dir / "run"));
  const auto metrics = MetricsWithoutTimes(dir / "run");
  const std::map<std::string, std::string> answers = {{"b?", "x"}, {"abc?", "y"}, {"dd?", "z"}, {"cabd?", "w"}};
  for (int step : {1, 2}) {
    const std::vector<json> rows = CompletionsOf(dir / "run", step);
    REQUIRE(rows.size() == 4 * 6);
    double reward = 0, length = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(rows[i]["step"] == step);
      CHECK(rows[i]["prompt"] == rows[i / 6 * 6]["prompt"]);
      CHECK(rows[i]["answer"] == answers.at(rows[i]["prompt"]));
      reward += rows[i]["reward"].get<double>() / 24;
      length +=
          static_cast<double>(rows[i]["completion"].get<std::string>().size() + rows[i]["finished"].get<bool>()) / 24;
    }
    const auto& row = metrics[static_cast<std::size_t>(step - 1)];
    CHECK(row["reward"].get<double>() == doctest::Approx(reward).epsilon(1e-12));
    CHECK(row["completions/mean_length"].get<double>() == doctest::Approx(length).epsilon(1e-12));
    CHECK(row["epoch"] == step);
  }

  RlTrainee quiet(TextConfig(), DType::kF32);
  RlOptions rl = Steps(1);
  rl.keep_completions = false;
  Train(quiet, ShareTask(), rl, In(dir / "quiet"));
  CHECK(!fs::exists(dir / "quiet" / "completions"));
}

TEST_CASE("one seed gives one result, whatever the number of slots and threads, and another seed another") {
  ModelConfig config = TextConfig();
  config.hidden = 80;  // several blocks of work for each thread
  config.head_dim = 16;
  config.ffn = 200;
  config.attention = {{}, {3, 1}};
  const TempDirectory dir;
  RlOptions rl = Steps(3);
  rl.num_generations = 24;
  rl.micro_batch = 40;
  RlTrainee first(config, DType::kF32);
  Train(first, ShareTask(), rl, In(dir / "first"));

  RlTrainee again(config, DType::kF32, {}, /*threads=*/2);
  rl.slots = 64;
  Train(again, ShareTask(), rl, In(dir / "again"));
  CHECK(SameState(again, first));
  CHECK(MetricsWithoutTimes(dir / "again") == MetricsWithoutTimes(dir / "first"));
  for (int step : {1, 2, 3}) CHECK(CompletionsOf(dir / "again", step) == CompletionsOf(dir / "first", step));

  RlTrainee other(config, DType::kF32);
  rl.seed = 12;
  Train(other, ShareTask(), rl, In(dir / "other"));
  CHECK(!SameState(other, first));

  RlTrainee everything(config, DType::kF32), everything_again(config, DType::kF32, {}, /*threads=*/2);
  const Transformer reference = Reference(config, DType::kF32);
  rl = EverythingOn(2);
  Train(everything, PickyTask(), rl, In(dir / "everything"), &reference);
  rl.slots = 64;
  Train(everything_again, PickyTask(), rl, In(dir / "everything again"), &reference);
  CHECK(SameState(everything_again, everything));
  CHECK(MetricsWithoutTimes(dir / "everything again") == MetricsWithoutTimes(dir / "everything"));
}

TEST_CASE("the size of a micro-batch changes nothing but the order in which gradients are summed") {
  const TempDirectory dir;
  RlTrainee whole(TextConfig(), DType::kF64, GradientProbe());
  RlOptions rl = Steps(1);
  rl.micro_batch = 24;
  Train(whole, ShareTask(), rl, In(dir / "whole"));
  for (int size : {1, 7}) {
    RlTrainee parts(TextConfig(), DType::kF64, GradientProbe());
    rl.micro_batch = size;
    const fs::path run = dir / Concat("run", size);
    CHECK(Train(parts, ShareTask(), rl, In(run)).max_abs_diff == 0.0);
    CHECK(CompletionsOf(run, 1) == CompletionsOf(dir / "whole", 1));
    // Not bit for bit: each micro-batch's sum over rows is added to those before it.
    CHECK(RelativeError(parts.optimizer.first_moment(), whole.optimizer.first_moment()) < 1e-12);
  }
}

TEST_CASE("RL: gradient checkpointing changes no bit of a run") {
  const TempDirectory dir;
  RlTrainee plain(TextConfig(), DType::kF32), checkpointed(TextConfig(), DType::kF32);
  RlOptions rl = Steps(2);
  Train(plain, ShareTask(), rl, In(dir / "plain"));
  rl.checkpoint_blocks = true;
  Train(checkpointed, ShareTask(), rl, In(dir / "checkpointed"));
  CHECK(SameState(plain, checkpointed));
}

void TrainToResume(Trainee& t, const RunOptions& run_options) {
  RlOptions rl = Steps(kResumeSteps);
  rl.prompts_per_step = 3;  // of 4: epochs end within steps
  TrainingRun run = StartRun(t, rl, run_options);
  RunRl(t.ctx, t.model, t.tokenizer, ShareTask(), rl, t.optimizer, run);
  run.Finish();
}

// With all that a step can have of its own: several rounds, a reference model, several updates.
RlOptions EverythingOn(std::int64_t steps) {
  RlOptions rl = Steps(steps);
  rl.prompts_per_step = 2;
  rl.num_iterations = 2;
  rl.objective = ObjectiveFromJson({{"objective", "dapo"}, {"beta", 0.1}, {"entropy_coef", 0.01}, {"whiten", true}});
  rl.objective.overlong_share = 0;  // or lengths would give every group a spread
  return rl;
}

void TrainEverythingToResume(Trainee& t, const RunOptions& run_options) {
  const RlOptions rl = EverythingOn(kResumeSteps);
  const Transformer reference = Reference(t.model.config(), t.model.dtype(), MemoryOf(t.ctx.device()));
  TrainingRun run = StartRun(t, rl, run_options);
  RunRl(t.ctx, t.model, t.tokenizer, PickyTask(), rl, t.optimizer, run, &reference);
  run.Finish();
}

TEST_CASE("RL: stop and resume is bit-identical with dynamic sampling, a reference model and several updates") {
  CheckExactResume(Device::kCpu, TrainEverythingToResume);
}

TEST_CASE("CUDA: RL: stop and resume is bit-identical with dynamic sampling, a reference model and several updates") {
  if (SkippedWithoutCuda()) return;
  CheckExactResume(Device::kCuda, TrainEverythingToResume);
}

TEST_CASE("RL: stop and resume is bit-identical") { CheckExactResume(Device::kCpu, TrainToResume); }

TEST_CASE("CUDA: RL: stop and resume is bit-identical") {
  if (SkippedWithoutCuda()) return;
  CheckExactResume(Device::kCuda, TrainToResume);
}

TEST_CASE("CUDA: RL: two runs end in the same checkpoint") {
  if (SkippedWithoutCuda()) return;
  CheckRepeats(Device::kCuda, TrainToResume);
}

TEST_CASE("RL: a loss that is not finite stops the run and names the last good checkpoint") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  RunOptions run = In(dir / "run");
  run.save_every = 2;
  run.on_step = [&](const nlohmann::ordered_json& row) {
    if (row["step"] == 3) t.model.parameters()["model.norm.weight"].value.data<float>()[0] = std::nanf("");
  };
  CHECK_THROWS_WITH_AS(Train(t, ShareTask(), Steps(9), run),
                       doctest::Contains((dir / "run" / "checkpoint-00000002").c_str()), Error);
  CHECK(fs::exists(dir / "run" / "checkpoint-00000002" / "model.safetensors"));
  CHECK(MetricsWithoutTimes(dir / "run").size() == 3);
}

}  // namespace
}  // namespace swarr
