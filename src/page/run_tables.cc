// SPDX-License-Identifier: Apache-2.0
// What runs measured and were set to, as tables.
#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/check.h"
#include "page/html.h"
#include "page/run_sections.h"
#include "plot/svg.h"

namespace swarr {
namespace {

constexpr std::size_t kSideBySide = 5;  // outputs that a table has as columns; more of them are spread over tables

// "0.512", "110.6"
std::string Measured(double value) {
  if (!std::isfinite(value)) return "-";
  return Concat(std::fixed, std::setprecision(std::abs(value) < 10 ? 3 : 1), value);
}

std::string Number(double value) { return std::isfinite(value) ? Concat(std::setprecision(4), value) : "-"; }

// A row for each name, a column for each output; "-" where an output has no such setting.
std::string SideBySide(const std::vector<const RunOutput*>& outputs, const std::vector<Settings>& of_each,
                       const std::vector<std::string>& names) {
  if (names.empty()) return "";
  const std::size_t tables = (outputs.size() + kSideBySide - 1) / kSideBySide;
  std::string out;
  for (std::size_t t = 0; t < tables; ++t) {
    const std::size_t begin = outputs.size() * t / tables, end = outputs.size() * (t + 1) / tables;
    std::vector<std::vector<std::string>> table = {{""}};
    for (std::size_t i = begin; i < end; ++i) table[0].push_back(outputs[i]->name);
    for (const std::string& name : names) {
      std::vector<std::string>& row = table.emplace_back(std::vector<std::string>{name});
      for (std::size_t i = begin; i < end; ++i) {
        const std::string* value = ValueOf(of_each[i], name);
        row.push_back(value ? *value : "-");
      }
    }
    out += Fill("<div class=\"compare\">@</div>\n",
                {HtmlTable(table, [](std::size_t, std::size_t, const auto& text) { return EscapeMarkup(text); })});
  }
  return out;
}

// What an evaluation measured: "0.512 [0.481, 0.543]" where there is an interval.
Settings MeasuresOf(const nlohmann::ordered_json& evaluation) {
  Settings measures;
  for (const auto& [name, value] : evaluation.items()) {
    if (name.ends_with("_ci95") || name == "memory") continue;
    if (!value.is_number_float()) {
      Flatten(value, name, measures);
      continue;
    }
    std::string text = Measured(value.get<double>());
    const auto interval = evaluation.find(name + "_ci95");
    if (interval != evaluation.end() && interval->is_array() && interval->size() == 2 && interval->at(0).is_number()) {
      text += Concat(" [", Measured(interval->at(0).get<double>()), ", ", Measured(interval->at(1).get<double>()), "]");
    }
    measures.emplace_back(name, text);
  }
  return measures;
}

std::vector<const RunOutput*> Of(const RunOutputs& outputs, const std::string& command) {
  std::vector<const RunOutput*> found;
  for (const RunOutput& output : outputs) {
    if (output.command == command) found.push_back(&output);
  }
  return found;
}

std::vector<Settings> SettingsOf(const std::vector<const RunOutput*>& outputs) {
  std::vector<Settings> all;
  for (const RunOutput* output : outputs) all.push_back(output->settings);
  return all;
}

}  // namespace

std::string LastStepSection(const RunOutputs& outputs) {
  std::vector<std::vector<std::string>> table = {{"output", "step"}};
  std::vector<const char*> metrics;
  for (const ShownMetric& shown : kShownMetrics) {
    const bool any = std::ranges::any_of(
        outputs, [&](const RunOutput& output) { return std::isfinite(RecentMean(output, shown.metric)); });
    if (!any) continue;
    metrics.push_back(shown.metric);
    table[0].emplace_back(shown.title);
  }
  std::vector<const RunOutput*> rows;
  for (const RunOutput& output : outputs) {
    if (output.recent.empty()) continue;
    rows.push_back(&output);
    std::vector<std::string>& row = table.emplace_back(std::vector{output.name, std::to_string(output.step())});
    for (const char* metric : metrics) row.push_back(Number(RecentMean(output, metric)));
  }
  if (rows.empty()) return "";
  return HtmlTable(table,
                   [&](std::size_t row, std::size_t column, const std::string& text) {
                     return (column == 0 ? LineMark(outputs, *rows[row - 1]) : "") + EscapeMarkup(text);
                   }) +
         Tag("p", Concat("Means over the last ", kRecentSteps, " steps, or over as many as there are."));
}

std::string WarningSection(const RunOutputs& outputs) {
  constexpr std::size_t kMost = 100;
  std::vector<std::string> items;
  std::size_t more = 0;
  for (const RunOutput& output : outputs) {
    for (const auto& [step, text] : output.warnings) {
      items.size() < kMost ? items.push_back(Concat(output.name, ", step ", step, ": ", text)) : void(++more);
    }
  }
  if (more > 0) items.push_back(Concat("and ", more, " more in metrics.jsonl"));
  return items.empty() ? "" : HtmlList(items);
}

std::string EvaluationSection(const RunOutputs& outputs) {
  const std::vector<const RunOutput*> evaluations = Of(outputs, "eval");
  std::vector<Settings> all;
  for (const RunOutput* evaluation : evaluations) all.push_back(MeasuresOf(evaluation->evaluation));
  std::vector<std::string> names;
  for (const Settings& measures : all) {
    for (const auto& [name, value] : measures) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  if (evaluations.empty()) return "";
  return SideBySide(evaluations, all, names) +
         Tag("p", "Shares and accuracies with Wilson's 95% interval over the problems, the mean length in tokens.");
}

std::string SettingSection(const RunOutputs& outputs) {
  std::string out;
  for (const char* command : {"pretrain", "sft", "rl", "eval"}) {
    const std::vector<const RunOutput*> group = Of(outputs, command);
    if (group.empty()) continue;
    const std::vector<Settings> all = SettingsOf(group);
    const Comparison comparison = Compare(all);
    out += Tag("h3", Concat("swarr ", command));
    if (group.size() > 1) {
      out += comparison.different.empty() ? Tag("p", "All settings are the same.")
                                          : SideBySide(group, all, comparison.different);
    }
    Settings shared;
    for (const std::string& name : comparison.same) shared.emplace_back(name, *ValueOf(all[0], name));
    if (shared.empty()) continue;
    out += Fill("<details>\n<summary>@</summary>\n@</details>\n",
                {group.size() > 1 ? Concat(shared.size(), " settings that all ", group.size(), " share")
                                  : Concat("all ", shared.size(), " settings of ", EscapeMarkup(group[0]->name)),
                 HtmlPairs(shared)});
  }
  return out;
}

}  // namespace swarr
