// SPDX-License-Identifier: Apache-2.0
#include "study/report.h"

#include <algorithm>
#include <iomanip>
#include <string_view>

#include "base/check.h"
#include "base/files.h"
#include "base/names.h"
#include "page/html.h"
#include "page/settings.h"
#include "plot/svg.h"
#include "study/page/sections.h"
#include "study/statistics.h"
#include "task/ceiling.h"

namespace swarr {
namespace {

constexpr std::size_t kColumns = 100;

// A table with narrow heads on two lines, and numbers to the right.
std::string TerminalTable(const TextTable& table, TextTable lines) {
  for (std::size_t row = 1; row < table.size(); ++row) {
    std::string& second = lines.emplace_back(table[row])[1];
    const std::size_t comma = second.find(", ");
    if (comma != std::string::npos) second.erase(comma + 1, 1);  // the narrow form of an interval, for 100 columns
  }
  std::vector<std::string> texts(lines.size());
  for (std::size_t c = 0; c < lines[0].size(); ++c) {
    std::size_t width = 0;
    for (const auto& line : lines) width = std::max(width, line[c].size());
    const auto padding = std::setw(static_cast<int>(width));
    for (std::size_t l = 0; l < lines.size(); ++l) {
      texts[l] += Concat(c > 0 ? "  " : "", padding, c > 1 ? std::right : std::left, lines[l][c]);
    }
  }
  texts.insert(texts.begin() + 2, std::string(texts[0].size(), '-'));
  std::string out;
  for (const std::string& text : texts) out += text + '\n';
  return out;
}

std::string TerminalTables(const StudyResults& results) {
  const std::string step = '/' + results.task.view().step;
  return TerminalTable(TableOfArms(results),
                       {{"", "accuracy", "", "restate", "mean", "trun-", "facts", "in"},
                        {"arm", "[95% interval]", "greedy", step, "length", "cated", "in W", "reach"}}) +
         '\n' +
         TerminalTable(TableOfReach(results),
                       {{"", "accu-", "in", "in reach", "out of it", "reach", "above", "memory-"},
                        {"arm", "racy", "reach", "(traces)", "(traces)", "bound", "it", "less"}});
}

// Breaks at spaces; later lines are indented below the first one's text.
std::string Wrapped(std::string_view text, std::string_view bullet) {
  std::string out, line(bullet);
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const bool first = line.size() == bullet.size();
    if (!first && line.size() + 1 + word.size() > kColumns) {
      out += line + '\n';
      line.assign(bullet.size(), ' ');
    } else if (!first) {
      line += ' ';
    }
    line += word;
  }
  return out + line + '\n';
}

std::string WhatItIs(const StudyTask& task) {
  return Tag("p",
             "A transformer with full attention (SA) is turned into one whose layers see only the last W tokens (SWA), "
             "keeping its weights, then both are trained the same way: by supervised fine-tuning (SFT) on the same "
             "traces, then by on-policy reinforcement learning (RL) on the same prompts with the same sampler. The "
             "hypothesis, from arXiv 2606.11634: SFT traces are written for models that see everything; RL lets the "
             "SWA model move to traces that a window can follow, and so recovers accuracy that SFT does not.") +
         Tag("p",
             Concat(task.view().describe(task.window), " With ", task.layers, " layers nothing older than ",
                    ReachOf(task.layers, task.window),
                    " tokens can be known. So the share g of a policy's own traces that keep what they need in reach "
                    "bounds its accuracy, ",
                    task.view().memoryless ? "by little more than " : "by ", BoundFormula(task),
                    ". Accuracy is placement (g) times competence (the accuracy on traces in reach), and a little.",
                    task.view().memoryless
                        ? " For a policy that restates without memory, before each step with the same probability, g "
                          "follows from that rate: the memoryless ceiling, which was computed before any training. A "
                          "policy that times its restatements can stand above it."
                        : ""));
}

std::vector<std::string> Limits(const StudyResults& results) {
  const std::size_t seeds = SeedsOf(results.runs).size();
  std::vector<std::string> limits = {
      "One small synthetic task and a very small model. It shows a mechanism; it does not measure mathematical "
      "reasoning.",
      Concat("The SFT traces restate what is needed before a ", results.task.view().step, " with probability ",
             FormatNumber(results.task.view().repeat_rate(), 2),
             ". This share is planted: RL can only raise what the data contains, and the size of the effect depends on "
             "it."),
      "The paper's hyper-parameters could not be obtained. Task, model, window, budgets and all numbers here are our "
      "own.",
      Concat("Number of seeds: ", seeds, ". ",
             seeds < 5 ? "Too few to say how much results vary between training runs." : ""),
      "A model can exceed the reach bound if it infers what is lost, or tells it in another form than a repetition; "
      "and "
      "the memoryless ceiling, where there is one, by timing its restatements.",
  };
  if (results.preset == "quick") {
    limits.emplace_back(
        "The quick preset leaves out: other restatement shares, other windows, and the controls with "
        "rejection-sampled traces (of the SA model and the SWA model's own), fully restating traces, the prompt kept "
        "visible, and traces of one architecture used to train the other; also a setting in which SA has room to "
        "gain.");
  }
  return limits;
}

std::string HowToRedo(const StudyResults& results) {
  return Tag("p", Concat("From a clone of the source, revision ", results.source_revision, ", built with make:")) +
         Tag("pre", results.command_line) +
         Tag("p",
             Concat(
                 "The same seed gives the same numbers on the same machine and build. outcomes.jsonl beside this file "
                 "holds one row per arm, seed and problem, from which every accuracy, gap and interval can be computed "
                 "again; results.json holds the numbers of this page. Intervals: Wilson for one run; Student's t "
                 "over several seeds; for differences under one seed a bootstrap over the problems that the arms share "
                 "(",
                 kBootstrapResamples,
                 " resamples, percentiles). Where all seeds have one value the interval is over their problems; "
                 "where all resamples agree it leaves room for what no problem showed, as much as Wilson's does. "
                 "Greedy decoding follows a policy's most likely text and can differ much "
                 "from sampling."));
}

}  // namespace

std::string TerminalReport(const StudyResults& results) {
  std::string out = Wrapped(Headline(results), "") + '\n' + TerminalTables(results) + '\n' +
                    Wrapped(ReachNote(results.task), "") + '\n';
  const Settings numbers = KeyNumbers(results);
  std::size_t width = 0;
  for (const auto& [name, value] : numbers) width = std::max(width, name.size() + 2);
  for (const auto& [name, value] : numbers) {
    out += Wrapped(value, Concat(std::left, std::setw(static_cast<int>(width)), name));
  }
  out += '\n';
  for (const std::string& sentence : Findings(results)) out += Wrapped(sentence, "- ");
  return out;
}

namespace {

std::string MarkOfName(const StudyResults& results, const std::string& name) {
  for (const std::string& arm : ArmsOf(results.runs)) {
    if (ArmName(results.looks, arm) == name) return ArmMark(results, arm);
  }
  return "";
}

// A table whose first column names arms, with their marks.
std::string ArmTable(const StudyResults& results, const TextTable& table) {
  return HtmlTable(table, [&](std::size_t, std::size_t column, const std::string& text) {
    return (column == 0 ? MarkOfName(results, text) : "") + EscapeMarkup(text);
  });
}

// Every run links to its record.
std::string RunTable(const StudyResults& results, const TextTable& table) {
  return HtmlTable(table, [&](std::size_t row, std::size_t column, const std::string& text) {
    const ArmRun& run = results.runs[row - 1];
    if (column == 0) return ArmMark(results, run.arm) + EscapeMarkup(text);
    if (column == 1) return HtmlLink(Concat("results/", run.arm, "-seed", run.seed, ".json"), text);
    return EscapeMarkup(text);
  });
}

std::string FigureSection(const StudyResults& results) {
  std::string out;
  for (const Figure& figure : StudyFigures(results)) {
    if (figure.file != kLearningFigure) out += HtmlFigure(figure.svg, figure.caption);  // Training has more of it
  }
  return out;
}

Settings SourceOf(const StudyResults& results) {
  return {{"written", results.date},
          {"machine that wrote it", results.machine},
          {"kernels on its processor", results.kernels},
          {"devices of the runs", results.device},
          {"revisions of the runs", Listed(DistinctOf(results.runs, &ArmRun::revision))},
          {"base models", Listed(DistinctOf(results.runs, &ArmRun::base_model))},
          {"revision that wrote it", results.source_revision},
          {"command", results.command_line}};
}

std::string Missing(const StudyResults& results) {
  if (results.missing.empty()) return "";
  return Fill("<p class=\"notice\">@</p>\n",
              {EscapeMarkup(Concat("Not complete: ", results.missing.size(), " of ",
                                   results.missing.size() + results.runs.size(),
                                   " runs are not measured yet: ", Listed(results.missing), "."))});
}

std::string Files() {
  std::string out = "<p>Beside this page: ";
  for (const auto& [file, what] :
       {std::pair("results.json", "the numbers"), std::pair("outcomes.jsonl", "a row for each arm, seed and problem"),
        std::pair("settings.json", "the settings"), std::pair("report.md", "this report as Markdown"),
        std::pair("results/", "the record of every run"), std::pair("figures/", "the figures")}) {
    out += (out.ends_with(": ") ? "" : "; ") + HtmlLink(file, file) + " (" + what + ")";
  }
  return out + ".</p>\n";
}

std::vector<PageSection> SectionsOf(const StudyResults& results) {
  const TextTable arms = TableOfArms(results), texts = TableOfTraces(results), reach = TableOfReach(results),
                  ways = TableOfWays(results), runs = TableOfRuns(results);
  Settings settings = {{"preset", results.preset}};
  Flatten(ToJson(results)["settings"], "", settings);
  return {{"experiment", "What the experiment is", WhatItIs(results.task)},
          {"findings", "What the numbers say", HtmlList(Findings(results))},
          {"result", "Result", ArmTable(results, arms) + HtmlPairs(KeyNumbers(results))},
          {"texts", "What the traces look like", ArmTable(results, texts)},
          {"reach", "What the window leaves possible", ArmTable(results, reach) + Tag("p", ReachNote(results.task))},
          {"figures", "Figures", FigureSection(results)},
          {"ways", "RL beside other ways",
           ArmTable(results, ways) +
               Tag("p",
                   "Tokens are those of the arm's own stage, means over seeds: trained on, drawn by its own policy, "
                   "and drawn or scored by another arm's model.")},
          {"traces", "Traces", TraceSection(results)},
          {"attention", "Attention", AttentionSection(results)},
          {"training", "Training", TrainingSection(results)},
          {"runs", "Every run", RunTable(results, runs)},
          {"glossary", "What the columns are", GlossaryOf({arms, texts, reach, ways, runs})},
          {"limits", "Limits", HtmlList(Limits(results))},
          {"redo", "How to redo it", HowToRedo(results) + Files()},
          {"source", "Where it comes from", HtmlPairs(SourceOf(results))},
          {"settings", "Settings", HtmlPairs(settings)}};
}

}  // namespace

std::string HtmlReport(const StudyResults& results) {
  return HtmlPage("Does reinforcement learning recover what a sliding window costs?", "swarr study",
                  Tag("p", Headline(results) + ".") + Missing(results), SectionsOf(results));
}

void WriteReport(const StudyResults& results, const std::filesystem::path& directory) {
  const std::filesystem::path figures = directory / "figures";
  std::error_code error;
  std::filesystem::create_directories(figures, error);
  SWARR_CHECK(!error, "can't create ", figures.string(), ": ", error.message(), "; choose another output directory");
  WriteFileAtomically(directory / "outcomes.jsonl", OutcomesText(results.runs, results.task.traces()));
  for (const Figure& figure : StudyFigures(results)) WriteFileAtomically(figures / figure.file, figure.svg);
  WriteFileAtomically(directory / "report.html", HtmlReport(results));
  WriteFileAtomically(directory / "report.md", MarkdownReport(results));
  if (results.missing.empty()) WriteFileAtomically(directory / kResultsFile, ToJson(results).dump(2) + '\n');
}

}  // namespace swarr
