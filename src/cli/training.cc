// SPDX-License-Identifier: Apache-2.0
#include "cli/training.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/version.h"
#include "cli/terminal/progress.h"
#include "dist/process_ranks.h"
#include "train/rank_steps.h"
#include "train/requirements.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;
using Row = ordered_json;  // of metrics.jsonl, as TrainingRun writes it

std::string Measures(const Row& row) {
  const auto text = [](const char* format, double value) {
    char number[48];
    std::snprintf(number, sizeof number, format, value);
    return std::string(number);
  };
  std::string all;
  for (const char* name : {"loss", "reward", "eval/accuracy"}) {
    if (row.contains(name) && row[name].is_number()) {
      all += Concat(name, " ", text("%.4g", row[name].get<double>()), "  ");
    }
  }
  return all + text("%.0f tokens/s", row["tokens_per_second"].get<double>());
}

// Shows a step's row; its warnings (train/watch.h) are lines that stay.
void ShowStep(Progress& progress, const Row& row, std::int64_t steps, bool first) {
  for (const Row& warning : row.value("warnings", Row::array())) {
    progress.Say(Concat("warning at step ", row["step"].get<std::int64_t>(), ": ", warning.get<std::string>()));
  }
  const auto step = row["step"].get<std::int64_t>();
  progress.Show(step, steps, Measures(row), first || step == steps || row.contains("eval/accuracy"));
}

}  // namespace

void TrainingOptions::AddTo(OptionSet& options) {
  options.AllowRanks();
  options.Group("Optimizer");
  options.Add("lr", optimizer.lr, "peak learning rate", AtLeast(0));
  options.Add("lr-schedule", schedule, "of the rate after the warm-up")->type_name(OneOf(kNames<Schedule>));
  options.Add("warmup-steps", optimizer.warmup_steps, "steps over which the rate rises to --lr", AtLeast(0));
  options.Add("min-lr-ratio", optimizer.min_lr_ratio, "where linear and cosine end, as a share of --lr", Between(0, 1));
  options.Add("weight-decay", optimizer.adamw.weight_decay, "AdamW's, on matrices only", AtLeast(0));
  options.Add("max-grad-norm", optimizer.max_grad_norm, "gradients are scaled down to this global norm; 0 is never",
              AtLeast(0));
  options.Add("beta1", optimizer.adamw.beta1, "AdamW: decay of the first moment, below 1", AtLeast(0));
  options.Add("beta2", optimizer.adamw.beta2, "AdamW: decay of the second moment, below 1", AtLeast(0));
  options.Add("eps", optimizer.adamw.eps, "AdamW: added to the root of the second moment", AtLeast(0));
  options.Group("Run directory");
  options.AddUnrecorded("output-dir", output_dir, "for the model, metrics.jsonl and checkpoints")
      ->required()
      ->type_name("DIR");
  options.AddUnrecorded("resume", run.resume,
                        "auto (the latest checkpoint of --output-dir, if any) or a checkpoint directory");
  options
      .AddUnrecorded("change", run.changes,
                     "options whose values a resume from a checkpoint takes anew, where it would refuse another value")
      ->delimiter(',')
      ->check(CLI::IsMember(ChangeableOptions()))
      ->type_name(OneOf(ChangeableOptions()));
  options.AddUnrecorded("overwrite", run.overwrite, "replace an earlier run in --output-dir");
  options
      .AddUnrecorded("report-to", report_to, "what gets the metrics beside metrics.jsonl: TensorBoard's event files")
      ->type_name(OneOf(kNames<ReportTo>));
  options.AddUnrecorded("save-every", run.save_every, "steps between checkpoints; 0 is none", AtLeast(0));
  options.AddUnrecorded("keep-checkpoints", run.keep_checkpoints, "how many checkpoints stay", AtLeast(1));
  options.HaveNoEffect({"keep-checkpoints"}, "where --save-every is 0", [this] { return run.save_every == 0; });
  options.HaveNoEffect({"change"}, "without --resume", [this] { return run.resume.empty(); });
  compute.AddTo(options);
  options.AddUnrecorded("grad-checkpoint", grad_checkpoint, "compute activations again in the backward to save memory");
  options.AddUnrecorded("trace-nonfinite", trace_non_finite,
                        "stop at the first op whose result or gradient is NaN or infinite, and name it (slow)");
  options.Group(kGeneralGroup);
  options.AddUnrecorded("quiet", quiet, "show no progress");
}

void TrainingOptions::Meet(const OptionSet& options) {
  if (options.launch().size == 1) return;
  if (options.launch().rank > 0) quiet = true;
  others = MeetRanks(options.launch(), {.on_lost = [](const std::string& sentence) {
                       std::fprintf(stderr, "swarr: %s\n", sentence.c_str());
                       std::_Exit(EXIT_FAILURE);  // the process may be waiting for its device
                     }});
}

// Throws, on all ranks alike, unless all have the same options and read the same. `told`: the options.
static void RequireSameRun(Communicator& ranks, ordered_json told,
                           const std::vector<std::pair<std::string, std::filesystem::path>>& inputs) {
  for (const auto& [name, path] : inputs) told["content of " + name] = HashOfInput(path);
  const std::vector<std::string> all = ranks.Gather(told.dump());
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    const auto first = ordered_json::parse(all[0]), other = ordered_json::parse(all[r]);
    std::string name = "command";
    for (const auto& [key, value] : first.items()) {
      if (!other.contains(key) || other[key] != value) name = key;
    }
    throw UsageError(
        Concat("rank ", r, " has another ", name, " than rank 0; start all ranks with the same options and files"));
  }
}

void TrainingOptions::Train(const OptionSet& options, std::int64_t steps, const Transformer& model,
                            const Tokenizer& tokenizer, const Loop& loop) {
  if (run.overwrite && !run.resume.empty()) throw UsageError("--overwrite starts a run anew; leave it or --resume out");
  StepMemory step_memory(compute.ResolveDevice());
  Context ctx = compute.MakeContext(step_memory);
  ctx.trace_non_finite = trace_non_finite;
  optimizer.schedule = ParseSchedule(schedule);
  if (optimizer.adamw.beta1 >= 1 || optimizer.adamw.beta2 >= 1) {
    throw UsageError("--beta1 and --beta2 must be below 1, where a mean over past steps ends");
  }
  if (others) {
    ordered_json told = options.Resolved();
    told["device"] = Name(ctx.device());
    told["kernels"] = Name(ctx.cpu);
    told["revision"] = BuildRevision();
    told["steps"] = steps;
    RequireSameRun(*others, std::move(told), run.inputs);
  }
  const Ranks ranks = others ? Ranks(*others) : Ranks();
  Optimizer trainer(model.parameters(), optimizer, ranks);
  const Stopping stopping = options.environment().watch_signals();
  if (ranks.rank() > 0) {
    FollowingSteps following(ctx, trainer, stopping.requested, stopping.saving);
    loop(ctx, trainer, following);
    following.FollowToEnd();
  } else {
    Lead(options, steps, model, tokenizer, loop, {ctx, trainer, stopping});
  }
  model.NoteMemory(compute.memory);
  trainer.NoteMemory(compute.memory);
  compute.PrintMemory(step_memory.arena());
}

void TrainingOptions::Lead(const OptionSet& options, std::int64_t steps, const Transformer& model,
                           const Tokenizer& tokenizer, const Loop& loop, const Training& training) {
  CheckDisk(TrainingDisk(model.config(), model.dtype(), output_dir, steps, run.save_every, run.keep_checkpoints,
                         /*resumes=*/!run.resume.empty()),
            FreeDiskBytes(output_dir), output_dir);
  const auto& [ctx, trainer, stopping] = training;
  Progress progress("step", quiet);
  RunOptions run_options = run;
  run_options.output_dir = output_dir;
  run_options.report_to = ParseName<ReportTo>("--report-to", report_to);
  run_options.environment = RunEnvironment(&ctx, trainer.ranks().size());
  run_options.warn = [&](const std::string& sentence) { progress.Say("swarr: " + sentence); };
  run_options.resumed = [&](const std::string& sentence) {
    if (!quiet) progress.Say("swarr: " + sentence);
  };
  run_options.on_step = [&, first = true](const Row& row) mutable {
    ShowStep(progress, row, steps, std::exchange(first, false));
  };
  run_options.interrupted = stopping.requested;
  run_options.saving = stopping.saving;
  if (trainer.ranks().alone()) {
    TrainingRun training_run(run_options, options.Resolved(), model, trainer, tokenizer);
    loop(ctx, trainer, training_run);
    return training_run.Finish();
  }
  LeadingSteps leading(ctx, trainer, stopping.requested);
  run_options.interrupted = [&] { return leading.interrupted(); };
  run_options.saving = [&](bool begins) {
    training.stopping.saving(begins);
    leading.Saving(begins);
  };
  TrainingRun training_run(run_options, options.Resolved(), model, trainer, tokenizer);
  leading.Lead(training_run);
  loop(ctx, trainer, leading);
  training_run.Finish();
  leading.End();
}

}  // namespace swarr
