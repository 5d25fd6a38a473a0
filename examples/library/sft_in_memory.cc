// SPDX-License-Identifier: Apache-2.0
// Supervised fine-tuning of a new model on a task of your own, in memory: three letters are to be said backwards.
#include <swarr/tensor/transfer.h>
#include <swarr/train/evaluate.h>
#include <swarr/train/sft.h>

#include <cstdio>

namespace {

using namespace swarr;

class Backwards : public Task {
 public:
  std::int64_t size() const override { return 64; }
  Example Get(std::int64_t index, std::uint64_t) const override {
    const auto letter = [&](std::int64_t place) { return static_cast<char>('a' + index / place % 4); };
    const std::string text = {letter(1), letter(4), letter(16)};
    return {text + '?', {text.rbegin(), text.rend()}, {text.rbegin(), text.rend()}};
  }
  double Reward(const Example& example, std::string_view text, bool finished) const override {
    return finished && text == example.answer ? 1 : 0;
  }
  std::string Extract(std::string_view text) const override { return std::string(text); }
};

ModelConfig SmallModel(const Tokenizer& tokenizer) {
  ModelConfig c;
  c.layers = 2;
  c.hidden = c.ffn = 32;
  c.heads = c.kv_heads = 2;
  c.head_dim = 16;
  c.vocab = tokenizer.vocab_size();
  c.max_positions = 16;
  c.attention = {{.window = 4}, {.window = 4}};
  c.eos_id = 0;
  return c;
}

}  // namespace

int main() {
  OwnContext ctx;
  const Backwards task;
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer("abcd?", "<|end|>"), "this tokenizer");
  const Transformer model(SmallModel(tokenizer), DType::kF32, /*with_gradients=*/true);
  InitializeParameters(model.parameters(), model.config().layers, /*seed=*/1);

  Optimizer optimizer(model.parameters(), {.lr = 1e-2});
  StepsInMemory steps([](const nlohmann::ordered_json& row) {
    if (row["step"].get<int>() % 40 == 0)
      std::printf("step %s  loss %s\n", row["step"].dump().c_str(), row["loss"].dump().c_str());
  });
  RunSft(ctx, model, tokenizer, task, /*eval_task=*/nullptr, {.steps = 160}, optimizer, steps);

  const auto said = Evaluate(ctx, model, tokenizer, task, {.temperature = 0, .max_completion_length = 8});
  const double accuracy = Summarize(said, /*samples=*/1).accuracy;
  std::printf("accuracy %g\n", accuracy);
  return accuracy > 0.9 ? 0 : 1;
}
