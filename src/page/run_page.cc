// SPDX-License-Identifier: Apache-2.0
#include "page/run_page.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/check.h"
#include "base/utf8.h"
#include "page/html.h"
#include "page/run_sections.h"
#include "plot/svg.h"
#include "train/run_files.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostShown = 8;               // outputs whose completions are shown
constexpr std::size_t kMostCompletionBytes = 4000;  // of one; the rest is cut off

std::string StateOf(const RunOutput& output) {
  if (output.complete) return "complete";
  if (output.recent.empty()) return "no step yet";
  return output.steps > 0 ? Concat("step ", output.step(), " of ", output.steps) : Concat("step ", output.step());
}

std::string EnvironmentOf(const RunOutput& output, const char* name) {
  const std::string* value = ValueOf(output.environment, name);
  return value ? *value : "-";
}

// A path from the page's folder, for a link.
std::string LinkTo(const fs::path& target, const fs::path& folder) {
  std::error_code ignored;
  const fs::path path = fs::proximate(target, folder, ignored);
  std::string address;
  for (const char c : path.string()) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view("-_.~/").find(c) < 5;
    address += plain ? std::string(1, c)
                     : Concat('%', std::hex, std::uppercase, std::setw(2), std::setfill('0'),
                              static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return address.empty() ? "." : address;
}

std::string OutputTable(const RunOutputs& outputs, const fs::path& folder) {
  std::vector<std::vector<std::string>> table = {
      {"output", "command", "state", "tokens", "seconds", "device", "kernels", "revision", "last written"}};
  for (const RunOutput& output : outputs) {
    const bool trains = !output.recent.empty();
    table.push_back({output.name, output.command, StateOf(output),
                     trains ? std::to_string(output.recent.back().value("num_tokens", std::int64_t{0})) : "-",
                     trains ? Concat(std::fixed, std::setprecision(1), output.seconds) : "-",
                     EnvironmentOf(output, "device"), EnvironmentOf(output, "kernels"),
                     EnvironmentOf(output, "revision"), output.written.empty() ? "-" : output.written});
  }
  // A study's runs, for one, do not say what they were made by.
  for (std::size_t column = table[0].size(); column-- > 1;) {
    const auto row =
        std::ranges::find_if(table.begin() + 1, table.end(), [&](const auto& r) { return r[column] != "-"; });
    if (row != table.end()) continue;
    for (auto& r : table) r.erase(r.begin() + static_cast<std::ptrdiff_t>(column));
  }
  return HtmlTable(table, [&](std::size_t row, std::size_t column, const std::string& text) {
    if (column > 0) return EscapeMarkup(text);
    const RunOutput& output = outputs[row - 1];
    return LineMark(outputs, output) + HtmlLink(LinkTo(output.directory, folder), text);
  });
}

// A text as it stands, cut at a character if it is long.
std::string Excerpted(const std::string& text) {
  if (text.size() <= kMostCompletionBytes) return text;
  std::size_t end = kMostCompletionBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return Concat(text.substr(0, end), " ... (", text.size() - end, " more bytes)");
}

std::string OneCompletion(const RunOutput& output, const ShownCompletion& shown) {
  const auto problem = ChainProblemIn(shown.prompt);
  const std::string judged = Concat("reward ", shown.reward, shown.finished ? "" : ", cut off");
  if (problem && output.knows_sight && shown.completion.size() <= kMostCompletionBytes) {
    return Fill("<div class=\"trace\"><p>@<br>@, @</p><div class=\"scroll\">@</div></div>\n",
                {ChainProblemInWords(*problem), judged, TraceInWords(*problem, shown.completion, output.sight),
                 TracePicture(*problem, shown.completion, output.sight)});
  }
  return Tag("p", judged) + Tag("pre", Excerpted(shown.prompt)) + Tag("pre", Excerpted(shown.completion));
}

// The raw files of each, and the command that makes it again.
std::string RepeatSection(const RunOutputs& outputs, const fs::path& folder) {
  std::string out;
  for (const RunOutput& output : outputs) {
    std::string links;
    for (const char* file : {kConfigFile, kMetricsFile, kCompletions, kEvaluationFile, kEvaluatedFile, kRunFile}) {
      if (!fs::exists(output.directory / file)) continue;
      links += (links.empty() ? "" : ", ") + HtmlLink(LinkTo(output.directory / file, folder), file);
    }
    std::string made_by;
    for (const auto& [name, value] : output.environment) {
      made_by += Concat(made_by.empty() ? "Made by " : ", ", name, ' ', value);
    }
    const std::string config = (output.directory / kConfigFile).string();
    const bool of_study = ValueOf(output.settings, "study") != nullptr;
    out += Fill("<h3>@@</h3>\n<p>@: @</p>\n@@",
                {LineMark(outputs, output), EscapeMarkup(output.name), EscapeMarkup(output.directory.string()), links,
                 made_by.empty() ? "" : Tag("p", made_by),
                 of_study ? Tag("p", "A run of a study, which the study makes again.")
                          : Tag("pre", Concat("swarr ", output.command, " --config ", config, " --output-dir DIR"))});
  }
  return out;
}

std::string TitleOf(const RunOutputs& outputs) {
  constexpr std::size_t kMostNamed = 4;
  if (outputs.size() > kMostNamed) return Concat(outputs.size(), " runs side by side");
  std::string names;
  for (const RunOutput& output : outputs) names += (names.empty() ? "" : ", ") + output.name;
  return names;
}

}  // namespace

std::string CompletionSection(const RunOutputs& outputs) {
  std::string out;
  std::size_t shown = 0;
  bool pictures = false;
  for (const RunOutput& output : outputs) {
    if (output.completions.empty() || ++shown > kMostShown) continue;
    out += Fill("<h3>@@</h3>\n", {LineMark(outputs, output), EscapeMarkup(output.name)});
    for (const ShownCompletion& completion : output.completions) {
      pictures |= ChainProblemIn(completion.prompt).has_value();
      out += OneCompletion(output, completion);
    }
  }
  if (shown == 0) return "";
  if (shown > kMostShown) out += Tag("p", Concat("The completions of ", shown - kMostShown, " more are not shown."));
  return Tag("p", Concat("The first completion of each of the first problems: of RL in its last step, of an evaluation "
                         "among all. ",
                         pictures ? kTraceKey : "")) +
         out;
}

std::string RunPage(const RunOutputs& outputs, const fs::path& folder, const Settings& source) {
  SWARR_CHECK(outputs.size() <= kMostOutputs, "a page shows at most ", kMostOutputs, " outputs, and these are ",
              outputs.size(), "; name fewer");
  const bool goes_on = std::ranges::any_of(outputs, [](const RunOutput& output) { return !output.complete; });
  const std::string opening =
      goes_on ? Fill("<p class=\"notice\">@</p>\n",
                     {EscapeMarkup("Not all of this is complete. The page shows what there was when it was written.")})
              : "";
  return HtmlPage(TitleOf(outputs), kRunPageGenerator, opening,
                  {{"outputs", "What was run", OutputTable(outputs, folder)},
                   {"warnings", "Warnings", WarningSection(outputs)},
                   {"last", "Last steps", LastStepSection(outputs)},
                   {"evaluations", "Evaluations", EvaluationSection(outputs)},
                   {"training", "Training", CurveSection(outputs)},
                   {"settings", "Settings", SettingSection(outputs)},
                   {"completions", "Completions", CompletionSection(outputs)},
                   {"repeat", "How it was made", RepeatSection(outputs, folder)},
                   {"source", "Where it comes from", HtmlPairs(source)}});
}

}  // namespace swarr
