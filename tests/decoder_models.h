// SPDX-License-Identifier: Apache-2.0
// The models and requests that tests of decoding walk through.
#pragma once

#include <doctest/doctest.h>

#include <numeric>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "test_models.h"

namespace swarr {

// Wider than a tile of the product and no multiple of one, so that edges of tiles occur.
inline ModelConfig DecoderConfig(const std::vector<AttentionSpec>& attention, int head_dim = 6,
                                 bool learned_sinks = false) {
  ModelConfig c = TinyConfig();
  c.hidden = 42;
  c.head_dim = head_dim;
  c.ffn = 70;
  c.vocab = 37;
  c.max_positions = 256;
  c.eos_id = 0;
  c.layers = static_cast<int>(attention.size());
  c.attention = attention;
  c.learned_sinks = learned_sinks;
  return c;
}

inline std::vector<std::vector<AttentionSpec>> AllAttentions() {
  std::vector<std::vector<AttentionSpec>> all = {{{}, {}}, {{}, {3, 0}, {7, 4}}};
  for (int window : {1, 3, 7, 40}) {
    for (int sinks : {0, 1, 4}) all.push_back({{window, sinks}, {window, sinks}});
  }
  return all;
}

inline std::string Describe(const ModelConfig& config, DType dtype) {
  std::string text = Concat(Name(dtype), ", heads of ", config.head_dim, config.learned_sinks ? ", learned sinks" : "");
  for (const AttentionSpec& s : config.attention) text += Concat(" (window ", s.window, ", sinks ", s.sinks, ")");
  return text;
}

// Calls f(model) for every attention and dtype, with random weights, and heads that matrix instructions of a device do
// not take and that they do, these with learned sinks too.
template <class F>
void ForModels(Device device, const std::vector<std::vector<AttentionSpec>>& attentions, F&& f) {
  for (const auto& attention : attentions) {
    for (const auto& [head_dim, learned_sinks] : {std::pair{6, false}, {16, false}, {16, true}}) {
      for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
        Transformer model(DecoderConfig(attention, head_dim, learned_sinks), dtype, /*with_gradients=*/false,
                          MemoryOf(device));
        Randomize(model);
        INFO(Describe(model.config(), dtype));
        f(model);
      }
    }
  }
}
template <class F>
void ForModels(const std::vector<std::vector<AttentionSpec>>& attentions, F&& f) {
  ForModels(Device::kCpu, attentions, f);
}

// Feeds tokens begin .. end - 1 of a sequence to a slot.
inline Pass Feed(Context& ctx, const Transformer& model, const KvCache& cache, const Tokens& tokens, int begin, int end,
                 int slot) {
  Tokens ids(tokens.begin() + begin, tokens.begin() + end), positions(ids.size()), next, slots(ids.size(), slot);
  std::iota(positions.begin(), positions.end(), begin);
  for (int t = begin; t < end; ++t) next.push_back(tokens[static_cast<std::size_t>(t + 1) % tokens.size()]);
  Arena& arena = ctx.HostArena();
  const Var hidden = model.Forward(
      ctx, {.ids = Ints(arena, ids), .positions = Ints(arena, positions), .documents = {}, .slots = Ints(arena, slots)},
      cache);
  const Tensor logp = model.Logprob(ctx, hidden, Ints(arena, next)).logp.value;
  return {OnHost(ctx, hidden.value), logp};
}

// Requests of many lengths; every token of the vocabulary can end one.
inline std::vector<Request> ManyRequests(const ModelConfig& config) {
  std::vector<Request> requests;
  for (std::uint32_t i = 0; i < 23; ++i) {
    requests.push_back({RandomTokens(1 + static_cast<int>(i * 37 % 90), config.vocab, i),
                        3 + static_cast<int>(i * 5 % 31), 1.0, StreamKey(9, Purpose::kSample, 0, i)});
  }
  return requests;
}

constexpr int kLongest = 128;  // of ManyRequests, prompt and completion

inline void CheckSame(const Completion& a, const Completion& b) {
  CHECK(a.tokens == b.tokens);
  CHECK(a.logp == b.logp);
  CHECK(a.finished == b.finished);
}

}  // namespace swarr
