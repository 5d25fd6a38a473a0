// SPDX-License-Identifier: Apache-2.0
// swarr generate: continues a text, token by token.
#include <iostream>

#include "cli/commands.h"
#include "cli/task_options.h"
#include "model/decoder.h"
#include "model/model_files.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

struct GenerateCommand {
  explicit GenerateCommand(CLI::App& app) : options(app) {
    options.Add("model", model_dir, "model to sample from (directory)")->required();
    options.Add("prompt", prompt, "text to continue")->required();
    options.Add("max-new-tokens", max_new_tokens, "tokens at most; 0 is what the context leaves")->check(AtLeast(0));
    options.Add("temperature", temperature, "of sampling; 0 is greedy")->check(AtLeast(0));
    compute.AddTo(options);
  }

  void Run() {
    const auto model = LoadModel(model_dir, compute.MakeDType(), /*with_gradients=*/false, compute.MakeKind());
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    const Request request{tokenizer.Encode(prompt), 0, temperature, StreamKey(compute.seed, Purpose::kSample)};
    const auto prompt_tokens = static_cast<int>(request.prompt.size());
    const int limit = CompletionLimit(max_new_tokens, prompt_tokens, model->config());
    StepMemory steps(compute.MakeDevice());
    Context ctx = compute.MakeContext(steps);
    Decoder decoder(*model, /*slots=*/1, prompt_tokens + limit);
    std::vector<Request> requests = {request};
    requests[0].max_new_tokens = limit;
    // What a token adds to the text can depend on its place, so each is shown as what the whole has grown by.
    std::vector<std::int32_t> drawn;
    std::size_t shown = 0;
    decoder.Generate(ctx, requests, [&](std::size_t, std::int32_t token) {
      drawn.push_back(token);
      const std::string text = tokenizer.Decode(drawn, /*skip_special=*/true);
      std::cout << text.substr(shown) << std::flush;
      shown = text.size();
    });
    std::cout << '\n';
    model->NoteMemory(compute.memory);
    compute.PrintMemory(steps.arena());
  }

  OptionSet options;
  std::string model_dir, prompt;
  int max_new_tokens = 0;
  double temperature = 1.0;
  ComputeOptions compute;
};

}  // namespace

void AddGenerate(CLI::App& program) {
  AddCommand<GenerateCommand>(program, "generate", "Continue a prompt; the text appears as it is drawn");
}

}  // namespace swarr
