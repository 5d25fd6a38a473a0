// SPDX-License-Identifier: Apache-2.0
#include "rl/rl.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "autograd/gradient_check.h"
#include "cuda_report.h"
#include "resume_checks.h"
#include "rl_runs.h"
#include "temp_directory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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

TEST_CASE("a problem that a step draws twice, where an epoch ends, gets two groups of different samples") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  RlOptions rl = Steps(1);
  rl.prompts_per_step = 8;  // each of the 4 problems twice
  Train(t, ConstantTask(), rl, In(dir / "run"));
  std::map<std::string, std::vector<std::string>> groups_of;
  const std::vector<json> rows = CompletionsOf(dir / "run", 1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::vector<std::string>& groups = groups_of[rows[i]["prompt"]];
    if (i % 6 == 0) groups.emplace_back();
    groups.back() += rows[i]["completion"].get<std::string>() + "/";
  }
  REQUIRE(groups_of.size() == 4);
  for (const auto& [prompt, groups] : groups_of) {
    REQUIRE(groups.size() == 2);
    CHECK(groups[0] != groups[1]);
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

// A sample's standard deviation, by definition: the root of the sum of squared distances from the mean over n - 1.
double DeviationOf(const std::vector<double>& values) {
  const double n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (double v : values) mean += v / n;
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (n - 1));
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
    double reward = 0, length = 0, deviation = 0;
    std::vector<double> group;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(rows[i]["step"] == step);
      CHECK(rows[i]["prompt"] == rows[i / 6 * 6]["prompt"]);
      CHECK(rows[i]["answer"] == answers.at(rows[i]["prompt"]));
      reward += rows[i]["reward"].get<double>() / 24;
      group.push_back(rows[i]["reward"]);
      if (group.size() == 6) deviation += DeviationOf(std::exchange(group, {})) / 4;
      length +=
          static_cast<double>(rows[i]["completion"].get<std::string>().size() + rows[i]["finished"].get<bool>()) / 24;
    }
    const auto& row = metrics[static_cast<std::size_t>(step - 1)];
    CHECK(row["reward"].get<double>() == doctest::Approx(reward).epsilon(1e-12));
    CHECK(deviation > 0);
    CHECK(row["reward_std"].get<double>() == doctest::Approx(deviation).epsilon(1e-12));
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

TEST_CASE("RL needs a limit of completions, and with a KL a reference whose context holds the longest sequence") {
  const TempDirectory dir;
  RlTrainee t(TextConfig(), DType::kF32);
  RlOptions rl = Steps(1);
  rl.max_completion_length = 0;
  CHECK_THROWS_WITH_AS(Train(t, ShareTask(), rl, In(dir / "unlimited")), doctest::Contains("max_completion_length"),
                       Error);

  rl = Steps(1);
  rl.objective.beta = 0.1;
  ModelConfig config = TextConfig();
  config.max_positions = 5 + rl.max_completion_length;  // "cabd?" has 5 tokens
  const Transformer fits = Reference(config, DType::kF32);
  --config.max_positions;
  ++config.vocab;
  const Transformer other = Reference(config, DType::kF32);
  --config.vocab;
  const Transformer shorter = Reference(config, DType::kF32);
  CHECK_THROWS_WITH_AS(Train(t, ShareTask(), rl, In(dir / "shorter"), &shorter),
                       doctest::Contains("up to 17 tokens in all don't fit the reference model's context of 16"),
                       Error);
  Train(t, ShareTask(), rl, In(dir / "fits"), &fits);
  rl.objective.beta = 0;
  Train(t, ShareTask(), rl, In(dir / "not asked"), &other);
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
