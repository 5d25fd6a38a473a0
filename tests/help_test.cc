// SPDX-License-Identifier: Apache-2.0
// What the program says of itself: help, the manual page, completions, and what it guesses of misspelled words.
#include <doctest/doctest.h>

#include <cstdio>
#include <regex>
#include <sstream>

#include "program.h"
#include "rl/objective.h"

using namespace swarr;

namespace {

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string HelpOf(const std::vector<std::string>& command) {
  const Outcome help = Swarr(command + std::vector<std::string>{"--help"});
  CHECK(help.status == 0);
  CHECK(help.err.empty());
  return help.out;
}

// The names under "Commands:".
std::vector<std::string> CommandsIn(const std::string& help) {
  std::vector<std::string> names;
  bool listed = false;
  for (const std::string& line : LinesOf(help)) {
    if (listed && line.empty()) break;
    if (listed && line.starts_with("  ") && line[2] != ' ') names.push_back(line.substr(2, line.find(' ', 2) - 2));
    listed |= line == "Commands:";
  }
  return names;
}

// Calls see(words, help) for the program and for every command of it.
template <class F>
void ForCommands(const F& see, const std::vector<std::string>& words = {}) {
  const std::string help = HelpOf(words);
  see(words, help);
  for (const std::string& name : CommandsIn(help)) ForCommands(see, words + std::vector<std::string>{name});
}

// What a shell says to this text.
std::string Shell(const std::string& shell, const std::string& script) {
  const TempDirectory dir;
  const std::string file = (dir / "script").string();
  WriteFileAtomically(file, script);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen((shell + " " + file).c_str(), "r"), ::pclose);
  REQUIRE(pipe);
  std::string said;
  for (int c; (c = std::fgetc(pipe.get())) != EOF;) said += static_cast<char>(c);
  return said;
}

bool IsInstalled(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null").c_str()) == 0;
}

}  // namespace

TEST_CASE("every help fits 100 columns, and every command's ends with an example of options that it has") {
  int commands = 0;
  ForCommands([&](const std::vector<std::string>& words, const std::string& help) {
    std::string path = "swarr";
    for (const std::string& word : words) path += " " + word;
    CAPTURE(path);
    CHECK(help.starts_with(path + ": "));
    CHECK(help.find("\nUsage: " + path) != std::string::npos);
    CHECK(help.find("\nGeneral:\n") != std::string::npos);
    for (const std::string& line : LinesOf(help)) CHECK_MESSAGE(line.size() <= 100, line);
    if (!CommandsIn(help).empty()) return;
    ++commands;
    const std::size_t at = help.find("\nExample:\n");
    REQUIRE(at != std::string::npos);
    const std::string example = help.substr(at), options = help.substr(0, at);
    const bool of_shell = words[0] == "completion";
    CHECK_MESSAGE((of_shell || example.find("  " + path) != std::string::npos), example);
    const std::regex flag("--[a-z-]+");
    for (std::sregex_iterator i(example.begin(), example.end(), flag), end; i != end; ++i) {
      CHECK_MESSAGE(options.find("\n  " + i->str()) != std::string::npos, i->str());
    }
  });
  CHECK(commands >= 20);
}

TEST_CASE("help stands in groups, with the default of an option and the names that it takes one of") {
  const std::string help = HelpOf({"rl"});
  for (const char* group : {"Model", "Problems", "Problems of --task chain", "Training", "Sampling", "Optimizer",
                            "Computation", "Run directory"}) {
    CHECK_MESSAGE(help.find("\n" + std::string(group) + ":\n") != std::string::npos, group);
  }
  CHECK(help.find("\n  --dtype f32|f64|bf16 ") != std::string::npos);
  CHECK(help.find("\n  --kl k1|k2|k3 ") != std::string::npos);
  CHECK(help.find(" (default: f32)\n") != std::string::npos);
  CHECK(help.find("--model DIR                 (required) model to start from\n") != std::string::npos);
  for (const NamedObjective& objective : NamedObjectives()) {
    CHECK_MESSAGE(help.find(objective.name) != std::string::npos, objective.name);
  }
  CHECK(HelpOf({"sft"}).find("packed into one row (default: 16)\n") != std::string::npos);
}

TEST_CASE("the help of what draws completions says that eval's are others with the same seed") {
  for (const char* command : {"eval", "sample", "generate"}) {
    CHECK_MESSAGE(HelpOf({command}).find("with the same one eval draws") != std::string::npos, command);
  }
  CHECK(HelpOf({"sft"}).find("seed of all random numbers (default: 0)\n") != std::string::npos);
}

TEST_CASE("what needs no flag stands in the usage, and first in its group") {
  const std::string help = HelpOf({"report"});
  CHECK(help.find("\nUsage: swarr report [OPTIONS] DIR...\n") != std::string::npos);
  CHECK(help.find("\nPage:\n  DIR..., --directories DIR ") != std::string::npos);
}

TEST_CASE("help before a command is --help after it") {
  CHECK(Swarr({"help"}).out == Swarr({"--help"}).out);
  const Outcome study = Swarr({"help", "study"});
  CHECK(study.status == 0);
  CHECK(study.out == Swarr({"study", "--help"}).out);
  CHECK(Swarr({"data"}).Says("a command is required: chain"));
}

TEST_CASE("a misspelled option, command or key of a configuration is answered with the nearest that there is") {
  const auto says = [](const std::vector<std::string>& arguments, const std::string& text) {
    const Outcome outcome = Swarr(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.status == 2);
    CHECK(outcome.IsOneSentence());
    CHECK(outcome.Says(text));
  };
  says({"sft", "--modle", "x"}, "unknown option '--modle'; did you mean --model? (see swarr sft --help)");
  says({"sft", "--btach-size=4"}, "unknown option '--btach-size=4'; did you mean --batch-size?");
  says({"pretrain", "--unteid"}, "did you mean --untied?");
  says({"evla", "--model", "x"}, "unknown command 'evla'; did you mean eval? (see swarr --help)");
  says({"oracle", "chek"}, "did you mean check? (see swarr oracle --help)");
  CHECK_FALSE(Swarr({"sft", "--velocity", "3"}).Says("did you mean"));
  CHECK_FALSE(Swarr({"fly"}).Says("did you mean"));
  const TempDirectory dir;
  const std::string config = (dir / "config.json").string();
  WriteFileAtomically(config, R"({"bacth-size": 4})");
  says({"sft", "--config", config}, "sft has no option \"bacth-size\"; did you mean --batch-size?");
}

TEST_CASE("bash completes commands, options and the names that an option takes") {
  if (!IsInstalled("bash")) {
    MESSAGE("there is no bash here");
    return;
  }
  const std::string script = Swarr({"completion", "bash"}).out;
  const auto completes = [&](const std::string& words) {
    const auto last = std::to_string(std::count(words.begin(), words.end(), ' '));
    return Shell("bash", script + "\nCOMP_WORDS=(" + words + ")\nCOMP_CWORD=" + last + "\n_swarr\n" +
                             "echo \"${COMPREPLY[*]}\"\n");
  };
  CHECK(completes("swarr tok") == "tokenize\n");
  CHECK(completes("swarr oracle ch") == "check\n");
  CHECK(completes("swarr oracle check --cand") == "--candidate\n");
  CHECK(completes("swarr sft --batch") == "--batch-size\n");
  CHECK(completes("swarr sft --model x --dtype b") == "bf16\n");
  CHECK(completes("swarr rl --objective gr") == "grpo\n");
  CHECK(completes("swarr sft --model ''") == "\n");  // a file: bash's own
  CHECK(completes("swarr report --outp") == "--output\n");
  CHECK(completes("swarr report /us").starts_with("/usr"));
  CHECK(completes("swarr sft /us") == "\n");
}

TEST_CASE("zsh and fish read the completions that are written for them") {
  for (const std::string shell : {"zsh", "fish"}) {
    if (!IsInstalled(shell)) {
      MESSAGE("there is no " << shell << " here");
      continue;
    }
    const std::string script = Swarr({"completion", shell}).out;
    if (shell == "fish") {
      const std::string said = Shell(shell, script + "\ncomplete -C 'swarr sft --dtype b'\n");
      CHECK(said.starts_with("bf16"));
      CHECK(Shell(shell, script + "\ncomplete -C 'swarr oracle ch'\n").starts_with("check"));
    } else {
      CHECK(Shell(shell, script + "\nCOMP_WORDS=(swarr x)\nwhence -w _swarr\n") == "_swarr: function\n");
    }
  }
}

TEST_CASE("the manual page has every command with its options and its example") {
  const std::string page = Swarr({"manual"}).out;
  CHECK(page.starts_with(".TH swarr 1 "));
  ForCommands([&](const std::vector<std::string>& words, const std::string&) {
    if (words.empty()) return;
    std::string path = "swarr";
    for (const std::string& word : words) path += " " + word;
    CHECK_MESSAGE(page.find(".SH \"" + path + "\"\n") != std::string::npos, path);
  });
  CHECK(page.find("\\fB\\-\\-batch\\-size\\fR \\fIINT\\fR\n") != std::string::npos);
  CHECK(page.find(".EX\n  swarr study \\-\\-preset quick") != std::string::npos);
}
