// SPDX-License-Identifier: Apache-2.0
// Small RL runs: tasks, options, trainees, and what a run has written.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "rl/objective_names.h"
#include "rl/rl.h"
#include "test_models.h"
#include "train/run.h"

namespace swarr {

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

inline RlOptions Steps(std::int64_t steps) {
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

inline TrainingRun StartRun(Trainee& t, const RlOptions& options, const RunOptions& run_options) {
  return {run_options, {{"steps", options.steps}, {"seed", options.seed}}, t.model, t.optimizer, t.tokenizer};
}

inline OnPolicyCheck Train(Trainee& t, const Task& task, const RlOptions& options, const RunOptions& run_options,
                           const Transformer* reference = nullptr) {
  TrainingRun run = StartRun(t, options, run_options);
  return RunRl(t.ctx, t.model, t.tokenizer, task, options, t.optimizer, run, reference);
}

// A policy unlike any that is trained.
inline Transformer Reference(const ModelConfig& config, DType dtype, MemoryKind kind = MemoryKind::kHost) {
  Transformer reference(config, dtype, /*with_gradients=*/false, kind);
  Randomize(reference, /*stream=*/5);
  return reference;
}

inline std::vector<nlohmann::json> CompletionsOf(const std::filesystem::path& run, int step) {
  std::vector<nlohmann::json> rows;
  ForEachJsonLine(run / "completions" / Concat("step-0000000", step, ".jsonl"),
                  [&](int, const nlohmann::json& row) { rows.push_back(row); });
  return rows;
}

// A step as its completions file tells it, group by group.
struct SampledStep {
  std::vector<nlohmann::json> rows;
  std::vector<Tokens> documents;
  std::vector<int> lengths;
  std::vector<double> rewards;

  explicit SampledStep(std::vector<nlohmann::json> from) : rows(std::move(from)) {
    for (const nlohmann::json& row : rows) {
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

  // The log-probabilities of the sampled tokens under a model in f64.
  std::vector<double> LogprobsUnder(const Transformer& model) const {
    TestContext t;
    const Pass pass = RunForward(t.ctx, model, documents);
    std::vector<double> logp;
    ForTokens([&](std::size_t, std::size_t n) { logp.push_back(ValueAt(pass.logp, static_cast<std::int64_t>(n))); });
    return logp;
  }
};

// A trainee whose policy is far from uniform.
struct RlTrainee : Trainee {
  RlTrainee(const ModelConfig& config, DType dtype, const OptimizerOptions& options = {}, int threads = 1,
            Device device = Device::kCpu)
      : Trainee(config, dtype, options, threads, device) {
    Randomize(model);
  }
};

// With all that a step can have of its own: several rounds, a reference model, several updates.
inline RlOptions EverythingOn(std::int64_t steps) {
  RlOptions rl = Steps(steps);
  rl.prompts_per_step = 2;
  rl.num_iterations = 2;
  rl.objective = ObjectiveFromJson({{"objective", "dapo"}, {"beta", 0.1}, {"entropy_coef", 0.01}, {"whiten", true}});
  rl.objective.overlong_share = 0;  // or lengths would give every group a spread
  return rl;
}

}  // namespace swarr
