// SPDX-License-Identifier: Apache-2.0
// swarr report on what the program itself has written, and the directory of an evaluation.
#include <doctest/doctest.h>

#include "program.h"

using namespace swarr;

namespace {

const std::vector<std::string> kQuick = {"--threads", "1", "--quiet"};

std::vector<std::string> Evaluate(const std::string& output_dir) {
  return std::vector<std::string>{"eval",    "--model",  TinyModel(), "--problems", "4",      "--samples",
                                  "2",       "--greedy", "--seed",    "3",          "--json", "--output-dir",
                                  output_dir} +
         kShort + kQuick;
}

}  // namespace

TEST_CASE("report puts a training, RL and an evaluation on one page, and says where it is") {
  const TempDirectory dir;
  const std::string rl = (dir / "rl").string(), eval = (dir / "eval").string(), page = (dir / "page.html").string();
  const Outcome trained =
      Swarr(std::vector<std::string>{"rl", "--model", TinyModel(), "--max-steps", "2", "--prompts-per-step", "2",
                                     "--num-generations", "2", "--output-dir", rl} +
            kShort + kQuick);
  REQUIRE_MESSAGE(trained.status == 0, trained.err);
  REQUIRE(Swarr(Evaluate(eval)).status == 0);
  const Outcome outcome = Swarr({"report", TinyModel(), rl, eval, "--output", page});
  CHECK_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(outcome.out == "report: " + page + "\n");
  const std::string html = ReadFile(page);
  for (const char* part :
       {"<h1>model, rl, eval</h1>", ">restating</text>", "<td>accuracy_greedy</td>", "<div class=\"trace\">",
        "swarr rl --config ", "href=\"rl/metrics.jsonl\"", "href=\"eval/completions.jsonl\"", "swarr report "}) {
    CHECK_MESSAGE(html.find(part) != std::string::npos, part);
  }
}

TEST_CASE("report replaces its own pages, also in the directory of a run, and no other file") {
  const TempDirectory dir;
  const std::string page = (dir / "page.html").string();
  for (int i = 0; i < 2; ++i) CHECK(Swarr({"report", TinyModel(), "--output", page}).status == 0);
  std::filesystem::copy(TinyModel(), dir / "run");
  const std::string run = (dir / "run").string(), inside = run + "/page.html";
  for (int i = 0; i < 2; ++i) CHECK(Swarr({"report", run, "--output", inside}).status == 0);
  WriteFileAtomically(page, "somebody's");
  const Outcome refused = Swarr({"report", TinyModel(), "--output", page});
  CHECK(refused.status == 1);
  CHECK(refused.IsOneSentence());
  CHECK(refused.Says("which is there already"));
  CHECK(ReadFile(page) == "somebody's");
  CHECK(Swarr({"report", TinyModel(), "--output", page, "--overwrite"}).status == 0);
  const std::string config = run + "/config.json";
  CHECK(Swarr({"report", run, "--output", config, "--overwrite"}).Says("whose files are never replaced"));
}

TEST_CASE("report without a directory, or with one that is no output, says what it needs") {
  const Outcome without = Swarr({"report"});
  CHECK(without.status == 2);
  CHECK(without.Says("report needs a directory that pretrain, sft, rl or eval has written"));
  const TempDirectory dir;
  const Outcome empty = Swarr({"report", dir.path().string()});
  CHECK(empty.status == 1);
  CHECK(empty.IsOneSentence());
  CHECK(empty.Says("has no resolved_config.json"));
}

TEST_CASE("directories may stand after their flag or in a configuration, and may have a command's name") {
  const TempDirectory dir;
  const std::string page = (dir / "page.html").string(), config = (dir / "config.json").string();
  CHECK(Swarr({"report", "--directories", TinyModel(), "--output", page}).status == 0);
  WriteFileAtomically(config, nlohmann::json{{"directories", {TinyModel()}}, {"output", page}}.dump());
  CHECK(Swarr({"report", "--config", config}).status == 0);
  CHECK(Swarr({"report", "rl", "--output", page}).Says("rl is no directory"));
}

TEST_CASE("eval --output-dir keeps measures, completions and settings, which give the same again") {
  const TempDirectory dir;
  const std::string first = (dir / "first").string(), second = (dir / "second").string();
  const nlohmann::json printed = JsonOf(Evaluate(first));
  CHECK(nlohmann::json::parse(ReadFile(first + "/evaluation.json")) == printed);
  CHECK(Lines(first + "/completions.jsonl").size() == 8);
  const Outcome again = Swarr({"eval", "--config", first + "/resolved_config.json", "--output-dir", second, "--quiet"});
  REQUIRE_MESSAGE(again.status == 0, again.err);
  for (const char* file : {"/evaluation.json", "/completions.jsonl"}) {
    CHECK(ReadFile(first + file) == ReadFile(second + file));
  }
  const Outcome taken = Swarr(Evaluate(first));
  CHECK(taken.Says("is not empty; choose another --output-dir"));
  CHECK(Swarr(Evaluate(first) + std::vector<std::string>{"--overwrite"}).status == 0);
  const Outcome model = Swarr(Evaluate(TinyModel()) + std::vector<std::string>{"--overwrite"});
  CHECK(model.status == 1);
  CHECK(model.Says("the directory of a model or a run; give the evaluation one of its own"));
}
