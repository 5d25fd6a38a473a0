// SPDX-License-Identifier: Apache-2.0
// What a study's directory may be gone on with, and what is refused.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "small_study.h"

namespace swarr {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// A data directory with a study of two arms, the second from the first.
fs::path DataOfTwoArms(const TempDirectory& dir) {
  const fs::path data = dir / "data";
  fs::create_directory(data);
  WriteData(data, json::parse(R"([
    {"arm": "swa_sft", "from": "base", "attention": "windowed", "sft": {}},
    {"arm": "swa_rl", "from": "swa_sft", "rl": {}}])"));
  return data;
}

std::map<fs::path, std::string> FilesOf(const fs::path& dir) {
  std::map<fs::path, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(dir)) {
    if (entry.is_regular_file()) files[entry.path()] = ReadFile(entry.path());
  }
  return files;
}

json RunsOf(const fs::path& out) { return json::parse(ReadFile(out / "results.json")).at("runs"); }

// Another value of the last weight.
void ChangeWeights(const fs::path& model) {
  std::string bytes = ReadFile(model / "model.safetensors");
  bytes[bytes.size() - 2] = static_cast<char>(bytes[bytes.size() - 2] ^ 1);
  WriteFileAtomically(model / "model.safetensors", bytes);
}

TEST_CASE("a study whose base model's weights were replaced is refused, and made again from them with --overwrite") {
  const TempDirectory dir;
  const fs::path data = DataOfTwoArms(dir), out = dir / "out", fresh = dir / "fresh";
  REQUIRE(Swarr(Study(data, out) + std::vector<std::string>{"--arms", "swa_sft"}).status == 0);
  ChangeWeights(data / "base");
  const auto before = FilesOf(out);
  for (const std::vector<std::string>& flags : {std::vector<std::string>{}, {"--report-only"}}) {
    const Outcome refused = Swarr(Study(data, out) + flags);
    CHECK(refused.status == 1);
    CHECK(refused.Says("out was written with another " + (data / "base").string()));
  }
  CHECK(FilesOf(out) == before);

  REQUIRE(Swarr(Study(data, fresh)).status == 0);
  // As --overwrite leaves the directory if it is killed before its first run.
  const fs::path killed = dir / "killed";
  fs::copy(out, killed, fs::copy_options::recursive);
  fs::remove_all(killed / "results");
  fs::copy_file(fresh / "settings.json", killed / "settings.json", fs::copy_options::overwrite_existing);
  CHECK(Swarr(Study(data, killed)).status == 0);
  CHECK(Swarr(Study(data, out) + std::vector<std::string>{"--overwrite"}).status == 0);
  for (const fs::path& made : {out, killed}) CHECK(RunsOf(made) == RunsOf(fresh));
}

TEST_CASE(
    "a record that was made from another base model is refused where records of several places are put together") {
  const TempDirectory dir;
  const fs::path data = DataOfTwoArms(dir), one = dir / "one", other = dir / "other",
                 record = "results/swa_sft-seed0.json";
  REQUIRE(Swarr(Study(data, one) + std::vector<std::string>{"--arms", "swa_sft"}).status == 0);
  ChangeWeights(data / "base");
  REQUIRE(Swarr(Study(data, other) + std::vector<std::string>{"--arms", "swa_sft"}).status == 0);
  fs::copy_file(one / record, other / record, fs::copy_options::overwrite_existing);
  for (const std::vector<std::string>& flags : {std::vector<std::string>{}, {"--report-only"}}) {
    const Outcome refused = Swarr(Study(data, other) + flags);
    CHECK(refused.status == 1);
    CHECK(refused.Says((other / record).string() + " was written with another " + (data / "base").string()));
  }
}

TEST_CASE("records of a version that kept no hashes of inputs are read, and gone on with") {
  const TempDirectory dir;
  const fs::path data = DataOfTwoArms(dir), out = dir / "out";
  REQUIRE(Swarr(Study(data, out)).status == 0);
  const json expected = RunsOf(out);
  for (const char* file : {"settings.json", "results/swa_sft-seed0.json", "results/swa_rl-seed0.json"}) {
    auto old = nlohmann::ordered_json::parse(ReadFile(out / file));
    REQUIRE(old.erase("inputs") == 1);
    WriteFileAtomically(out / file, old.dump());
  }
  CHECK(Swarr(Study(data, out) + std::vector<std::string>{"--report-only"}).status == 0);
  CHECK(RunsOf(out) == expected);
  fs::remove(out / "results.json");
  CHECK(Swarr(Study(data, out)).status == 0);
  CHECK(RunsOf(out) == expected);
}

TEST_CASE("a complete study is refused without --overwrite, and nothing of it changes") {
  const TempDirectory dir;
  const fs::path data = DataOfTwoArms(dir), out = dir / "out";
  REQUIRE(Swarr(Study(data, out)).status == 0);
  const auto before = FilesOf(out);
  const Outcome refused = Swarr(Study(data, out));
  CHECK(refused.status == 1);
  CHECK(refused.Says("out already holds this study, complete; choose another --output-dir"));
  CHECK(FilesOf(out) == before);
}

TEST_CASE("a complete study goes on with more seeds and with a record that is gone, and makes nothing else again") {
  for (const bool keep_models : {true, false}) {
    CAPTURE(keep_models);
    const TempDirectory dir;
    const fs::path data = DataOfTwoArms(dir), out = dir / "out", both = dir / "both";
    const std::vector<std::string> two = {"--seeds", "2"};
    REQUIRE(Swarr(Study(data, both, keep_models) + two).status == 0);
    REQUIRE(Swarr(Study(data, out, keep_models)).status == 0);
    const fs::path first = out / "results" / "swa_sft-seed0.json", last = out / "results" / "swa_rl-seed0.json";
    const std::string kept = ReadFile(first);
    Outcome outcome = Swarr(Study(data, out, keep_models) + two);
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    CHECK(RunsOf(out) == RunsOf(both));
    fs::remove(last);
    outcome = Swarr(Study(data, out, keep_models) + two);
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    CHECK(RunsOf(out) == RunsOf(both));
    CHECK(ReadFile(first) == kept);  // with the seconds that it took
  }
}

}  // namespace
}  // namespace swarr
