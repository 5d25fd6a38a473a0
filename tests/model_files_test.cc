// SPDX-License-Identifier: Apache-2.0
#include "model/model_files.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "base/files.h"
#include "model/hf_config.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "test_models.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;

// A model's weights as a file that a test may spoil before it is loaded.
struct SavedModel {
  explicit SavedModel(const ModelConfig& config, DType dtype = DType::kF32) : model(config, dtype, false) {
    Randomize(model);
    SaveModel(path(), model, TextTokenizer());
    for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.var.value});
  }
  fs::path path() const { return dir / "model"; }
  NamedTensor& Find(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) { return t.name == name; });
  }
  void WriteWeights() const { WriteSafetensors(path() / "model.safetensors", tensors); }

  const TempDirectory dir;
  Arena arena;
  Transformer model;
  std::vector<NamedTensor> tensors;
};

ModelConfig Tied() {
  ModelConfig config = TextConfig();
  config.tied = true;
  return config;
}

// Not every combination has a spelling in config.json: config_test.cc covers which.
std::vector<ModelConfig> WritableConfigs() {
  ModelConfig norm = TextConfig(), bias = TextConfig(), windowed = Tied(), sinks = TextConfig();
  norm.qk_norm = true;
  bias.qkv_bias = true;
  windowed.attention = {{3, 2}, {3, 2}};
  sinks.attention = {{3, 2}, {}};
  sinks.learned_sinks = true;
  return {TextConfig(), norm, bias, windowed, sinks};
}

TEST_CASE("a saved model comes back with the same weights, attention and tokenizer, bit for bit") {
  for (const ModelConfig& config : WritableConfigs()) {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      const SavedModel saved(config, dtype);
      const auto loaded = LoadModel(saved.path(), dtype, /*with_gradients=*/true);
      CHECK(SameBits(loaded->parameters().master(), saved.model.parameters().master()));
      CHECK(loaded->parameters().flat_gradients().size() == loaded->parameters().count());
      CHECK(ToJson(loaded->config()) == ToJson(config));
      for (std::size_t i = 0; i < config.attention.size(); ++i) {
        CHECK(loaded->config().attention[i].window == config.attention[i].window);
        CHECK(loaded->config().attention[i].sinks == config.attention[i].sinks);
      }
      CHECK(Tokenizer::Load(saved.path()).json_text() == TextTokenizer().json_text());
      SaveModel(saved.dir / "again", *loaded, TextTokenizer());
      for (const std::string& name : ModelFileNames()) {
        CHECK(ReadFile(saved.dir / "again" / name) == ReadFile(saved.path() / name));
      }
    }
  }
}

TEST_CASE("weights saved in f32 are the same numbers in f64, and go back without a change") {
  const SavedModel saved(TextConfig(), DType::kF32);
  const auto wide = LoadModel(saved.path(), DType::kF64, false);
  const Tensor narrow = saved.model.parameters().master(), widened = wide->parameters().master();
  for (std::int64_t i = 0; i < narrow.size(); ++i) {
    CHECK(widened.data<double>()[i] == static_cast<double>(narrow.data<float>()[i]));
  }
  SaveModel(saved.dir / "wide", *wide, TextTokenizer());
  CHECK(SafetensorsFile(saved.dir / "wide" / "model.safetensors").dtype("model.norm.weight") == DType::kF64);
  CHECK(SameBits(LoadModel(saved.dir / "wide", DType::kF32, false)->parameters().master(), narrow));
}

TEST_CASE("weights saved in f64 are rounded to the nearest f32") {
  SavedModel saved(TextConfig(), DType::kF64);
  double* weights = saved.model.parameters()["model.norm.weight"].value.data<double>();
  weights[0] = 1.0 + 0x1p-25;            // below half of f32's unit after 1
  weights[1] = 1.0 + 0x1p-24 + 0x1p-40;  // above it
  saved.WriteWeights();
  const auto loaded = LoadModel(saved.path(), DType::kF32, false);
  const float* rounded = loaded->parameters()["model.norm.weight"].value.data<float>();
  CHECK(rounded[0] == 1.0F);
  CHECK(rounded[1] == 1.0F + 0x1p-23F);
}

TEST_CASE("a missing, an extra and a misshapen tensor are refused by name") {
  struct Case {
    const char* name;
    std::function<void(SavedModel&)> spoil;
    const char* sentence;
  };
  const std::vector<Case> cases = {
      {"missing",
       [](SavedModel& m) {
         m.Find("model.layers.1.mlp.up_proj.weight") = m.tensors.back();
         m.tensors.pop_back();
       },
       "model.safetensors has no tensor model.layers.1.mlp.up_proj.weight, which config.json asks for"},
      {"extra",
       [](SavedModel& m) {
         m.tensors.push_back({"model.layers.1.self_attn.q_norm.weight", m.arena.NewZero(DType::kF32, {4})});
       },
       "holds a tensor model.layers.1.self_attn.q_norm.weight that the model of config.json does not have"},
      {"transposed",
       [](SavedModel& m) {
         Tensor& t = m.Find("model.layers.0.mlp.down_proj.weight").tensor;
         t = t.Reshape({t.dim(1), t.dim(0)});
       },
       "model.layers.0.mlp.down_proj.weight"},
      {"integers", [](SavedModel& m) { m.Find("model.norm.weight").tensor = m.arena.NewZero(DType::kI32, {7}); },
       "i32"},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    SavedModel saved(TextConfig());
    c.spoil(saved);
    saved.WriteWeights();
    CHECK_THROWS_WITH_AS(LoadModel(saved.path(), DType::kF32, false), Contains(c.sentence), Error);
    CHECK_THROWS_AS(LoadModel(saved.path(), DType::kF64, false), Error);
  }
}

TEST_CASE("a tied model may carry its head, but only the embedding's equal") {
  SavedModel saved(Tied());
  CHECK(!SafetensorsFile(saved.path() / "model.safetensors").Contains("lm_head.weight"));
  const Tensor head = CopyOf(saved.arena, saved.Find("model.embed_tokens.weight").tensor);
  saved.tensors.push_back({"lm_head.weight", head});
  saved.WriteWeights();
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const auto loaded = LoadModel(saved.path(), dtype, false);
    CHECK(loaded->head().value.raw() == loaded->parameters()["model.embed_tokens.weight"].value.raw());
  }
  head.data<float>()[head.size() - 1] += 1;
  saved.WriteWeights();
  CHECK_THROWS_WITH_AS(LoadModel(saved.path(), DType::kF32, false),
                       Contains("lm_head.weight differs from the embedding, but config.json ties them"), Error);
}

TEST_CASE("an untied model without a head is refused") {
  SavedModel saved(TextConfig());
  REQUIRE(saved.tensors.back().name == "lm_head.weight");
  saved.tensors.pop_back();
  saved.WriteWeights();
  CHECK_THROWS_WITH_AS(LoadModel(saved.path(), DType::kF32, false), Contains("has no tensor lm_head.weight"), Error);
}

TEST_CASE("a directory without one of its files is refused, and nobody's other files are replaced") {
  const SavedModel saved(TextConfig());
  for (const char* name : {"config.json", "model.safetensors"}) {
    INFO(name);
    const SavedModel broken(TextConfig());
    fs::remove(broken.path() / name);
    CHECK_THROWS_WITH_AS(LoadModel(broken.path(), DType::kF32, false), Contains(name), Error);
  }
  WriteFileAtomically(saved.path() / "notes.txt", "mine");
  CHECK_THROWS_WITH_AS(SaveModel(saved.path(), saved.model, TextTokenizer()), Contains("notes.txt"), Error);
  CHECK(ReadFile(saved.path() / "notes.txt") == "mine");
}

}  // namespace
}  // namespace swarr
