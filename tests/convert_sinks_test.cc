// SPDX-License-Identifier: Apache-2.0
// Learned sinks that a conversion adds to a model, and those that a model's files hold.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "model/convert.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/weight_files.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "test_models.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::json;

const std::vector<AttentionSpec> kAttention = {{3, 1}, {}};

// A model of TextConfig's kind in one file, in this dtype.
struct OriginalModel {
  explicit OriginalModel(DType dtype = DType::kF32, const ModelConfig& config = TextConfig())
      : model(config, dtype, false) {
    Randomize(model);
    SaveModel(path, model, TextTokenizer());
    std::vector<NamedTensor> tensors;
    for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.var.value});
    WriteSafetensors(path / kWeightsFile, tensors);
  }
  const TempDirectory dir;
  const fs::path path = dir / "model", to = dir / "sinks";
  Transformer model;
};

std::vector<double> LogProbabilities(const Transformer& model) {
  TestContext t;
  const Pass pass = RunForward(t.ctx, model, RandomDocuments({9, 20}, model.config().vocab));
  std::vector<double> values;
  for (std::int64_t n = 0; n < pass.logp.size(); ++n) values.push_back(ValueAt(pass.logp, n));
  return values;
}

TEST_CASE("a conversion with learned sinks adds them with their value, and keeps every other weight and the dtype") {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
    const OriginalModel original(dtype);
    for (int time = 0; time < 2; ++time) ConvertModel(original.path, kAttention, original.to, {}, -0.75);
    const auto converted = LoadModel(original.to, dtype, false);
    CHECK(converted->config().learned_sinks);
    CHECK(converted->config().attention == kAttention);
    CHECK(WeightFiles(original.to).dtype() == (dtype == DType::kBF16 ? "bf16" : Name(dtype)));
    for (const Parameter& p : converted->parameters().all()) {
      INFO(p.name);
      if (p.name.ends_with(".sinks")) {
        CHECK(p.shape == std::vector<std::int64_t>{4});
        for (std::int64_t i = 0; i < 4; ++i) CHECK(ValueAt(p.var.value, i) == -0.75);
      } else {
        CHECK(SameBits(p.var.value, original.model.parameters()[p.name].value));
      }
    }
    CHECK(converted->parameters().count() == original.model.parameters().count() + 2 * 4);
  }
}

TEST_CASE("a model in shards gets its learned sinks as one more shard, and saves and loads with them") {
  const OriginalModel original;
  std::vector<NamedTensor> halves[2];
  json index = {{"metadata", json::object()}};
  for (const Parameter& p : original.model.parameters().all()) {
    const std::size_t half = p.name.starts_with("model.layers.1") ? 1 : 0;
    halves[half].push_back({p.name, p.var.value});
    index["weight_map"][p.name] = half == 0 ? "a.safetensors" : "b.safetensors";
  }
  fs::remove(original.path / kWeightsFile);
  WriteSafetensors(original.path / "a.safetensors", halves[0]);
  WriteSafetensors(original.path / "b.safetensors", halves[1]);
  WriteFileAtomically(original.path / kIndexFile, index.dump());
  ConvertModel(original.path, kAttention, original.to, {}, 0.5);
  for (const char* name : {"a.safetensors", "b.safetensors"}) {
    CHECK(ReadFile(original.to / name) == ReadFile(original.path / name));
  }
  const auto converted = LoadModel(original.to, DType::kF32, false);
  CHECK(ValueAt(converted->parameters()["model.layers.1.self_attn.sinks"].value, 3) == 0.5);
  // A later conversion keeps them, and so does a model that is written.
  ConvertModel(original.to, {{5, 0}, {5, 0}}, original.dir / "again");
  const auto again = LoadModel(original.dir / "again", DType::kF32, false);
  CHECK(again->config().learned_sinks);
  CHECK(SameBits(again->parameters().master(), converted->parameters().master()));
  SaveModel(original.dir / "saved", *converted, TextTokenizer());
  const auto saved = LoadModel(original.dir / "saved", DType::kF32, false);
  CHECK(SameBits(saved->parameters().master(), converted->parameters().master()));
  CHECK(LogProbabilities(*saved) == LogProbabilities(*converted));
}

TEST_CASE("a very negative learned sink leaves a converted model as it is, and one of 0 changes it") {
  const OriginalModel original;
  ConvertModel(original.path, kAttention, original.dir / "window");
  ConvertModel(original.path, kAttention, original.dir / "none", {}, -1000);
  ConvertModel(original.path, kAttention, original.dir / "zero", {}, 0);
  const auto logp = [&](const char* name) {
    return LogProbabilities(*LoadModel(original.dir / name, DType::kF32, false));
  };
  CHECK(logp("none") == logp("window"));
  CHECK(logp("zero") != logp("window"));
}

TEST_CASE("learned sinks are refused for a second time, where no family has them, and where they don't match heads") {
  const OriginalModel original;
  ConvertModel(original.path, kAttention, original.to, {}, 0);
  CHECK_THROWS_WITH_AS(ConvertModel(original.to, kAttention, original.dir / "twice", {}, 0),
                       Contains("has learned sinks already, which stay as they are"), Error);
  ModelConfig qwen = TextConfig();
  qwen.qk_norm = true;
  const OriginalModel normed(DType::kF32, qwen);
  CHECK_THROWS_WITH_AS(ConvertModel(normed.path, kAttention, normed.to, {}, 0),
                       Contains("has learned sinks beside q/k norm or q/k/v biases"), Error);
  CHECK(!fs::exists(normed.to));
  Arena arena;
  WriteSafetensors(original.to / "model-sinks.safetensors",
                   {{"model.layers.0.self_attn.sinks", arena.NewZero(DType::kF32, {3})},
                    {"model.layers.1.self_attn.sinks", arena.NewZero(DType::kF32, {4})}});
  CHECK_THROWS_WITH_AS(LoadModel(original.to, DType::kF32, false),
                       Contains("the tensor model.layers.0.self_attn.sinks is [3] where config.json asks for [4]"),
                       Error);
}

}  // namespace
}  // namespace swarr
