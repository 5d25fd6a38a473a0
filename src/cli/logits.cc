// SPDX-License-Identifier: Apache-2.0
// swarr logits: what the model says at every position of a text, for comparison with other programs.
#include "cli/task_options.h"
#include "model/model_files.h"
#include "tensor/ops.h"
#include "tensor/safetensors.h"

namespace swarr {
namespace {

struct LogitsCommand {
  explicit LogitsCommand(OptionSet& options) {
    options.Group("Text");
    options.Add("model", model_dir, "model to run")->required()->type_name("DIR");
    options.Add("tokens", tokens, "token ids, like 1,2,3")->type_name(kListType);
    options.Add("prompt", prompt, "instead of --tokens: a text");
    options.AddOutput("out", out, "safetensors file to write: logits [T, V] f32, tokens [T] i32")->required();
    compute.AddTo(options);
  }

  void Run() {
    if (tokens.empty() == prompt.empty()) throw UsageError("give exactly one of --tokens 1,2,3 and --prompt TEXT");
    const auto model = compute.Load(model_dir, /*with_gradients=*/false);
    const std::vector<std::int32_t> ids = tokens.empty()
                                              ? LoadTokenizer(model_dir, model->config()).EncodePrompt(prompt)
                                              : ParseIntegers(tokens, "--tokens");
    const auto length = static_cast<std::int64_t>(ids.size());
    const ModelConfig& config = model->config();
    SWARR_CHECK(length <= config.max_positions, "a prompt of ", length,
                " tokens is longer than the model's context of ", config.max_positions, "; shorten it");
    StepMemory steps(compute.ResolveDevice());
    Context ctx = compute.MakeContext(steps);
    const Batch batch = PackDocuments(ctx.HostArena(), {&ids, 1});
    const Tensor logits = ctx.arena->New(AccumulatorOf(model->dtype()), {length, config.vocab});
    LinearForward(ctx, logits, model->Forward(ctx, batch).value, model->head().value);
    const Tensor rounded = ctx.arena->New(DType::kF32, {length, config.vocab});
    CastForward(ctx, rounded, logits);
    const Tensor result = ToHost(ctx, rounded);
    Wait(ctx);
    out.Write([&](const std::filesystem::path& path) {
      WriteSafetensors(path, {{"logits", result}, {"tokens", batch.ids}});
    });
    model->NoteMemory(compute.memory);
    compute.PrintMemory(steps.arena());
  }

  std::string model_dir, tokens, prompt;
  OutputFile out;
  ComputeOptions compute;
};

}  // namespace

void AddLogits(const CommandGroup& program) {
  program.Add<LogitsCommand>("logits", "Write the logits at every position of a text",
                             "  swarr logits --model out/swa --tokens 1,2,3 --out logits.safetensors");
}

}  // namespace swarr
