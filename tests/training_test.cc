// SPDX-License-Identifier: Apache-2.0
// Supervised fine-tuning and what every training run has: checkpoints, resume, metrics.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/gradient_check.h"
#include "base/files.h"
#include "cuda_report.h"
#include "model/model_files.h"
#include "resume_checks.h"
#include "temp_directory.h"
#include "train/evaluate.h"
#include "train/run.h"
#include "train/sft.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;

// Prompts and completions of many lengths.
TableTask SmallTask() {
  return TableTask({{"a?", "b", "b"},
                    {"b?", "cc", "c"},
                    {"abc?", "d", "d"},
                    {"dd?", "abcd", "d"},
                    {"c?", "", ""},
                    {"bbbb?", "ab", "b"},
                    {"ca?", "dad", "d"},
                    {"d?", "a", "a"}});
}

SftOptions Steps(std::int64_t steps, int batch_size = 4, int grad_accum = 1) {
  SftOptions options;
  options.steps = steps;
  options.batch_size = batch_size;
  options.grad_accum = grad_accum;
  options.seed = 3;
  return options;
}

nlohmann::ordered_json ConfigOf(const SftOptions& options) {
  return {{"steps", options.steps}, {"batch_size", options.batch_size}, {"seed", options.seed}};
}

void Train(Trainee& t, const Task& task, const SftOptions& options, const RunOptions& run_options,
           const Task* eval_task = nullptr) {
  TrainingRun run(run_options, ConfigOf(options), t.model, t.optimizer, t.tokenizer);
  RunSft(t.ctx, t.model, t.tokenizer, task, eval_task, options, t.optimizer, run);
  run.Finish();
}

TEST_CASE("the loss falls from that of a guess to almost nothing, and generation gets the problems right") {
  const TempDirectory dir;
  const TableTask task({{"a?", "b", "b"}, {"b?", "c", "c"}, {"c?", "d", "d"}, {"d?", "a", "a"}});
  OptimizerOptions options;
  options.lr = 0.02;
  options.warmup_steps = 5;
  Trainee t(TextConfig(), DType::kF32, options);
  SftOptions sft = Steps(300);
  sft.eval_every = 150;
  sft.eval_max_completion_length = 4;
  Train(t, task, sft, In(dir / "run"), &task);

  const auto metrics = MetricsWithoutTimes(dir / "run");
  REQUIRE(metrics.size() == 300);
  // Initial weights of 0.02 leave predictions almost uniform over the 6 tokens.
  CHECK(metrics.front()["loss"].get<double>() == doctest::Approx(std::log(6.0)).epsilon(0.01));
  CHECK(metrics.front()["entropy"].get<double>() == doctest::Approx(std::log(6.0)).epsilon(0.01));
  CHECK(metrics.back()["loss"].get<double>() < 0.05);
  CHECK(metrics.back()["eval/accuracy"] == 1.0);
  CHECK(std::count_if(metrics.begin(), metrics.end(), [](const auto& row) { return row.contains("eval/accuracy"); }) ==
        2);
  for (std::size_t i = 0; i < metrics.size(); ++i) {
    CHECK(metrics[i]["step"] == i + 1);
    CHECK(metrics[i]["num_tokens"] == (i + 1) * 4 * 3);  // three rows a document: the end of text is only predicted
    CHECK(metrics[i]["epoch"] == static_cast<double>(i + 1));
    CHECK(metrics[i]["learning_rate"] == LearningRate(options, static_cast<std::int64_t>(i), 300));
  }
  const auto saved = LoadModel(dir / "run", DType::kF32, false);
  CHECK(SameBits(saved->parameters().master(), t.model.parameters().master()));
}

TEST_CASE("a run carries over the side files of the model it began with, and unknown keys of its config") {
  const TempDirectory dir;
  Trainee t(
      [] {
        ModelConfig config = TextConfig();
        config.extra = R"({"initializer_range": 0.5})";
        return config;
      }(),
      DType::kF32, {});
  SaveModel(dir / "base", t.model, t.tokenizer);
  WriteFileAtomically(dir / "base" / "generation_config.json", R"({"eos_token_id": [0, 3]})");
  WriteFileAtomically(dir / "base" / "merges.txt", "a b");
  RunOptions options = In(dir / "run");
  options.model_dir = dir / "base";
  options.save_every = 2;
  Train(t, SmallTask(), Steps(2), options);
  for (const fs::path& written : {dir / "run", dir / "run" / "checkpoint-00000002"}) {
    for (const char* name : {"generation_config.json", "merges.txt"}) {
      CHECK(ReadFile(written / name) == ReadFile(dir / "base" / name));
    }
    CHECK(!fs::exists(written / "vocab.json"));
    CHECK(nlohmann::json::parse(ReadFile(written / "config.json")).at("initializer_range") == 0.5);
  }
}

// The gradient of -sum over rows in the loss of log p / their number, of whole documents, one after another.
void ExpectGradient(const Transformer& model, const std::vector<Example>& examples, bool train_on_prompt) {
  std::vector<Tokens> documents;
  std::vector<double> c;
  for (const Example& e : examples) {
    Tokens tokens = TextTokenizer().Encode(e.prompt + e.completion);
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      const bool in_loss = train_on_prompt || row + 1 >= e.prompt.size();  // row n predicts token n + 1
      c.push_back(in_loss ? -1.0 : 0.0);
    }
    c.push_back(0);  // the end of text predicts nothing
    tokens.push_back(0);
    documents.push_back(tokens);
  }
  const double in_loss = static_cast<double>(std::count(c.begin(), c.end(), -1.0));
  for (double& x : c) x /= in_loss;
  TestContext t;
  RunBackward(t.ctx, model, documents, c);
}

TEST_CASE("prompt tokens are out of the loss unless asked for, and the end of text is in it") {
  const std::vector<Example> examples = {{"abc?", "db", "b"}, {"d?", "a", "a"}, {"cc?", "", ""}};
  for (bool train_on_prompt : {false, true}) {
    const TempDirectory dir;
    Trainee t(TextConfig(), DType::kF64, GradientProbe());
    Transformer same(TextConfig(), DType::kF64, true);
    Copy(same.parameters().master(), t.model.parameters().master());
    SftOptions sft = Steps(1, 3);
    sft.train_on_prompt = train_on_prompt;
    Train(t, TableTask(examples), sft, In(dir / "run"));
    ExpectGradient(same, examples, train_on_prompt);
    // The sums over rows run in another order: some units in the last place of f64.
    CHECK(RelativeError(t.optimizer.first_moment(), same.parameters().flat_gradients()) < 1e-12);
    ExpectGradient(same, examples, !train_on_prompt);
    CHECK(RelativeError(t.optimizer.first_moment(), same.parameters().flat_gradients()) > 1e-3);
  }
}

TEST_CASE("accumulating over micro-batches gives the losses and the gradient of large batches, step after step") {
  const TempDirectory dir;
  OptimizerOptions still = GradientProbe();
  still.lr = 0;  // all steps have the first weights, and the moment is the gradient of the last
  constexpr int kSteps = 3;
  Trainee whole(TextConfig(), DType::kF64, still);
  Train(whole, SmallTask(), Steps(kSteps, 6), In(dir / "whole"));  // 6 of 8: every step has others
  const auto of_whole = MetricsWithoutTimes(dir / "whole");
  for (const auto& [batch, accum] : {std::pair{3, 2}, std::pair{1, 6}}) {
    Trainee parts(TextConfig(), DType::kF64, still);
    const fs::path run = dir / Concat("run", batch);
    Train(parts, SmallTask(), Steps(kSteps, batch, accum), In(run));
    // Not bit for bit: each micro-batch's sum over rows is added to those before it.
    CHECK(RelativeError(parts.optimizer.first_moment(), whole.optimizer.first_moment()) < 1e-13);
    const auto of_parts = MetricsWithoutTimes(run);
    for (std::size_t i = 0; i < kSteps; ++i) {
      CHECK(of_parts[i]["loss"].get<double>() == doctest::Approx(of_whole[i]["loss"].get<double>()).epsilon(1e-14));
      CHECK(of_parts[i]["num_tokens"] == of_whole[i]["num_tokens"]);
    }
  }
}

// Right are the texts of an odd length: about half of what an untrained model writes.
class OddTask : public TableTask {
 public:
  using TableTask::TableTask;
  double Reward(const Example&, std::string_view text, bool) const override { return text.size() % 2 == 1 ? 1 : 0; }
};

TEST_CASE("the accuracy of a step in training is that of an evaluation with the step's own noise") {
  const TempDirectory dir;
  const OddTask task(
      {{"a?", "", ""}, {"b?", "", ""}, {"c?", "", ""}, {"d?", "", ""}, {"ab?", "", ""}, {"ba?", "", ""}});
  OptimizerOptions still;
  still.lr = 0;
  Trainee t(TextConfig(), DType::kF32, still);
  SftOptions sft = Steps(6);
  sft.eval_every = 2;
  sft.eval_problems = 5;
  sft.eval_max_completion_length = 7;
  Train(t, SmallTask(), sft, In(dir / "run"), &task);
  const auto metrics = MetricsWithoutTimes(dir / "run");
  std::vector<double> seen;
  for (std::uint32_t step = 1; step <= 6; ++step) {
    const auto& row = metrics[step - 1];
    CHECK(row.contains("eval/accuracy") == (step % 2 == 0));
    if (step % 2 == 1) continue;
    const std::vector<EvaluatedCompletion> done = Evaluate(
        t.ctx, t.model, t.tokenizer, task, {.problems = 5, .max_completion_length = 7, .seed = sft.seed, .step = step});
    CHECK(done.size() == 5);
    CHECK(row["eval/accuracy"] == Summarize(done, 1).accuracy);
    seen.push_back(row["eval/accuracy"]);
  }
  CHECK(seen != std::vector<double>(3, seen[0]));  // else nothing tells the steps apart
}

TEST_CASE("gradient checkpointing changes no bit of a run") {
  const TempDirectory dir;
  Trainee plain(TextConfig(), DType::kF32, {}), checkpointed(TextConfig(), DType::kF32, {});
  SftOptions sft = Steps(5);
  Train(plain, SmallTask(), sft, In(dir / "plain"));
  sft.checkpoint_blocks = true;
  Train(checkpointed, SmallTask(), sft, In(dir / "checkpointed"));
  CHECK(SameState(plain, checkpointed));
}

// 6 documents a step of 8: epochs end within steps.
void TrainToResume(Trainee& t, const RunOptions& run) {
  const TableTask task = SmallTask();
  SftOptions sft = Steps(kResumeSteps, 3, 2);
  sft.eval_every = 2;
  sft.eval_max_completion_length = 5;
  Train(t, task, sft, run, &task);
}

TEST_CASE("SFT: stop and resume is bit-identical") { CheckExactResume(Device::kCpu, TrainToResume); }

TEST_CASE("CUDA: SFT: stop and resume is bit-identical") {
  if (SkippedWithoutCuda()) return;
  CheckExactResume(Device::kCuda, TrainToResume);
}

TEST_CASE("CUDA: SFT: two runs end in the same checkpoint") {
  if (SkippedWithoutCuda()) return;
  CheckRepeats(Device::kCuda, TrainToResume);
}

TEST_CASE("a run writes the same checkpoint with 1 and 2 threads") {
  ModelConfig config = TextConfig();  // several blocks of work for each thread in every kernel
  config.hidden = 80;
  config.head_dim = 16;
  config.ffn = 200;
  config.max_positions = 256;
  config.attention = {{}, {20, 2}};
  std::vector<Example> examples;
  for (std::uint32_t i = 0; i < 6; ++i) {
    const Tokens letters = RandomTokens(60 + 20 * static_cast<int>(i), 4, i);
    std::string text;
    for (std::int32_t letter : letters) text += "abcd"[letter];
    examples.push_back({text.substr(0, 10) + "?", text.substr(10), ""});
  }
  const TempDirectory dir;
  for (int threads : {1, 2}) {
    Trainee t(config, DType::kF32, {}, threads);
    RunOptions run = In(dir / Concat(threads));
    run.save_every = 2;
    Train(t, TableTask(examples), Steps(2, 6), run);
  }
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "trainer_state.json"}) {
    CHECK(ReadFile(dir / "1" / "checkpoint-00000002" / name) == ReadFile(dir / "2" / "checkpoint-00000002" / name));
  }
  CHECK(MetricsWithoutTimes(dir / "1") == MetricsWithoutTimes(dir / "2"));
}

TEST_CASE("a document longer than the limit and an empty data set are refused") {
  const TempDirectory dir;
  Trainee t(TextConfig(), DType::kF32, {});
  SftOptions sft = Steps(1, 8);
  sft.max_length = 7;  // of the longest, "dd?abcd" and end of text, 8
  CHECK_THROWS_WITH_AS(Train(t, SmallTask(), sft, In(dir / "a")), Contains("problem 3 has 8 tokens"), Error);
  CHECK_THROWS_WITH_AS(Train(t, TableTask({}), Steps(1), In(dir / "b")), Contains("data set is empty"), Error);
}

}  // namespace
}  // namespace swarr
