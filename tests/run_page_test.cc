// SPDX-License-Identifier: Apache-2.0
// A page of runs side by side, from what their directories hold.
#include "page/run_page.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <regex>
#include <set>

#include "base/files.h"
#include "page/run_sections.h"
#include "temp_directory.h"
#include "train/run_files.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::ordered_json;

std::size_t Times(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// What a run has written after some of its steps.
fs::path MakeRun(const fs::path& dir, const ordered_json& config, int steps) {
  fs::create_directories(dir);
  WriteFileAtomically(dir / kConfigFile, config.dump());
  std::string rows;
  for (int step = 1; step <= steps; ++step) {
    ordered_json row = {{"step", step},    {"num_tokens", 100 * step}, {"loss", 2.0 / step},
                        {"entropy", 0.25}, {"grad_norm", 1.5},         {"step_time", 0.5}};
    if (config.value("command", "") == "rl")
      row.update({{"reward", 0.125 * step}, {"completions/mean_length", 40 + step}});
    rows += row.dump() + '\n';
  }
  if (steps > 0) WriteFileAtomically(dir / kMetricsFile, rows);
  return dir;
}

fs::path MakeSft(const fs::path& dir, int steps = 3, double lr = 0.001) {
  return MakeRun(dir, {{"command", "sft"}, {"max-steps", 5}, {"lr", lr}, {"seed", 0}}, steps);
}
fs::path MakeRl(const fs::path& dir, int steps = 3) {
  return MakeRun(dir, {{"command", "rl"}, {"max-steps", 3}, {"lr", 0.1}}, steps);
}

fs::path MakeEvaluation(const fs::path& dir) {
  fs::create_directories(dir);
  WriteFileAtomically(dir / kConfigFile, R"({"command": "eval", "samples": 2, "environment": {"threads": 3}})");
  WriteFileAtomically(
      dir / kEvaluationFile,
      R"({"problems": 8, "samples": 2, "accuracy": 0.5, "accuracy_ci95": [0.25, 0.75], "mean_length": 80.5,
                          "mean_length_ci95": [null, null], "dropped": {"too long": 2}})");
  WriteFileAtomically(dir / kEvaluatedFile,
                      R"({"prompt": "how many?", "completion": "<b>4</b>", "reward": 1.0, "finished": true})"
                      "\n");
  return dir;
}

std::string PageOf(const std::vector<fs::path>& directories) {
  return RunPage(ReadOutputs(directories), directories[0].parent_path(), {{"command", "swarr report"}});
}

}  // namespace

TEST_CASE("a run that goes on is shown as far as its last whole line") {
  const TempDirectory folder;
  const fs::path run = MakeSft(folder / "sft", 2);
  const std::string whole = ReadFile(run / kMetricsFile);
  WriteFileAtomically(run / kMetricsFile, whole + R"({"step":3,"num_tokens":300,"lo)");
  const RunOutput output = ReadOutput(run);
  CHECK(output.step() == 2);
  CHECK_FALSE(output.complete);
  REQUIRE(output.training.size() == 3);
  CHECK(output.training[0].points == std::vector<std::array<double, 2>>{{1, 2}, {2, 1}});
  const std::string page = PageOf({run});
  CHECK(page.find("step 2 of 5") != std::string::npos);
  CHECK(page.find("Not all of this is complete") != std::string::npos);
}

TEST_CASE("a last line without its end counts if it is whole, and a broken one before it is told of") {
  const TempDirectory folder;
  const fs::path run = MakeSft(folder / "sft", 2);
  const std::string rows = ReadFile(run / kMetricsFile);
  WriteFileAtomically(run / kMetricsFile, rows + R"({"step":3,"loss":1})");
  CHECK(ReadOutput(run).step() == 3);
  WriteFileAtomically(run / kMetricsFile, R"({"step":1,"lo)"
                                          "\n" +
                                              rows);
  CHECK_THROWS_WITH_AS(ReadOutput(run), Contains("metrics.jsonl:1: "), Error);
  WriteFileAtomically(run / kMetricsFile, R"({"st)");  // the first row is being written
  CHECK(ReadOutput(run).step() == 0);
}

TEST_CASE("a run that has not ended its first step is on the page, without curves") {
  const TempDirectory folder;
  const std::string page = PageOf({MakeSft(folder / "sft", 0)});
  CHECK(page.find("no step yet") != std::string::npos);
  CHECK(page.find("<section id=\"training\">") == std::string::npos);
}

TEST_CASE("reading a run writes nothing and takes no lock") {
  const TempDirectory folder;
  const fs::path run = MakeSft(folder / "sft");
  fs::permissions(run, fs::perms::owner_read | fs::perms::owner_exec);
  PageOf({run});
  CHECK(std::distance(fs::directory_iterator(run), {}) == 2);
  fs::permissions(run, fs::perms::owner_all);
}

TEST_CASE("runs of one kind share panels, each with a line of its own and a name in the legend") {
  const TempDirectory folder;
  const RunOutputs outputs = ReadOutputs({MakeSft(folder / "a"), MakeSft(folder / "b", 5), MakeRl(folder / "policy")});
  const std::string curves = CurveSection(outputs);
  CHECK(Times(curves, "<figure>") == 2);
  CHECK(Times(curves, ">loss</text>") == 2);  // a panel of SFT, and one of RL
  CHECK(Times(curves, ">reward</text>") == 1);
  CHECK(Times(curves, ">a</text>") == 1);
  CHECK(Times(curves, ">b</text>") == 1);
  CHECK(Times(curves, ">a: 2 at step 1, 0.6667 at step 3<") == 1);
  CHECK(Times(curves, ">b: 2 at step 1, 0.4 at step 5<") == 1);
  CHECK(LineMark(outputs, outputs[0]) != LineMark(outputs, outputs[1]));
}

TEST_CASE("twelve runs have twelve different lines") {
  const TempDirectory folder;
  std::vector<fs::path> runs;
  for (int i = 0; i < 12; ++i) runs.push_back(MakeSft(folder / Concat("run", i), 1));
  const RunOutputs outputs = ReadOutputs(runs);
  std::set<std::string> marks;
  for (const RunOutput& output : outputs) marks.insert(LineMark(outputs, output));
  CHECK(marks.size() == 12);
}

TEST_CASE("settings in which runs differ stand beside each other, those that they share apart") {
  const TempDirectory folder;
  const std::string section = SettingSection(ReadOutputs({MakeSft(folder / "a"), MakeSft(folder / "b", 3, 0.0005)}));
  const std::string differing = section.substr(0, section.find("<details>"));
  CHECK(differing.find("<tr><td>lr</td><td>0.001</td><td>0.0005</td></tr>") != std::string::npos);
  CHECK(differing.find("max-steps") == std::string::npos);
  CHECK(section.find("<summary>2 settings that all 2 share</summary>") != std::string::npos);
  CHECK(section.find("<tr><td>max-steps</td><td>5</td></tr>") != std::string::npos);
}

TEST_CASE("an evaluation shows its measures with their intervals and a completion as text") {
  const TempDirectory folder;
  const std::string page = PageOf({MakeEvaluation(folder / "eval")});
  CHECK(page.find("<td>accuracy</td><td>0.500 [0.250, 0.750]</td>") != std::string::npos);
  CHECK(page.find("<td>mean_length</td><td>80.5</td>") != std::string::npos);
  CHECK(page.find("<td>dropped.too long</td><td>2</td>") != std::string::npos);
  CHECK(page.find("<pre>&lt;b&gt;4&lt;/b&gt;</pre>") != std::string::npos);
  CHECK(page.find("Made by threads 3") != std::string::npos);
}

TEST_CASE("restatements are counted in the completions of RL, and its last step's are shown") {
  const TempDirectory folder;
  const fs::path run = MakeRl(folder / "rl", 2);
  fs::create_directories(run / kCompletions);
  const auto row = [](const std::string& completion) {
    return ordered_json{{"prompt", "a2b1n02x3?"}, {"completion", completion}, {"reward", 1.0}, {"finished", true}}
               .dump() +
           '\n';
  };
  WriteFileAtomically(CompletionsPath(run, 1), row("01:7,02:2,#2") + row("[a2b1n02]01:7,02:2,#2"));
  WriteFileAtomically(CompletionsPath(run, 2), row("[a2b1n02]01:7,[a2b1n02]02:2,#2"));
  WriteFileAtomically(CompletionsPath(run, 3), row("01:7,#7"));  // of a step that has not ended
  const RunOutput output = ReadOutput(run);
  REQUIRE(output.training.back().metric == kRestatementMetric);
  CHECK(output.training.back().points == std::vector<std::array<double, 2>>{{1, 0.25}, {2, 1}});
  REQUIRE(output.completions.size() == 1);
  CHECK(output.completions[0].completion == "[a2b1n02]01:7,[a2b1n02]02:2,#2");
}

TEST_CASE("names are as long as tells the outputs apart, and one that is named twice is shown once") {
  const TempDirectory folder;
  MakeSft(folder / "x" / "sft"), MakeSft(folder / "y" / "sft"), MakeSft(folder / "z");
  const RunOutputs outputs = ReadOutputs({folder / "x/sft", folder / "y/sft/", folder / "z", folder / "x/../z"});
  REQUIRE(outputs.size() == 3);
  CHECK(outputs[0].name == "x/sft");
  CHECK(outputs[1].name == "y/sft");
  CHECK(outputs[2].name == "z");
}

TEST_CASE("a study's directory stands for all of its runs") {
  const TempDirectory folder;
  WriteFileAtomically(folder / "settings.json", "{}");
  fs::create_directories(folder / "runs");
  CHECK_THROWS_WITH_AS(OutputsIn(folder.path()), Contains("is a study's and has no run yet"), Error);
  MakeRun(folder / "runs" / "swa_sft-seed0", {{"stage", "sft"}, {"study", "x"}, {"steps", 3}}, 3);
  fs::create_directories(folder / "runs" / "swa_rl-seed0");  // not begun
  const std::vector<fs::path> runs = OutputsIn(folder.path());
  REQUIRE(runs.size() == 1);
  CHECK(ReadOutput(runs[0]).command == "sft");
  CHECK(OutputsIn(runs[0]) == runs);
}

TEST_CASE("a study's runs have their settings under the names of options, as other runs have") {
  const TempDirectory folder;
  const ordered_json task = {{"n_min", 4}, {"n_max", 20}, {"restate_probability", 0.15}};
  MakeRun(folder / "of_study", {{"stage", "rl"}, {"study", "x"}, {"steps", 3}, {"num_generations", 8}, {"task", task}},
          3);
  const ordered_json options = {{"command", "rl"}, {"max-steps", 3}, {"num-generations", 8}, {"task", "chain"},
                                {"restate", 0.15}, {"n-min", 4},     {"n-max", 20}};
  MakeRun(folder / "other", options, 3);
  const RunOutputs outputs = ReadOutputs({folder / "of_study", folder / "other"});
  CHECK(outputs[0].steps == 3);
  CHECK(Compare({outputs[0].settings, outputs[1].settings}).different == std::vector<std::string>{"study"});
}

TEST_CASE("an evaluation whose numbers eval can't have written is refused in a sentence") {
  const TempDirectory folder;
  const ordered_json good = {{"problems", 8},
                             {"samples", 1},
                             {"accuracy", 0.5},
                             {"accuracy_ci95", {0.2, 0.8}},
                             {"dropped", ordered_json::object()}};
  const auto read = [&](const ordered_json& changes) {
    ordered_json evaluation = good;
    evaluation.merge_patch(changes);
    MakeRun(folder / "eval", {{"command", "eval"}}, 0);
    WriteFileAtomically(folder / "eval" / "evaluation.json", evaluation.dump());
    ReadOutput(folder / "eval");
  };
  read({{"mean_length_ci95", {ordered_json(), ordered_json()}}});  // of one problem
  CHECK_THROWS_WITH_AS(read({{"problems", nullptr}}), Contains("evaluation.json: problems is null; it must be a count"),
                       Error);
  CHECK_THROWS_WITH_AS(read({{"samples", 0.5}}), Contains("samples is 0.5; it must be a count"), Error);
  CHECK_THROWS_WITH_AS(read({{"accuracy", 1.5}}), Contains("accuracy is 1.5; it must be from 0 to 1"), Error);
  CHECK_THROWS_WITH_AS(read({{"accuracy_ci95", {0.8, 0.2}}}), Contains("it must be an interval"), Error);
  CHECK_THROWS_WITH_AS(read({{"truncated", "few"}}), Contains("truncated is \"few\"; it must be a number"), Error);
}

TEST_CASE("what is no output of a run or an evaluation, or lacks its settings, is refused in a sentence") {
  const TempDirectory folder;
  CHECK_THROWS_WITH_AS(ReadOutput(folder / "none"), Contains("is no directory"), Error);
  CHECK_THROWS_WITH_AS(ReadOutput(folder.path()), Contains("has no resolved_config.json, which says what was run"),
                       Error);
  const fs::path run = MakeRun(folder / "a", {{"command", "convert"}}, 0);
  CHECK_THROWS_WITH_AS(ReadOutput(run), Contains("is the output of convert, not of pretrain, sft, rl or eval"), Error);
  CHECK_THROWS_WITH_AS(ReadOutput(MakeRun(folder / "b", {{"command", "eval"}}, 0)), Contains("has no evaluation.json"),
                       Error);
  CHECK_THROWS_WITH_AS(ReadOutput(MakeRun(folder / "c", {{"command", "sft"}, {"max-steps", "many"}}, 0)),
                       Contains("wrong type"), Error);
  CHECK_THROWS_WITH_AS(ReadOutput(folder.path()), Contains("/* has 3"), Error);
}

TEST_CASE("the page needs no network, runs no script, and escapes what the files say") {
  const TempDirectory folder;
  const fs::path run = MakeRun(folder / "a <i>&", {{"command", "sft"}, {"data", "</td><script>x</script>"}}, 2);
  std::string page = PageOf({run, MakeRl(folder / "rl"), MakeEvaluation(folder / "eval")});
  CHECK(page.find("</td><script>x") == std::string::npos);
  CHECK(page.find("&lt;script&gt;x") != std::string::npos);
  CHECK(page.find("href=\"a%20%3Ci%3E%26/resolved_config.json\"") != std::string::npos);
  page = std::regex_replace(page, std::regex("xmlns=\"http://www.w3.org/2000/svg\""), "");  // a name, no address
  for (const char* foreign : {"http:", "https:", "//cdn", "<script", "@import", "url(", " src="}) {
    CHECK_MESSAGE(page.find(foreign) == std::string::npos, foreign);
  }
}

TEST_CASE("a page of as many runs as there may be, with long curves and texts, stays below two megabytes") {
  RunOutputs outputs(kMostOutputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    RunOutput& output = outputs[i];
    output.directory = Concat("/a/folder/of/runs/run", i);
    output.name = Concat("run", i);
    output.command = "rl";
    for (int k = 0; k < 60; ++k) output.settings.emplace_back(Concat("setting-", k), k < 15 ? output.name : "same");
    output.environment = {{"device", "cpu"}, {"revision", "0123456"}};
    for (const ShownMetric& shown : kShownMetrics) {
      TrainingCurve& curve = output.training.emplace_back(TrainingCurve{.metric = shown.metric});
      for (int k = 0; k < 100; ++k) curve.points.push_back({1000.0 * k, 0.01 * (k * 37 % 100)});
    }
    output.recent.push_back({{"step", 99'000}, {"loss", 0.5}});
    for (int k = 0; k < 20; ++k) output.warnings.emplace_back(k, "the reward collapses");
    for (int k = 0; k < 3; ++k) output.completions.push_back({.prompt = "p", .completion = std::string(100'000, '<')});
  }
  const std::string page = RunPage(outputs, "/a/folder", {});
  CHECK(page.size() > 500'000);  // all are there
  CHECK(page.size() < kMostPageBytes);
  outputs.emplace_back();
  CHECK_THROWS_WITH_AS(RunPage(outputs, "/a/folder", {}), Contains("a page shows at most 256 outputs"), Error);
}

}  // namespace swarr
