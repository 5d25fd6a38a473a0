// SPDX-License-Identifier: Apache-2.0
#include "cli/training.h"

#include <algorithm>
#include <cmath>

#include "cli/progress.h"

namespace swarr {

void TrainingOptions::AddTo(OptionSet& options) {
  compute.AddTo(options);
  options.Add("output-dir", output_dir, "directory for the model, metrics.jsonl and checkpoints", Record::kNo)
      ->required();
  options.Add("resume", run.resume, "auto (the latest checkpoint of --output-dir, if any) or a checkpoint directory",
              Record::kNo);
  options.Add("save-every", run.save_every, "steps between checkpoints; 0 is none", Record::kNo)->check(AtLeast(0));
  options.Add("keep-checkpoints", run.keep_checkpoints, "how many checkpoints stay", Record::kNo)->check(AtLeast(1));
  options.Add("lr", optimizer.lr, "peak learning rate")->check(AtLeast(0));
  options.Add("lr-schedule", schedule, "after the warm-up: constant, linear or cosine");
  options.Add("warmup-steps", optimizer.warmup_steps, "steps over which the rate rises to --lr")->check(AtLeast(0));
  options.Add("min-lr-ratio", optimizer.min_lr_ratio, "where linear and cosine end, as a share of --lr")
      ->check(CLI::Range(0.0, 1.0));
  options.Add("weight-decay", optimizer.adamw.weight_decay, "AdamW's, on matrices only")->check(AtLeast(0));
  options.Add("max-grad-norm", optimizer.max_grad_norm, "gradients are scaled down to this global norm; 0 is never")
      ->check(AtLeast(0));
  options.Add("beta1", optimizer.adamw.beta1, "AdamW: decay of the first moment, below 1")->check(AtLeast(0));
  options.Add("beta2", optimizer.adamw.beta2, "AdamW: decay of the second moment, below 1")->check(AtLeast(0));
  options.Add("eps", optimizer.adamw.eps, "AdamW: added to the root of the second moment")->check(AtLeast(0));
  options.Add("grad-checkpoint", grad_checkpoint, "compute activations again in the backward to save memory",
              Record::kNo);
  options.Add("quiet", quiet, "show no progress", Record::kNo);
}

RunOptions TrainingOptions::MakeRunOptions(const Environment& environment, std::int64_t steps) const {
  RunOptions options = run;
  options.output_dir = output_dir;
  options.interrupted = environment.watch_interrupts();
  if (!quiet) {
    options.on_step = [progress = std::make_shared<Progress>(steps)](const nlohmann::ordered_json& row) {
      progress->Show(row);
    };
  }
  return options;
}

OptimizerOptions TrainingOptions::MakeOptimizerOptions() const {
  OptimizerOptions options = optimizer;
  options.schedule = ParseSchedule(schedule);
  if (options.adamw.beta1 >= 1 || options.adamw.beta2 >= 1) {
    throw UsageError("--beta1 and --beta2 must be below 1, where a mean over past steps ends");
  }
  return options;
}

void TrainingOptions::NoteMemory(const Transformer& model, const Optimizer& trained_by) {
  model.NoteMemory(compute.memory);
  trained_by.NoteMemory(compute.memory);
}

void SupervisedOptions::AddTo(OptionSet& options) {
  task.AddTo(options, /*with_completions=*/true);
  options.Add("max-steps", sft.steps, "optimizer steps; 0 is as many as --epochs take")->check(AtLeast(0));
  options.Add("epochs", epochs, "passes over the problems, if --max-steps is 0", Record::kNo)
      ->check(CLI::PositiveNumber);
  options.Add("batch-size", sft.batch_size, "documents that are packed into one row")->check(AtLeast(1));
  options.Add("grad-accum", sft.grad_accum, "rows of --batch-size documents to a step")->check(AtLeast(1));
  options
      .Add("max-seq-len", sft.max_length,
           "longest document in tokens (longer ones are left out); 0 is the model's context")
      ->check(AtLeast(0));
  options.Add("train-on-prompt", sft.train_on_prompt, "put prompt tokens into the loss too");
  options.Add("eval-every", sft.eval_every, "steps between evaluations by generation; 0 is none")->check(AtLeast(0));
  options.Add("eval-data", eval_data, "JSON Lines file to evaluate on; needed with --data");
  options.Add("eval-examples", sft.eval_problems, "problems of an evaluation; 0 is all")->check(AtLeast(0));
  options
      .Add("eval-max-completion-length", sft.eval_max_completion_length,
           "tokens of a completion in an evaluation; 0 is the task's own limit or what the context leaves")
      ->check(AtLeast(0));
  task.AddRewardTo(options);
  training.AddTo(options);
}

LoadedTask SupervisedOptions::LoadEvaluation(const std::string& model_dir) const {
  if (sft.eval_every == 0) return {};
  if (!eval_data.empty()) return task.LoadFile(eval_data, {.answer = true}, model_dir);
  if (!task.data.empty()) throw UsageError("--eval-every needs --eval-data FILE beside --data");
  return task.Load(Split::kEval, {.answer = true}, training.compute.seed, model_dir);
}

void SupervisedOptions::Train(const OptionSet& options, const Environment& environment, const std::string& model_dir,
                              Transformer& model, const Tokenizer& tokenizer) {
  const LoadedTask problems = task.Load(Split::kSft, {.completion = true}, training.compute.seed, model_dir);
  const LoadedTask evaluation = LoadEvaluation(model_dir);
  SetEndOfText(problems, tokenizer, model);
  const int context = model.config().max_positions;
  if (sft.max_length == 0) sft.max_length = context + 1;  // end of text is predicted, never read
  if (sft.max_length > context + 1) {
    throw UsageError(Concat("--max-seq-len ", sft.max_length, " exceeds the model's context of ", context, " tokens"));
  }
  if (problems.file) problems.file->DropLongDocuments(tokenizer, sft.max_length);
  if (evaluation.task) {
    sft.eval_max_completion_length =
        CompletionLimit(sft.eval_max_completion_length, evaluation, tokenizer, model.config());
  }
  if (!training.quiet) ReportDropped(problems);
  if (!training.quiet) ReportDropped(evaluation);
  if (sft.steps == 0) {
    const double documents = epochs * static_cast<double>(problems.task->size());
    sft.steps = static_cast<std::int64_t>(std::ceil(documents / (double{1} * sft.batch_size * sft.grad_accum)));
  }
  sft.seed = training.compute.seed;
  sft.checkpoint_blocks = training.grad_checkpoint;

  StepMemory steps(training.compute.MakeDevice());
  Context ctx = training.compute.MakeContext(steps);
  Optimizer optimizer(model.parameters(), training.MakeOptimizerOptions());
  TrainingRun run(training.MakeRunOptions(environment, sft.steps), options.Resolved(), model, optimizer, tokenizer);
  RunSft(ctx, model, tokenizer, *problems.task, evaluation.task.get(), sft, optimizer, run);
  run.Finish();
  training.NoteMemory(model, optimizer);
  training.compute.PrintMemory(steps.arena());
}

}  // namespace swarr
