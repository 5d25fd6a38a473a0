// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal/help.h"

#include <algorithm>

#include "base/check.h"

namespace swarr {
namespace {

constexpr std::size_t kWidth = 100;  // columns of a line
constexpr std::size_t kColumn = 30;  // where descriptions begin

// Appends words to `text`, whose last line ends at column `at`; further lines begin at column `indent`. What is too
// long for a line is cut, behind a '|' if it has one. A tab is a space at which no line ends.
void AppendWrapped(std::string& text, std::size_t at, std::size_t indent, const std::string& words) {
  const auto new_line = [&] {
    text += '\n' + std::string(indent, ' ');
    at = indent;
  };
  for (std::size_t begin = 0; begin < words.size();) {
    std::size_t end = std::min(words.find(' ', begin), words.size());
    const std::size_t room = kWidth - indent;
    if (end - begin > room) {
      const std::size_t bar = words.rfind('|', begin + room - 1);
      end = bar == std::string::npos || bar < begin ? begin + room : bar + 1;
    }
    const bool spaced = begin > 0 && words[begin - 1] == ' ';
    if (at > indent && at + spaced + (end - begin) > kWidth) new_line();
    if (spaced && at > indent) {
      text += ' ';
      ++at;
    }
    for (const char c : words.substr(begin, end - begin)) text += c == '\t' ? ' ' : c;
    at += end - begin;
    begin = end < words.size() && words[end] == ' ' ? end + 1 : end;
  }
}

bool IsFlag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

// The type's name without what CLI11 says of the checks.
std::string TypeOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.substr(0, type.find(':'));
}

// What stands for the value: "INT", "a|b", "[INIT]" where it may be left out.
std::string ValueOf(const CLI::Option& option) {
  if (IsFlag(option)) return "";
  const std::string type = TypeOf(option);
  return option.get_items_expected_min() == 0 ? "[" + type + "]" : type;
}

// "--tied, --untied", or "DIR..., --directories" for what needs no flag.
std::string FlagsOf(const CLI::Option& option) {
  std::string names = option.get_positional() ? TypeOf(option) + "..." : "";
  for (const std::string& name : option.get_lnames()) names += (names.empty() ? "--" : ", --") + name;
  return names;
}

// " [OPTIONS] DIR..."
std::string UsageOf(const CLI::App& app) {
  std::string usage = " [OPTIONS]";
  for (const CLI::Option* option : PositionalsOf(app)) usage += " " + TypeOf(*option) + "...";
  return usage;
}

std::string DescriptionOf(const CLI::Option& option) {
  if (option.get_required()) return "(required) " + option.get_description();
  const std::string value = option.get_default_str();
  const bool shown = !IsFlag(option) && !value.empty() && value != "[]";
  return option.get_description() + (shown ? " (default:\t" + value + ")" : "");
}

// A row of a name and what is said of it.
void AppendRow(std::string& text, const std::string& left, const std::string& right) {
  std::string line = "  ";
  AppendWrapped(line, 2, 4, left);
  std::size_t at = line.size() - (line.rfind('\n') + 1);
  if (at + 2 > kColumn) {
    line += '\n';
    at = 0;
  }
  line += std::string(kColumn - at, ' ');
  AppendWrapped(line, kColumn, kColumn, right);
  text += line + '\n';
}

// The groups in the order in which they came, the general one last.
std::vector<std::string> GroupsOf(const CLI::App& command) {
  std::vector<std::string> groups = command.get_groups();
  std::stable_partition(groups.begin(), groups.end(), [](const std::string& g) { return g != kGeneralGroup; });
  return groups;
}

std::vector<const CLI::Option*> OptionsOf(const CLI::App& command, const std::string& group) {
  return command.get_options([&](const CLI::Option* option) { return option->get_group() == group; });
}

std::vector<const CLI::App*> CommandsOf(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

class Formatter : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
    std::string text = name + ": ";
    AppendWrapped(text, text.size(), 0, app->get_description());
    const std::vector<const CLI::App*> commands = CommandsOf(*app);
    text += "\n\nUsage: " + name + (commands.empty() ? "" : " COMMAND") + UsageOf(*app) + "\n";
    if (!commands.empty()) text += "\nCommands:\n";
    for (const CLI::App* command : commands) AppendRow(text, command->get_name(), command->get_description());
    for (const std::string& group : GroupsOf(*app)) {
      text += "\n" + group + ":\n";
      for (const CLI::Option* option : OptionsOf(*app, group)) {
        const std::string value = ValueOf(*option);
        AppendRow(text, FlagsOf(*option) + (value.empty() ? "" : " " + value), DescriptionOf(*option));
      }
    }
    if (!app->get_footer().empty()) text += "\nExample:\n" + app->get_footer() + "\n";
    return text;
  }
};

// Text as man reads it: as it stands, and no request at the start of a line.
std::string Troff(const std::string& text) {
  std::string escaped = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) {
    if (c == '\\' || c == '-') {
      escaped += c == '\\' ? "\\e" : "\\-";
    } else {
      escaped += c == '\t' ? ' ' : c;
    }
  }
  return escaped;
}

}  // namespace

std::string OneOf(std::string listed) {
  for (const std::string between : {", ", " or "}) {
    for (std::size_t at; (at = listed.find(between)) != std::string::npos;) listed.replace(at, between.size(), "|");
  }
  return listed;
}

std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  std::vector<std::string> choices;
  const std::string names = TypeOf(option);
  if (names.find('|') == std::string::npos) return choices;
  for (std::size_t begin = 0, end; begin <= names.size(); begin = end + 1) {
    end = std::min(names.find('|', begin), names.size());
    choices.push_back(names.substr(begin, end - begin));
  }
  return choices;
}

std::vector<const CLI::Option*> PositionalsOf(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

std::vector<CommandPath> CommandPaths(const CLI::App& program) {
  std::vector<CommandPath> paths = {{"", &program}};
  for (const CLI::App* command : CommandsOf(program)) {
    for (const CommandPath& below : CommandPaths(*command)) {
      paths.push_back({" " + command->get_name() + below.words, below.app});
    }
  }
  return paths;
}

std::shared_ptr<CLI::FormatterBase> HelpFormatter() { return std::make_shared<Formatter>(); }

std::string ManualPage(const CLI::App& program, const std::string& version) {
  const std::string& name = program.get_name();
  std::string page = ".TH " + name + R"( 1 "" ")" + name + " " + Troff(version) + "\"\n.SH NAME\n" + name + " \\- " +
                     Troff(program.get_description()) + "\n.SH SYNOPSIS\n.B " + name + " COMMAND\n[OPTIONS]\n";
  for (const auto& [words, app] : CommandPaths(program)) {
    if (words.empty()) continue;
    page += ".SH " + Troff("\"" + name + words + "\"") + "\n" + Troff(app->get_description()) + "\n";
    for (const std::string& group : GroupsOf(*app)) {
      page += ".SS " + Troff("\"" + group + "\"") + "\n";
      for (const CLI::Option* option : OptionsOf(*app, group)) {
        page += ".TP\n\\fB" + Troff(FlagsOf(*option)) + "\\fR \\fI" + Troff(ValueOf(*option)) + "\\fR\n" +
                Troff(DescriptionOf(*option)) + "\n";
      }
    }
    if (!app->get_footer().empty()) page += ".SS Example\n.EX\n" + Troff(app->get_footer()) + "\n.EE\n";
  }
  return page;
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& names) {
  std::string nearest;
  std::size_t least = std::max<std::size_t>(1, word.size() / 3) + 1;  // farther than this is no slip of the fingers
  for (const std::string& name : names) {
    // Letters to insert, remove, replace, or swap with their neighbour: three rows of the usual table.
    std::vector<std::size_t> before, row(name.size() + 1), next(name.size() + 1);
    for (std::size_t j = 0; j <= name.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      next[0] = i;
      for (std::size_t j = 1; j <= name.size(); ++j) {
        next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (word[i - 1] != name[j - 1])});
        const bool swapped = i > 1 && j > 1 && word[i - 1] == name[j - 2] && word[i - 2] == name[j - 1];
        if (swapped) next[j] = std::min(next[j], before[j - 2] + 1);
      }
      before = row;
      row = next;
    }
    if (row.back() >= least) continue;
    least = row.back();
    nearest = name;
  }
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& program) {
  std::vector<std::string> names;
  for (const CLI::App* command : CommandsOf(program)) names.push_back(command->get_name());
  return names;
}

}  // namespace swarr
