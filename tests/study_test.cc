// SPDX-License-Identifier: Apache-2.0
// The study from end to end, at a size that takes a second.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "small_study.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// The weights of all arms, one after another.
std::string Weights(const fs::path& out) {
  std::set<fs::path> arms;
  for (const auto& entry : fs::directory_iterator(out / "runs")) {
    if (fs::exists(entry.path() / "run.json")) arms.insert(entry.path());
  }
  CHECK(arms.size() == 5);
  std::string bytes;
  for (const fs::path& arm : arms) bytes += ReadFile(arm / "model.safetensors");
  return bytes;
}

}  // namespace

TEST_CASE("a study trains every arm exactly on-policy, measures costs, and gives the same weights again") {
  const TempDirectory dir;
  const fs::path data = dir / "data", out = dir / "out";
  fs::create_directory(data);
  WriteData(data);
  std::string weights[2];
  for (std::string& bytes : weights) {
    const Outcome outcome = Swarr(Study(data, out) + std::vector<std::string>{"--overwrite"});
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    CHECK(fs::exists(out / "report.html"));
    const json results = json::parse(ReadFile(out / "results.json"));
    CHECK(results["checks"]["rollout_logprob_max_abs_diff"] == 0.0);
    CHECK(results["checks"]["rollout_logprob_tokens"].get<int>() > 0);
    CHECK(results["cost"].size() == 8);  // four lengths, with and without the window
    for (const json& run : results["runs"]) {
      CHECK(run["traces_in_reach"].get<int>() + run["traces_out_of_reach"].get<int>() == 4);
      CHECK(run["reach_bound"].is_number() == run["arm"].get<std::string>().starts_with("swa"));
    }
    bytes = Weights(out);
    WriteFileAtomically(out / "runs" / "notes.txt", "mine");
  }
  CHECK(weights[0] == weights[1]);
  CHECK(ReadFile(out / "runs" / "notes.txt") == "mine");

  json other = json::parse(ReadFile(data / "presets" / "tiny.json"));
  other["sft"]["steps"] = 4;
  WriteFileAtomically(data / "presets" / "tiny.json", other.dump());
  const Outcome refused = Swarr(Study(data, out));
  CHECK(refused.status == 1);
  CHECK(refused.Says("a study of other settings"));
  CHECK(Weights(out) == weights[0]);
}

TEST_CASE(
    "a study's file lists other ways beside RL: samples of an arm, kept or all, a teacher, other traces, sinks, shares "
    "of tokens") {
  const TempDirectory dir;
  const fs::path data = dir / "data", out = dir / "out";
  fs::create_directory(data);
  WriteData(data, json::parse(R"([
    {"arm": "sa_sft", "from": "base", "attention": "full", "sft": {}},
    {"arm": "swa_sft", "from": "base", "attention": "windowed", "sft": {}},
    {"arm": "swa_rl", "from": "swa_sft", "rl": {"steps": 1}},
    {"arm": "swa_sft_more", "from": "swa_sft", "sft": {}, "tokens_of": "swa_rl", "tokens_share": 0.5},
    {"arm": "restating", "from": "swa_sft", "sft": {"lr": 5e-4}, "restate_probability": 1, "tokens_of": "swa_rl"},
    {"arm": "own", "from": "swa_sft", "sft": {}, "samples_of": "swa_sft", "samples": 1, "sample_problems": 64,
     "tokens_of": "swa_rl"},
    {"arm": "own_all", "from": "swa_sft", "sft": {"steps": 1}, "samples_of": "swa_sft", "samples": 1, "keep": "all",
     "sample_problems": 64},
    {"arm": "others", "from": "swa_sft", "sft": {"steps": 1}, "samples_of": "sa_sft", "samples": 1},
    {"arm": "distilled", "from": "swa_sft", "sft": {}, "teacher": "sa_sft", "kl": "reverse"},
    {"arm": "on_policy", "from": "swa_sft", "teacher": "sa_sft",
     "rl": {"objective": "opd", "scale_rewards": null, "normalizer": null, "epsilon": null}},
    {"arm": "sinks", "from": "base", "attention": {"window": 16, "sinks": 10}, "sft": {}},
    {"arm": "wide", "from": "base", "attention": {"window": 64}}])"));
  // A model that answers, so that there are correct samples.
  fs::remove_all(data / "base");
  fs::copy(fs::path(SWARR_TEST_DATA) / "../../data/chain-base", data / "base");
  const Outcome outcome = Swarr(Study(data, out));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  std::map<std::string, json> runs;
  const json results = json::parse(ReadFile(out / "results.json"));
  for (const json& run : results["runs"]) runs[run["arm"]] = run;
  CHECK(runs.size() == 12);
  const auto tokens = [&](const char* arm, const char* which) { return runs.at(arm)[which].get<int>(); };
  const int budget = tokens("swa_rl", "trained_tokens");
  CHECK(tokens("swa_rl", "sampled_tokens") > 0);
  CHECK(tokens("swa_rl", "sampled_tokens") < budget);  // prompts are not sampled
  // A step has two documents of at most two steps, each restated: at most 2 (10 + 2 * 14 + 3) tokens.
  constexpr int kStep = 82;
  for (const char* arm : {"restating", "own"}) {
    CAPTURE(arm);
    CHECK(tokens(arm, "trained_tokens") > budget - 3 * kStep);
    CHECK(tokens(arm, "trained_tokens") < budget + 3 * kStep);
  }
  CHECK(tokens("swa_sft_more", "trained_tokens") > budget / 2 - kStep);
  CHECK(tokens("swa_sft_more", "trained_tokens") < budget / 2 + 2 * kStep);
  CHECK(tokens("own", "sampled_tokens") > 0);
  CHECK(tokens("own", "teacher_tokens") == 0);
  std::map<std::string, std::multiset<double>>
      rewards;  // of the rows that the two imitate, which are of the same draws
  for (const std::string kept : {"", "-all"}) {
    ForEachJsonLine(out / "samples" / ("swa_sft-1-of-64" + kept + "-seed0.jsonl"),
                    [&](int, const json& row) { rewards[kept].insert(row["reward"].get<double>()); });
  }
  CHECK(rewards[""].count(0) == 0);
  CHECK(rewards["-all"].count(0) > 0);
  CHECK(rewards["-all"].count(1) == rewards[""].count(1));
  CHECK(tokens("others", "sampled_tokens") == 0);
  CHECK(tokens("others", "teacher_tokens") > 0);
  for (const char* arm : {"distilled", "on_policy"}) {
    CHECK(tokens(arm, "teacher_tokens") == tokens(arm, "trained_tokens"));
  }
  CHECK(runs.at("sinks")["reach_bound"].is_null());
  CHECK(runs.at("wide")["facts_in_window"] == 1);  // of its own window, which holds all of a trace
  CHECK(ReadFile(out / "report.html").find("RL beside other ways") != std::string::npos);
}

TEST_CASE("a study of word problems, in bf16, counts what they need in place of the chain's facts") {
  const TempDirectory dir;
  const fs::path data = dir / "data", out = dir / "out";
  fs::create_directory(data);
  WriteData(data, json::parse(R"([
    {"arm": "sa_sft", "from": "base", "attention": "full", "sft": {}},
    {"arm": "swa_sft", "from": "base", "attention": "windowed", "sft": {}},
    {"arm": "swa_rl", "from": "swa_sft", "rl": {}},
    {"arm": "carrying", "from": "swa_sft", "sft": {}, "carry": 1}])"));
  fs::remove_all(data / "base");
  const Outcome pretrained = Swarr({"pretrain",
                                    "--task",
                                    "words",
                                    "--lines-min",
                                    "1",
                                    "--lines-max",
                                    "1",
                                    "--layers",
                                    "1",
                                    "--hidden-size",
                                    "16",
                                    "--heads",
                                    "2",
                                    "--ffn",
                                    "24",
                                    "--max-positions",
                                    "200",
                                    "--max-steps",
                                    "2",
                                    "--batch-size",
                                    "2",
                                    "--quiet",
                                    "--output-dir",
                                    (data / "base").string()});
  REQUIRE_MESSAGE(pretrained.status == 0, pretrained.err);
  json preset = json::parse(ReadFile(data / "presets" / "tiny.json"));
  preset["task"] = {{"name", "words"},  {"lines_min", 1}, {"lines_max", 1},
                    {"distractors", 0}, {"local", 0.5},   {"carry", 0.2}};
  preset["dtype"] = "bf16";
  WriteFileAtomically(data / "presets" / "tiny.json", preset.dump());
  const Outcome outcome = Swarr(Study(data, out));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  const json results = json::parse(ReadFile(out / "results.json"));
  CHECK(results["checks"]["rollout_logprob_max_abs_diff"] == 0.0);
  CHECK(results["settings"]["data_ceiling"].get<double>() <= 1);
  REQUIRE(results["runs"].size() == 4);
  for (const json& run : results["runs"]) {
    for (const char* measure : {"carry_rate", "needs_in_window", "local_share", "carried_per_line"}) {
      CHECK(run.contains(measure));
    }
    CHECK(!run.contains("restatement_rate"));
    CHECK(run["ceiling"].is_null());
    CHECK(run["reach_bound"].is_number() == (run["window"] == 16));
  }
  const auto config = [&](const char* arm) {
    return json::parse(ReadFile(out / "runs" / arm / "resolved_config.json"));
  };
  CHECK(config("swa_sft-seed0")["task"]["carry"] == 0.2);
  CHECK(config("carrying-seed0")["task"]["carry"] == 1);
  CHECK(ReadFile(out / "report.md").find("| brackets per line |") != std::string::npos);
}

TEST_CASE("a study goes on from its records alone, and trains again only what its missing arms start from") {
  const TempDirectory dir;
  const fs::path data = dir / "data", whole = dir / "whole", out = dir / "out";
  fs::create_directory(data);
  WriteData(data);
  REQUIRE(Swarr(Study(data, whole, /*keep_models=*/false)).status == 0);
  for (const auto& entry : fs::directory_iterator(whole / "runs")) {
    CHECK(fs::exists(entry.path() / "metrics.jsonl"));
    CHECK(!fs::exists(entry.path() / "model.safetensors"));
  }
  const json expected = json::parse(ReadFile(whole / "results.json"));
  // As on another machine: swa_rl, and swa_sft_more, which starts from swa_sft, are not done yet.
  fs::create_directory(out);
  fs::copy(whole / "settings.json", out / "settings.json");
  fs::copy(whole / "results", out / "results");
  for (const char* arm : {"swa_rl", "swa_sft_more"}) fs::remove(out / "results" / Concat(arm, "-seed0.json"));
  const Outcome outcome = Swarr(Study(data, out));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  const json results = json::parse(ReadFile(out / "results.json"));
  for (const char* part : {"runs", "summary", "checks"}) CHECK(results.at(part) == expected.at(part));
  std::set<std::string> trained;
  for (const auto& entry : fs::directory_iterator(out / "runs")) trained.insert(entry.path().filename().string());
  CHECK(trained == std::set<std::string>{"swa_sft-seed0", "swa_rl-seed0", "swa_sft_more-seed0"});

  // Names do not change what the records are of.
  json named = json::parse(ReadFile(data / "presets/tiny.json"));
  named["ways"] = {{"ways of RL", {{"swa_rl", "a new name"}}}};
  WriteFileAtomically(data / "presets/tiny.json", named.dump());
  fs::remove(out / "results.json");
  fs::remove_all(out / "runs");
  REQUIRE(Swarr(Study(data, out)).status == 0);
  CHECK(!fs::exists(out / "runs"));
  CHECK(ReadFile(out / "report.md").find("| a new name |") != std::string::npos);

  WriteFileAtomically(out / "results" / "swa_rl-seed0.json", R"({"study": ")" + std::string("x") + R"("})");
  fs::remove(out / "results.json");
  REQUIRE(Swarr(Study(data, out)).status == 0);  // a record of another study is none
  CHECK(json::parse(ReadFile(out / "results.json")).at("runs") == expected.at("runs"));
  WriteFileAtomically(out / "results" / "swa_rl-seed0.json", "{}");
  fs::remove(out / "results.json");
  const Outcome damaged = Swarr(Study(data, out));
  CHECK(damaged.status == 1);
  CHECK(damaged.Says("swa_rl-seed0.json is no record of an arm"));
}

TEST_CASE("a report is written again from records alone, whole or not, with links to files that are there") {
  const TempDirectory dir;
  const fs::path data = dir / "data", out = dir / "out";
  fs::create_directory(data);
  WriteData(data);
  REQUIRE(Swarr(Study(data, out)).status == 0);
  const std::string results = ReadFile(out / "results.json"), page = ReadFile(out / "report.html");
  for (std::size_t at = page.find("href=\""); at != std::string::npos; at = page.find("href=\"", at + 1)) {
    const std::string to = page.substr(at + 6, page.find('"', at + 6) - at - 6);
    if (to[0] != '#') CHECK_MESSAGE(fs::exists(out / to), to);
  }
  for (const char* part : {"gradient norm ", "<div class=\"trace\">"}) CHECK(page.find(part) != std::string::npos);

  const std::vector<std::string> flag = {"--report-only"}, again = Study(data, out) + flag;
  fs::remove_all(out / "runs");
  Outcome outcome = Swarr(again);
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(!fs::exists(out / "runs"));
  const json before = json::parse(results), after = json::parse(ReadFile(out / "results.json"));
  for (const char* part : {"runs", "summary", "checks", "cost"}) CHECK(after.at(part) == before.at(part));

  fs::remove(out / "results" / "swa_rl-seed0.json");
  fs::remove(out / "results.json");
  outcome = Swarr(again);
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(outcome.out.find("Not complete: 1 of 7 runs are missing.") != std::string::npos);
  CHECK(ReadFile(out / "report.html").find("Not complete: 1 of 7 runs are not measured yet: SWA, RL (seed 0).") !=
        std::string::npos);
  CHECK(!fs::exists(out / "results.json"));  // so the study goes on, and is not begun anew

  outcome = Swarr(Study(data, dir / "none") + flag);
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("holds no study"));
}

TEST_CASE("seeds take base models in turn, and arms may have learned sinks, full layers and longer problems") {
  const TempDirectory dir;
  const fs::path data = dir / "data", out = dir / "out";
  fs::create_directory(data);
  WriteData(data, json::parse(R"([
    {"arm": "swa_sft", "from": "base", "attention": "windowed", "sft": {}},
    {"arm": "learned", "from": "base", "attention": {"window": 16, "learned_sinks": true}, "sft": {}},
    {"arm": "learned_more", "from": "learned", "sft": {}},
    {"arm": "hybrid", "from": "base", "attention": {"window": 16, "full_every": 2}, "sft": {}}])"));
  fs::copy(data / "base", data / "other");
  json preset = json::parse(ReadFile(data / "presets" / "tiny.json"));
  preset["base_model"] = {"base", "other"};
  preset["seeds"] = 3;
  preset["evaluation"]["longer"] = {{"n_min", 3}, {"n_max", 3}};
  WriteFileAtomically(data / "presets" / "tiny.json", preset.dump());
  const Outcome outcome = Swarr(Study(data, out));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  const json results = json::parse(ReadFile(out / "results.json"));
  CHECK(results["runs"].size() == 12);
  for (const json& run : results["runs"]) {
    CHECK(run["base_model"] == (run["seed"] == 1 ? "other" : "base"));
    CHECK(run["device"] == "cpu");
    CHECK(run["longer_problems"] == 4);
    CHECK(run["accuracy_longer"].is_number());
    CHECK(run["reach_bound"].is_null() == (run["arm"] == "hybrid"));
  }
  const auto config = [&](const char* arm) { return json::parse(ReadFile(out / "runs" / arm / "config.json")); };
  CHECK(config("hybrid-seed0")["layer_types"].size() > 0);
  const auto has_sinks = [&](const char* arm) {
    return ReadFile(out / "runs" / arm / "model.safetensors").find("sinks") != std::string::npos;
  };
  CHECK(has_sinks("learned-seed0"));
  CHECK(has_sinks("learned_more-seed0"));
  CHECK(!has_sinks("swa_sft-seed0"));
}

TEST_CASE("runs that an interrupted overwriting has left from other settings are made again") {
  const TempDirectory dir;
  const fs::path data = dir / "data", changed = dir / "changed", out = dir / "out";
  fs::create_directory(data);
  WriteData(data);
  REQUIRE(Swarr(Study(data, out)).status == 0);
  json other = json::parse(ReadFile(data / "presets" / "tiny.json"));
  other["arms"][2]["sft"] = {{"lr", 3e-4}};
  WriteFileAtomically(data / "presets" / "tiny.json", other.dump());
  REQUIRE(Swarr(Study(data, changed)).status == 0);
  REQUIRE(Weights(out) != Weights(changed));
  // As --overwrite leaves the directory if it is killed before its first run.
  fs::copy_file(changed / "settings.json", out / "settings.json", fs::copy_options::overwrite_existing);
  fs::remove(out / "results.json");
  const Outcome outcome = Swarr(Study(data, out));
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(Weights(out) == Weights(changed));
}

TEST_CASE(
    "a study that is stopped or killed goes on where it was, to the same weights and numbers, and needs no reader") {
  const TempDirectory dir;
  const fs::path data = dir / "data", whole = dir / "whole";
  fs::create_directory(data);
  WriteData(data);
  REQUIRE(Program(Study(data, whole), WriteToClosedPipe).Wait().status == 0);
  const json expected = json::parse(ReadFile(whole / "results.json"));
  struct Moment {
    int signal, status;
    const char *arm, *file;  // the signal comes when this is there
  };
  for (const auto& [signal, status, arm, file] :
       {Moment{SIGTERM, 143, "swa_sft-seed0", "metrics.jsonl"}, Moment{SIGKILL, -1, "swa_rl-seed0", "metrics.jsonl"},
        Moment{SIGTERM, 143, "swa_sft_more-seed0", "model.safetensors"}}) {
    const fs::path out = dir / Concat(arm, signal);
    Program program(Study(data, out));
    for (int i = 0; i < 4000 && !fs::exists(out / "runs" / arm / file); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ::kill(program.pid(), signal);
    CHECK(program.Wait().status == status);
    REQUIRE(!fs::exists(out / "results.json"));
    const Outcome resumed = Swarr(Study(data, out));
    REQUIRE_MESSAGE(resumed.status == 0, resumed.err);
    CHECK(Weights(out) == Weights(whole));
    const json results = json::parse(ReadFile(out / "results.json"));
    for (const char* part : {"runs", "summary", "checks"}) CHECK(results.at(part) == expected.at(part));
  }
}
