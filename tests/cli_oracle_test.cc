// SPDX-License-Identifier: Apache-2.0
// swarr oracle as its user meets it: files, words, exit status.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "oracle/export.h"
#include "program.h"
#include "tensor/safetensors.h"

using namespace swarr;
using nlohmann::json;

namespace {

// A candidate's directory with the suite's outputs under this mistake, in f64.
void WriteCandidate(const std::filesystem::path& dir, const std::string& name, const std::string& mistake) {
  const oracle::Suite suite = oracle::MakeSuite(name);
  oracle::Expectations expectations(suite);
  std::map<std::string, const oracle::Value*> values;
  for (const oracle::Family& family : suite.families) {
    for (const oracle::Case& c : family.cases) {
      for (const auto& [tensor, value] : expectations.Outputs(family, c, mistake)) {
        values[c.name + "." + tensor] = &value;
      }
    }
  }
  std::filesystem::create_directories(dir);
  oracle::WriteValues(dir / (name + ".safetensors"), values);
}

}  // namespace

TEST_CASE("oracle export writes a suite whose manifest names every tensor of its files") {
  const TempDirectory dir;
  for (const std::string name : {"ops", "attention"}) {
    const Outcome done = Swarr({"oracle", "export", "--suite", name, "--output-dir", (dir / "out").string()});
    REQUIRE_MESSAGE(done.status == 0, done.err);
    const std::filesystem::path out = dir / "out" / name;
    const std::string files = "manifest.json, inputs.safetensors and expected.safetensors";
    CHECK(done.out.starts_with(Concat("wrote ", files, " of ")));
    CHECK(done.out.ends_with(Concat(" cases to ", out.string(), "\n")));
    const json manifest = json::parse(ReadFile(out / "manifest.json"));
    const SafetensorsFile inputs(out / "inputs.safetensors"), expected(out / "expected.safetensors");
    const std::string rule = manifest["tolerance"]["dtype"];
    CHECK(rule.find("of a gradient, and of a value that is a `sum`, the coarsest among all") != std::string::npos);
    std::size_t in = 0, of_truth = 0;
    for (const json& family : manifest["families"]) {
      for (const json& c : family["cases"]) {
        const std::string prefix = c["name"].get<std::string>() + ".";
        for (const auto& item : c["inputs"].items()) {
          CHECK(inputs.shape(prefix + item.key()) == item.value()["shape"].get<std::vector<std::int64_t>>());
          ++in;
        }
        for (const auto& item : c["outputs"].items()) {
          CHECK(expected.shape(prefix + item.key()) == item.value()["shape"].get<std::vector<std::int64_t>>());
          for (const char* dtype : {"f64", "f32", "f16", "bf16"}) CHECK(item.value()["tolerance"][dtype] >= 0);
          ++of_truth;
        }
      }
    }
    CHECK(in == inputs.names().size());
    CHECK(of_truth == expected.names().size());
  }
}

TEST_CASE("oracle check accepts what export expects with status 0, and names a mistake with status 1") {
  const TempDirectory dir;
  WriteCandidate(dir / "right", "attention", "");
  const Outcome right = Swarr({"oracle", "check", "--suite", "attention", "--candidate", (dir / "right").string()});
  CHECK(right.status == 0);
  CHECK(right.out == "suite attention: all 67 cases pass, judged in f64\n");
  const Outcome cancelled =
      Swarr({"oracle", "check", "--suite", "attention", "--candidate", (dir / "right").string(), "--cases", "window_2",
             "--accept", "a window of W+1 keys", "--accept", "a window of W-1 keys"});
  CHECK(cancelled.status == 2);
  CHECK(cancelled.IsOneSentence());
  CHECK(cancelled.Says("the conventions of --accept cancel each other"));

  WriteCandidate(dir / "wrong", "attention", "sinks counted inside the window");
  const std::vector<std::string> check = {"oracle",    "check",       "--suite",
                                          "attention", "--candidate", (dir / "wrong").string()};
  const Outcome wrong = Swarr(check);
  CHECK(wrong.status == 1);
  CHECK(wrong.IsOneSentence());
  CHECK(wrong.out.find("matches sinks counted inside the window: 20 of 20 failing cases") != std::string::npos);
  std::vector<std::string> as_json = check;
  as_json.push_back("--json");
  const Outcome machine = Swarr(as_json);
  CHECK(machine.status == 1);
  const json result = json::parse(machine.out);
  CHECK(result["accepted"] == false);
  CHECK(result["failing"].size() == 20);
  CHECK(result["diagnosis"][0]["complete"] == true);
  CHECK(result["diagnosis"][0]["explanations"][0]["mistakes"][0] == "sinks counted inside the window");
}

TEST_CASE("oracle says in one sentence what is no suite and where there is no candidate") {
  const TempDirectory dir;
  const Outcome suite = Swarr({"oracle", "export", "--suite", "optics", "--output-dir", (dir / "out").string()});
  CHECK(suite.status == 2);
  CHECK(suite.IsOneSentence());
  CHECK(suite.Says("there is no suite 'optics'; there are attention, ops, loss, advantages, policy"));
  const Outcome candidate = Swarr({"oracle", "check", "--suite", "ops", "--candidate", dir.path().string()});
  CHECK(candidate.status == 1);
  CHECK(candidate.IsOneSentence());
  CHECK(candidate.Says("ops.safetensors"));
  WriteFileAtomically(dir / "ops.safetensors", "");
  const std::string path = (dir / "ops.safetensors").string();
  const Outcome file = Swarr({"oracle", "check", "--suite", "ops", "--candidate", path});
  CHECK(file.status == 1);
  CHECK(file.IsOneSentence());
  CHECK(file.Says(path + " is a file; a candidate for the suite ops is the directory that holds ops.safetensors"));
}

TEST_CASE("oracle export replaces an earlier export with --overwrite alone, and what is no export's never") {
  const TempDirectory dir;
  const auto manifest = dir / "out" / "rollout" / "manifest.json";
  const std::vector<std::string> command = {"oracle",  "export",       "--suite",
                                            "rollout", "--output-dir", (dir / "out").string()};
  std::filesystem::create_directories(manifest.parent_path());
  WriteFileAtomically(manifest, "mine");
  const Outcome refused = Swarr(command);
  CHECK(refused.status == 1);
  CHECK(refused.IsOneSentence());
  CHECK_MESSAGE(refused.Says("is not empty; choose another --output-dir, or replace what is there with --overwrite"),
                refused.err);
  CHECK(ReadFile(manifest) == "mine");
  CHECK(Swarr(command + std::vector<std::string>{"--overwrite"}).status == 0);
  CHECK(ReadFile(manifest) != "mine");
  WriteFileAtomically(manifest.parent_path() / "notes.txt", "mine");
  CHECK(Swarr(command + std::vector<std::string>{"--overwrite"}).Says("it holds notes.txt"));
}

TEST_CASE("oracle export refuses an empty directory's name and threads that no machine has") {
  const TempDirectory dir;
  const auto refused = [](const std::string& output_dir, const std::string& threads) {
    const Outcome done =
        Swarr({"oracle", "export", "--suite", "ops", "--output-dir", output_dir, "--threads", threads});
    CHECK(done.status == 2);
    CHECK(done.IsOneSentence());
    return done;
  };
  CHECK(refused("", "1").Says("--output-dir is empty"));
  CHECK(refused((dir / "out").string(), "-3").Says("--threads"));
  CHECK(refused((dir / "out").string(), "100000").Says("--threads"));
}
