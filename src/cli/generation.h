// SPDX-License-Identifier: Apache-2.0
// Completions of a task's problems: what eval measures and sample keeps.
#pragma once

#include <memory>
#include <string>

#include "cli/task_options.h"
#include "train/evaluate.h"

namespace swarr {

// Adds --slots.
void AddSlots(OptionSet& options, int& slots);

struct GenerationOptions {
  std::string model_dir;
  TaskOptions task;
  EvaluateOptions evaluate;
  ComputeOptions compute;
  bool quiet = false;

  // All flags but those of `compute`. The help of --model opens with `use`; that of --samples is `samples`.
  void AddTo(OptionSet& options, const std::string& use, const std::string& samples);

  struct Loaded {
    LoadedTask problems;
    std::unique_ptr<Transformer> model;
    Tokenizer tokenizer;
  };
  // The problems with gold answers, of this split if the task is built in, and the model. Completes `evaluate`, and
  // says on stderr which rows were left out, and whether fewer problems are there than are asked for.
  Loaded Load(Split split);
  // Evaluate with these options, its progress on stderr.
  std::vector<EvaluatedCompletion> Draw(Context& ctx, const Loaded& loaded) const;
};

}  // namespace swarr
