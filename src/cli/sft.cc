// SPDX-License-Identifier: Apache-2.0
// swarr sft: supervised fine-tuning.
#include "cli/commands.h"
#include "cli/training.h"
#include "model/model_files.h"

namespace swarr {
namespace {

struct SftCommand {
  SftCommand(CLI::App& app, const Environment& env) : environment(env), options(app) {
    supervised.training.optimizer.lr = 5e-4;
    options.Add("model", model_dir, "model to start from (directory)")->required();
    supervised.AddTo(options);
  }

  void Run() {
    supervised.training.run.model_dir = model_dir;
    const auto model = LoadModel(model_dir, supervised.training.compute.MakeDType(), /*with_gradients=*/true,
                                 supervised.training.compute.MakeKind());
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    supervised.Train(options, environment, model_dir, *model, tokenizer);
  }

  Environment environment;
  OptionSet options;
  std::string model_dir;
  SupervisedOptions supervised;
};

}  // namespace

void AddSft(CLI::App& program, const Environment& environment) {
  AddCommand<SftCommand>(program, "sft", "Fine-tune a model on prompts and completions", environment);
}

}  // namespace swarr
