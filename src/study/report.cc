// SPDX-License-Identifier: Apache-2.0
#include "study/report.h"

#include <algorithm>
#include <iomanip>
#include <string_view>

#include "base/check.h"
#include "base/files.h"
#include "plot/svg.h"
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

constexpr std::string_view kPage = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sliding-window attention and RL: a study</title>
<style>
body { font: 16px/1.5 Helvetica, Arial, sans-serif; color: #222; background: #fff; max-width: 66rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.55rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td { white-space: nowrap; }
table.pairs td { text-align: left; vertical-align: top; }
table.pairs td + td { white-space: normal; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; } figure svg { max-width: 100%; height: auto; border: 1px solid #e4e4e4; }
figcaption { font-size: 0.9rem; color: #444; max-width: 48rem; }
pre { background: #f5f5f5; padding: 0.7rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.875rem; }
</style>
</head>
<body>
@</body>
</html>
)";

std::string Tag(std::string_view name, std::string_view text) {
  return Fill("<@>@</@>\n", {name, EscapeMarkup(text), name});
}

std::string TableRow(std::string_view cell_name, const std::vector<std::string>& cells) {
  std::string out = "<tr>";
  for (const std::string& cell : cells) out += Fill("<@>@</@>", {cell_name, EscapeMarkup(cell), cell_name});
  return out + "</tr>";
}

std::string HtmlTable(const TextTable& table) {
  std::string rows;
  for (std::size_t row = 1; row < table.size(); ++row) rows += TableRow("td", table[row]) + '\n';
  return Fill("<div class=\"scroll\"><table>\n<thead>@</thead>\n<tbody>\n@</tbody></table></div>\n",
              {TableRow("th", table[0]), rows});
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string HtmlPairs(const Pairs& pairs) {
  std::string rows;
  for (const auto& [name, value] : pairs) rows += TableRow("td", {name, value}) + '\n';
  return Fill("<table class=\"pairs\"><tbody>\n@</tbody></table>\n", {rows});
}

std::string HtmlList(const std::vector<std::string>& items) {
  std::string out = "<ul>\n";
  for (const std::string& item : items) out += Tag("li", item);
  return out + "</ul>\n";
}

// Nested settings as rows "rl.learning_rate", "0.0001".
void Flatten(const nlohmann::ordered_json& value, const std::string& name, Pairs& rows) {
  if (!value.is_object()) {
    rows.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    return;
  }
  for (const auto& [key, inner] : value.items()) Flatten(inner, name.empty() ? key : name + "." + key, rows);
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
                    " tokens can be known. So the share g of a policy's own traces that keep the facts in reach bounds "
                    "its accuracy: ",
                    BoundFormula(task),
                    ", but for what values in view give away. Accuracy is placement (g) times competence (the accuracy "
                    "on traces in reach), and a little.",
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
      "Neither the reach bound nor the memoryless ceiling counts what a model may infer from successive values in "
      "view, so a model can exceed them. The memoryless ceiling is no bound for a policy that times its restatements.",
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
                 " resamples, percentiles). Greedy decoding follows a policy's most likely text and can differ much "
                 "from sampling."));
}

}  // namespace

std::string TerminalReport(const StudyResults& results) {
  std::string out = Wrapped(Headline(results), "") + '\n' + TerminalTables(results) + '\n' +
                    Wrapped(ReachNote(results.task), "") + '\n';
  const Pairs numbers = KeyNumbers(results);
  std::size_t width = 0;
  for (const auto& [name, value] : numbers) width = std::max(width, name.size() + 2);
  for (const auto& [name, value] : numbers) {
    out += Wrapped(value, Concat(std::left, std::setw(static_cast<int>(width)), name));
  }
  out += '\n';
  for (const std::string& sentence : Findings(results)) out += Wrapped(sentence, "- ");
  return out;
}

std::string HtmlReport(const StudyResults& results) {
  Pairs settings = {{"preset", results.preset},
                    {"device", results.device},
                    {"source revision", results.source_revision},
                    {"command line", results.command_line}};
  Flatten(ToJson(results)["settings"], "", settings);
  std::string figures;
  for (const Figure& figure : StudyFigures(results)) {
    figures += Fill("<figure>\n@@</figure>\n", {figure.svg, Tag("figcaption", figure.caption)});
  }
  std::string body = Tag("h1", "Does reinforcement learning recover what a sliding window costs?");
  body += Tag("p", Headline(results) + ".");
  body += Tag("h2", "Result") + HtmlTable(TableOfArms(results)) + HtmlPairs(KeyNumbers(results));
  body += Tag("h2", "What the traces look like") + HtmlTable(TableOfTraces(results));
  body += Tag("h2", "What the window leaves possible") + HtmlTable(TableOfReach(results)) +
          Tag("p", ReachNote(results.task));
  body += Tag("h2", "What the numbers say") + HtmlList(Findings(results));
  body += Tag("h2", "What the experiment is") + WhatItIs(results.task);
  body += Tag("h2", "Figures") + figures;
  body += Tag("h2", "RL beside other ways") + HtmlTable(TableOfWays(results)) +
          Tag("p",
              "Tokens are those of the arm's own stage, means over seeds: trained on, drawn by its own policy, and "
              "drawn or scored by another arm's model.");
  body += Tag("h2", "Every run") + HtmlTable(TableOfRuns(results));
  body += Tag("h2", "Limits") + HtmlList(Limits(results));
  body += Tag("h2", "How to redo it") + HowToRedo(results);
  body += Tag("h2", "Settings") + HtmlPairs(settings);
  return Fill(kPage, {body});
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
  WriteFileAtomically(directory / kResultsFile, ToJson(results).dump(2) + '\n');
}

}  // namespace swarr
