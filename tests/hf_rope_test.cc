// SPDX-License-Identifier: Apache-2.0
#include "model/hf_rope.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "config_json.h"
#include "model/hf_config.h"

namespace swarr {
namespace {

using doctest::Contains;
using nlohmann::ordered_json;

ModelConfig Parse(const ordered_json& json) { return ParseModelConfig(json, "c"); }

TEST_CASE("the base of RoPE is read in all spellings, which must agree") {
  const ordered_json none = Without(Fields("qwen3"), "rope_theta");
  const ordered_json parameters = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  CHECK(Parse(none).rope_theta == 10000.0);
  CHECK(Parse(With(none, {{"rope_parameters", parameters}})).rope_theta == 7.0);
  CHECK(Parse(With(none, {{"rope_theta", 7}, {"rope_parameters", parameters}, {"rope_scaling", nullptr}})).rope_theta ==
        7.0);
  CHECK_THROWS_WITH_AS(Parse(With(none, {{"rope_theta", 8.0}, {"rope_parameters", parameters}})),
                       "c: rope_theta is 8, but 7 in rope_parameters", Error);
}

TEST_CASE("RoPE scaling llama3 is read in all spellings and written in both") {
  const ordered_json base = Without(Fields("llama"), "rope_theta");
  const ordered_json settings = {
      {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 128}};
  const ordered_json v4 = With({{"rope_type", "llama3"}}, settings), old = With(settings, {{"type", "llama3"}});
  const ordered_json v5 = With(v4, {{"rope_theta", 5000.0}});
  for (const ordered_json& json :
       {With(base, {{"rope_theta", 5000.0}, {"rope_scaling", v4}}),
        With(base, {{"rope_theta", 5000.0}, {"rope_scaling", old}}), With(base, {{"rope_parameters", v5}}),
        With(base, {{"rope_theta", 5000}, {"rope_scaling", v4}, {"rope_parameters", v5}})}) {
    const ModelConfig c = Parse(json);
    CHECK(c.rope_theta == 5000.0);
    CHECK(c.rope_scaling == Llama3Scaling{8, 1, 4, 128});
    const ordered_json written = ToJson(c);
    CHECK(written.at("rope_theta") == 5000.0);
    CHECK(written.at("rope_scaling") == v4);
    CHECK(written.at("rope_parameters") == v5);
    CHECK(Parse(written).rope_scaling == c.rope_scaling);
  }
  CHECK(!Parse(Fields("llama")).rope_scaling.has_value());
  CHECK(!ToJson(Parse(Fields("llama"))).contains("rope_scaling"));
}

TEST_CASE("a llama3 scaling that is incomplete, senseless or contradicts another spelling is refused") {
  const ordered_json good = {{"rope_type", "llama3"},
                             {"factor", 8.0},
                             {"low_freq_factor", 1.0},
                             {"high_freq_factor", 4.0},
                             {"original_max_position_embeddings", 128}};
  const auto refused = [](const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields("llama"), changes)), Contains(sentence), Error);
  };
  for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    const std::string sentence = std::string("c: rope_scaling: the field ") + key + " is missing";
    refused({{"rope_scaling", Without(good, key)}}, sentence.c_str());
  }
  refused({{"rope_scaling", With(good, {{"factor", 0.5}})}}, "factor must be at least 1, not 0.5");
  refused({{"rope_scaling", With(good, {{"high_freq_factor", 1}})}},
          "high_freq_factor 1 must be above low_freq_factor");
  refused({{"rope_scaling", With(good, {{"low_freq_factor", 0}})}}, "and that above 0");
  refused({{"rope_scaling", With(good, {{"original_max_position_embeddings", 0}})}}, "must be at least 1");
  refused({{"rope_scaling", With(good, {{"beta_fast", 1}})}}, "the RoPE setting 'beta_fast' is not supported");
  refused({{"rope_scaling", With(good, {{"type", "linear"}})}}, "rope_type is 'llama3', but type is 'linear'");
  refused({{"rope_scaling", good}, {"rope_parameters", {{"rope_type", "default"}}}},
          "rope_scaling and rope_parameters scale RoPE differently");
  refused({{"rope_scaling", good}, {"rope_parameters", With(good, {{"factor", 4.0}})}},
          "rope_scaling and rope_parameters scale RoPE differently: factor is 8.0 and 4.0");
}

TEST_CASE("RoPE scaling of any other type is refused by its name") {
  const auto refused = [](const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields("qwen3"), changes)), Contains(sentence), Error);
  };
  for (const char* type : {"linear", "dynamic", "yarn", "longrope", "proportional"}) {
    const std::string sentence = std::string("c: RoPE of type '") + type + "' is not supported; use default or llama3";
    for (const char* field : {"rope_scaling", "rope_parameters"}) {
      for (const char* key : {"rope_type", "type"})
        refused({{field, {{key, type}, {"factor", 2.0}}}}, sentence.c_str());
    }
  }
  refused({{"rope_parameters", {{"full_attention", {{"rope_theta", 7.0}}}}}}, "'full_attention' is not supported");
  refused({{"rope_scaling", "dynamic"}}, "c: rope_scaling holds no JSON object");
}

TEST_CASE("RoPE settings that change nothing are read in every spelling") {
  const auto plain = [](const ordered_json& changes) {
    INFO(changes.dump());
    const ModelConfig c = Parse(With(Fields("llama"), changes));
    CHECK(c.rope_theta == 5000.0);
    CHECK(!c.rope_scaling.has_value());
  };
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    for (const char* key : {"rope_type", "type"}) {
      plain({{field, {{key, "default"}, {"partial_rotary_factor", 1.0}}}});
      plain({{field, {{key, "default"}, {"factor", 1.0}, {"original_max_position_embeddings", 512}}}});
      plain({{field, {{key, "default"}, {"factor", nullptr}, {"low_freq_factor", nullptr}}}});
      for (const char* type : {"linear", "dynamic", "yarn"}) plain({{field, {{key, type}, {"factor", 1}}}});
    }
    plain({{field, ordered_json::object()}});
    plain({{field, nullptr}});
  }
  plain({{"original_max_position_embeddings", 32}});  // nothing is scaled from it
}

TEST_CASE("a part of each head that RoPE does not turn is refused wherever it stands") {
  const auto refused = [](const ordered_json& changes, const char* sentence) {
    CHECK_THROWS_WITH_AS(Parse(With(Fields("llama"), changes)), sentence, Error);
  };
  refused({{"partial_rotary_factor", 0.5}}, "c: partial_rotary_factor must be 1, not 0.5");
  refused({{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
          "c: rope_parameters: partial_rotary_factor must be 1, not 0.5");
  refused({{"partial_rotary_factor", 0.25}, {"rope_parameters", {{"partial_rotary_factor", 1.0}}}},
          "c: partial_rotary_factor must be 1, not 0.25");
}

TEST_CASE("the pretrained length of llama3 may stand beside its settings, but not say another number") {
  const ordered_json inner = {{"rope_type", "llama3"},
                              {"factor", 4.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 16}};
  const auto with = [&](const char* field, const ordered_json& settings, int outside) {
    return With(Fields("llama"), {{field, settings}, {"original_max_position_embeddings", outside}});
  };
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    CHECK(Parse(with(field, inner, 16)).rope_scaling == Llama3Scaling{4, 1, 4, 16});
    const ordered_json without = Without(inner, "original_max_position_embeddings");
    CHECK(Parse(with(field, without, 32)).rope_scaling == Llama3Scaling{4, 1, 4, 32});
    CHECK_THROWS_WITH_AS(Parse(with(field, inner, 32)),
                         Contains(": original_max_position_embeddings is 16, but 32 beside it"), Error);
  }
  const ordered_json written = ToJson(Parse(with("rope_scaling", inner, 16)));
  CHECK_FALSE(written.contains("original_max_position_embeddings"));
}

}  // namespace
}  // namespace swarr
