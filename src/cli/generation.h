// SPDX-License-Identifier: Apache-2.0
// Completions of a task's problems: what eval measures and sample keeps.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

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
  const Environment* environment = nullptr;  // from AddTo on

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
  // Where completions go: a file, and its lines.
  struct Kept {
    const OutputFile& file;
    std::function<std::string(const std::vector<EvaluatedCompletion>&)> lines;
  };
  // Evaluate with these options, its progress on stderr. If a signal comes before all is drawn, it ends the command
  // with what there is of the `things` (OutputFile::StopAfter).
  std::vector<EvaluatedCompletion> Draw(Context& ctx, const Loaded& loaded, const Kept& kept,
                                        const std::string& things = "problems") const;
};

}  // namespace swarr
