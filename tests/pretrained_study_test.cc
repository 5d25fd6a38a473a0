// SPDX-License-Identifier: Apache-2.0
// Studies on a model that somebody else has trained, with a tokenizer of its own, and studies made in parts.
#include <doctest/doctest.h>

#include <algorithm>
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

// An SFT file for each share that the arms name; the model's answers mean nothing.
TEST_CASE(
    "a study on files reads them where the preset says, and its arms imitate the share of brackets that they name; "
    "records of other files are refused") {
  const TempDirectory dir;
  const fs::path data = dir / "data", model = dir / "model", rows = dir / "rows";
  WritePretrained(model);
  fs::create_directories(rows);
  const std::string row = R"({"prompt": "7 hens and 5\n", "completion": "[5]\n7+5=12\n#### 12", "answer": "12"})";
  for (const char* file : {"sft-0.25.jsonl", "rl.jsonl"}) WriteFileAtomically(rows / file, row + "\n");
  json arms = QuickArms(), carrying = {{"arm", "carrying"}, {"from", "swa_sft"}, {"sft", json::object()}, {"carry", 1}};
  arms.push_back(carrying);
  json preset = SmallPreset(arms);
  preset["completion_limit"] = kLimit;
  preset["task"] = {{"name", "rows"}, {"directory", rows.string()}, {"carry", 0.25}};
  std::string problems;
  for (int i = 0; i < preset["evaluation"]["problems"]; ++i) problems += row + "\n";
  WriteFileAtomically(rows / "eval.jsonl", problems);
  fs::create_directories(data / "presets");
  const fs::path file = data / "presets/tiny.json";
  WriteFileAtomically(file, preset.dump());
  const fs::path out = dir / "out";
  Outcome outcome = Swarr(Study(data, out) + On(model));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("can't read " + (rows / "sft-1.jsonl").string()));
  CHECK(!fs::exists(out));  // before anything runs
  WriteFileAtomically(rows / "sft-1.jsonl", row + "\n");
  outcome = Swarr(Study(data, out) + On(model));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  const json results = json::parse(ReadFile(out / "results.json"));
  CHECK(results["settings"]["data_ceiling"] == 1.0);  // the numbers of the rows lie within 2 layers of 16 tokens
  CHECK(results["runs"].size() == arms.size());
  CHECK(results["runs"][0].contains("mentioned_share"));

  // Every file of problems that was read binds what was measured.
  const std::string other = R"({"prompt": "8 hens and 5\n", "completion": "8+5=13\n#### 13", "answer": "13"})";
  fs::remove(out / "results.json");
  fs::remove(out / "results" / "swa_rl-seed0.json");
  for (const char* name : {"eval.jsonl", "rl.jsonl", "sft-0.25.jsonl", "sft-1.jsonl"}) {
    CAPTURE(name);
    const std::string was = ReadFile(rows / name);
    WriteFileAtomically(rows / name, was + other + "\n");
    outcome = Swarr(Study(data, out) + On(model));
    CHECK(outcome.status == 1);
    CHECK(outcome.Says("out was written with another " + (rows / name).string()));
    WriteFileAtomically(rows / name, was);
  }
  CHECK(!fs::exists(out / "results" / "swa_rl-seed0.json"));
  CHECK(Swarr(Study(data, out) + On(model)).status == 0);

  // The model reads 200 tokens; a row that is longer is told before anything runs.
  json long_prompt = json::parse(row), long_completion = long_prompt;
  std::string words;
  for (int i = 0; i < 200; ++i) words += " 5";
  long_prompt["prompt"] = long_completion["completion"] = words;
  struct Long {
    const char* file;
    const json& row;
    const char* says;
  };
  for (const auto& [name, longer, says] :
       {Long{"sft-1.jsonl", long_completion, ": prompt and completion have "},
        Long{"sft-0.25.jsonl", long_prompt, ": prompt and completion have "},
        Long{"rl.jsonl", long_prompt, ": the prompt's "}, Long{"eval.jsonl", long_prompt, ": the prompt's "}}) {
    CAPTURE(name);
    const std::string was = ReadFile(rows / name);
    const auto line = 1 + std::ranges::count(was, '\n');
    WriteFileAtomically(rows / name, was + longer.dump() + "\n");
    outcome = Swarr(Study(data, dir / "none") + On(model));
    CHECK(outcome.status == 1);
    CHECK_MESSAGE(outcome.Says(Concat((rows / name).string(), ':', line, says)), outcome.err);
    CHECK(!fs::exists(dir / "none"));
    WriteFileAtomically(rows / name, was);
  }

  json asks_more = preset;
  asks_more["arms"].push_back({{"arm", "own"},
                               {"from", "swa_sft"},
                               {"sft", json::object()},
                               {"samples_of", "swa_sft"},
                               {"sample_problems", 2}});
  WriteFileAtomically(file, asks_more.dump());
  outcome = Swarr(Study(data, dir / "none") + On(model));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("sample_problems of 'own' asks for 2 problems; the task has 1 of them for RL"));
  WriteFileAtomically(file, preset.dump());

  WriteFileAtomically(rows / "rl.jsonl", R"({"question": "7+5", "answer": "#### 12"})");
  outcome = Swarr(Study(data, dir / "none") + On(model));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("rl.jsonl:1: the field 'prompt' is no text"));

  preset["task"]["carry"] = 2;
  WriteFileAtomically(file, preset.dump());
  outcome = Swarr(Study(data, dir / "none") + On(model));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("task: carry, a share of solutions, is 2; give one between 0 and 1"));
  preset["task"].erase("directory");
  WriteFileAtomically(file, preset.dump());
  outcome = Swarr(Study(data, dir / "none") + On(model));
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("task has no field 'directory'"));
  preset["task"]["name"] = "row";
  WriteFileAtomically(file, preset.dump());
  outcome = Swarr(Study(data, dir / "none") + On(model));
  CHECK(outcome.Says("task.name is 'row'; use chain, words or rows"));
}

}  // namespace
}  // namespace swarr
