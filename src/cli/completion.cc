// SPDX-License-Identifier: Apache-2.0
// swarr completion SHELL and swarr manual: what shells and man know of the program, from the table of its options.
#include <iostream>

#include "base/version.h"
#include "cli/commands.h"
#include "cli/terminal/help.h"

namespace swarr {
namespace {

std::string Joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// "a"|"b": patterns for the commands, one after another, as they follow one another on the command line.
std::string CommandPatterns(const CLI::App& program, const char* between) {
  std::vector<std::string> patterns;
  for (const CommandPath& path : CommandPaths(program)) {
    if (!path.words.empty()) patterns.push_back("'" + path.words + "'");
  }
  return Joined(patterns, between);
}

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string QuotedForFish(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string BashCompletion(const CLI::App& program) {
  const std::string& name = program.get_name();
  std::string script = "_" + name + R"(() {
  local word words="" command="" folders="" current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
  COMPREPLY=()
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$command $word" in
      )" + CommandPatterns(program, "|") +
                       R"() command="$command $word" ;;
    esac
  done
  case "$command" in
)";
  for (const auto& [path, app] : CommandPaths(program)) {
    std::vector<std::string> free;  // options whose value is none of a few: a file, or anything
    script += "    '" + path + "')\n      words='" + Joined(CommandNames(*app), " ") + " " +
              Joined(OptionNames(*app), " ") + "'" + (PositionalsOf(*app).empty() ? "" : " folders=1") +
              "\n      case \"$previous\" in\n";
    for (const CLI::Option* option : app->get_options()) {
      const std::string flag = "--" + option->get_lnames().front();
      const std::vector<std::string> choices = ChoicesOf(*option);
      if (!choices.empty()) {
        script += "        " + flag + ") words='" + Joined(choices, " ") + "' ;;\n";
      } else if (TakesValue(*option)) {
        free.push_back(flag);
      }
    }
    if (!free.empty()) script += "        " + Joined(free, "|") + ") return ;;\n";
    script += "      esac ;;\n";
  }
  return script + "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n" +
         "  [[ -n $folders ]] && COMPREPLY+=($(compgen -d -- \"$current\"))\n}\ncomplete -o default -F _" + name + " " +
         name + "\n";
}

std::string ZshCompletion(const CLI::App& program) {
  return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + BashCompletion(program);
}

std::string FishCompletion(const CLI::App& program) {
  const std::string& name = program.get_name();
  std::string script =
      "function __" + name + "_command\n    set -l command\n" +
      "    for word in (commandline -opc)[2..]\n        switch \"$command $word\"\n            case " +
      CommandPatterns(program, " ") +
      "\n                set command \"$command $word\"\n        end\n    end\n    echo \"$command\"\nend\n";
  for (const auto& [path, app] : CommandPaths(program)) {
    const std::string line = "complete -c " + name + " -n 'test \"$(__" + name + "_command)\" = \"" + path + "\"' ";
    for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; })) {
      script += line + "-fa " + command->get_name() + " -d " + QuotedForFish(command->get_description()) + "\n";
    }
    for (const CLI::Option* option : app->get_options()) {
      const std::vector<std::string> choices = ChoicesOf(*option);
      const std::string values = !choices.empty()      ? " -xa " + QuotedForFish(Joined(choices, " "))
                                 : TakesValue(*option) ? " -r"
                                                       : "";
      for (const std::string& flag : option->get_lnames()) {
        script += line + "-l " + flag + values + " -d " + QuotedForFish(option->get_description()) + "\n";
      }
    }
  }
  return script;
}

namespace {

struct PrintCommand {
  PrintCommand(OptionSet&, std::string (*write)(const CLI::App&), const CLI::App* program)
      : write(write), program(program) {}
  void Run() const { std::cout << write(*program); }

  std::string (*write)(const CLI::App&);
  const CLI::App* program;
};

std::string Manual(const CLI::App& program) { return ManualPage(program, Version()); }

}  // namespace

void AddCompletion(const CommandGroup& program) {
  const CommandGroup shells = program.AddGroup("completion", "Print a script that completes commands in a shell");
  const CLI::App* const all = &program.app;
  shells.Add<PrintCommand>("bash", "For bash", "  source <(swarr completion bash)", BashCompletion, all);
  shells.Add<PrintCommand>("zsh", "For zsh", "  source <(swarr completion zsh)", ZshCompletion, all);
  shells.Add<PrintCommand>("fish", "For fish", "  swarr completion fish | source", FishCompletion, all);
  program.Add<PrintCommand>("manual", "Print the manual page", "  swarr manual | man -l -", Manual, all);
}

}  // namespace swarr
