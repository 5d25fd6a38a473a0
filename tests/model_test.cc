// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/gradient_check.h"
#include "base/files.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "test_models.h"

namespace swarr {
namespace {

using doctest::Contains;

constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kBF16};

TEST_CASE("the gradient of a whole model is the derivative of its loss") {
  const std::vector<Tokens> documents = RandomDocuments({9, 1, 6}, TinyConfig().vocab);
  for (const ModelCase& c : ModelCases()) {
    for (bool checkpoint : {false, true}) {
      if (checkpoint && c.name != "everything at once") continue;  // the others: bit-identical, two tests on
      TestContext t;
      Transformer model(c.config, DType::kF64, /*with_gradients=*/true);
      Randomize(model);
      const Batch batch = PackDocuments(t.arena, documents, PromptsOf(documents));
      const Tensor targets = NextTokens(t.arena, documents);
      std::vector<Var> parameters;
      for (const Parameter& p : model.parameters().all()) parameters.push_back(p.var);
      // ops_test.cc compares every element of every op. What a model adds is how they are connected, which shows in any
      // elements; the stride has no divisor in common with a row of any weight, so that all rows and columns occur.
      constexpr std::int64_t kStride = 5;
      const auto logp = [&](Context& ctx) {
        return model.Logprob(ctx, model.Forward(ctx, batch, checkpoint), targets).logp;
      };
      const std::vector<double> errors = GradientErrors(t.ctx, parameters, logp, kStride);
      for (std::size_t i = 0; i < errors.size(); ++i) {
        INFO(c.name, ", ", model.parameters().all()[i].name);
        CHECK(errors[i] <= 1e-7);  // what differences can resolve: autograd/gradient_check.cc
        double largest = 0;
        for (std::int64_t e = 0; e < parameters[i].grad.size(); ++e) {
          largest = std::max(largest, std::fabs(ValueAt(parameters[i].grad, e)));
        }
        // Under window 1 attention has weight 1 on its one key, whatever query and key are.
        const std::string& name = model.parameters().all()[i].name;
        const bool unused =
            c.name == "window 1" && (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight"));
        CHECK((largest > 1e-3) == !unused);
      }
    }
  }
}

TEST_CASE("gradient checkpointing gives bit-identical gradients and needs less memory") {
  for (const ModelCase& c : ModelCases()) {
    const std::vector<Tokens> documents = RandomDocuments({9, 1, 6}, c.config.vocab);
    for (DType dtype : kDTypes) {
      INFO(c.name, " ", Name(dtype));
      Transformer plain(c.config, dtype, true), checkpointed(c.config, dtype, true);
      Randomize(plain);
      Randomize(checkpointed);
      TestContext t, u;
      RunBackward(t.ctx, plain, documents, Coefficients(documents), /*checkpoint=*/false);
      RunBackward(u.ctx, checkpointed, documents, Coefficients(documents), /*checkpoint=*/true);
      CHECK(SameBits(plain.parameters().flat_gradients(), checkpointed.parameters().flat_gradients()));
      CHECK(u.arena.high_water_bytes() < t.arena.high_water_bytes());
    }
  }
}

TEST_CASE("a training step has the same bits with 1, 2 and 3 threads") {
  const std::vector<Tokens> documents = RandomDocuments({200, 1, 350, 77, 230, 150, 64, 90}, WideConfig().vocab);
  for (DType dtype : kDTypes) {
    for (bool checkpoint : {false, true}) {
      std::vector<Transformer> models;
      for (int threads : {1, 2, 3}) {
        TestContext t(threads);
        const Transformer& model = models.emplace_back(WideConfig(), dtype, true);
        Randomize(model);
        RunBackward(t.ctx, model, documents, Coefficients(documents), checkpoint);
        CHECK(SameBits(model.parameters().flat_gradients(), models[0].parameters().flat_gradients()));
        CHECK(GlobalNorm(t.ctx, model.parameters().flat_gradients()) > 0);
      }
    }
  }
}

TEST_CASE("documents packed into one row give the same bits as alone") {
  for (const ModelCase& c : ModelCases()) {
    const std::vector<Tokens> documents = RandomDocuments({9, 1, 17, 6}, c.config.vocab);
    for (DType dtype : kDTypes) {
      INFO(c.name, " ", Name(dtype));
      Transformer model(c.config, dtype, false);
      Randomize(model);
      TestContext t;
      const Pass packed = RunForward(t.ctx, model, documents);
      std::int64_t row = 0;
      for (const Tokens& d : documents) {
        const Pass alone = RunForward(t.ctx, model, {d});
        const std::int64_t end = row + static_cast<std::int64_t>(d.size());
        CHECK(SameBits(alone.hidden, packed.hidden.Rows(row, end)));
        CHECK(SameBits(alone.logp, packed.logp.Rows(row, end)));
        row = end;
      }
    }
  }
}

TEST_CASE("a window of at least the sequence is full attention bit for bit, and one less is not") {
  const int T = 50;  // two tiles
  const std::vector<Tokens> documents = RandomDocuments({T}, TinyConfig().vocab);
  for (DType dtype : kDTypes) {
    Transformer model(TinyConfig(), dtype, false);
    Randomize(model);
    TestContext t;
    const Pass full = RunForward(t.ctx, model, documents);
    for (int sinks : {0, 1, 4}) {
      for (int window : {T, T + 5}) {
        model.SetAttention({{window, sinks}, {window, sinks}});
        const Pass windowed = RunForward(t.ctx, model, documents);
        CHECK(SameBits(windowed.hidden, full.hidden));
        CHECK(SameBits(windowed.logp, full.logp));
      }
    }
    model.SetAttention({{T - 1, 0}, {}});
    const Pass shorter = RunForward(t.ctx, model, documents);
    CHECK(SameBits(shorter.hidden.Rows(0, T - 1), full.hidden.Rows(0, T - 1)));
    CHECK(!SameBits(shorter.hidden, full.hidden));
  }
}

TEST_CASE("attention switches at run time, there and back, and the weights stay") {
  const std::vector<Tokens> documents = RandomDocuments({20}, TinyConfig().vocab);
  Transformer model(TinyConfig(), DType::kF32, false), windowed(TinyConfig(), DType::kF32, false);
  Randomize(model);
  Randomize(windowed);
  TestContext t;
  const Pass full = RunForward(t.ctx, model, documents);
  model.SetAttention({{}, {3, 1}});
  CHECK(!SameBits(RunForward(t.ctx, model, documents).hidden, full.hidden));
  CHECK(SameBits(model.parameters().master(), windowed.parameters().master()));
  model.SetAttention({{}, {}});
  CHECK(SameBits(RunForward(t.ctx, model, documents).hidden, full.hidden));

  CHECK_THROWS_WITH_AS(model.SetAttention({{}}), Contains("attention of 1 layers is given for 2"), Error);
  CHECK_THROWS_WITH_AS(model.SetAttention({{}, {-1, 0}}), Contains("negative"), Error);
  CHECK(model.config().attention == std::vector<AttentionSpec>{{}, {}});  // a refused switch changes nothing
}

TEST_CASE("a token sees its window through every layer and nothing beyond") {
  ModelConfig config = TinyConfig();
  config.attention = {{3, 0}, {3, 0}};
  Transformer model(config, DType::kF64, false);
  Randomize(model);
  TestContext t;
  const int T = 12, reach = 2 * (3 - 1);
  Tokens tokens = RandomTokens(T, config.vocab, 1);
  const Pass before = RunForward(t.ctx, model, {tokens});
  const int changed = 4;
  tokens[changed] = (tokens[changed] + 1) % config.vocab;
  const Pass after = RunForward(t.ctx, model, {tokens});
  for (int at = 0; at < T; ++at) {
    const bool sees = at >= changed && at - changed <= reach;
    INFO("position ", at);
    CHECK(SameBits(before.hidden.Rows(at, at + 1), after.hidden.Rows(at, at + 1)) == !sees);
  }
}

TEST_CASE("packing lays documents one after another and counts positions from the start of each") {
  TestContext t;
  const Batch batch = PackDocuments(t.arena, std::vector<Tokens>{{5, 6, 7}, {8}, {9, 10}});
  CHECK(SameBits(batch.ids, Ints(t.arena, {5, 6, 7, 8, 9, 10})));
  CHECK(SameBits(batch.positions, Ints(t.arena, {0, 1, 2, 0, 0, 1})));
  CHECK(batch.slots.empty());
  CHECK(SameBits(batch.documents, Ints(t.arena, {0, 3, 4, 6})));
}

TEST_CASE("tokens outside the vocabulary and positions outside the context are refused") {
  Transformer model(TinyConfig(), DType::kF32, false);
  TestContext t;
  CHECK_THROWS_AS(RunForward(t.ctx, model, {{1, 11, 2}}), Error);
  CHECK_THROWS_AS(RunForward(t.ctx, model, {{1, -1, 2}}), Error);
  CHECK_NOTHROW(RunForward(t.ctx, model, {RandomTokens(64, 11, 1)}));
  CHECK_THROWS_AS(RunForward(t.ctx, model, {RandomTokens(65, 11, 1)}), Error);
}

TEST_CASE("initial weights follow the seed: matrices small and normal, norms 1, biases 0") {
  ModelConfig config = WideConfig();
  Transformer a(config, DType::kF64, false), b(config, DType::kF64, false), c(config, DType::kF64, false);
  InitializeParameters(a.parameters(), config.layers, 7);
  InitializeParameters(b.parameters(), config.layers, 7);
  InitializeParameters(c.parameters(), config.layers, 8);
  CHECK(SameBits(a.parameters().master(), b.parameters().master()));
  CHECK(!SameBits(a.parameters().master(), c.parameters().master()));
  for (const Parameter& p : a.parameters().all()) {
    INFO(p.name);
    double sum = 0, squares = 0;
    const double n = static_cast<double>(p.var.value.size());
    for (std::int64_t i = 0; i < p.var.value.size(); ++i) {
      sum += ValueAt(p.var.value, i);
      squares += ValueAt(p.var.value, i) * ValueAt(p.var.value, i);
    }
    if (p.var.value.rank() == 1) {
      CHECK(sum == (p.name.ends_with(".bias") ? 0.0 : n));
      continue;
    }
    const bool residual = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    const double deviation = residual ? 0.02 / 2.0 : 0.02;     // sqrt(2 layers) = 2
    CHECK(std::fabs(sum / n) < 5 * deviation / std::sqrt(n));  // five standard errors
    CHECK(std::sqrt(squares / n) == doctest::Approx(deviation).epsilon(5 / std::sqrt(2 * n)));
  }
}

// A model without q/k norm or without biases: what a config.json can say.
ModelConfig SavedConfig() {
  ModelConfig config = TextConfig();
  config.qkv_bias = true;
  config.attention = {{}, {3, 1}};
  return config;
}

// Writes model files and then the tensors again, changed.
template <class F>
void SaveChanged(const std::filesystem::path& dir, const Transformer& model, F&& change) {
  SaveModel(dir, model, TextTokenizer());
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.var.value});
  change(tensors);
  WriteSafetensors(dir / "model.safetensors", tensors);
}

void Remove(std::vector<NamedTensor>& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
}

TEST_CASE("a saved model loads with the same bits, the same config and the same tokenizer") {
  for (DType dtype : {DType::kF64, DType::kF32}) {
    for (bool tied : {false, true}) {
      const TempDirectory dir;
      ModelConfig config = SavedConfig();
      config.tied = tied;
      Transformer model(config, dtype, false);
      Randomize(model);
      SaveModel(dir / "model", model, TextTokenizer());
      const auto loaded = LoadModel(dir / "model", dtype, /*with_gradients=*/true);
      CHECK(SameBits(loaded->parameters().master(), model.parameters().master()));
      CHECK(loaded->parameters().flat_gradients().SameShape(model.parameters().master()));
      CHECK(ToJson(loaded->config()) == ToJson(config));
      CHECK(loaded->config().attention == config.attention);
      CHECK(Tokenizer::Load(dir / "model").json_text() == TextTokenizer().json_text());
      // Both dtypes hold the same numbers (Randomize), so the other one loads without a difference.
      const DType other = dtype == DType::kF64 ? DType::kF32 : DType::kF64;
      Transformer converted(config, other, false);
      Randomize(converted);
      CHECK(SameBits(LoadModel(dir / "model", other, false)->parameters().master(), converted.parameters().master()));
    }
  }
}

TEST_CASE("model files that do not fit their config are refused by the name of the tensor") {
  const TempDirectory dir;
  Transformer model(SavedConfig(), DType::kF32, false);
  Randomize(model);
  const auto load = [&] { LoadModel(dir / "m", DType::kF32, false); };
  const auto changed = [&](auto change) { SaveChanged(dir / "m", model, change); };

  changed([](auto& tensors) { Remove(tensors, "model.layers.1.mlp.up_proj.weight"); });
  CHECK_THROWS_WITH_AS(load(), Contains("has no tensor model.layers.1.mlp.up_proj.weight"), Error);

  changed([&](auto& tensors) { tensors.push_back({"model.layers.2.mlp.up_proj.weight", tensors[0].tensor}); });
  CHECK_THROWS_WITH_AS(load(), Contains("model.layers.2.mlp.up_proj.weight"), Error);

  changed([](auto& tensors) {
    for (NamedTensor& t : tensors) {
      if (t.name == "lm_head.weight") t.tensor = t.tensor.Rows(0, 3);
    }
  });
  CHECK_THROWS_WITH_AS(load(), Contains("lm_head.weight"), Error);

  changed([](auto&) {});
  CHECK_NOTHROW(load());
  std::filesystem::remove(dir / "m" / "model.safetensors");
  CHECK_THROWS_WITH_AS(load(), Contains("model.safetensors"), Error);
}

TEST_CASE("a tied model may carry a head that equals the embedding, and no other") {
  const TempDirectory dir;
  ModelConfig config = SavedConfig();
  config.tied = true;
  Transformer model(config, DType::kF32, false);
  Randomize(model);
  const Tensor embedding = model.parameters()["model.embed_tokens.weight"].value;
  SaveChanged(dir / "m", model, [&](auto& tensors) { tensors.push_back({"lm_head.weight", embedding}); });
  CHECK(SameBits(LoadModel(dir / "m", DType::kF32, false)->parameters().master(), model.parameters().master()));

  TestContext t;
  const Tensor head = CopyOf(t.arena, embedding).Reshape({embedding.dim(0), embedding.dim(1)});
  head.data<float>()[5] += 1;
  SaveChanged(dir / "m", model, [&](auto& tensors) { tensors.push_back({"lm_head.weight", head}); });
  CHECK_THROWS_WITH_AS(LoadModel(dir / "m", DType::kF32, false), Contains("differs from the embedding"), Error);
}

}  // namespace
}  // namespace swarr
