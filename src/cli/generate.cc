// SPDX-License-Identifier: Apache-2.0
// swarr generate: continues a text, token by token.
#include <iostream>

#include "cli/task_options.h"
#include "model/decoder.h"
#include "model/model_files.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

struct GenerateCommand {
  explicit GenerateCommand(OptionSet& options) {
    chat.chat_template = "plain";
    options.Group("Text");
    options.Add("model", model_dir, "model to sample from")->required()->type_name("DIR");
    options.Add("prompt", prompt, "text to continue, or with --template the user's message")->required();
    chat.AddTemplateTo(options);
    options.Add("max-new-tokens", max_new_tokens, "tokens at most; 0 is what the context leaves", AtLeast(0));
    options.Add("temperature", temperature, "of sampling; 0 is greedy", AtLeast(0));
    compute.AddTo(options, ComputeOptions::kSeedOfDraws);
  }

  void Run() {
    const auto model = compute.Load(model_dir, /*with_gradients=*/false);
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    const ChatTemplate format = chat.MakeTemplate(model_dir);
    if (!format.end().empty()) model->SetEndOfText(SingleToken(tokenizer, format.end()));
    const std::string text = format.Prompt(std::vector<Message>{{"user", prompt}});
    Request request{tokenizer.EncodePrompt(text), 0, temperature, StreamKey(compute.seed, Purpose::kSample)};
    const auto prompt_tokens = static_cast<int>(request.prompt.size());
    request.max_new_tokens = CompletionLimit(max_new_tokens, prompt_tokens, model->config());
    compute.Need(DecodeParts(model->config(), model->dtype(), compute.ResolveDevice(),
                             {.max_length = prompt_tokens + request.max_new_tokens,
                              .option = "--max-new-tokens",
                              .value = request.max_new_tokens}));
    StepMemory steps(compute.ResolveDevice());
    Context ctx = compute.MakeContext(steps);
    Decoder decoder(*model, /*slots=*/1, prompt_tokens + request.max_new_tokens);
    TextStream shown(tokenizer, /*skip_special=*/true);
    const auto completions = decoder.Generate(
        ctx, {&request, 1}, [&](std::size_t, std::int32_t token) { std::cout << shown.Add(token) << std::flush; });
    std::cout << shown.Finish() << '\n';
    CheckFinite(completions);
    model->NoteMemory(compute.memory);
    compute.PrintMemory(steps.arena());
  }

  std::string model_dir, prompt;
  PromptOptions chat;
  int max_new_tokens = 0;
  double temperature = 1.0;
  ComputeOptions compute;
};

}  // namespace

void AddGenerate(const CommandGroup& program) {
  program.Add<GenerateCommand>("generate", "Continue a prompt; the text appears as it is drawn",
                               "  swarr generate --model data/chain-base --prompt 'a7b3n04x5?'");
}

}  // namespace swarr
