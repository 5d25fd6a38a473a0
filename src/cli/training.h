// SPDX-License-Identifier: Apache-2.0
// What pretrain, sft and rl have in common.
#pragma once

#include <functional>
#include <string>

#include "cli/commands.h"
#include "model/transformer.h"
#include "train/optimizer.h"
#include "train/run.h"

namespace swarr {

// Output, checkpoints, optimizer.
struct TrainingOptions {
  ComputeOptions compute;
  OptimizerOptions optimizer;
  RunOptions run;
  std::string output_dir, schedule = "cosine", report_to = Name(ReportTo::kNone);
  bool grad_checkpoint = false, trace_non_finite = false, quiet = false;

  void AddTo(OptionSet& options);

  using Loop = std::function<void(Context&, Optimizer&, TrainingSteps&)>;
  // Runs `loop`, which trains `model` for `steps` steps, and writes the model. `options` are all of the command. Of
  // several ranks each calls this, and rank 0 alone has the run's directory and shows anything.
  void Train(const OptionSet& options, std::int64_t steps, const Transformer& model, const Tokenizer& tokenizer,
             const Loop& loop);

 private:
  struct Training {
    Context& ctx;
    Optimizer& trainer;
    const Stopping& stopping;
  };
  void Lead(const OptionSet& options, std::int64_t steps, const Transformer& model, const Tokenizer& tokenizer,
            const Loop& loop, const Training& training);
};

}  // namespace swarr
