// SPDX-License-Identifier: Apache-2.0
// The commands. Each function adds one to the program, with what it does when it is called; a file per command.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace swarr {

// What main knows and commands need.
struct Environment {
  std::string command_line;
  // From this call on the first interrupt (Ctrl-C) does not end the process; the result says whether it has come. Only
  // commands that can stop in good order call it.
  std::function<std::function<bool()>()> watch_interrupts;
};

void AddStudy(CLI::App& program, const Environment& environment);
void AddData(CLI::App& program);
void AddPretrain(CLI::App& program, const Environment& environment);
void AddSft(CLI::App& program, const Environment& environment);
void AddRl(CLI::App& program, const Environment& environment);
void AddConvert(CLI::App& program);
void AddEval(CLI::App& program);
void AddGenerate(CLI::App& program);
void AddInspect(CLI::App& program);
void AddLogits(CLI::App& program);
void AddTokenize(CLI::App& program);
void AddVerify(CLI::App& program);
void AddOracle(CLI::App& program);
void AddBench(CLI::App& program);

// Adds the command `name`, whose options are those of a struct `Options(CLI::App&)` that lives as long as the program,
// and which does options.Run().
template <class Options, class... Arguments>
void AddCommand(CLI::App& program, const std::string& name, const std::string& help, const Arguments&... arguments) {
  CLI::App* app = program.add_subcommand(name, help);
  const auto options = std::make_shared<Options>(*app, arguments...);
  app->callback([options] { options->Run(); });
}

}  // namespace swarr
