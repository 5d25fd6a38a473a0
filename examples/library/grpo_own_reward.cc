// SPDX-License-Identifier: Apache-2.0
// GRPO on a reward of your own, in memory: a text is worth the share of its letters that are vowels.
#include <swarr/rl/objective_names.h>
#include <swarr/rl/rl.h>
#include <swarr/tensor/transfer.h>

#include <cstdio>

namespace {

using namespace swarr;

class Vowels : public Task {
 public:
  std::int64_t size() const override { return 4; }
  Example Get(std::int64_t index, std::uint64_t) const override {
    return {std::string(1, "abcd"[index]) + '?', "", ""};
  }
  double Reward(const Example&, std::string_view text, bool finished) const override {
    if (!finished || text.empty()) return 0;
    double vowels = 0;
    for (const char c : text) vowels += c == 'a' || c == 'e';
    return vowels / static_cast<double>(text.size());
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
  c.max_positions = 32;
  c.attention = {{.window = 4}, {.window = 4}};
  c.eos_id = 0;
  return c;
}

}  // namespace

int main() {
  OwnContext ctx;
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer("abcde?", "<|end|>"), "this tokenizer");
  const Transformer model(SmallModel(tokenizer), DType::kF32, /*with_gradients=*/true);
  InitializeParameters(model.parameters(), model.config().layers, /*seed=*/1);
  Optimizer optimizer(model.parameters(), {.lr = 5e-3, .schedule = Schedule::kConstant});

  double first = 0, last = 0;
  StepsInMemory steps([&](const nlohmann::ordered_json& row) {
    (row["step"] == 1 ? first : last) = row["reward"];
    if (row["step"].get<int>() % 10 == 0) std::printf("step %d  reward %.3f\n", row["step"].get<int>(), last);
  });
  RlOptions options{.steps = 60, .prompts_per_step = 4, .max_completion_length = 12};
  options.objective = ObjectiveFromJson({{"objective", "grpo"}});
  const OnPolicyCheck check = RunRl(ctx, model, tokenizer, Vowels(), options, optimizer, steps);
  std::printf("the sampler's log-probabilities are training's: largest difference %g\n", check.max_abs_diff);
  return last > first + 0.3 && check.max_abs_diff == 0 ? 0 : 1;
}
