// SPDX-License-Identifier: Apache-2.0
#include "study/report.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/check.h"
#include "base/files.h"
#include "made_up_study.h"
#include "study/statistics.h"
#include "task/ceiling.h"
#include "temp_directory.h"

using namespace swarr;

namespace {

// The way back from outcomes.jsonl: runs in the order in which they appear. Throws Error, naming file and line, for a
// row that it can't understand.
std::vector<ArmRun> ReadOutcomes(const std::string& path) {
  std::vector<ArmRun> runs;
  ForEachJsonLine(path, [&](int, const nlohmann::json& row) {
    const auto arm = row.at("arm").get<std::string>();
    const auto seed = row.at("seed").get<std::uint64_t>();
    auto run = std::ranges::find_if(runs, [&](const ArmRun& r) { return r.arm == arm && r.seed == seed; });
    if (run == runs.end()) {
      run = runs.insert(run, ArmRun());
      run->arm = arm;
      run->seed = seed;
    }
    run->outcomes.push_back({.problem = row.at("problem"),
                             .steps = row.at("steps"),
                             .correct_sampled = row.at("correct_sampled"),
                             .correct_greedy = row.at("correct_greedy"),
                             .length = row.at("length"),
                             .truncated = row.at("truncated"),
                             .counts = {row.at("steps_written"), row.at("restatements"), row.at("facts"),
                                        row.at("facts_in_window"), row.at("distance_sum")},
                             .in_reach = row.at("in_reach"),
                             .best_chance = row.at("best_chance"),
                             .runs = row.at("runs")});
  });
  return runs;
}

std::vector<std::string> Keys(const nlohmann::ordered_json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

std::size_t Count(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// Whether every element that is opened is closed in order, and every attribute is quoted.
bool WellFormed(std::string_view xml) {
  std::vector<std::string> open;
  for (std::size_t at = xml.find('<'); at != std::string_view::npos; at = xml.find('<', at + 1)) {
    const std::size_t end = xml.find('>', at);
    if (end == std::string_view::npos) return false;
    const std::string_view tag = xml.substr(at + 1, end - at - 1);
    if (Count(tag, "\"") % 2 != 0 || Count(tag, "<") != 0) return false;
    if (tag.front() == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.emplace_back(tag.substr(0, tag.find(' ')));
    }
  }
  return open.empty();
}

}  // namespace

TEST_CASE("results.json has the contract's fields, and null where there is no number") {
  const nlohmann::ordered_json j = ToJson(MadeUpResults(40, 45, 93));
  for (const char* key : {"preset", "device", "wall_seconds", "settings", "runs", "summary", "checks", "cost"}) {
    CHECK(j.contains(key));
  }
  const auto& run = j["runs"][2];
  CHECK(Keys(run) == std::vector<std::string>{"arm",
                                              "seed",
                                              "window",
                                              "base_model",
                                              "device",
                                              "revision",
                                              "problems",
                                              "accuracy",
                                              "accuracy_greedy",
                                              "mean_length",
                                              "truncated",
                                              "restatement_rate",
                                              "dependency_distance_mean",
                                              "facts_in_window",
                                              "ceiling",
                                              "in_reach",
                                              "reach_bound",
                                              "above_reach_bound",
                                              "traces_in_reach",
                                              "accuracy_in_reach",
                                              "traces_out_of_reach",
                                              "accuracy_out_of_reach",
                                              "longer_problems",
                                              "accuracy_longer",
                                              "optimizer_steps",
                                              "trained_tokens",
                                              "sampled_tokens",
                                              "teacher_tokens",
                                              "accuracy_by_steps"});
  CHECK(run["accuracy"] == 0.4);
  CHECK(run["restatement_rate"] == 0.2);
  CHECK(run["dependency_distance_mean"] == 12);
  CHECK(run["facts_in_window"] == 7.0 / 21);
  CHECK(run["ceiling"].is_number());
  CHECK(j["runs"][1]["ceiling"].is_null());
  CHECK(run["in_reach"] == 0.6);
  // The mean of 200 chances: rounding errors below 200 * 2^-53.
  CHECK(std::abs(run["reach_bound"].get<double>() - ReachBound(0.6, kChainGuess)) < 1e-13);
  CHECK(run["above_reach_bound"] == false);
  CHECK(run["traces_in_reach"] == 120);
  CHECK(run["accuracy_in_reach"] == 80.0 / 120);
  CHECK(run["traces_out_of_reach"] == 80);
  CHECK(run["accuracy_out_of_reach"] == 0);
  CHECK(j["runs"][1]["in_reach"] == 0.6);  // of SA too
  for (const char* key : {"reach_bound", "above_reach_bound"}) CHECK(j["runs"][1][key].is_null());
  CHECK(j["runs"][5]["accuracy_out_of_reach"].is_null());  // all in reach
  CHECK(ToJson(MadeUpResults(40, 64, 93))["runs"][3]["above_reach_bound"] == true);
  CHECK(j["settings"]["reach"] == 30);
  CHECK(Keys(run["accuracy_by_steps"][0]) == std::vector<std::string>{"from", "to", "problems", "accuracy"});
  CHECK(j["settings"]["data_ceiling"].is_number());
  for (const char* key : {"gap_sft", "gap_rl", "gap_reduction", "recovery", "rl_gain"}) {
    CHECK(j["summary"][key]["mean"].is_number());
    CHECK(j["summary"][key]["ci95"].size() == 2);
    CHECK(j["summary"][key]["ci95_seeds"].size() == 2);
  }
  CHECK(Keys(j["checks"]) ==
        std::vector<std::string>{"rollout_logprob_max_abs_diff", "rollout_logprob_tokens", "warnings"});
  CHECK(Keys(j["cost"][0]) ==
        std::vector<std::string>{"arm", "length", "kv_bytes", "decode_ms_per_token", "forward_tokens_per_second"});

  const nlohmann::ordered_json no_gap = ToJson(MadeUpResults(99, 99, 99));
  CHECK(no_gap["summary"]["gap_sft"]["mean"] == 0);
  CHECK(no_gap["summary"]["recovery"]["mean"].is_null());
  CHECK(no_gap["summary"]["recovery"]["ci95"][0].is_null());
}

TEST_CASE("a trace out of reach has the chance of a guess among its task's numbers of steps, and its runs are kept") {
  const nlohmann::json row = {{"prompt", "a7b3n09x5?"}, {"a", 7}, {"b", 3}, {"n", 9}, {"x0", 5}};
  const TraceRule rule = ReadTask("made up", MadeUpTask()).reward.traces;  // n from 4 to 16
  const TraceCounts near = rule.count(row, "01:C,02:9,[a7b3n09]03:1,04:A,", 16, 45).value();
  CHECK(near.in_reach);
  CHECK(near.best_chance == 1);
  CHECK(near.runs == std::vector{2, 2});
  const TraceCounts far = rule.count(row, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,09:B,#B", 16, 45).value();
  CHECK_FALSE(far.in_reach);
  CHECK(far.best_chance == 1.0 / 8);  // 9 to 16
}

TEST_CASE("the memoryless ceiling of all sizes is the mean of those of each, guessed among all") {
  const StudyTask task = MadeUpResults(40, 45, 93).task;
  const auto [from, to] = task.sizes();
  double sum = 0;
  for (int n = from; n <= to; ++n) sum += task.MemorylessCeiling(0.2, {n, n});
  CHECK(std::abs(sum / (to - from + 1) - task.MemorylessCeiling(0.2, {from, to})) < 1e-12);  // 13 roundings below 1
  CHECK(task.MemorylessCeiling(0.2, {to, to}) < 1);
}

TEST_CASE("ranges of steps are disjoint, cover all and differ by at most one") {
  std::vector<StepRange> ranges = StepRanges(4, 16);
  REQUIRE(ranges.size() == 4);
  CHECK(ranges[0].from == 4);
  CHECK(ranges[0].to == 7);
  CHECK(ranges[1].from == 8);
  CHECK(ranges[1].to == 10);
  CHECK(ranges[3].to == 16);
  CHECK(StepRanges(5, 6).size() == 2);
  CHECK_THROWS_AS(StepRanges(6, 5), Error);
}

TEST_CASE("accuracy by steps adds up to the accuracy") {
  const StudyResults results = MadeUpResults(40, 45, 93);
  const ArmRun& run = results.runs[2];
  double correct = 0, problems = 0;
  for (const StepsAccuracy& s : run.accuracy_by_steps) {
    correct += s.accuracy * static_cast<double>(s.problems);
    problems += static_cast<double>(s.problems);
  }
  CHECK(problems == 200);
  CHECK(std::abs(correct - 80) < 1e-9);  // 200 sums of doubles below 100
}

TEST_CASE("the summary can be made again from outcomes.jsonl alone, every bit of it") {
  const TempDirectory folder;
  const StudyResults results = MadeUpResults(40, 45, 93);
  WriteReport(results, folder.path());
  StudyResults again = results;
  again.runs = ReadOutcomes((folder / "outcomes.jsonl").string());
  for (std::size_t i = 0; i < again.runs.size(); ++i) {
    Complete(again.runs[i], results.task);
    again.runs[i].window = results.runs[i].window;  // outcomes don't have it
  }
  again.summary = Summarize(again.runs);
  CHECK(ToJson(again).dump(2) + '\n' == ReadFile(folder / "results.json"));
  for (const char* file :
       {"report.html", "report.md", "figures/accuracy_against_reach.svg", "figures/placement_and_competence.svg",
        "figures/accuracy_against_window.svg", "figures/accuracy_against_restatement.svg",
        "figures/accuracy_by_steps.svg", "figures/learning_curves.svg", "figures/cost.svg"}) {
    CHECK(std::filesystem::exists(folder / file));
  }
}

TEST_CASE("a bad row of outcomes.jsonl is named by file and line") {
  const TempDirectory folder;
  const std::string path = (folder / "outcomes.jsonl").string();
  std::string text = OutcomesText(MadeUpResults(40, 45, 93).runs, ReadTask("", MadeUpTask()).reward.traces);
  const std::size_t second = text.find('\n') + 1;
  for (const char* bad : {"{\"arm\": 3}\n", "{\"arm\": \"x\", \"seed\": 0}\n", "nonsense\n"}) {
    WriteFileAtomically(path, text.substr(0, second) + bad + text.substr(second));
    try {
      ReadOutcomes(path);
      FAIL("accepted ", bad);
    } catch (const Error& e) {
      CHECK(std::string(e.what()).find(path + ":2") != std::string::npos);
    }
  }
}

TEST_CASE("the terminal report fits 100 columns and its table is aligned") {
  std::istringstream lines(TerminalReport(MadeUpResults(40, 45, 93)));
  std::string line;
  std::size_t table_width = 0;
  while (std::getline(lines, line)) {
    CHECK(line.size() <= 100);
    if (line.starts_with("-----")) table_width = line.size();
    if (line.starts_with("SWA, SFT with equal extra tokens ") || line.starts_with("SA, RL ")) {
      CHECK(line.size() == table_width);
    }
  }
  CHECK(table_width > 0);
}

TEST_CASE("the page of Markdown has whole tables, names every arm, and shows the figures that are written beside it") {
  const TempDirectory folder;
  const StudyResults results = MadeUpResults(40, 45, 93);
  WriteReport(results, folder.path());
  std::istringstream lines(ReadFile(folder / "report.md"));
  std::string line, text;
  std::size_t bars = 0, shown = 0;
  while (std::getline(lines, line)) {
    text += line + '\n';
    const std::size_t here = line.starts_with("|") ? Count(line, "|") : 0;
    CHECK((here == bars || here == 0 || bars == 0));
    bars = here;
    if (!line.starts_with("![")) continue;
    const std::size_t open = line.find('(') + 1;
    CHECK(std::filesystem::exists(folder / line.substr(open, line.find(')') - open)));
    ++shown;
  }
  CHECK(shown == StudyFigures(results).size());
  for (const std::string& arm : ArmsOf(results.runs))
    CHECK(Count(text, "| " + ArmName(results.looks, arm) + " |") >= 3);
}

TEST_CASE("the page stands alone, escapes what it quotes and names its limits") {
  const std::string html = HtmlReport(MadeUpResults(40, 45, 93));
  CHECK(Count(html, "<script") == 0);
  CHECK(Count(html, "src=") + Count(html, "@import") + Count(html, "url(") + Count(html, "<link") == 0);
  CHECK(Count(html, "&lt;/td&gt;&lt;script&gt;") == 1);
  CHECK(Count(html, "a&lt;b&gt;&amp;c&quot;") == 2);  // under where it comes from and under how to redo it
  CHECK(Count(html, "<figure>") == 8);                // six of the study, and the training of two arms
  CHECK(Count(html, "planted") == 1);
  CHECK(Count(html, "hyper-parameters could not be obtained") == 1);
  CHECK(Count(html, "quick preset leaves out") == 1);
}

TEST_CASE("the page's links lead to its own sections and to files beside it, and nowhere else") {
  const std::string html = HtmlReport(MadeUpResults(40, 45, 93));
  const std::set<std::string> files = {"results.json", "outcomes.jsonl", "settings.json",
                                       "report.md",    "results/",       "figures/"};
  std::size_t sections = 0, records = 0;
  for (std::size_t at = html.find("href=\""); at != std::string::npos; at = html.find("href=\"", at + 1)) {
    const std::size_t begin = at + 6;
    const std::string to = html.substr(begin, html.find('"', begin) - begin);
    CAPTURE(to);
    if (to[0] == '#') {
      ++sections;
      CHECK(Count(html, Concat("id=\"", to.substr(1), "\"")) == 1);
    } else if (to.starts_with("results/") && to.ends_with("-seed0.json")) {
      ++records;
    } else {
      CHECK(files.contains(to));
    }
  }
  CHECK(sections == Count(html, "<h2"));
  CHECK(records == 6);  // of every run
}

TEST_CASE("many arms are named once each, in the legend, where there is no room beside points") {
  StudyResults r = MadeUpResults(40, 45, 93);
  for (int i = 0; i < 8; ++i) r.runs.push_back(MadeUpRun(Concat("way_", i), 50 + i, 2, r.task));
  const std::string svg = StudyFigures(r)[0].svg;
  CHECK(WellFormed(svg));
  for (const std::string& arm : ArmsOf(r.runs)) CHECK(Count(svg, ">" + ArmName(r.looks, arm) + "<") == 1);
}

TEST_CASE("arms of one way have one entry of the legend, and names of their own beside their bars") {
  StudyResults r = MadeUpResults(40, 45, 93);
  for (int i = 0; i < 8; ++i) {
    r.runs.push_back(MadeUpRun(Concat("way_", i), 50 + i, 2, r.task));
    r.looks.push_back({Concat("way_", i), Concat("name ", i), i < 4 ? "few tokens" : "many tokens"});
  }
  const std::vector<Figure> figures = StudyFigures(r);
  CHECK(Count(figures[0].svg, ">few tokens<") == 1);
  CHECK(Count(figures[0].svg, ">many tokens<") == 1);
  CHECK(Count(figures[0].svg, ">name 3<") == 0);
  CHECK(Count(figures[1].svg, ">name 3<") == 1);
}

TEST_CASE("figures are well-formed, with all points inside the picture and every arm labelled") {
  const std::vector<Figure> figures = StudyFigures(MadeUpResults(40, 45, 93));
  REQUIRE(figures.size() == 7);
  for (const Figure& figure : figures) CHECK_MESSAGE(WellFormed(figure.svg), figure.file);
  for (const char* name : {">SWA, converted<", ">SA, SFT<", ">SWA, SFT<", ">SWA, RL<", ">SA, RL<"}) {
    CHECK(Count(figures[0].svg, name) == 1);
    CHECK(Count(figures[1].svg, name) == 1);
    for (const std::size_t i : {2, 3}) CHECK(Count(figures[i].svg, name) == 1);
  }
}

TEST_CASE(
    "a study without curves and cost has its first five figures only, and numbers that are not finite harm none") {
  StudyResults results = MadeUpResults(40, 45, 93);
  results.curves.clear();
  results.cost.clear();
  results.runs[0].mechanism.assign(3, kUndefined);
  results.runs[0].in_reach = kUndefined;
  const std::vector<Figure> figures = StudyFigures(results);
  REQUIRE(figures.size() == 5);
  for (const Figure& figure : figures) CHECK(Count(figure.svg, "nan") == 0);
}

TEST_CASE("numbers are written without a negative zero, and undefined ones as such") {
  CHECK(FormatNumber(-0.0001) == "0.000");
  CHECK(FormatNumber(-0.5, 1) == "-0.5");
  CHECK(FormatNumber(kUndefined) == "n/a");
  CHECK(FormatEstimate({0.5, {0.25, 0.75}}) == "0.500 [0.250, 0.750]");
  CHECK(FormatEstimate({0.5, {}}) == "0.500");
}
