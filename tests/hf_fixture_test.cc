// SPDX-License-Identifier: Apache-2.0
// The library against transformers, on directories written by tools/make_model_fixtures.py (its head says what they
// hold).
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "autograd/gradient_check.h"
#include "model/decoder.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "tensor/ops.h"
#include "tensor/safetensors.h"
#include "test_models.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

// A share of the largest logit. transformers computes in f32, angles of RoPE included: at the last of 40 positions
// those are off by 40 units of 6e-8, and sums of some ten to hundred terms add a few such units in every layer. As
// config.json says, 3.3e-6 is the largest difference seen, and from f64 either side is off by up to 3e-6. A wrong
// formula, a key too many or a bias forgotten shows at 1e-2 and more.
constexpr double kBound = 1e-5;

struct Fixture {
  explicit Fixture(const fs::path& dir) : path(dir), file(dir / "expected.safetensors") {
    json = nlohmann::json::parse(file.metadata().at("fixture"));
  }
  Tokens Integers(const std::string& name) const {
    Tokens ids(static_cast<std::size_t>(file.shape(name).at(0)));
    file.CopyTo(name, Tensor(ids.data(), DType::kI32, {static_cast<std::int64_t>(ids.size())}));
    return ids;
  }

  fs::path path;
  SafetensorsFile file;
  nlohmann::json json;
};

std::vector<Fixture> Fixtures() {
  std::vector<Fixture> fixtures;
  for (const auto& entry : fs::directory_iterator(SWARR_TEST_DATA)) {
    if (entry.path().filename().string().starts_with("hf_")) fixtures.emplace_back(entry.path());
  }
  CHECK(fixtures.size() == 10);
  return fixtures;
}

std::vector<AttentionSpec> Specs(const nlohmann::json& windows) {
  std::vector<AttentionSpec> specs;
  for (const int window : windows) specs.push_back({window, 0});
  return specs;
}

Tensor Logits(Context& ctx, const Transformer& model, const Tokens& tokens) {
  const Tensor logits =
      ctx.arena->New(AccumulatorOf(model.dtype()), {static_cast<std::int64_t>(tokens.size()), model.config().vocab});
  LinearForward(ctx, logits, model.Forward(ctx, PackDocuments(*ctx.arena, {&tokens, 1})).value, model.head().value);
  return logits;
}

// Calls check(fixture, model, index) for every variant of every fixture, with the model in f32 set to its attention.
template <class F>
void ForEachVariant(F&& check) {
  for (const Fixture& fixture : Fixtures()) {
    INFO(fixture.path.filename().string());
    const auto model = LoadModel(fixture.path, DType::kF32, /*with_gradients=*/false);
    const auto& variants = fixture.json.at("variants");
    CHECK(model->config().attention == Specs(variants.at(0)));
    for (std::size_t i = 0; i < variants.size(); ++i) {
      INFO("variant " << i);
      model->SetAttention(Specs(variants[i]));
      check(fixture, *model, std::to_string(i));
    }
  }
}

TEST_CASE("logits of every family, full and windowed, are those of transformers") {
  ForEachVariant([](const Fixture& fixture, const Transformer& model, const std::string& variant) {
    TestContext t;
    const Tokens tokens = fixture.Integers("tokens");
    const Tensor expected = t.arena.New(DType::kF32, {static_cast<std::int64_t>(tokens.size()), model.config().vocab});
    fixture.file.CopyTo("logits." + variant, expected);
    CHECK(RelativeError(Logits(t.ctx, model, tokens), expected) <= kBound);
  });
}

TEST_CASE("greedy continuations of 64 tokens are those of transformers, with a cache and a window") {
  ForEachVariant([](const Fixture& fixture, const Transformer& model, const std::string& variant) {
    TestContext t;
    const Tokens tokens = fixture.Integers("tokens"), expected = fixture.Integers("continuation." + variant);
    REQUIRE(expected.size() == 64);
    Request request;
    request.prompt.assign(tokens.begin(), tokens.begin() + fixture.json.at("prompt").get<int>());
    request.max_new_tokens = 64;
    request.temperature = 0;
    Decoder decoder(model, /*slots=*/1, static_cast<int>(request.prompt.size()) + 64);
    CHECK(decoder.Generate(t.ctx, {&request, 1}).at(0).tokens == expected);
  });
}

}  // namespace
}  // namespace swarr
