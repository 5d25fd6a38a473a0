// SPDX-License-Identifier: Apache-2.0
// What pretrain, sft and rl have in common.
#pragma once

#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/task_options.h"
#include "model/transformer.h"
#include "train/optimizer.h"
#include "train/run.h"
#include "train/sft.h"

namespace swarr {

// Output, checkpoints, optimizer.
struct TrainingOptions {
  ComputeOptions compute;
  OptimizerOptions optimizer;
  RunOptions run;
  std::string output_dir, schedule = "cosine";
  bool grad_checkpoint = false, quiet = false;

  void AddTo(OptionSet& options);
  // The options of the run, with the interrupt watched and progress up to step `steps` shown.
  RunOptions MakeRunOptions(const Environment& environment, std::int64_t steps) const;
  OptimizerOptions MakeOptimizerOptions() const;
  void NoteMemory(const Transformer& model, const Optimizer& trained_by);
};

// Next-token prediction on completions: pretrain and sft.
struct SupervisedOptions {
  TrainingOptions training;
  TaskOptions task;
  SftOptions sft;
  double epochs = 1;
  std::string eval_data;

  void AddTo(OptionSet& options);
  // Trains `model`, which comes from `model_dir` unless that is empty, and writes it. `options` is what AddTo was given
  // and more, of the command.
  void Train(const OptionSet& options, const Environment& environment, const std::string& model_dir, Transformer& model,
             const Tokenizer& tokenizer);

 private:
  LoadedTask LoadEvaluation(const std::string& model_dir) const;
};

}  // namespace swarr
