// SPDX-License-Identifier: Apache-2.0
// Weights in shards and in other dtypes than the model's, and everything that can be wrong with them.
#include "model/weight_files.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "model/convert.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "test_models.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::json;

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// A model directory whose weights lie in two shards, alternating, and that a test may spoil.
struct ShardedModel {
  explicit ShardedModel(const ModelConfig& config = TextConfig()) : model(config, DType::kF32, false) {
    Randomize(model);
    SaveModel(path, model, TextTokenizer());
    fs::remove(path / "model.safetensors");
    for (const Parameter& p : model.parameters().all()) {
      const bool second = shards[0].size() > shards[1].size();
      shards[second ? 1 : 0].push_back({p.name, p.var.value});
      index["weight_map"][p.name] = second ? kSecond : kFirst;
    }
    index["metadata"]["total_size"] = 12;  // a lie that nobody heeds
    Write();
  }
  void Write() const {
    WriteSafetensors(path / kFirst, shards[0]);
    WriteSafetensors(path / kSecond, shards[1]);
    WriteFileAtomically(path / kIndex, index.dump());
  }
  void CheckRefused(const std::string& sentence) const {
    CHECK_THROWS_WITH_AS(LoadModel(path, DType::kF32, false), Contains(sentence.c_str()), Error);
  }

  const TempDirectory dir;
  const fs::path path = dir / "model";
  Arena arena;
  Transformer model;
  std::vector<NamedTensor> shards[2];
  json index;
};

TEST_CASE("a model in shards is the model in one file, bit for bit") {
  const ShardedModel sharded;
  REQUIRE(sharded.shards[1].size() > 3);
  const auto loaded = LoadModel(sharded.path, DType::kF32, false);
  CHECK(SameBits(loaded->parameters().master(), sharded.model.parameters().master()));
  // Where both forms are there, the one file is the model, as for transformers.
  WriteFileAtomically(sharded.path / "model.safetensors", "none");
  CHECK_THROWS_WITH_AS(LoadModel(sharded.path, DType::kF32, false), Contains("/model.safetensors: 4 bytes"), Error);
}

TEST_CASE("a shard's name that leaves the directory, or is no file of weights, is refused") {
  for (const char* name : {"../model.safetensors", "/etc/model.safetensors", "a/model.safetensors", "..", ".",
                           ".safetensors", "", "..\\model.safetensors", "config.json", "model.safetensors/"}) {
    INFO(name);
    ShardedModel m;
    m.index["weight_map"]["model.norm.weight"] = name;
    m.Write();
    m.CheckRefused("named without a path");
  }
  ShardedModel m;
  m.index["weight_map"]["model.norm.weight"] = std::string("a\0.safetensors", 14);
  m.Write();
  m.CheckRefused("named without a path");
}

TEST_CASE("an index that is not one, or contradicts its shards, is refused by the name of the tensor") {
  const auto refused = [](const auto& change, const char* sentence) {
    ShardedModel m;
    change(m);
    m.Write();
    m.CheckRefused(sentence);
  };
  refused([](ShardedModel& m) { m.index = json::array(); }, "index.json has no weight_map");
  refused([](ShardedModel& m) { m.index.erase("weight_map"); }, "index.json has no weight_map");
  refused([](ShardedModel& m) { m.index["weight_map"] = json::object(); }, "index.json has no weight_map");
  refused([](ShardedModel& m) { m.index["weight_map"]["model.norm.weight"] = 1; },
          "weight_map gives 1 for model.norm.weight");
  refused([](ShardedModel& m) { m.index["weight_map"].erase("model.norm.weight"); },
          "does not list the tensor model.norm.weight, which model-0000");
  refused([](ShardedModel& m) { m.index["weight_map"]["model.extra.weight"] = kFirst; },
          "says that model-00001-of-00002.safetensors holds the tensor model.extra.weight, but it does not");
  refused([](ShardedModel& m) { m.shards[1].push_back(m.shards[0][0]); },
          "says that model-00001-of-00002.safetensors holds the tensor model.embed_tokens.weight, but "
          "model-00002-of-00002.safetensors does");
  ShardedModel m;
  WriteFileAtomically(m.path / kIndex, R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})");
  m.CheckRefused("the key 'a' occurs twice");
  WriteFileAtomically(m.path / kIndex, "{");
  m.CheckRefused("no valid JSON");
}

TEST_CASE("a damaged and a missing shard are refused by their names") {
  const ShardedModel m;
  const std::string whole = ReadFile(m.path / kSecond);
  WriteFileAtomically(m.path / kSecond, whole.substr(0, whole.size() - 1));
  m.CheckRefused(std::string(kSecond) + ": the tensors need");
  fs::remove(m.path / kSecond);
  m.CheckRefused(std::string(kSecond) + ": No such file");
}

TEST_CASE("a directory without safetensors says what it needs") {
  const ShardedModel m;
  fs::remove(m.path / kIndex);
  m.CheckRefused("holds neither model.safetensors nor model.safetensors.index.json");
}

TEST_CASE("halves become the f32 of the same value, all 65536 of them") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = HalfToFloat(static_cast<std::uint16_t>(bits));
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const double fraction = bits & 1023, sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    // The definition in IEEE 754, in f64, where all of it is exact.
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    const bool right = exponent < 31   ? value == sign * magnitude && std::signbit(value) == (sign < 0)
                       : fraction == 0 ? value == static_cast<float>(sign) * std::numeric_limits<float>::infinity()
                                       : std::isnan(value);
    if (!right) FAIL("half " << bits << " became " << value);
  }
}

// A safetensors file with one F16 tensor of these bits.
std::string HalfFile(const std::string& name, const std::vector<std::uint16_t>& bits) {
  const std::size_t bytes = 2 * bits.size();
  std::string header = json{{name, {{"dtype", "F16"}, {"shape", {bits.size()}}, {"data_offsets", {0, bytes}}}}}.dump();
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header +
         std::string(reinterpret_cast<const char*>(bits.data()), bytes);
}

TEST_CASE("tensors are read in parts and as another dtype, without a value lost at a block's edge") {
  const TempDirectory dir;
  std::vector<std::uint16_t> bits;
  for (std::uint32_t i = 0; i < 70'000; ++i) bits.push_back(static_cast<std::uint16_t>(i % 0x7C00));  // two blocks
  WriteFileAtomically(dir / "f", HalfFile("t", bits));
  const SafetensorsFile file(dir / "f");
  CHECK(file.IsFloating("t"));
  CHECK(file.stored_dtype("t") == "F16");
  CHECK_THROWS_WITH_AS(file.dtype("t"), Contains("F16"), Error);
  for (const std::int64_t first : {0, 1, 4'464}) {
    Arena arena;
    const Tensor f32 = arena.New(DType::kF32, {static_cast<std::int64_t>(bits.size()) - first});
    const Tensor f64 = arena.New(DType::kF64, {f32.size()});
    file.ReadAs("t", first, f32);
    file.ReadAs("t", first, f64);
    bool same = true;
    for (std::int64_t i = 0; i < f32.size(); ++i) {
      const float expected = HalfToFloat(bits[static_cast<std::size_t>(first + i)]);
      same = same && f32.data<float>()[i] == expected && f64.data<double>()[i] == static_cast<double>(expected);
    }
    CHECK(same);
    CHECK_THROWS_WITH_AS(file.ReadAs("t", first + 1, f32), Contains("has no elements"), Error);
  }
}

TEST_CASE("weights that are NaN or infinite are refused by the name of the tensor, when loaded and when converted") {
  const char* kDown = "model.layers.1.mlp.down_proj.weight";
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const ShardedModel m;
  const auto spoil = [&](const char* name, std::int64_t at, float value) {
    m.model.parameters()[name].value.data<float>()[at] = value;
    m.Write();
  };
  const auto refused = [&](const std::string& sentence) {
    m.CheckRefused(sentence);
    CHECK_THROWS_WITH_AS(ConvertModel(m.path, {{3, 0}, {3, 0}}, m.dir / "swa"), Contains(sentence.c_str()), Error);
    CHECK(!fs::exists(m.dir / "swa"));
  };
  spoil(kDown, 0, nan);
  refused("1 value of the tensor model.layers.1.mlp.down_proj.weight is NaN or infinite");
  spoil(kDown, m.model.parameters()[kDown].value.size() - 1, -infinity);
  refused("2 values of the tensor model.layers.1.mlp.down_proj.weight are NaN or infinite");
  CHECK(WeightFiles(m.path).CountNonFinite(TextConfig()) == std::map<std::string, std::int64_t>{{kDown, 2}});
  spoil("model.norm.weight", 1, infinity);
  CHECK_THROWS_WITH_AS(WeightFiles(m.path).CheckFinite(TextConfig()), Contains("(and 1 tensor more); fetch or"), Error);
}

TEST_CASE("a value that only a wider dtype can hold is refused, not read as infinite") {
  const ShardedModel m;
  const Transformer model(TextConfig(), DType::kF64, false);
  Randomize(model);
  model.parameters()["model.norm.weight"].value.data<double>()[2] = 1e300;
  SaveModel(m.dir / "wide", model, TextTokenizer());
  CHECK_NOTHROW(LoadModel(m.dir / "wide", DType::kF64, false));
  CHECK_THROWS_WITH_AS(LoadModel(m.dir / "wide", DType::kF32, false),
                       Contains("1 value of the tensor model.norm.weight is NaN or infinite"), Error);
  model.parameters()["model.norm.weight"].value.data<double>()[2] = 3.4e38;  // bf16 ends at 3.3895e38
  SaveModel(m.dir / "less_wide", model, TextTokenizer());
  CHECK_NOTHROW(LoadModel(m.dir / "less_wide", DType::kF32, false));
  CHECK_THROWS_WITH_AS(LoadModel(m.dir / "less_wide", DType::kBF16, false),
                       Contains("1 value of the tensor model.norm.weight is NaN or infinite in bf16; fetch"), Error);
}

TEST_CASE("a config that lies about sizes is refused before its model is allocated") {
  const ShardedModel m;
  const auto refused = [&](const char* key, const json& value, const char* sentence) {
    json config = json::parse(ReadFile(m.path / "config.json"));
    const std::string original = config.dump();
    config[key] = value;
    WriteFileAtomically(m.path / "config.json", config.dump());
    m.CheckRefused(sentence);
    WriteFileAtomically(m.path / "config.json", original);
  };
  refused("vocab_size", 1 << 24, "the tensor model.embed_tokens.weight is [");
  refused("intermediate_size", 1 << 20, "where config.json asks for [1048576,");
  refused("num_hidden_layers", 2147483647, "num_hidden_layers is 2147483647; at most 10000");
  refused("num_hidden_layers", 3, "has no tensor model.layers.2.input_layernorm.weight");
  refused("max_position_embeddings", 2147483647, "max_position_embeddings is 2147483647; at most");
}

TEST_CASE("rotary frequencies that old files carry are left alone") {
  ShardedModel m;
  const Tensor frequencies = m.arena.NewZero(DType::kF32, {2});
  m.shards[0].push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", frequencies});
  m.index["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] = kFirst;
  m.Write();
  CHECK_NOTHROW(LoadModel(m.path, DType::kF32, false));
}

TEST_CASE("a tokenizer with more ids than the model's vocabulary is refused; fewer are fine") {
  ModelConfig config = TextConfig();
  const TempDirectory dir;
  WriteFileAtomically(dir / "tokenizer.json", TextTokenizer().json_text());
  config.vocab = TextTokenizer().vocab_size();
  CHECK_NOTHROW(LoadTokenizer(dir.path(), config));
  config.vocab += 3;
  CHECK_NOTHROW(LoadTokenizer(dir.path(), config));
  config.vocab = TextTokenizer().vocab_size() - 1;
  CHECK_THROWS_WITH_AS(LoadTokenizer(dir.path(), config),
                       Contains("has ids up to 5, but config.json has a vocab_size of 5"), Error);
}

TEST_CASE("a conversion copies shards and side files byte for byte, also with a tokenizer that can't be read here") {
  const ShardedModel m;
  WriteFileAtomically(m.path / "tokenizer.json", R"({"model": {"type": "Unigram"}})");
  WriteFileAtomically(m.path / "generation_config.json", R"({"eos_token_id": [2, 0]})");
  WriteFileAtomically(m.path / "chat_template.jinja", "{{ messages }}");
  WriteFileAtomically(m.path / "README.md", "about another model");
  for (int time = 0; time < 2; ++time) {  // the second one replaces the first
    ConvertModel(m.path, {{3, 0}, {3, 0}}, m.dir / "swa");
    for (const char* name :
         {kFirst, kSecond, kIndex, "tokenizer.json", "generation_config.json", "chat_template.jinja"}) {
      INFO(name);
      CHECK(ReadFile(m.dir / "swa" / name) == ReadFile(m.path / name));
    }
    CHECK(!fs::exists(m.dir / "swa" / "README.md"));
    CHECK(!fs::exists(m.dir / "swa" / "model.safetensors"));
    const auto converted = LoadModel(m.dir / "swa", DType::kF32, false);
    CHECK(SameBits(converted->parameters().master(), m.model.parameters().master()));
    CHECK(converted->config().attention == std::vector<AttentionSpec>{{3, 0}, {3, 0}});
  }
}

TEST_CASE("a conversion keeps the dtype of the weights, and config.json says which it is") {
  const ShardedModel m;
  const std::pair<DType, const char*> cases[] = {
      {DType::kBF16, "bfloat16"}, {DType::kF32, "float32"}, {DType::kF64, "float64"}};
  for (const auto& [dtype, name] : cases) {
    const Transformer model(TextConfig(), dtype, false);
    Randomize(model);
    std::vector<NamedTensor> tensors;
    for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.var.value});
    WriteSafetensors(m.path / "model.safetensors", tensors);
    ConvertModel(m.path, {{3, 0}, {}}, m.dir / name);
    const json config = json::parse(ReadFile(m.dir / name / "config.json"));
    CHECK(config.at("dtype") == name);
    CHECK(config.at("torch_dtype") == name);
    CHECK(ReadFile(m.dir / name / "model.safetensors") == ReadFile(m.path / "model.safetensors"));
  }
}

}  // namespace
}  // namespace swarr
