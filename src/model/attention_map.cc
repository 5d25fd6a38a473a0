// SPDX-License-Identifier: Apache-2.0
#include "model/attention_map.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/ops.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// A tensor's values in f32 where the processor can read them.
Tensor OnHost(const Context& ctx, const Tensor& t) {
  if (t.empty()) return t;
  const Tensor rounded = ctx.arena->New(DType::kF32, {t.size()});
  CastForward(ctx, rounded, t.Reshape({t.size()}));
  const Tensor host = ToHost(ctx, rounded);
  Wait(ctx);
  return host;
}

// One layer's queries [T, H, D], keys [T, G, D] and learned sinks [H], which may be empty.
struct LayerHeads {
  const float *q, *k, *sinks;
  std::int64_t heads, key_heads, dim;

  double Score(int query, int key, std::int64_t head) const {
    const float* of_query = q + (query * heads + head) * dim;
    const float* of_key = k + (key * key_heads + head / (heads / key_heads)) * dim;
    double product = 0;
    for (std::int64_t d = 0; d < dim; ++d) product += static_cast<double>(of_query[d]) * of_key[d];
    return product / std::sqrt(static_cast<double>(dim));
  }
};

// Adds a head's share of the weights of one query to its row of the map.
void AddRow(const LayerHeads& layer, int query, std::int64_t head, const AttentionSpec& spec, double* row) {
  const VisibleKeys visible = VisibleKeysOf(query, spec);
  std::vector<std::pair<int, double>> scores;  // by key
  for (const KeyRange& range : {visible.sinks, visible.recent}) {
    for (int key = range.begin; key < range.end; ++key) scores.emplace_back(key, layer.Score(query, key, head));
  }
  const double sink = layer.sinks ? layer.sinks[head] : -std::numeric_limits<double>::infinity();
  double largest = sink;
  for (const auto& [key, score] : scores) largest = std::max(largest, score);
  double sum = std::exp(sink - largest);
  for (const auto& [key, score] : scores) sum += std::exp(score - largest);
  for (const auto& [key, score] : scores) {
    row[key] += std::exp(score - largest) / sum / static_cast<double>(layer.heads);
  }
}

}  // namespace

std::vector<AttentionMap> AttentionMaps(Context& ctx, const Transformer& model, const std::vector<std::int32_t>& tokens,
                                        int prompt) {
  ResetStep(ctx);
  const ModelConfig& config = model.config();
  const auto T = static_cast<int>(tokens.size());
  std::vector<AttentionMap> maps;
  const Batch batch = PackDocuments(ctx.HostArena(), {&tokens, 1}, {&prompt, 1});
  model.VisitHeads(ctx, batch, [&](int i, const QkvHeads& heads, const Tensor& sinks) {
    const Tensor q = OnHost(ctx, heads.q), k = OnHost(ctx, heads.k), s = OnHost(ctx, sinks);
    const LayerHeads layer = {.q = q.data<float>(),
                              .k = k.data<float>(),
                              .sinks = s.empty() ? nullptr : s.data<float>(),
                              .heads = config.heads,
                              .key_heads = config.kv_heads,
                              .dim = config.head_dim};
    const AttentionSpec spec = OfDocument(config.attention[static_cast<std::size_t>(i)], prompt);
    AttentionMap& map = maps.emplace_back(AttentionMap{.tokens = T, .weights = {}});
    map.weights.resize(static_cast<std::size_t>(T) * static_cast<std::size_t>(T));
    for (int query = 0; query < T; ++query) {
      double* row = map.weights.data() + static_cast<std::ptrdiff_t>(query) * T;
      for (std::int64_t head = 0; head < layer.heads; ++head) AddRow(layer, query, head, spec, row);
    }
  });
  return maps;
}

}  // namespace swarr
