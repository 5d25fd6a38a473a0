// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/hash.h"
#include "fuzz/harnesses.h"
#include "train/run.h"

namespace swarr::fuzz {
namespace {

namespace fs = std::filesystem;

ModelConfig SmallConfig(int vocab) {
  return {.layers = 1,
          .hidden = 4,
          .heads = 1,
          .kv_heads = 1,
          .head_dim = 4,
          .ffn = 4,
          .vocab = vocab,
          .max_positions = 8,
          .attention = {{}}};
}

// A run with one checkpoint, and whoever goes on from it.
struct SmallRun {
  SmallRun() {
    InitializeParameters(model.parameters(), 1, /*seed=*/1);
    options.save_every = 1;
    TrainingRun(options, config, model, optimizer, tokenizer).EndStep(3, {{"loss", 1.0}});
    checkpoint = options.output_dir / StepName("checkpoint-", 1);
    options.resume = checkpoint.string();
  }

  RunOptions options{.output_dir = Scratch() / "run"};
  nlohmann::ordered_json config = {{"lr", 0.5}};
  Tokenizer tokenizer{Tokenizer::MakeCharacterTokenizer("ab", "<end>"), "tokenizer.json"};
  Transformer model{SmallConfig(tokenizer.vocab_size()), DType::kF32, /*with_gradients=*/true};
  Optimizer optimizer{model.parameters(), {}};
  fs::path checkpoint;
};

// The text with the hash that belongs to it, if it is an object, so that it is read on.
std::string WithHash(std::string_view text) {
  auto state = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!state.is_object()) return std::string(text);
  state.erase("hash");
  using Handler = nlohmann::ordered_json::error_handler_t;
  state["hash"] = HashOf(state.dump(-1, ' ', false, Handler::replace));
  return state.dump(-1, ' ', false, Handler::replace);
}

}  // namespace

void FuzzCheckpoint(std::string_view input) {
  static SmallRun run;
  constexpr std::array kFiles = {"trainer_state.json", "optimizer.safetensors", "config.json", "model.safetensors",
                                 "tokenizer.json"};
  if (input.empty()) return;
  const std::string name = kFiles[static_cast<unsigned char>(input[0]) % kFiles.size()];
  const std::string original = ReadFile(run.checkpoint / name), relative = "run/checkpoint-00000001/" + name;
  Write(relative, name == kFiles[0] ? WithHash(input.substr(1)) : std::string(input.substr(1)));
  try {
    const TrainingRun resumed(run.options, run.config, run.model, run.optimizer, run.tokenizer);
  } catch (...) {
    Write(relative, original);
    throw;
  }
  Write(relative, original);
}

}  // namespace swarr::fuzz
