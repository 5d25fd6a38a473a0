// SPDX-License-Identifier: Apache-2.0
// swarr pretrain: the same training as sft, from random weights.
#include "cli/commands.h"
#include "cli/training.h"
#include "model/convert.h"
#include "model/model_files.h"

namespace swarr {
namespace {

struct PretrainCommand {
  PretrainCommand(CLI::App& app, const Environment& env) : environment(env), options(app) {
    shape.layers = shape.heads = 4;
    shape.hidden = 128;
    shape.ffn = 352;
    shape.max_positions = 512;
    shape.tied = true;
    options.Add("model", model_dir, "continue from this model (directory) instead of random weights");
    AddShape();
    supervised.AddTo(options);
  }

  void AddShape() {
    const auto add = [&](const char* name, int& value, const char* help, int least) {
      shape_options.push_back(options.Add(name, value, help)->check(AtLeast(least)));
    };
    add("layers", shape.layers, "blocks", 1);
    add("hidden-size", shape.hidden, "width of the residual stream", 1);
    add("heads", shape.heads, "query heads", 1);
    add("kv-heads", shape.kv_heads, "key and value heads, a divisor of --heads; 0 is --heads", 0);
    add("head-dim", shape.head_dim, "width of a head, even; 0 is hidden-size / heads", 0);
    add("ffn", shape.ffn, "width of the feed-forward part", 1);
    add("max-positions", shape.max_positions, "longest sequence in tokens", 1);
    add("window", attention.window, "visible tokens including the current one; 0 is full attention", 0);
    add("sinks", attention.sinks, "first tokens that stay visible outside the window", 0);
    shape_options.push_back(options.Add("rope-theta", shape.rope_theta, "base of the rotary embedding"));
    shape_options.push_back(options
                                .Add("initializer-range", deviation,
                                     "standard deviation of random matrices; smaller where the residual "
                                     "stream is written")
                                ->check(AtLeast(0)));
    shape_options.push_back(options.Add("tied,!--untied", shape.tied, "the output layer is the embedding"));
  }

  // The shape with what was left open filled in: the vocabulary is the tokenizer's.
  void CompleteShape(const Tokenizer& tokenizer) {
    if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
    if (shape.head_dim == 0) {
      if (shape.hidden % shape.heads != 0) {
        throw UsageError(Concat("--hidden-size ", shape.hidden, " is no multiple of --heads ", shape.heads,
                                "; change one or give --head-dim"));
      }
      shape.head_dim = shape.hidden / shape.heads;
    }
    shape.vocab = tokenizer.vocab_size();
    shape.eos_id = tokenizer.IdOf(kEndOfText);
    shape.attention.assign(static_cast<std::size_t>(shape.layers), attention);
    try {
      shape.Validate();
    } catch (const Error& e) {
      throw UsageError(Concat("no model has this shape: ", e.what()));
    }
  }

  void Run() {
    const DType dtype = supervised.training.compute.MakeDType();
    if (!model_dir.empty()) {
      for (const CLI::Option* option : shape_options) {
        if (option->count() > 0) {
          throw UsageError(Concat(option->get_name(), " can't be given with --model, whose shape is what it is"));
        }
        options.Omit(option->get_single_name());
      }
      supervised.training.run.model_dir = model_dir;
      const auto model = LoadModel(model_dir, dtype, /*with_gradients=*/true, supervised.training.compute.MakeKind());
      supervised.Train(options, environment, model_dir, *model, LoadTokenizer(model_dir, model->config()));
      return;
    }
    const BuiltInTask& task = supervised.task.ChosenBuiltIn();
    const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer(task.alphabet, kEndOfText),
                              Concat("the ", task.name, " task's tokenizer"));
    CompleteShape(tokenizer);
    Transformer model(shape, dtype, /*with_gradients=*/true, supervised.training.compute.MakeKind());
    InitializeParameters(model.parameters(), shape.layers, supervised.training.compute.seed, deviation);
    supervised.Train(options, environment, /*model_dir=*/"", model, tokenizer);
  }

  Environment environment;
  OptionSet options;
  std::string model_dir;
  ModelConfig shape;
  AttentionSpec attention;
  double deviation = 0.02;
  std::vector<const CLI::Option*> shape_options;
  SupervisedOptions supervised;
};

}  // namespace

void AddPretrain(CLI::App& program, const Environment& environment) {
  AddCommand<PretrainCommand>(program, "pretrain", "Train a model from random weights on prompts and completions",
                              environment);
}

}  // namespace swarr
