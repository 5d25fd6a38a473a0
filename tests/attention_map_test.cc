// SPDX-License-Identifier: Apache-2.0
// The weights that a page shows are those by which attention weighs values.
#include "model/attention_map.h"

#include <doctest/doctest.h>

#include <cmath>

#include "attn/attention.h"
#include "autograd/blocks.h"
#include "test_models.h"

namespace swarr {
namespace {

constexpr int kTokens = 37, kPrompt = 9;

void CheckRows(const ModelConfig& config, DType dtype, Device device) {
  TestContext t(device);
  const Transformer model(config, dtype, /*with_gradients=*/false, MemoryOf(device));
  Randomize(model);
  const std::vector<AttentionMap> maps = AttentionMaps(t.ctx, model, RandomTokens(kTokens, config.vocab, 1), kPrompt);
  REQUIRE(maps.size() == config.attention.size());
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const AttentionSpec spec = OfDocument(config.attention[i], kPrompt);
    for (int query = 0; query < kTokens; ++query) {
      double sum = 0;
      for (int key = 0; key < kTokens; ++key) {
        const double weight = maps[i].at(query, key);
        sum += weight;
        CHECK((weight > 0) == Visible(query, key, spec));
      }
      if (config.learned_sinks) {
        CHECK(sum < 1);
      } else {
        CHECK(sum == doctest::Approx(1).epsilon(1e-12));  // exponentials over their sum, in f64
      }
    }
  }
}

}  // namespace

TEST_CASE("every row of an attention map sums to 1, less what a learned sink takes, and is 0 where nothing is seen") {
  for (const ModelCase& c : ModelCases()) {
    CAPTURE(c.name);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const Device device : TestDevices()) CheckRows(c.config, dtype, device);
    }
  }
}

TEST_CASE("values weighed by an attention map are what the attention kernel gives") {
  ModelConfig config = TinyConfig();
  config.heads = config.kv_heads = 1;  // a mean over one head is that head's
  config.attention.assign(static_cast<std::size_t>(config.layers), AttentionSpec{.window = 7, .sinks = 2});
  TestContext t;
  const Transformer model(config, DType::kF64, /*with_gradients=*/false);
  Randomize(model);
  const Tokens tokens = RandomTokens(kTokens, config.vocab, 1);
  const std::vector<AttentionMap> maps = AttentionMaps(t.ctx, model, tokens, kPrompt);
  const Batch batch = PackDocuments(t.arena, {&tokens, 1});
  const std::int64_t D = config.head_dim;
  model.VisitHeads(t.ctx, batch, [&](int layer, const QkvHeads& heads, const Tensor& sinks) {
    const Tensor out = t.arena.NewLike(heads.q), lse = t.arena.New(DType::kF64, {kTokens, 1});
    AttentionForward(t.ctx, out, lse,
                     {heads.q, heads.k, heads.v, batch.positions, batch.documents,
                      config.attention[static_cast<std::size_t>(layer)], sinks});
    for (int query = 0; query < kTokens; ++query) {
      for (std::int64_t d = 0; d < D; ++d) {
        double weighed = 0;
        for (int key = 0; key < kTokens; ++key) {
          weighed += maps[static_cast<std::size_t>(layer)].at(query, key) * heads.v.data<double>()[key * D + d];
        }
        // Queries and keys are read in f32, which scores of a few units in size turn into an error of 1e-6.
        CHECK(std::abs(weighed - out.data<double>()[query * D + d]) < 1e-5);
      }
    }
  });
}

TEST_CASE("a visit of attention under a live tape throws") {
  TestContext t;
  Tape tape;
  const Transformer model(TinyConfig(), DType::kF32, /*with_gradients=*/true);
  t.ctx.tape = &tape;
  const Tokens tokens = RandomTokens(3, model.config().vocab, 1);
  CHECK_THROWS_AS(model.VisitHeads(t.ctx, PackDocuments(t.arena, {&tokens, 1}), [](auto&&...) {}), Error);
}

}  // namespace swarr
