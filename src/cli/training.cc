// SPDX-License-Identifier: Apache-2.0
#include "cli/training.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

#include "train/requirements.h"

namespace swarr {
namespace {

constexpr double kSecondsBetweenLines = 5.0, kSecondsBetweenRedraws = 0.1;

template <class... Values>
std::string Format(const char* format, Values... values) {
  char text[64];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string Bar(double share) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(share * kWidth);
  return "[" + std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(kWidth - full), '.') + "] ";
}

std::string TimeLeft(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  return Format("%lld:%02lld:%02lld left", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string Measures(const nlohmann::ordered_json& row) {
  std::string text;
  for (const char* name : {"loss", "reward", "eval/accuracy"}) {
    if (!row.contains(name) || !row[name].is_number()) continue;
    text += std::string("  ") + name + Format(" %.4g", row[name].get<double>());
  }
  return text + Format("  %.0f tokens/s", row["tokens_per_second"].get<double>());
}

// Progress on stderr: on a terminal one line with a bar that is written over, otherwise a plain line every few seconds.
class Progress {
 public:
  // `steps`: the last step of the run.
  explicit Progress(std::int64_t steps) : steps_(steps), terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (line_open_) std::fputc('\n', stderr);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `row` is a row of metrics.jsonl, as TrainingRun writes it. Its warnings (train/watch.h) are lines that stay.
  void Warn(const nlohmann::ordered_json& row) {
    for (const nlohmann::ordered_json& warning : row.value("warnings", nlohmann::ordered_json::array())) {
      std::fprintf(stderr, "%swarning at step %lld: %s\n", std::exchange(line_open_, false) ? "\n" : "",
                   static_cast<long long>(row["step"].get<std::int64_t>()), warning.get<std::string>().c_str());
    }
  }

  // The same rows.
  void Show(const nlohmann::ordered_json& row) {
    const auto step = row["step"].get<std::int64_t>();
    const auto now = Clock::now();
    const auto since = [&](Clock::time_point then) { return std::chrono::duration<double>(now - then).count(); };
    const bool first = first_step_ < 0;
    if (first) first_step_ = step;
    const bool due = since(last_) >= (terminal_ ? kSecondsBetweenRedraws : kSecondsBetweenLines);
    if (!first && !due && step < steps_ && !row.contains("eval/accuracy")) return;
    last_ = now;

    const double per_step = since(start_) / static_cast<double>(step - first_step_ + 1);
    const double share = static_cast<double>(step) / static_cast<double>(steps_);
    const std::string text = Concat("step ", step, "/", steps_, Measures(row), "  ",
                                    TimeLeft(per_step * static_cast<double>(steps_ - step)));
    if (!terminal_) {
      std::fprintf(stderr, "%s\n", text.c_str());
      return;
    }
    std::fprintf(stderr, "\r\033[K%s%s", Bar(share).c_str(), text.c_str());  // \033[K: clear to the end of the line
    line_open_ = true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::int64_t steps_;
  bool terminal_;
  bool line_open_ = false;
  std::int64_t first_step_ = -1;  // the first that was shown: after a resume not 1
  Clock::time_point start_ = Clock::now(), last_;
};

}  // namespace

void TrainingOptions::AddTo(OptionSet& options) {
  compute.AddTo(options);
  options.AddUnrecorded("output-dir", output_dir, "directory for the model, metrics.jsonl and checkpoints")->required();
  options.AddUnrecorded("resume", run.resume,
                        "auto (the latest checkpoint of --output-dir, if any) or a checkpoint directory");
  options
      .AddUnrecorded("change", run.changes,
                     "options whose values a resume takes anew, where it would refuse another value")
      ->delimiter(',')
      ->check(CLI::IsMember(ChangeableOptions()));
  options.AddUnrecorded("overwrite", run.overwrite, "replace an earlier run in --output-dir");
  options.AddUnrecorded("save-every", run.save_every, "steps between checkpoints; 0 is none", AtLeast(0));
  options.AddUnrecorded("keep-checkpoints", run.keep_checkpoints, "how many checkpoints stay", AtLeast(1));
  options.HaveNoEffect({"keep-checkpoints"}, "where --save-every is 0", [this] { return run.save_every == 0; });
  options.HaveNoEffect({"change"}, "without --resume", [this] { return run.resume.empty(); });
  options.Add("lr", optimizer.lr, "peak learning rate", AtLeast(0));
  options.Add("lr-schedule", schedule, "after the warm-up: constant, linear or cosine");
  options.Add("warmup-steps", optimizer.warmup_steps, "steps over which the rate rises to --lr", AtLeast(0));
  options.Add("min-lr-ratio", optimizer.min_lr_ratio, "where linear and cosine end, as a share of --lr", Between(0, 1));
  options.Add("weight-decay", optimizer.adamw.weight_decay, "AdamW's, on matrices only", AtLeast(0));
  options.Add("max-grad-norm", optimizer.max_grad_norm, "gradients are scaled down to this global norm; 0 is never",
              AtLeast(0));
  options.Add("beta1", optimizer.adamw.beta1, "AdamW: decay of the first moment, below 1", AtLeast(0));
  options.Add("beta2", optimizer.adamw.beta2, "AdamW: decay of the second moment, below 1", AtLeast(0));
  options.Add("eps", optimizer.adamw.eps, "AdamW: added to the root of the second moment", AtLeast(0));
  options.AddUnrecorded("grad-checkpoint", grad_checkpoint, "compute activations again in the backward to save memory");
  options.AddUnrecorded("trace-nonfinite", trace_non_finite,
                        "stop at the first op whose result or gradient is NaN or infinite, and name it (slow)");
  options.AddUnrecorded("quiet", quiet, "show no progress");
}

void TrainingOptions::Train(const OptionSet& options, std::int64_t steps, const Transformer& model,
                            const Tokenizer& tokenizer, const Loop& loop) {
  CheckDisk(TrainingDisk(model.config(), model.dtype(), output_dir, steps, run.save_every, run.keep_checkpoints,
                         /*resumes=*/!run.resume.empty()),
            FreeDiskBytes(output_dir), output_dir);
  if (run.overwrite && !run.resume.empty()) throw UsageError("--overwrite starts a run anew; leave it or --resume out");
  StepMemory step_memory(compute.ResolveDevice());
  Context ctx = compute.MakeContext(step_memory);
  ctx.trace_non_finite = trace_non_finite;
  optimizer.schedule = ParseSchedule(schedule);
  if (optimizer.adamw.beta1 >= 1 || optimizer.adamw.beta2 >= 1) {
    throw UsageError("--beta1 and --beta2 must be below 1, where a mean over past steps ends");
  }
  Optimizer trainer(model.parameters(), optimizer);
  {
    Progress progress(steps);
    RunOptions run_options = run;
    run_options.output_dir = output_dir;
    const Stopping stopping = options.environment().watch_signals();
    run_options.interrupted = stopping.requested;
    run_options.saving = stopping.saving;
    run_options.warn = [](const std::string& sentence) { std::fprintf(stderr, "swarr: %s\n", sentence.c_str()); };
    run_options.on_step = [&](const nlohmann::ordered_json& row) {
      progress.Warn(row);
      if (!quiet) progress.Show(row);
    };
    TrainingRun training_run(run_options, options.Resolved(), model, trainer, tokenizer);
    loop(ctx, trainer, training_run);
    training_run.Finish();
  }  // progress ends here, before more is shown
  model.NoteMemory(compute.memory);
  trainer.NoteMemory(compute.memory);
  compute.PrintMemory(step_memory.arena());
}

}  // namespace swarr
