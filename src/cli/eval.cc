// SPDX-License-Identifier: Apache-2.0
// swarr eval: accuracy by generation.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/commands.h"
#include "cli/task_options.h"
#include "model/model_files.h"
#include "rl/chain_trace.h"
#include "study/statistics.h"
#include "tensor/files.h"
#include "train/evaluate.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

std::string CompletionLines(const std::vector<EvaluatedCompletion>& completions, const Task& task) {
  std::string lines;
  for (const EvaluatedCompletion& c : completions) {
    const Example example = task.Get(c.problem, 0);
    const ordered_json line = {{"problem", c.problem},   {"prompt", example.prompt}, {"completion", c.text},
                               {"gold", example.answer}, {"extracted", c.answer},    {"reward", c.reward},
                               {"tokens", c.tokens},     {"finished", c.finished}};
    lines += line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + '\n';
  }
  return lines;
}

// The window that facts must lie in to be seen directly: the smallest of any layer, 0 if all are full.
int SmallestWindow(const ModelConfig& config) {
  int smallest = 0;
  for (const AttentionSpec& spec : config.attention) {
    if (spec.window > 0 && (smallest == 0 || spec.window < smallest)) smallest = spec.window;
  }
  return smallest;
}

struct EvalCommand {
  explicit EvalCommand(CLI::App& app) : options(app) {
    evaluate.slots = 128;
    options.Add("model", model_dir, "model to evaluate (directory)")->required();
    task.AddTo(options, /*with_completions=*/false);
    task.AddRewardTo(options);
    options.Add("problems", evaluate.problems, "how many problems, the first ones; 0 is all")->check(AtLeast(0));
    options.Add("samples", evaluate.samples, "completions per problem: the k of pass@k and maj@k")->check(AtLeast(1));
    options.Add("temperature", evaluate.temperature, "of sampling; 0 is greedy")->check(AtLeast(0));
    options
        .Add("max-completion-length", evaluate.max_completion_length,
             "tokens of a completion (a longer one is cut and wrong); 0 is the task's own limit or what the context "
             "leaves")
        ->check(AtLeast(0));
    options.Add("slots", evaluate.slots, "sequences decoded at a time; results do not depend on it", Record::kNo)
        ->check(AtLeast(1));
    options.Add("completions-out", completions_out, "JSON Lines file for all completions and their rewards",
                Record::kNo);
    options.Add("json", json, "print one JSON object", Record::kNo);
    compute.AddTo(options);
  }

  void Run() {
    const LoadedTask problems = task.Load(Split::kEval, {.answer = true}, compute.seed);
    const auto model = LoadModel(model_dir, compute.MakeDType(), /*with_gradients=*/false, compute.MakeKind());
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    evaluate.max_completion_length =
        CompletionLimit(evaluate.max_completion_length, problems, tokenizer, model->config());
    evaluate.seed = compute.seed;
    StepMemory steps(compute.MakeDevice());
    Context ctx = compute.MakeContext(steps);
    const std::vector<EvaluatedCompletion> completions = Evaluate(ctx, *model, tokenizer, *problems.task, evaluate);
    if (!completions_out.empty()) WriteFileAtomically(completions_out, CompletionLines(completions, *problems.task));
    ordered_json results = Results(completions, problems, *model);
    model->NoteMemory(compute.memory);
    if (json && compute.memory_report) results["memory"] = compute.memory.ToJson(steps.arena());
    Report(results);
    if (!json) compute.PrintMemory(steps.arena());
  }

  // Shares have Wilson intervals with the problems as trials. Samples of one problem are not independent, so for
  // several of them the accuracy's interval is wider than it would have to be, never narrower.
  ordered_json Results(const std::vector<EvaluatedCompletion>& completions, const LoadedTask& problems,
                       const Transformer& model) const {
    const AccuracySummary summary = Summarize(completions, evaluate.samples);
    const auto count = static_cast<std::int64_t>(completions.size()) / evaluate.samples;
    ordered_json results = {{"problems", count}, {"samples", evaluate.samples}, {"temperature", evaluate.temperature}};
    const auto add_share = [&](const std::string& name, double share) {
      const auto successes = static_cast<std::int64_t>(std::llround(share * static_cast<double>(count)));
      const Interval interval = WilsonInterval(successes, count);
      results[name] = share;
      results[name + "_ci95"] = {interval.low, interval.high};
    };
    add_share("accuracy", summary.accuracy);
    add_share("pass@k", summary.pass_at_k);
    add_share("maj@k", summary.majority_at_k);
    add_share("truncated", summary.truncated);
    AddLength(completions, summary.mean_length, results);
    AddMechanism(completions, problems, SmallestWindow(model.config()), results);
    return results;
  }

  // The mean length, with a normal interval from the spread of the problems' means.
  void AddLength(const std::vector<EvaluatedCompletion>& completions, double mean, ordered_json& results) const {
    const auto k = static_cast<std::size_t>(evaluate.samples);
    const double count = static_cast<double>(completions.size() / k);
    double squares = 0;
    for (std::size_t begin = 0; begin < completions.size(); begin += k) {
      double sum = 0;
      for (std::size_t i = begin; i < begin + k; ++i) sum += completions[i].tokens;
      const double distance = sum / static_cast<double>(k) - mean;
      squares += distance * distance;
    }
    const double margin = count > 1 ? kZ95 * std::sqrt(squares / (count - 1) / count) : kUndefined;
    results["mean_length"] = mean;
    results["mean_length_ci95"] = {mean - margin, mean + margin};
  }

  // Where the problems are known to be the chain task's: what the completions lean on.
  static void AddMechanism(const std::vector<EvaluatedCompletion>& completions, const LoadedTask& problems, int window,
                           ordered_json& results) {
    std::vector<TraceMeasures> traces;
    for (const EvaluatedCompletion& c : completions) {
      const std::optional<ChainProblem> problem = problems.chain_problem(c.problem);
      if (!problem) return;
      traces.push_back(MeasureTrace(*problem, c.text));
    }
    const MechanismSummary mechanism = SummarizeMechanism(traces, window);
    results["restatement_rate"] = mechanism.restatement_rate;
    results["dependency_distance_mean"] = mechanism.dependency_distance_mean;
    results["facts_in_window"] = mechanism.facts_in_window;
  }

  void Report(const ordered_json& results) const {
    if (json) {
      PrintJson(results);
      return;
    }
    for (const auto& [name, value] : results.items()) {
      if (name.ends_with("_ci95")) continue;
      std::printf("%-26s %-10s", name.c_str(), value.dump().substr(0, 8).c_str());
      const auto interval = results.find(name + "_ci95");
      if (interval != results.end() && (*interval)[0].is_number()) {
        std::printf("95%%: %.4g to %.4g", (*interval)[0].get<double>(), (*interval)[1].get<double>());
      }
      std::printf("\n");
    }
  }

  OptionSet options;
  std::string model_dir, completions_out;
  TaskOptions task;
  EvaluateOptions evaluate;
  ComputeOptions compute;
  bool json = false;
};

}  // namespace

void AddEval(CLI::App& program) {
  AddCommand<EvalCommand>(program, "eval", "Measure accuracy by generation, with 95% intervals");
}

}  // namespace swarr
