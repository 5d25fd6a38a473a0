// SPDX-License-Identifier: Apache-2.0
#include "cli/generation.h"

#include <cstdio>
#include <utility>

#include "cli/terminal/progress.h"
#include "model/model_files.h"

namespace swarr {

void AddSlots(OptionSet& options, int& slots) {
  options.AddUnrecorded(
      "slots", slots,
      "sequences decoded at a time; results do not depend on it. 0 is 128 on the processor, and as many "
      "as its memory suits on a device",
      CountFrom(0));
}

void GenerationOptions::AddTo(OptionSet& options, const std::string& use, const std::string& samples) {
  environment = &options.environment();
  options.Group("Model");
  options.Add("model", model_dir, use)->required()->type_name("DIR");
  task.AddTo(options, /*with_completions=*/false);
  task.AddRewardTo(options);
  options.Group("Sampling");
  options.Add("problems", evaluate.problems, "how many problems, the first ones; 0 is all", AtLeast(0));
  options.Add("samples", evaluate.samples, samples, CountFrom(1));
  options.Add("temperature", evaluate.temperature, "of sampling; 0 is greedy", AtLeast(0));
  options.Add("max-completion-length", evaluate.max_completion_length,
              "tokens of a completion (a longer one is cut and wrong); 0 is the task's own limit or what the context "
              "leaves",
              AtLeast(0));
  AddSlots(options, evaluate.slots);
  options.Group(kGeneralGroup);
  options.AddUnrecorded("quiet", quiet, "show no progress");
}

std::vector<EvaluatedCompletion> GenerationOptions::Draw(Context& ctx, const Loaded& loaded, const Kept& kept,
                                                         const std::string& things) const {
  const Stopping stopping = environment->watch_signals();
  Progress progress("completion", quiet);
  EvaluateOptions watched = evaluate;
  watched.on_progress = [&](std::int64_t done, std::int64_t total) { progress.Show(done, total); };
  watched.stop = stopping.requested;
  const Task& task = *loaded.problems.task;
  std::vector<EvaluatedCompletion> drawn = Evaluate(ctx, *loaded.model, loaded.tokenizer, task, watched);
  const std::int64_t done = std::ssize(drawn) / evaluate.samples, all = ProblemsOf(task, evaluate);
  if (done < all) kept.file.StopAfter(done, all, things, kept.lines(drawn), stopping);
  return drawn;
}

GenerationOptions::Loaded GenerationOptions::Load(Split split) {
  LoadedTask problems = task.Load(split, {.answer = true}, compute.seed, model_dir);
  std::unique_ptr<Transformer> model = compute.Load(model_dir, /*with_gradients=*/false);
  Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
  SetEndOfText(problems, tokenizer, *model);
  evaluate.max_completion_length =
      CompletionLimit(evaluate.max_completion_length, problems, tokenizer, model->config());
  ReportDropped(problems);
  if (const std::int64_t there_are = problems.task->size(); evaluate.problems > there_are) {
    std::fprintf(stderr, "--problems is %lld; there are %lld, and all of them are taken\n",
                 static_cast<long long>(evaluate.problems), static_cast<long long>(there_are));
  }
  evaluate.seed = compute.seed;
  return {std::move(problems), std::move(model), std::move(tokenizer)};
}

}  // namespace swarr
