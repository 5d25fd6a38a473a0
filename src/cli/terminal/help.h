// SPDX-License-Identifier: Apache-2.0
// What the program says of its commands and options. The table is what the commands have added to CLI11's App; help,
// the manual page and the completions of shells are all written from it.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

namespace swarr {

// The group of options that stand last in every help.
inline constexpr const char* kGeneralGroup = "General";

// "a|b|c" for an option's type_name: it takes one of these names.
template <class Names>
std::string OneOf(const Names& names) {
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : "|") + std::string(name);
  return all;
}
// The same from "a, b or c".
std::string OneOf(std::string listed);

// The names that the option takes one of; empty if it takes other values.
std::vector<std::string> ChoicesOf(const CLI::Option& option);

// The options that stand on the command line without a flag.
std::vector<const CLI::Option*> PositionalsOf(const CLI::App& command);

// A command of the program and the words that lead to it, "" for the program itself, " oracle check" for a command.
struct CommandPath {
  std::string words;
  const CLI::App* app;
};
// The program, and all commands in their order, each before its own commands.
std::vector<CommandPath> CommandPaths(const CLI::App& program);

// --help: options by groups, in lines of at most 100 columns.
std::shared_ptr<CLI::FormatterBase> HelpFormatter();

// The manual page, in man's own language.
std::string ManualPage(const CLI::App& program, const std::string& version);

// Scripts that complete commands, options and choices.
std::string BashCompletion(const CLI::App& program);
std::string ZshCompletion(const CLI::App& program);
std::string FishCompletion(const CLI::App& program);

// "; did you mean WORD?" with the name that is nearest to `word`, or "" if none is near.
std::string DidYouMean(const std::string& word, const std::vector<std::string>& names);
// The options' names, "--model".
std::vector<std::string> OptionNames(const CLI::App& command);
std::vector<std::string> CommandNames(const CLI::App& program);

}  // namespace swarr
