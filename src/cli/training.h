// SPDX-License-Identifier: Apache-2.0
// What pretrain, sft and rl have in common.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "dist/communicator.h"
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
  std::unique_ptr<Communicator> others;  // the ranks, if there are several

  void AddTo(OptionSet& options);

  // Meets the other ranks, if there are any, before anything is loaded: whoever then fails ends all at once. When a
  // rank ends, so does this process. To be called first.
  void Meet(const OptionSet& options);

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
