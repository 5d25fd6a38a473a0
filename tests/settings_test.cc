// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/files.h"
#include "model/hf_config.h"
#include "rl/objective_names.h"
#include "study/study.h"
#include "task/chain.h"
#include "task/words.h"
#include "temp_directory.h"
#include "train/data.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::ordered_json;

const fs::path kDataDir = fs::path(SWARR_TEST_DATA) / ".." / ".." / "data";

ordered_json QuickJson() {
  return ParseJson<ordered_json>(ReadFile(kDataDir / "presets" / "quick.json"), "quick.json");
}

// What reading a preset of this content throws; empty if it is read.
std::string ErrorOf(const std::string& text) {
  const TempDirectory dir;
  fs::create_directories(dir / "presets");
  WriteFileAtomically(dir / "presets/own.json", text);
  try {
    ReadStudySettings(dir.path(), "own");
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

bool IsRefused(const ordered_json& settings, const std::string& sentence) {
  const std::string error = ErrorOf(settings.dump());
  INFO(error);
  CHECK(error.find(sentence) != std::string::npos);
  return error.find("own.json") != std::string::npos;
}

TEST_CASE("the quick preset is read as it stands in its file") {
  const ordered_json json = QuickJson();
  const StudySettings s = ReadStudySettings(kDataDir, "quick");
  CHECK(s.json == json);
  CHECK(s.base_models == std::vector{json["base_model"].get<std::string>()});
  CHECK(s.task.name == "chain");
  CHECK(s.task.view.sizes() == std::pair<int, int>(json["task"]["n_min"], json["task"]["n_max"]));
  CHECK(s.task.view.repeat_rate() == json["task"]["restate_probability"]);
  CHECK(s.attention.window == json["attention"]["window"]);
  CHECK(s.attention.sinks == json["attention"]["sinks"]);
  CHECK(s.evaluation_problems == json["evaluation"]["problems"]);
  CHECK(s.longest_cost == json["cost"]["longest"]);
  CHECK(s.sft.steps == json["sft"]["steps"]);
  CHECK(s.sft.batch_size == json["sft"]["batch_size"]);
  CHECK(s.rl.steps == json["rl"]["steps"]);
  CHECK(s.rl.prompts_per_step == json["rl"]["prompts_per_step"]);
  CHECK(s.rl.num_generations == json["rl"]["num_generations"]);
  for (const std::string section : {"sft", "rl"}) {
    INFO(section);
    const OptimizerOptions& optimizer = section == "sft" ? s.sft_optimizer : s.rl_optimizer;
    CHECK(optimizer.lr == json[section]["lr"]);
    CHECK(optimizer.schedule == ParseSchedule(json[section]["lr_schedule"]));
    CHECK(optimizer.min_lr_ratio == json[section]["min_lr_ratio"]);
    CHECK(optimizer.warmup_steps == json[section]["warmup_steps"]);
    CHECK(optimizer.adamw.weight_decay == json[section]["weight_decay"]);
    CHECK(optimizer.adamw.beta1 == json[section]["beta1"]);
    CHECK(optimizer.adamw.beta2 == json[section]["beta2"]);
    CHECK(optimizer.max_grad_norm == json[section]["max_grad_norm"]);
  }
}

TEST_CASE("the quick preset's objective is GRPO with the token mean, on-policy REINFORCE with a group's scale") {
  ObjectiveOptions expected;
  expected.baseline = Baseline::kGroupMean;
  expected.scale_rewards = RewardScale::kGroup;
  expected.ratio = RatioKind::kToken;
  expected.clip = ClipKind::kPpo;
  expected.epsilon = expected.epsilon_high = 0.2;
  expected.aggregation = Aggregation::kTokenMean;
  const StudySettings s = ReadStudySettings(kDataDir, "quick");
  expected.max_completion_length = ChainTokenLimit(s.task.view.sizes().second);
  CHECK(ToJson(s.rl.objective) == ToJson(expected));
  CHECK(s.rl.num_iterations == 1);
}

TEST_CASE("every choice of objective and normaliser reaches the run, with room for a restatement before every step") {
  ordered_json json = QuickJson();
  json["task"]["n_max"] = 7;
  json["evaluation"]["problems"] = 64;
  json["rl"]["objective"] = "reinforce";
  json["rl"]["normalizer"] = "constant";
  const TempDirectory dir;
  fs::create_directories(dir / "presets");
  WriteFileAtomically(dir / "presets/own.json", json.dump());
  const StudySettings s = ReadStudySettings(dir.path(), "own");
  CHECK(s.rl.objective.ratio == RatioKind::kNone);
  CHECK(s.rl.objective.clip == ClipKind::kNone);
  CHECK(s.rl.objective.aggregation == Aggregation::kConstant);
  CHECK(s.rl.max_completion_length == ChainTokenLimit(7));
  CHECK(s.rl.objective.max_completion_length == ChainTokenLimit(7));
}

TEST_CASE("an unknown preset is a usage error that names the existing ones") {
  CHECK_THROWS_WITH_AS(ReadStudySettings(kDataDir, "quack"), Contains("no preset 'quack'"), UsageError);
  CHECK_THROWS_WITH_AS(ReadStudySettings(kDataDir, "quack"), Contains("quick"), UsageError);
  const TempDirectory dir;
  CHECK_THROWS_WITH_AS(ReadStudySettings(dir.path(), "quick"), Contains("it has none"), UsageError);
}

TEST_CASE("every missing field is named with its file, and so is every missing section") {
  const ordered_json json = QuickJson();
  int fields = 0;
  for (const auto& part : json.items()) {
    const std::string section = part.key();
    const ordered_json& value = part.value();
    INFO(section);
    ordered_json without = json;
    without.erase(section);
    CHECK(IsRefused(without, "has no field '" + section + "'"));
    if (!value.is_object()) continue;
    for (const auto& item : value.items()) {
      INFO(item.key());
      without = json;
      without[section].erase(item.key());
      CHECK(IsRefused(without, section + " has no field '" + item.key() + "'"));
      ++fields;
    }
  }
  CHECK(fields > 20);
}

TEST_CASE("a field of the wrong type is named with its value") {
  const ordered_json json = QuickJson();
  for (const auto& part : json.items()) {
    const std::string section = part.key();
    const ordered_json& value = part.value();
    if (!value.is_object()) continue;
    for (const auto& item : value.items()) {
      INFO(section, ".", item.key());
      ordered_json wrong = json;
      wrong[section][item.key()] = ordered_json::array({1});
      CHECK(IsRefused(wrong, section + "." + item.key() + " is [1], which has the wrong type"));
    }
    ordered_json flat = json;
    flat[section] = 3;
    CHECK(IsRefused(flat, section + " is no object"));
  }
}

TEST_CASE("an unknown field is named, in every section and beside them") {
  const ordered_json json = QuickJson();
  ordered_json beside = json;
  beside["sfft"] = 1;
  CHECK(IsRefused(beside, "unknown field 'sfft'"));
  for (const auto& part : json.items()) {
    const std::string section = part.key();
    const ordered_json& value = part.value();
    if (!value.is_object()) continue;
    ordered_json more = json;
    more[section]["learning_rate"] = 1;
    CHECK(IsRefused(more, section + " has an unknown field 'learning_rate'"));
  }
}

TEST_CASE("unknown choices, a window of 0 and a file that is no JSON are refused") {
  const auto refused = [](const char* section, const char* field, const ordered_json& value, const char* sentence) {
    ordered_json json = QuickJson();
    json[section][field] = value;
    CHECK(ErrorOf(json.dump()).find(sentence) != std::string::npos);
  };
  refused("rl", "objective", "ppo", "unknown objective \"ppo\"; use reinforce, rloo");
  refused("rl", "normalizer", "mean",
          "normalizer is \"mean\"; use token-mean, sequence-mean, constant or sequence-sum");
  refused("sft", "lr_schedule", "step", "unknown learning-rate schedule 'step'");
  refused("attention", "window", 0, "attention.window is 0");
  refused("cost", "longest", 63, "cost.longest is 63; it must be from 64 to");
  refused("cost", "longest", 1 << 23, "cost.longest is 8388608");
  CHECK(ErrorOf("{\"task\": ").find("own.json") != std::string::npos);
}

TEST_CASE("every preset is read, and the standard one has quick's setting but for RL's rate") {
  const StudySettings quick = ReadStudySettings(kDataDir, "quick"), standard = ReadStudySettings(kDataDir, "standard");
  CHECK(quick.seeds == 1);
  CHECK(standard.seeds == 3);
  for (const char* part : {"task", "attention", "evaluation", "sft"}) CHECK(quick.json[part] == standard.json[part]);
  CHECK(standard.arms.size() > quick.arms.size());
}

TEST_CASE("an arm starts where its file says, under the attention of that arm or its own, with its own settings") {
  ordered_json json = QuickJson();
  json["arms"].push_back(
      {{"arm", "sinks"},
       {"from", "swa_sft"},
       {"attention", {{"window", 8}, {"sinks", 2}}},
       {"rl", {{"steps", 7}, {"objective", "reinforce"}, {"epsilon", nullptr}, {"overlong_share", 0.5}}}});
  const TempDirectory dir;
  fs::create_directories(dir / "presets");
  WriteFileAtomically(dir / "presets/own.json", json.dump());
  const std::vector<ArmPlan> arms = ReadStudySettings(dir.path(), "own").arms;
  CHECK(arms.size() == 8);
  CHECK(arms[4].from == "sa_sft");
  CHECK(arms[4].attention == ArmAttention{});
  CHECK(arms[5].attention == ArmAttention{{16, 0}});  // that of swa_sft
  CHECK(arms[6].tokens_of == "swa_rl");
  CHECK(arms[7].attention == ArmAttention{{8, 2}});
  CHECK(arms[7].rl.steps == 7);
  CHECK(arms[7].rl.prompts_per_step == json["rl"]["prompts_per_step"]);
  CHECK(arms[7].rl.objective.ratio == RatioKind::kNone);
  CHECK(arms[7].rl.objective.overlong_share == 0.5);
}

TEST_CASE("an arm that can't be run is refused with its name") {
  const auto refused = [](const ordered_json& arm, const std::string& sentence) {
    ordered_json json = QuickJson();
    json["arms"].push_back(arm);
    CHECK(IsRefused(json, sentence));
  };
  refused({{"arm", "x"}, {"from", "swa_later"}}, "arm 'x'.from is 'swa_later', which is no arm before it");
  refused({{"arm", "swa_rl"}, {"from", "base"}}, "arm 'swa_rl' is listed twice");
  refused({{"arm", "base"}, {"from", "base"}}, "is not 'base'");
  refused({{"arm", "../x"}, {"from", "base"}}, "a name has small letters");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", ordered_json::object()}, {"rl", ordered_json::object()}},
          "arm 'x' has both sft and rl");
  refused({{"arm", "x"}, {"from", "base"}, {"window", 3}}, "unknown field 'window'");
  refused({{"arm", "x"}, {"from", "base"}, {"tokens_of", "swa_rl"}}, "which are for arms with sft");
  refused({{"arm", "x"}, {"from", "base"}, {"teacher", "sa_sft"}}, "has a teacher and no training");
  refused({{"arm", "x"}, {"from", "base"}, {"rl", ordered_json::object()}, {"teacher", "sa_sft"}},
          "which its objective does not use");
  refused({{"arm", "x"}, {"from", "base"}, {"rl", {{"beta", 0.1}}}}, "name it as its teacher");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", {{"steps", 0}}}}, "arm 'x'.sft.steps is 0");
  refused({{"arm", "x"}, {"from", "base"}, {"rl", ordered_json::object()}, {"restate_probability", 1}},
          "which is of the traces that sft imitates");
  const ordered_json sft = ordered_json::object();
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"tokens_of", "swa_converted"}}, "which is not trained");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"kl", "reverse"}}, "has kl, which is for sft with a teacher");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"teacher", "sa_sft"}, {"kl", "rev"}}, "kl is \"rev\"");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"teacher", "sa_sft"}, {"distill_weight", 2}},
          "distill_weight is 2; it must be from 0 to 1");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"samples", 2}}, "has samples, which is for samples_of");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"sample_problems", 2}}, "which is for samples_of");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"keep", "all"}}, "has keep, which is for samples_of");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", sft}, {"samples_of", "swa_sft"}, {"keep", "al"}},
          "arm 'x': unknown keep 'al'; use correct, all or shortest");
  refused({{"arm", "x"}, {"from", "base"}, {"attention", "ful"}}, "attention is \"ful\"; use \"full\"");
  refused({{"arm", "x"}, {"from", "base"}, {"attention", {{"window", 0}, {"sinks", 5}}}},
          "has sinks or full_every and no window");
  refused({{"arm", "x"}, {"from", "base"}, {"sft", {{"lr", -1}}}}, "arm 'x'.sft.lr is -1");
  refused({{"arm", "x"}, {"from", "base"}, {"rl", {{"objective", "foo"}}}}, "arm 'x'.rl: unknown objective");
  const auto window = [](const ordered_json& more) {
    ordered_json attention = {{"window", 16}};
    attention.update(more);
    return ordered_json{{"arm", "x"}, {"from", "base"}, {"attention", attention}};
  };
  refused(window({{"full_every", 1}}), "full_every is 1, which leaves no layer a window");
  refused(window({{"window", 0}, {"full_every", 2}}), "full_every and no window");
  refused(window({{"learned_sinks", 1}}), "attention.learned_sinks is 1, which has the wrong type");
  ordered_json none = QuickJson();
  none["arms"] = ordered_json::array();
  CHECK(IsRefused(none, "arms is no list of arms"));
}

// A preset of data/presets. If its problems are files, which users make (docs/study.md), of one problem, again and
// again.
StudySettings Shipped(const std::string& name) {
  ordered_json json = ordered_json::parse(ReadFile(kDataDir / "presets" / (name + ".json")));
  if (json["task"].value("name", "") != "rows") return ReadStudySettings(kDataDir, name);
  const TempDirectory dir;
  const std::string row = R"({"prompt": "1+1", "completion": "1+1=2\n#### 2", "answer": "2"})";
  std::string rows;
  for (int i = 0; i < json["evaluation"]["problems"]; ++i) rows += row + "\n";
  for (const char* file : {"rl.jsonl", "eval.jsonl"}) WriteFileAtomically(dir / file, rows);
  json["task"]["directory"] = dir.path().string();
  fs::create_directories(dir / "presets");
  WriteFileAtomically(dir / "presets/own.json", json.dump());
  return ReadStudySettings(dir.path(), "own");
}

TEST_CASE(
    "every preset that the program ships with is read, and has base models that are there and hold its problems") {
  int presets = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kDataDir / "presets")) {
    CAPTURE(entry.path().string());
    const StudySettings s = Shipped(entry.path().stem().string());
    ++presets;
    if (s.base_models == std::vector<std::string>{"smollm2"}) continue;  // users bring it (docs/study.md)
    const std::unique_ptr<Task> longest = (s.longer ? *s.longer : s.task).make(Split::kEval, 0);
    for (const std::string& base : s.base_models) {
      const int prompt = LongestPrompt(*longest, Tokenizer::Load(kDataDir / base));
      CHECK(prompt + s.CompletionLimit(*longest) <= ReadModelConfig(kDataDir / base).max_positions);
    }
  }
  CHECK(presets >= 5);
}

TEST_CASE("ways give arms names, and are refused for an arm that is not there, that has two, or that has no name") {
  ordered_json settings = QuickJson();
  settings["ways"] = {{"more data", {{"swa_sft_more", "SWA, longer SFT"}}}};
  const TempDirectory dir;
  fs::create_directories(dir / "presets");
  WriteFileAtomically(dir / "presets/own.json", settings.dump());
  const StudySettings s = ReadStudySettings(dir.path(), "own");
  CHECK(ArmName(s.looks, "swa_sft_more") == "SWA, longer SFT");
  CHECK(ArmName(s.looks, "swa_rl") == "SWA, RL");
  CHECK(ArmName(s.looks, "unheard_of") == "unheard_of");
  CHECK(WaysOf(s.looks) == std::vector<std::string>{"more data"});
  const auto refused = [](const ordered_json& ways, const char* sentence) {
    ordered_json json = QuickJson();
    json["ways"] = ways;
    CHECK(IsRefused(json, sentence));
  };
  refused({{"w", {{"absent", "A"}}}}, "ways['w'] has 'absent', which is no arm");
  refused({{"w", {{"swa_rl", "A"}}}, {"v", {{"swa_rl", "A"}}}}, "has the arm 'swa_rl', which another way has too");
  refused({{"w", {{"swa_rl", ""}}}}, "swa_rl is \"\"; it must be a name");
  refused({{"swa_rl", "A"}}, "ways['swa_rl'] is \"A\"; it must be an object of names by arm");
}

TEST_CASE("a preset names its task, gives all of its parameters, and may give a dtype") {
  const auto refused = [](const char* field, const ordered_json& value, const char* sentence) {
    ordered_json settings = QuickJson();
    settings[field] = value;
    CHECK(IsRefused(settings, sentence));
  };
  const ordered_json words = {{"name", "words"},  {"lines_min", 4}, {"lines_max", 6},
                              {"distractors", 1}, {"local", 0.5},   {"carry", 0.2}};
  refused("task", {{"name", "sums"}}, "task.name is 'sums'; use chain, words or rows");
  refused("task", {{"name", 3}}, "task.name is 3; it is the name of a task");
  refused("task", {{"name", "words"}, {"lines_min", 4}}, "task has no field 'lines_max'");
  ordered_json wrong = words;
  wrong["lines_max"] = 3;
  refused("task", wrong, "the number of lines runs from 4 to 3");
  refused("dtype", "f16", "dtype is 'f16'; use f32 or bf16");
  const StudySettings s = ReadStudySettings(kDataDir, "words");
  CHECK(s.task.name == "words");
  CHECK(s.dtype == DType::kBF16);
  const auto carrying = std::ranges::find(s.arms, "swa_restating", &ArmPlan::name);
  CHECK(carrying->task["carry"] == 1);
  CHECK(s.arms[0].task["carry"] == 0.2);
  CHECK(s.CompletionLimit(*s.task.make(Split::kRl, 0)) == WordTokenLimit(6));
  CHECK(s.rl.max_completion_length == WordTokenLimit(6));
  const StudySettings real = ReadStudySettings(kDataDir, "real");
  CHECK(real.CompletionLimit(*real.task.make(Split::kRl, 0)) == 512);
  CHECK(real.rl.max_completion_length == 512);
}

TEST_CASE("base models are a name or a list of names, and longer problems are longer than training's") {
  const auto refused = [](const char* field, const ordered_json& value, const char* sentence) {
    ordered_json settings = QuickJson();
    settings[field] = value;
    CHECK(IsRefused(settings, sentence));
  };
  refused("base_model", ordered_json::array(), "base_model is an empty list");
  refused("base_model", {"chain-base", 3}, "it is a name or a list of names");
  const ordered_json shorter = {{"problems", 8}, {"longer", {{"n_min", 20}, {"n_max", 24}}}};
  refused("evaluation", shorter, "they must be longer than 20 steps");
  refused("evaluation", {{"problems", 8}, {"longer", {{"n_min", 21}}}}, "evaluation.longer has no field 'n_max'");
  refused("evaluation", {{"problems", 100000}}, "evaluation asks for 100000 problems; the task has");
}

TEST_CASE("the quick preset's problems for SFT, RL and evaluation never meet, and there are enough to evaluate on") {
  const StudySettings s = ReadStudySettings(kDataDir, "quick");
  std::set<std::string> seen;
  std::size_t total = 0;
  for (Split split : {Split::kSft, Split::kRl, Split::kEval}) {
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{101}}) {  // changes restatements, not problems
      const std::unique_ptr<Task> task = s.task.make(split, seed);
      for (std::int64_t i = 0; i < task->size(); ++i) {
        const bool fresh = seen.insert(task->Get(i, 0).prompt).second;
        if (fresh != (seed == 0)) FAIL_CHECK(task->Get(i, 0).prompt, " is in two sets, or new for another seed");
      }
      if (seed == 0) total += static_cast<std::size_t>(task->size());
      if (split == Split::kEval) CHECK(task->size() >= s.evaluation_problems);
    }
  }
  CHECK(seen.size() == total);
  CHECK(total == static_cast<std::size_t>(
                     624 * (s.task.view.sizes().second - s.task.view.sizes().first + 1)));  // all problems there are
}

TEST_CASE("the quick preset's longest answer fits the context of its base model") {
  const StudySettings s = ReadStudySettings(kDataDir, "quick");
  CHECK(kPromptLength + s.rl.max_completion_length <= ReadModelConfig(kDataDir / s.base_models[0]).max_positions);
}

}  // namespace
}  // namespace swarr
