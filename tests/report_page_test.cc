// SPDX-License-Identifier: Apache-2.0
// What a study's page has beside tables and the study's figures.
#include <doctest/doctest.h>

#include <filesystem>

#include "base/files.h"
#include "made_up_study.h"
#include "plot/svg.h"
#include "study/page/sections.h"
#include "study/records/record.h"
#include "study/traces.h"
#include "task/chain.h"
#include "task/registry.h"
#include "temp_directory.h"

using namespace swarr;

namespace {

std::size_t Times(std::string_view text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

constexpr ChainProblem kTenSteps = {.a = 7, .b = 3, .x0 = 5, .n = 10};

SampledTrace TraceAt(std::int64_t problem, double restate_probability) {
  return {.problem = problem,
          .prompt = PromptOf(kTenSteps),
          .completion = TraceOf(kTenSteps, restate_probability, 1),
          .right = true};
}

// Of a study of one arm, under 2 layers of a window of 16 tokens.
std::string PageOfTrace(const SampledTrace& trace) {
  StudyResults results = MadeUpResults(40, 45, 93);
  results.runs[2].traces = {trace};
  return TraceSection(results);
}

}  // namespace

TEST_CASE("a trace has a line from every use of a fact, red outside the window and dashed out of reach") {
  // The digit of a lies 11 tokens before the first ':' and 5 more before each later one; 2 layers reach 30 tokens.
  const std::string page = PageOfTrace(TraceAt(0, 0));
  CHECK(Times(page, "<path class=\"near\"") == 1);
  CHECK(Times(page, "<path class=\"far\"") == 3);
  CHECK(Times(page, "<path class=\"lost\"") == 7);  // the last six steps, and n before '#'
  CHECK(Times(page, "a and b: last stated 16 tokens before, outside the window, in reach of all layers") == 1);
  CHECK(Times(page, "n: last stated 53 tokens before, out of reach") == 1);
}

TEST_CASE("in a trace that restates before every step all lines stay inside the window") {
  const std::string page = PageOfTrace(TraceAt(0, 1));
  CHECK(Times(page, "<path class=\"near\"") >= 11);  // ten steps and the end; one that crosses rows is in both
  CHECK(Times(page, "<path class=\"far\"") + Times(page, "<path class=\"lost\"") == 0);
}

TEST_CASE("a fact that is restated wrongly keeps its line to where it was last right") {
  SampledTrace trace = TraceAt(0, 0);
  trace.completion.insert(0, "[a6b3n10]");
  const std::string page = PageOfTrace(trace);
  CHECK(Times(page, ">a: last stated 20 tokens before") == 1);  // to the prompt, past the restatement
  CHECK(Times(page, ">b: last stated 7 tokens before") == 1);
}

TEST_CASE("only problems that all arms with traces share are shown, those of a task without drawings not at all") {
  StudyResults results = MadeUpResults(40, 45, 93);
  CHECK(TraceSection(results).empty());
  results.runs[2].traces = {TraceAt(3, 0), TraceAt(4, 0)};
  results.runs[5].traces = {TraceAt(4, 1)};
  const std::string page = TraceSection(results);
  CHECK(Times(page, "Problem 3:") == 0);
  CHECK(Times(page, "Problem 4:") == 1);
  CHECK(Times(page, "<div class=\"trace\">") == 2);
  results.runs[2].traces = results.runs[5].traces = {{.problem = 0, .prompt = "how many goats?", .completion = "4"}};
  CHECK(TraceSection(results).empty());
}

TEST_CASE("every head of every table is explained, once") {
  StudyResults results = MadeUpResults(40, 45, 93);
  for (ArmRun& run : results.runs) run.longer = {.traces = 10, .right = 5};
  const std::vector<TextTable> tables = {TableOfArms(results), TableOfTraces(results), TableOfReach(results),
                                         TableOfWays(results), TableOfRuns(results)};
  const std::string glossary = GlossaryOf(tables);
  for (const TextTable& table : tables) {
    for (const std::string& head : table[0])
      CHECK_MESSAGE(Times(glossary, "<dt>" + EscapeMarkup(head) + "</dt>") == 1, head);
  }
}

TEST_CASE("what any built-in task measures is explained") {
  for (const BuiltInTask& task : BuiltInTasks()) {
    for (const TraceMeasure& measure : task.reward.traces.measures) {
      CHECK_MESSAGE(Times(GlossaryOf({{{measure.head}}}), "<dt>") == 1, measure.head);
    }
  }
}

TEST_CASE("training is drawn seed by seed, from what a record keeps and from RL's curve alone where it is older") {
  StudyResults results = MadeUpResults(40, 45, 93);
  const std::string older = TrainingSection(results);
  CHECK(Times(older, "<figure>") == 2);
  CHECK(Times(older, ">SWA, RL, seed 0: reward 0.4 at step 1, 0.9 at step 2<") == 1);
  CHECK(Times(older, "gradient norm") == 0);
  results.runs[2].training = {{.metric = "grad_norm", .points = {{1, 2}, {2, 1}}}};
  CHECK(Times(TrainingSection(results), ">SWA, SFT, seed 0: gradient norm 2 at step 1, 1 at step 2<") == 1);
}

TEST_CASE("traces and training of 30 arms under six seeds leave half a megabyte of the page's two to all else") {
  StudyResults results = MadeUpResults(40, 45, 93);
  results.runs.clear();
  results.curves.clear();
  for (int i = 0; i < 180; ++i) {
    ArmRun& run = results.runs.emplace_back();
    run.arm = Concat("arm_", i / 6);
    run.seed = static_cast<std::uint64_t>(i % 6);
    run.traces = {TraceAt(0, 1), TraceAt(1, 1), TraceAt(2, 1)};
    for (const ShownMetric& shown : kShownMetrics) {
      TrainingCurve& curve = run.training.emplace_back(TrainingCurve{.metric = shown.metric});
      for (int k = 0; k < 100; ++k) curve.points.push_back({1.0 * k, 0.01 * (k * 37 % 100)});
    }
  }
  const std::size_t size = TraceSection(results).size() + TrainingSection(results).size();
  CHECK(size > 500'000);  // all are there
  CHECK(size < 1'500'000);
}

TEST_CASE("a long curve keeps the means of its neighbours") {
  std::vector<std::array<double, 2>> points;
  for (int i = 1; i <= 250; ++i) points.push_back({1.0 * i, 2.0 * i});
  const auto thinned = Thinned(points, 100);
  REQUIRE(thinned.size() == 84);  // of three, and the last of one
  CHECK(thinned[0] == std::array<double, 2>{2, 4});
  CHECK(thinned[83] == std::array<double, 2>{250, 500});
  CHECK(Thinned({{1, 3}}, 100).size() == 1);
}

TEST_CASE("a record keeps an arm's traces, training and attention, and one without them is read as before") {
  const TempDirectory folder;
  const std::filesystem::path path = folder / "arm.json";
  ArmRecord record;
  const StudyResults results = MadeUpResults(40, 45, 93);
  record.run = results.runs[2];
  record.run.traces = {TraceAt(7, 0)};
  record.run.training = {{.metric = "loss", .points = {{1, 0.5}, {2, 0.25}}}};
  record.run.attention = {.problem = 7,
                          .prompt = "p",
                          .completion = "c",
                          .tokens = 2,
                          .layers = {{.spec = {.window = 2, .sinks = 1}, .cells = {{1, 0, 40}}}}};
  const TraceRule& rule = results.task.traces();
  WriteRecord(path, "study", record, rule);
  const ArmRun run = ReadRecord(path, "study", rule).value().run;
  REQUIRE(run.traces.size() == 1);
  CHECK(run.traces[0].problem == 7);
  CHECK(run.traces[0].prompt == PromptOf(kTenSteps));
  CHECK(run.traces[0].completion == record.run.traces[0].completion);
  CHECK(run.traces[0].right);
  REQUIRE(run.training.size() == 1);
  CHECK(run.training[0].points == record.run.training[0].points);
  CHECK(run.attention.problem == 7);
  CHECK(run.attention.tokens == 2);
  REQUIRE(run.attention.layers.size() == 1);
  CHECK(run.attention.layers[0].spec == AttentionSpec{.window = 2, .sinks = 1});
  CHECK(run.attention.layers[0].cells == record.run.attention.layers[0].cells);

  nlohmann::ordered_json json = nlohmann::ordered_json::parse(ReadFile(path));
  json.erase("traces");
  json.erase("training");
  json.erase("attention");
  WriteFileAtomically(path, json.dump());
  CHECK(ReadRecord(path, "study", rule).value().run.traces.empty());
  CHECK(ReadRecord(path, "study", rule).value().run.training.empty());
  CHECK(ReadRecord(path, "study", rule).value().run.attention.layers.empty());
}

TEST_CASE("the traces that are shown are of the first problems of median size, the same for every arm") {
  const ChainTask task(Split::kEval, {});
  std::vector<ProblemOutcome> outcomes;
  std::vector<EvaluatedCompletion> sampled;
  for (const int steps : {4, 9, 16, 9, 10, 9, 9, 4, 16}) {
    const auto problem = static_cast<std::int64_t>(outcomes.size());
    outcomes.push_back({.problem = problem, .steps = steps, .correct_sampled = problem == 3});
    sampled.push_back({.problem = problem, .text = "#1", .answer = "1", .drawn = {}, .finished = true, .reward = 0});
  }
  const std::vector<SampledTrace> traces = TracesToShow(task, sampled, outcomes);
  REQUIRE(traces.size() == 3);
  CHECK(traces[0].problem == 1);
  CHECK(traces[1].problem == 3);
  CHECK(traces[1].right);
  CHECK(traces[2].problem == 5);
  CHECK(traces[2].prompt == task.Get(5, 0).prompt);
  CHECK(TracesToShow(task, {}, {}).empty());
}

TEST_CASE("attention is drawn for every arm that has it: what is visible as an outline, weights as cells within") {
  StudyResults results = MadeUpResults(40, 45, 93);
  CHECK(AttentionSection(results).empty());
  results.runs[1].attention = {.prompt = "p", .tokens = 3, .layers = {{.spec = {}, .cells = {{0, 0, 100}}}}};
  results.runs[5].attention = {
      .prompt = "p", .tokens = 3, .layers = {{.spec = {.window = 2}, .cells = {{1, 0, 30}, {1, 1, 70}, {2, 1, 12}}}}};
  const std::string section = AttentionSection(results);
  CHECK(Times(section, ">SA, SFT</text>") == 1);
  CHECK(Times(section, ">SWA, RL</text>") == 1);
  CHECK(Times(section, "d=\"M0 0H1V1H2V2H3V3H0V2H0V1H0V0Z\"") == 1);  // all that came before
  CHECK(Times(section, "d=\"M0 0H1V1H2V2H3V3H1V2H0V1H0V0Z\"") == 1);  // two tokens
  CHECK(Times(section, "d=\"M0 1h1\"") == 1);                         // 30%
  CHECK(Times(section, "d=\"M1 1h1\"") == 1);                         // 70%
}

TEST_CASE("a picture on the page has no ground of its own, which would cover the shade that says that it scrolls") {
  StudyResults results = MadeUpResults(40, 45, 93);
  results.runs[1].attention = {.prompt = "p", .tokens = 1, .layers = {{.spec = {}, .cells = {{0, 0, 100}}}}};
  const TempDirectory folder;
  WriteReport(results, folder.path());
  const std::string page = ReadFile(folder / "report.html");
  CHECK(Times(page, ".scroll > svg > style + rect { fill: none; }") == 1);
  const std::string ground = "<rect width=\"100%\" height=\"100%\"";
  CHECK(Times(page, ground) > 1);
  CHECK(Times(page, ground) == Times(page, "</style>\n" + ground));
}

TEST_CASE("cells of one shade that touch are one stroke") {
  StudyResults results = MadeUpResults(40, 45, 93);
  results.runs[1].attention = {
      .prompt = "p", .tokens = 5, .layers = {{.spec = {}, .cells = {{4, 0, 30}, {4, 1, 31}, {4, 3, 30}}}}};
  CHECK(Times(AttentionSection(results), "d=\"M0 4h2M3 4h1\"") == 1);
}

TEST_CASE("a page of runs that are not all there says which are missing, and leaves out the file that ends a study") {
  const TempDirectory folder;
  StudyResults results = MadeUpResults(40, 45, 93);
  results.missing = {"SWA, RL (seed 1)"};
  WriteReport(results, folder.path());
  CHECK(ReadFile(folder / "report.html").find("Not complete: 1 of 7 runs are not measured yet: SWA, RL (seed 1).") !=
        std::string::npos);
  CHECK(!std::filesystem::exists(folder / kResultsFile));
}
