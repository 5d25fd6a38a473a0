// SPDX-License-Identifier: Apache-2.0
// The commands of the program.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/options.h"

namespace swarr {

// The program, or a command of commands.
struct CommandGroup {
  CLI::App& app;
  const Environment& environment;

  CommandGroup AddGroup(const std::string& name, const std::string& help) const {
    return {*app.add_subcommand(name, help)->require_subcommand(1), environment};
  }

  // Adds the command `name`. Its struct adds the options in its constructor, Command(OptionSet&, arguments...), and
  // does its work in Run(). It lives as long as the program.
  template <class Command, class... Arguments>
  void Add(const std::string& name, const std::string& help, const Arguments&... arguments) const {
    CLI::App* command_app = app.add_subcommand(name, help);
    const auto options = std::make_shared<OptionSet>(*command_app, environment);
    const auto command = std::make_shared<Command>(*options, arguments...);
    command_app->callback([options, command] { command->Run(); });
  }
};

// Each adds one command; a file per command.
using CommandAdder = void(const CommandGroup& program);
CommandAdder AddStudy, AddData, AddPretrain, AddSft, AddRl, AddConvert, AddEval, AddGenerate, AddInspect, AddLogits,
    AddTokenize, AddVerify, AddOracle, AddBench;

}  // namespace swarr
