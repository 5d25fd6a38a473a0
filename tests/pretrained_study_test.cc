// SPDX-License-Identifier: Apache-2.0
// Studies on a model that somebody else has trained, with a tokenizer of its own, and studies made in parts.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "small_study.h"
#include "test_models.h"

namespace swarr {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kLimit = 30;

// Random weights for a byte-level tokenizer that writes a number as a space and its digits.
void WritePretrained(const fs::path& dir) {
  const fs::path file = fs::path(SWARR_TEST_DATA) / "tokenizers/smollm2.json";
  const Tokenizer tokenizer(nlohmann::ordered_json::parse(ReadFile(file)), file.string());
  ModelConfig config = TextConfig();
  config.vocab = tokenizer.vocab_size();
  config.eos_id = tokenizer.IdOf("<|im_end|>");
  config.max_positions = 200;
  TestContext t;
  const Transformer model(config, DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  SaveModel(dir, model, tokenizer);
}

// The preset `tiny` for word problems of one line, on a base model that is not there.
void WritePreset(const fs::path& data) {
  json preset = SmallPreset(QuickArms());
  preset["base_model"] = "absent";
  preset["completion_limit"] = kLimit;
  preset["task"] = {{"name", "words"},  {"lines_min", 1}, {"lines_max", 1},
                    {"distractors", 0}, {"local", 0.5},   {"carry", 0.2}};
  fs::create_directories(data / "presets");
  WriteFileAtomically(data / "presets" / "tiny.json", preset.dump());
}

std::vector<std::string> On(const fs::path& model, const std::string& arms = "") {
  std::vector<std::string> flags = {"--base-model", model.string()};
  if (!arms.empty()) flags.insert(flags.end(), {"--arms", arms});
  return flags;
}

TEST_CASE("a study made in parts on a pretrained model, wherever that lies, has the numbers of one made at once") {
  const TempDirectory dir;
  const fs::path data = dir / "data", model = dir / "here/model", moved = dir / "there/model", whole = dir / "whole";
  fs::create_directories(moved.parent_path());
  fs::create_directories(model.parent_path());
  WritePretrained(model);
  fs::copy(model, moved);
  WritePreset(data);
  Outcome outcome = Swarr(Study(data, whole));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("absent"));
  outcome = Swarr(Study(data, whole) + On(model));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  const json expected = json::parse(ReadFile(whole / "results.json"));
  CHECK(expected["settings"]["base_model"] == "model");
  CHECK(expected["checks"]["rollout_logprob_max_abs_diff"] == 0.0);
  for (const json& run : expected["runs"]) {
    CHECK(run["base_model"] == "model");
    CHECK(run["mean_length"].get<double>() <= kLimit);
  }

  const fs::path one = dir / "one", other = dir / "other";
  outcome = Swarr(Study(data, one) + On(moved, "sa_sft,sa_rl"));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(outcome.out.find("Not complete: 5 of 7 runs are missing.") != std::string::npos);
  CHECK(!fs::exists(one / "results.json"));
  outcome = Swarr(Study(data, other) + On(model, "swa_sft_more,swa_sft,swa_converted,sa_base,swa_rl"));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  std::set<std::string> trained;
  for (const auto& entry : fs::directory_iterator(other / "runs")) trained.insert(entry.path().filename().string());
  CHECK(trained == std::set<std::string>{"swa_sft-seed0", "swa_rl-seed0", "swa_sft_more-seed0"});
  fs::copy(one / "results", other / "results");
  outcome = Swarr(Study(data, other) + On(moved));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(!fs::exists(other / "runs" / "sa_rl-seed0"));
  const json results = json::parse(ReadFile(other / "results.json"));
  for (const char* part : {"runs", "summary", "checks"}) CHECK(results.at(part) == expected.at(part));

  outcome = Swarr(Study(data, other) + On(model, "sa_rl"));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("holds a complete study; --arms goes on with one that is not"));
  outcome = Swarr(Study(data, dir / "none") + On(model, "sa_rl,swa"));
  CHECK(outcome.status == 2);
  CHECK(outcome.Says("there is no arm 'swa' in the preset tiny; use "));
}

}  // namespace
}  // namespace swarr
