// SPDX-License-Identifier: Apache-2.0
// A windowed model reads a text token by token from a cache that is a ring, and says at every position what one pass
// over the whole text says, bit for bit.
#include <swarr/model/transformer.h>
#include <swarr/tensor/transfer.h>

#include <cstdio>
#include <cstring>
#include <vector>

namespace {

using namespace swarr;

constexpr int kTokens = 300;

ModelConfig SmallModel() {
  ModelConfig c;
  c.layers = 2;
  c.hidden = 48;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 12;
  c.ffn = 96;
  c.vocab = 50;
  c.max_positions = kTokens;
  c.attention = {{.window = 16}, {.window = 32, .sinks = 2}};
  return c;
}

Tensor One(std::int32_t& value) { return {&value, DType::kI32, {1}}; }

}  // namespace

int main() {
  const ModelConfig config = SmallModel();
  const Transformer model(config, DType::kF32, /*with_gradients=*/false);
  InitializeParameters(model.parameters(), config.layers, /*seed=*/1, /*deviation=*/0.2);
  std::vector<std::int32_t> text(kTokens);
  for (int t = 0; t < kTokens; ++t) text[static_cast<std::size_t>(t)] = t * t % config.vocab;

  OwnContext whole, step;
  const Tensor expected = model.Forward(whole, PackDocuments(*whole.arena, {&text, 1})).value;  // [tokens, hidden]

  const KvCache ring(config, DType::kF32, /*slots=*/1, kTokens, /*max_chunk=*/1);
  int equal = 0;
  for (std::int32_t t = 0; t < kTokens; ++t) {
    ResetStep(step);
    std::int32_t slot = 0;
    const Batch batch{.ids = One(text[static_cast<std::size_t>(t)]), .positions = One(t), .slots = One(slot)};
    const Tensor hidden = model.Forward(step, batch, ring).value;
    equal += std::memcmp(hidden.raw(), expected.Rows(t, t + 1).raw(), hidden.bytes()) == 0;
  }
  ModelConfig full = config;
  full.attention = {{}, {}};
  std::printf("%d of %d positions equal bit for bit; the ring takes %zu bytes, a cache of all keys %zu\n", equal,
              kTokens, ring.bytes(), KvCache(full, DType::kF32, 1, kTokens, 1).bytes());
  return equal == kTokens ? 0 : 1;
}
