// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "config_json.h"
#include "model/hf_config.h"
#include "temp_directory.h"

namespace swarr {
namespace {

using doctest::Contains;
using nlohmann::ordered_json;

using Specs = std::vector<AttentionSpec>;

ModelConfig Parse(const ordered_json& json) { return ParseModelConfig(json, "c"); }

Specs AttentionOf(const std::string& model_type, const ordered_json& changes) {
  return Parse(With(Fields(model_type), changes)).attention;
}

constexpr AttentionSpec kFull{};
constexpr AttentionSpec kWindow{8, 0};
const Specs kAllFull(4, kFull);
const Specs kAllWindow(4, kWindow);
const ordered_json kMixedTypes = {"full_attention", "sliding_attention", "full_attention", "sliding_attention"};
const Specs kMixed = {kFull, kWindow, kFull, kWindow};

// A valid model with this attention.
ModelConfig Model(const Specs& attention, bool qk_norm = false, bool qkv_bias = false) {
  ModelConfig c = Parse(Fields("mistral"));
  c.attention = attention;
  c.qk_norm = qk_norm;
  c.qkv_bias = qkv_bias;
  return c;
}

TEST_CASE("every field of a config.json arrives, and unknown ones are kept") {
  const ModelConfig c = Parse(With(Fields("mistral"), {{"initializer_range", 0.02}, {"torch_dtype", "bfloat16"}}));
  CHECK(c.layers == 4);
  CHECK(c.hidden == 48);
  CHECK(c.heads == 6);
  CHECK(c.kv_heads == 2);
  CHECK(c.head_dim == 16);
  CHECK(c.ffn == 100);
  CHECK(c.vocab == 30);
  CHECK(c.max_positions == 512);
  CHECK(c.rms_eps == 1e-5);
  CHECK(c.rope_theta == 5000.0);
  CHECK(c.tied);
  CHECK(c.eos_id == 2);
  CHECK(c.attention == kAllFull);
  CHECK(c.extra == R"({"initializer_range":0.02})");
}

TEST_CASE("the model type decides on q/k norm and biases") {
  for (const char* type : {"llama", "mistral", "ministral", "qwen2", "qwen3"}) {
    const ModelConfig c = Parse(Fields(type));
    CHECK(c.qk_norm == (std::string(type) == "qwen3"));
    CHECK(c.qkv_bias == (std::string(type) == "qwen2"));
  }
  CHECK_THROWS_WITH_AS(Parse(Fields("gemma3_text")), Contains("c: model_type 'gemma3_text' is not supported"), Error);
}

TEST_CASE("a Mistral is windowed by sliding_window in all layers, or by layer_types in some") {
  CHECK(AttentionOf("mistral", {{"sliding_window", 8}}) == kAllWindow);
  CHECK(AttentionOf("mistral", {{"sliding_window", nullptr}}) == kAllFull);
  CHECK(AttentionOf("mistral", {{"sliding_window", 8}, {"max_window_layers", 3}}) == kAllWindow);
  CHECK(AttentionOf("mistral", {{"sliding_window", 8}, {"layer_types", kMixedTypes}}) == kMixed);
  CHECK(AttentionOf("ministral", {{"sliding_window", 8}, {"layer_types", kMixedTypes}}) == kMixed);
  CHECK(Parse(Without(Fields("mistral"), "sliding_window")).attention == Specs(4, AttentionSpec{4096, 0}));
}

TEST_CASE("a Qwen is windowed only where use_sliding_window says so, from max_window_layers on or by layer_types") {
  for (const char* type : {"qwen2", "qwen3"}) {
    const ordered_json on = {{"use_sliding_window", true}, {"sliding_window", 8}};
    CHECK(AttentionOf(type, {{"sliding_window", 8}, {"max_window_layers", 0}}) == kAllFull);
    CHECK(AttentionOf(type, With(on, {{"max_window_layers", 0}})) == kAllWindow);
    CHECK(AttentionOf(type, With(on, {{"max_window_layers", 3}})) == Specs{kFull, kFull, kFull, kWindow});
    CHECK(AttentionOf(type, With(on, {{"max_window_layers", 4}})) == kAllFull);
    CHECK(AttentionOf(type, on) == kAllFull);  // the class default of max_window_layers is 28
    CHECK(AttentionOf(type, With(on, {{"max_window_layers", 4}, {"layer_types", kMixedTypes}})) == kMixed);
  }
}

TEST_CASE("sinks belong to the windowed layers") {
  const ordered_json json = {{"sliding_window", 8}, {"layer_types", kMixedTypes}, {"swarr_attention_sinks", 3}};
  CHECK(AttentionOf("mistral", json) == Specs{kFull, {8, 3}, kFull, {8, 3}});
  const ordered_json prompt = With(json, {{"swarr_attention_sinks", "prompt"}});
  CHECK(AttentionOf("mistral", prompt) == Specs{kFull, {8, 0, true}, kFull, {8, 0, true}});
}

// What makes a GraniteSWA of 16 numbers a head a model without Granite's factors.
const ordered_json kNeutral = {{"attention_multiplier", 0.25}};

TEST_CASE("a GraniteSWA has learned sinks, and is windowed by layer_types or in all but every fourth layer") {
  const ModelConfig c = Parse(With(Fields("granite_swa"), With(kNeutral, {{"sliding_window", 8}})));
  CHECK(c.learned_sinks);
  CHECK(c.attention == Specs{kFull, kWindow, kWindow, kWindow});
  CHECK_FALSE(Parse(Fields("mistral")).learned_sinks);
  const auto attention_of = [](const ordered_json& changes) {
    return AttentionOf("granite_swa", With(kNeutral, changes));
  };
  CHECK(attention_of({{"sliding_window", 8}, {"layer_types", kMixedTypes}}) == kMixed);
  CHECK(attention_of({{"sliding_window", 8}, {"layer_types", ordered_json(4, "full_attention")}}) == kAllFull);
  CHECK(attention_of({{"sliding_window", 8}, {"layer_types", kMixedTypes}, {"swarr_attention_sinks", 3}}) ==
        Specs{kFull, {8, 3}, kFull, {8, 3}});
  // transformers' class defaults.
  ordered_json sparse = With(Fields("granite_swa"), kNeutral);
  for (const char* key : {"sliding_window", "num_key_value_heads", "tie_word_embeddings"}) sparse.erase(key);
  sparse["num_attention_heads"] = 8;
  CHECK(Parse(sparse).attention == Specs{kFull, {128, 0}, {128, 0}, {128, 0}});
  CHECK(Parse(sparse).kv_heads == 4);
  CHECK(Parse(sparse).tied);
}

TEST_CASE("factors of a GraniteSWA that would change its numbers are refused by name, and so is gpt-oss") {
  const auto refused = [](const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields("granite_swa"), changes)), Contains(sentence), Error);
  };
  refused({}, "c: attention_multiplier is 1, which is not supported; it must be head_dim^-0.5 = 0.25");
  for (const char* key : {"embedding_multiplier", "residual_multiplier", "logits_scaling"}) {
    refused(With(kNeutral, {{key, 12.0}}), Concat("c: ", key, " is 12, which is not supported; it must be 1").c_str());
    CHECK_NOTHROW(Parse(With(Fields("granite_swa"), With(kNeutral, {{key, 1}}))));
  }
  refused(With(kNeutral, {{"layer_rope_theta", {5000.0, 0, 5000.0, 5000.0}}}),
          "c: layer_rope_theta differs from rope_theta 5000 in some layer");
  CHECK_NOTHROW(Parse(With(Fields("granite_swa"), With(kNeutral, {{"layer_rope_theta", ordered_json(4, 5000)}}))));
  CHECK_THROWS_WITH_AS(Parse(Fields("gpt_oss")), Contains("c: model_type 'gpt_oss' is not supported"), Error);
}

TEST_CASE("fields about the window that contradict each other are refused") {
  const auto refused = [](const char* type, const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(AttentionOf(type, changes), Contains(sentence), Error);
  };
  refused("mistral", {{"sliding_window", 0}}, "c: sliding_window must be at least 1, or null");
  refused("mistral", {{"sliding_window", -4}}, "c: sliding_window is -4");
  refused("mistral", {{"layer_types", kMixedTypes}}, "layer_types asks for sliding_attention, but");
  refused("mistral", {{"sliding_window", 8}, {"use_sliding_window", false}}, "which model_type mistral does not heed");
  refused("qwen3", {{"sliding_window", 8}, {"layer_types", kMixedTypes}},
          "layer_types asks for sliding_attention, but");
  for (const char* type : {"qwen2", "qwen3"}) {
    refused(type, {{"use_sliding_window", true}, {"max_window_layers", 0}},
            "c: use_sliding_window is true, but sliding_window is null");
  }
  refused("mistral", {{"sliding_window", 8}, {"layer_types", {"full_attention"}}}, "a list of 4 names");
  refused("qwen3", {{"layer_types", {"full_attention", "chunked_attention", "full_attention", "full_attention"}}},
          "layer_types holds \"chunked_attention\"");
  refused("mistral", {{"swarr_attention_sinks", 3}}, "swarr_attention_sinks is 3, but no layer has a window");
  refused("llama", {{"sliding_window", 8}}, "model_type llama has no sliding_window");
  refused("llama", {{"layer_types", kMixedTypes}}, "layer_types asks for sliding_attention, but");
}

TEST_CASE("what the model can't compute is refused by its name") {
  const auto refused = [](const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields("llama"), changes)), Contains(sentence), Error);
  };
  refused({{"hidden_act", "gelu"}}, "c: hidden_act 'gelu' is not supported; it must be silu");
  refused({{"attention_bias", true}}, "c: attention_bias is not supported");
  for (const char* type : {"qwen3", "mistral"}) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields(type), {{"attention_bias", true}})), "c: attention_bias is not supported",
                         Error);
  }
  for (const bool bias : {true, false}) CHECK(Parse(With(Fields("qwen2"), {{"attention_bias", bias}})).qkv_bias);
  refused({{"mlp_bias", true}}, "c: mlp_bias is not supported");
  refused({{"quantization_config", {{"bits", 4}}}}, "c: quantized weights are not supported");
}

TEST_CASE("settings that change nothing are read: nulls, switches that are off, other names of silu") {
  const auto same = [](const char* type, const ordered_json& changes) {
    INFO(changes.dump());
    ModelConfig plain = Parse(Fields(type)), c = Parse(With(Fields(type), changes));
    plain.extra = c.extra = "{}";
    CHECK(ToJson(c) == ToJson(plain));
  };
  for (const ordered_json& changes : std::vector<ordered_json>{
           {{"attention_bias", false}, {"mlp_bias", false}, {"attention_dropout", 0.0}, {"hidden_dropout", 0.0}},
           {{"attention_bias", nullptr}, {"mlp_bias", nullptr}, {"attention_dropout", nullptr}},
           {{"hidden_act", "swish"}},
           {{"hidden_act", nullptr}},
           {{"quantization_config", nullptr}},
           {{"quantization_config", ordered_json::object()}},
           {{"logit_scale", 1.0}, {"logits_scaling", 1.0}, {"embedding_multiplier", 1}, {"residual_multiplier", 1.0}},
           {{"attn_logit_softcapping", nullptr}, {"final_logit_softcapping", nullptr}, {"pretraining_tp", 1}},
           {{"partial_rotary_factor", 1.0}},
           {{"layer_types", nullptr}, {"swarr_attention_sinks", 0}, {"sliding_window", nullptr}},
           {{"layer_types", ordered_json(4, "full_attention")}}}) {
    for (const char* type : {"llama", "mistral", "qwen2", "qwen3"}) same(type, changes);
  }
  same("llama", {{"sliding_window", 8}, {"use_sliding_window", false}});
  same("llama", {{"sliding_window", 512}});  // as long as the context
  same("qwen3", {{"sliding_window", 8}, {"use_sliding_window", false}, {"max_window_layers", 0}});
}

TEST_CASE("fields that contradict each other are refused with both values") {
  const auto refused = [](const char* type, const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields(type), changes)), Contains(sentence), Error);
  };
  refused("mistral", {{"sliding_window", 8}, {"layer_types", ordered_json(4, "full_attention")}},
          "c: sliding_window is 8, but layer_types names full_attention for every layer");
  refused("mistral", {{"layer_types", kMixedTypes}},
          "layer_types asks for sliding_attention, but sliding_window is null (layer 1)");
  refused("qwen3", {{"sliding_window", 8}, {"layer_types", kMixedTypes}},
          "layer_types asks for sliding_attention, but use_sliding_window is false (layer 1)");
  refused("mistral", {{"sliding_window", 8}, {"layer_types", {"full_attention"}}},
          "layer_types has 1 entries where a list of 4 names is needed");
  refused("llama", {{"sliding_window", 8}}, "sliding_window is 8, but model_type llama has no sliding_window");
  refused("llama", {{"sliding_window", 511}, {"use_sliding_window", true}}, "sliding_window is 511, but");
  refused("llama", {{"num_key_value_heads", 4}}, "num_attention_heads 6 is no multiple of num_key_value_heads 4");
  refused("llama", {{"num_key_value_heads", 12}}, "num_attention_heads 6 is no multiple of num_key_value_heads 12");
  refused("llama", {{"architectures", {"Qwen2ForCausalLM"}}},
          "c: architectures names Qwen2ForCausalLM, but model_type is llama");
  for (const ordered_json& names : {ordered_json{"LlamaForCausalLM"}, ordered_json{"MyLlama"}, ordered_json("x")}) {
    CHECK_NOTHROW(Parse(With(Fields("llama"), {{"architectures", names}})));
  }
}

TEST_CASE("fields that may be absent take the family's defaults, others are named") {
  CHECK(Parse(Without(Fields("llama"), "num_key_value_heads")).kv_heads == 6);
  CHECK(Parse(With(Fields("qwen2"), {{"num_key_value_heads", nullptr}})).kv_heads == 6);
  CHECK(Parse(With(Fields("mistral"), {{"head_dim", nullptr}})).head_dim == 8);
  CHECK(Parse(Without(Fields("qwen2"), "tie_word_embeddings")).tied == false);
  CHECK(Parse(Without(Fields("qwen2"), "eos_token_id")).eos_id == -1);
  for (const char* key : {"model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
                          "vocab_size", "max_position_embeddings", "rms_norm_eps", "num_key_value_heads", "head_dim"}) {
    CHECK_THROWS_WITH_AS(Parse(Without(Fields("qwen3"), key)), Contains((std::string("c: the field ") + key).c_str()),
                         Error);
  }
}

TEST_CASE("a field of the wrong type is refused") {
  const auto refused = [](const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields("mistral"), changes)), sentence, Error);
  };
  refused({{"hidden_size", 48.5}}, "c: hidden_size is 48.5 where an integer from 0 to 2147483647 is needed");
  refused({{"hidden_size", 4294967344}},
          "c: hidden_size is 4294967344 where an integer from 0 to 2147483647 is needed");
  refused({{"rms_norm_eps", "1e-5"}}, "c: rms_norm_eps is \"1e-5\" where a number is needed");
  refused({{"tie_word_embeddings", 1}}, "c: tie_word_embeddings is 1 where true or false is needed");
  refused({{"model_type", 7}}, "c: model_type is 7 where a string is needed");
  refused({{"eos_token_id", {"</s>"}}}, "c: eos_token_id is \"</s>\" where an integer from 0 to 2147483647 is needed");
  CHECK_THROWS_WITH_AS(Parse(ordered_json::array()), "c holds no JSON object", Error);
}

TEST_CASE("a model that makes no sense says why") {
  const auto refused = [](const std::function<void(ModelConfig&)>& change, const char* sentence) {
    ModelConfig c = Model(kMixed);
    change(c);
    CHECK_THROWS_WITH_AS(c.Validate(), Contains(sentence), Error);
  };
  CHECK_NOTHROW(Model(kMixed).Validate());
  refused([](ModelConfig& c) { c.kv_heads = 4; }, "num_attention_heads 6 is no multiple of num_key_value_heads 4");
  refused([](ModelConfig& c) { c.kv_heads = 0; }, "num_key_value_heads must be at least 1, not 0");
  refused([](ModelConfig& c) { c.head_dim = 7; }, "head_dim 7 is odd");
  refused([](ModelConfig& c) { c.rms_eps = 0; }, "rms_norm_eps must be positive");
  refused([](ModelConfig& c) { c.rope_theta = -1; }, "rope_theta must be positive");
  refused([](ModelConfig& c) { c.eos_id = 30; }, "eos_token_id 30 is no id of a vocabulary of 30");
  refused([](ModelConfig& c) { c.attention.pop_back(); }, "the attention of 3 layers is given for 4 layers");
  refused([](ModelConfig& c) { c.attention[1].window = -1; }, "layer 1 has window -1");
  refused([](ModelConfig& c) { c.attention[2].sinks = 4; }, "layer 2 has 4 sinks but no window");
}

TEST_CASE("every model that Hugging Face can spell survives writing and reading") {
  const Specs attentions[] = {kAllFull,
                              kAllWindow,
                              kMixed,
                              {kFull, kFull, kWindow, kWindow},
                              {kWindow, kFull, kFull, kFull},
                              Specs(4, AttentionSpec{8, 3}),
                              {kFull, {8, 0, true}, kFull, {8, 0, true}}};
  for (const Specs& attention : attentions) {
    for (int family : {0, 1, 2, 3}) {
      ModelConfig c = Model(attention, family == 1, family == 2);
      c.learned_sinks = family == 3;
      c.extra = R"({"initializer_range": 0.02, "bos_token_id": 1})";
      const ordered_json json = ToJson(c);
      const ModelConfig again = Parse(json);
      CHECK(again.attention == attention);
      CHECK(again.qk_norm == c.qk_norm);
      CHECK(again.qkv_bias == c.qkv_bias);
      CHECK(again.learned_sinks == c.learned_sinks);
      CHECK(again.head_dim == 16);
      CHECK(again.rope_theta == 5000.0);
      CHECK(ordered_json::parse(again.extra).at("initializer_range") == 0.02);
      CHECK(ToJson(again) == json);
    }
  }
}

TEST_CASE("the fields that other programs look at are written as they want them") {
  const ordered_json window = ToJson(Model(kAllWindow));
  CHECK(window.at("model_type") == "mistral");
  CHECK(window.at("architectures") == ordered_json{"MistralForCausalLM"});
  CHECK(window.at("sliding_window") == 8);
  CHECK_FALSE(window.contains("layer_types"));
  CHECK(window.at("rope_theta") == 5000.0);
  CHECK(window.at("rope_parameters") == ordered_json{{"rope_type", "default"}, {"rope_theta", 5000.0}});
  CHECK(window.at("dtype") == "float32");
  CHECK(window.at("torch_dtype") == "float32");
  CHECK(window.at("bos_token_id").is_null());
  CHECK(ToJson(Model(kAllFull)).at("sliding_window").is_null());
  CHECK(ToJson(Model(kMixed)).at("layer_types") == kMixedTypes);

  const ordered_json qwen = ToJson(Model(kAllWindow, true));
  CHECK(qwen.at("model_type") == "qwen3");
  CHECK(qwen.at("use_sliding_window") == true);
  CHECK(qwen.at("max_window_layers") == 0);
  CHECK(qwen.at("layer_types") == ordered_json(4, "sliding_attention"));
  CHECK(ToJson(Model(kAllFull, false, true)).at("use_sliding_window") == false);
  CHECK(ToJson(Model(kAllFull, false, true)).at("model_type") == "qwen2");
  CHECK(ToJson(Model({kFull, kWindow, kWindow, kWindow}, true)).at("max_window_layers") == 1);
  CHECK(ToJson(Model(kMixed, true)).at("max_window_layers") == 4);

  ModelConfig sinks = Model(kMixed);
  sinks.learned_sinks = true;
  const ordered_json granite = ToJson(sinks);
  CHECK(granite.at("model_type") == "granite_swa");
  CHECK(granite.at("architectures") == ordered_json{"GraniteSWAForCausalLM"});
  CHECK(granite.at("attention_multiplier") == 0.25);
  CHECK(granite.at("layer_types") == kMixedTypes);
}

TEST_CASE("a Llama stays a Llama while it has no window, and becomes a Mistral with one") {
  ModelConfig c = Parse(With(Fields("llama"), {{"pretraining_tp", 1}}));
  const ordered_json full = ToJson(c, "bfloat16");
  CHECK(full.at("model_type") == "llama");
  CHECK(full.at("architectures") == ordered_json{"LlamaForCausalLM"});
  CHECK(full.at("dtype") == "bfloat16");
  CHECK(full.at("torch_dtype") == "bfloat16");
  // transformers would build sliding caches for a Llama with stray fields of these names.
  for (const char* key : {"sliding_window", "layer_types", "use_sliding_window"}) CHECK_FALSE(full.contains(key));
  for (const Specs& attention : {kAllWindow, kMixed}) {
    c.attention = attention;
    CHECK(ToJson(c).at("model_type") == "mistral");
    CHECK(ToJson(c).at("sliding_window") == 8);
    CHECK(ToJson(c).at("pretraining_tp") == 1);
  }
}

TEST_CASE("what Hugging Face can't spell is refused, not written as something else") {
  CHECK_THROWS_WITH_AS(ToJson(Model(kAllFull, true, true)), Contains("has both q/k norm and q/k/v biases"), Error);
  CHECK_THROWS_WITH_AS(ToJson(Model({kWindow, {9, 0}, kFull, kFull})), Contains("different windows or sinks"), Error);
  CHECK_THROWS_WITH_AS(ToJson(Model({{8, 1}, kWindow, kFull, kFull})), Contains("different windows or sinks"), Error);
  CHECK_THROWS_WITH_AS(ToJson(Model({})), Contains("the attention of 0 layers"), Error);
}

TEST_CASE("of several end-of-text ids the first is used, all stop and all are kept") {
  ModelConfig c = Parse(With(Fields("qwen3"), {{"eos_token_id", {5, 7}}}));
  CHECK(c.eos_id == 5);
  CHECK(c.stop_ids == std::vector<int>{7});
  CHECK(c.Stops(5));
  CHECK(c.Stops(7));
  CHECK_FALSE(c.Stops(6));
  CHECK_FALSE(Parse(Without(Fields("qwen2"), "eos_token_id")).Stops(0));
  CHECK(ToJson(c).at("eos_token_id") == ordered_json{5, 7});
  c.eos_id = 6;
  CHECK(ToJson(c).at("eos_token_id") == 6);
}

TEST_CASE("generation_config.json adds ids at which texts stop, and config.json is written without them") {
  const TempDirectory dir;
  const auto read = [&](const ordered_json& config, const char* generation) {
    WriteFileAtomically(dir / "config.json", config.dump());
    WriteFileAtomically(dir / "generation_config.json", generation);
    return ReadModelConfig(dir.path());
  };
  ModelConfig c = read(Fields("qwen2"), R"({"eos_token_id": [3, 2, 3], "temperature": 0.7})");
  CHECK(c.eos_id == 2);
  CHECK(c.stop_ids == std::vector<int>{3});
  CHECK(ToJson(c).at("eos_token_id") == 2);
  CHECK(c.extra == "{}");
  c = read(Without(Fields("qwen2"), "eos_token_id"), R"({"eos_token_id": 9})");
  CHECK(c.eos_id == 9);
  CHECK(c.stop_ids.empty());
  CHECK(read(Fields("qwen2"), R"({"do_sample": true})").stop_ids.empty());
  CHECK_THROWS_WITH_AS(read(Fields("qwen2"), R"({"eos_token_id": 30})"),
                       Contains("/generation_config.json: eos_token_id 30 is no id"), Error);
  CHECK_THROWS_WITH_AS(read(Fields("qwen2"), R"({"eos_token_id": ["</s>"]})"),
                       Contains("/generation_config.json: eos_token_id is \"</s>\""), Error);
}

TEST_CASE("a config.json is read from its directory, and errors name the file") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "config.json", ToJson(Model(kMixed)).dump(2));
  CHECK(ReadModelConfig(dir.path()).attention == kMixed);
  WriteFileAtomically(dir / "config.json", With(Fields("mistral"), {{"head_dim", 7}}).dump());
  CHECK_THROWS_WITH_AS(ReadModelConfig(dir.path()), Contains("/config.json: head_dim 7 is odd"), Error);
  WriteFileAtomically(dir / "config.json", R"({"head_dim": 7, "head_dim": 8})");
  CHECK_THROWS_WITH_AS(ReadModelConfig(dir.path()), Contains("/config.json: the key 'head_dim' occurs twice"), Error);
  CHECK_THROWS_WITH_AS(ReadModelConfig(dir / "none"), Contains("/none/config.json: No such file"), Error);
}

}  // namespace
}  // namespace swarr
