// SPDX-License-Identifier: Apache-2.0
// The report as a page of Markdown, beside its figures and files.
#include <set>

#include "base/check.h"
#include "study/report.h"

namespace swarr {
namespace {

std::string MarkdownRow(const std::vector<std::string>& cells) {
  std::string out = "|";
  for (const std::string& cell : cells) out += ' ' + cell + " |";
  return out + '\n';
}

std::string MarkdownTable(const TextTable& table) {
  std::string out = MarkdownRow(table[0]) + MarkdownRow(std::vector<std::string>(table[0].size(), "---"));
  for (std::size_t row = 1; row < table.size(); ++row) out += MarkdownRow(table[row]);
  return out;
}

std::string Section(const std::string& title, const std::string& text) { return Concat("\n## ", title, '\n', text); }

std::string ListOf(const std::vector<ArmRun>& runs, std::string ArmRun::*field) {
  std::string list;
  for (const std::string& value : DistinctOf(runs, field)) list += (list.empty() ? "" : ", ") + value;
  return list;
}

TextTable TableOfSource(const StudyResults& results) {
  std::string seeds;
  for (const std::uint64_t seed : SeedsOf(results.runs)) seeds += Concat(seeds.empty() ? "" : ", ", seed);
  return {{"", ""},
          {"seeds", seeds},
          {"base models", ListOf(results.runs, &ArmRun::base_model)},
          {"devices", ListOf(results.runs, &ArmRun::device)},
          {"revisions", ListOf(results.runs, &ArmRun::revision)},
          {"seconds, of all arms together", FormatNumber(results.wall_seconds, 0)}};
}

TextTable TableOfNumbers(const StudyResults& results) {
  TextTable table = {{"", ""}};
  for (const auto& [name, value] : KeyNumbers(results)) table.push_back({name, value});
  return table;
}

}  // namespace

std::string MarkdownReport(const StudyResults& results) {
  std::string findings, figures;
  for (const std::string& sentence : Findings(results)) findings += "- " + sentence + '\n';
  for (const Figure& figure : StudyFigures(results)) {
    figures += Concat("![", figure.file, "](figures/", figure.file, ")\n\n", figure.caption, "\n\n");
  }
  figures.pop_back();
  return Concat("# The study `", results.preset, "`\n", Headline(results), ".\n\n",
                MarkdownTable(TableOfSource(results)), Section("Numbers", MarkdownTable(TableOfNumbers(results))),
                Section("What the numbers say", findings), Section("Arms", MarkdownTable(TableOfArms(results))),
                Section("What the traces look like", MarkdownTable(TableOfTraces(results))),
                Section("What the window leaves possible",
                        Concat(MarkdownTable(TableOfReach(results)), '\n', ReachNote(results.task), '\n')),
                Section("RL beside other ways", MarkdownTable(TableOfWays(results))), Section("Figures", figures),
                Section("Every run", MarkdownTable(TableOfRuns(results))),
                Section("Settings", Concat("```json\n", results.settings.dump(1), "\n```\n")));
}

}  // namespace swarr
