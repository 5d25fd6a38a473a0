// SPDX-License-Identifier: Apache-2.0
// The commands of the program, and what they have in common. CLI11 parses their options, --config FILE may give them as
// JSON, and they are written as the resolved configuration. Most commands choose device, dtype and threads, and print
// JSON.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cli/terminal/help.h"
#include "dist/launch.h"
#include "tensor/memory_report.h"
#include "tensor/transfer.h"
#include "train/requirements.h"

namespace swarr {

class Transformer;

// How a command learns that it is to stop.
struct Stopping {
  std::function<bool()> requested;   // whether a signal has come
  std::function<void(bool)> saving;  // to be told when a save begins (true) and has ended: a second signal waits
};

// What main knows and commands need. It lives as long as the program.
struct Environment {
  std::string command_line;
  // From this call on the first SIGINT (Ctrl-C), SIGTERM or SIGHUP does not end the process; those that it was started
  // to ignore it goes on to ignore. Only commands that can stop in good order call it.
  std::function<Stopping()> watch_signals;
  std::function<Launch()>
      launch;  // which of the ranks that train together this process is; asked once, before it works
};

// For CLI11 checks: a text that becomes a T. CLI11's own refusal does not say what is wanted.
template <class T>
CLI::Validator Convertible() {
  return CLI::Validator(
      [](const std::string& text) {
        T value{};
        const bool wraps = std::is_unsigned_v<T> && text.starts_with('-');  // CLI11 takes -1 for the largest
        if (!wraps && CLI::detail::lexical_cast(text, value)) return std::string();
        std::string wanted = "a number";
        if constexpr (std::is_same_v<T, bool>) {
          wanted = "true or false";
        } else if constexpr (std::is_integral_v<T>) {
          wanted = Concat("a whole number from ", std::numeric_limits<T>::min(), " to ", std::numeric_limits<T>::max());
        }
        return Concat(text, " given where ", wanted, " is needed");
      },
      "");
}

// The type of options whose value is a text with commas between its parts; --config may give a list.
inline constexpr const char* kListType = "LIST";

// A file that a command writes when it has computed what goes there.
struct OutputFile {
  std::string path{};      // as it was given
  bool overwrite = false;  // whether a file of this name may be replaced
  bool in_parts = false;   // whether StopAfter may be called: path + ".partial" is then written by the same rules

  // Calls write(p) with the path, or with a hidden one beside it, whose file then gets its name. If another file has
  // come by that name since the command began, it stays unless `overwrite`: then the result gets the first free name of
  // path + ".new", ".new-2" and so on, and an Error says so.
  void Write(const std::function<void(const std::filesystem::path&)>& write) const;
  void Write(std::string_view bytes) const;

  // Ends a command that was asked to stop when it had done so many of all `things`, "problems": writes `part`, what it
  // has of them, to path + ".partial", and throws Interrupted, whose sentence tells of it. If the part is empty or no
  // file was asked for, it throws alone. A file there that goes on behind the part stays, `overwrite` or not: the
  // command was stopped before, later than now. A later Write that may overwrite removes the part.
  [[noreturn]] void StopAfter(std::int64_t done, std::int64_t all, const std::string& things, std::string_view part,
                              const Stopping& stopping) const;
};

// The options of one command. Values stay where they are: the set refers to them.
class OptionSet {
 public:
  // Adds --config to the command. ExpandConfig puts its content among the arguments before they are parsed.
  OptionSet(CLI::App& app, const Environment& environment);

  const Environment& environment() const { return environment_; }
  const Launch& launch() const { return launch_; }  // known from Check on

  // Options that are added from here on stand in this group of the help.
  void Group(const std::string& name) { app_.option_defaults()->group(name); }

  // --name with the value's current content as default, and with `checks` of CLI11; a bool is a flag. `name` may be
  // "tied,!--untied": a flag with its negation. The option is part of the resolved configuration, as all that decides
  // the result is.
  template <class T, class... Checks>
  CLI::Option* Add(const std::string& name, T& value, const std::string& help, const Checks&... checks) {
    records_.emplace_back(name.substr(0, name.find(',')), [&value] { return nlohmann::ordered_json(value); });
    return AddUnrecorded(name, value, help, checks...);
  }
  // The same outside the resolved configuration: where results go, how many threads compute them, what is shown.
  template <class T, class... Checks>
  CLI::Option* AddUnrecorded(const std::string& name, T& value, const std::string& help, const Checks&... checks) {
    CLI::Option* option;
    if constexpr (std::is_same_v<T, bool>) {
      option = app_.add_flag("--" + name, value, help);
    } else {
      option = app_.add_option("--" + name, value, help);
    }
    (option->check(checks), ...);
    if constexpr (std::is_arithmetic_v<T>) option->check(Convertible<T>());
    return option;
  }

  // The file that --name names, which the command reads. It is never overwritten by an output of the same command.
  CLI::Option* AddInput(const std::string& name, std::string& path, const std::string& help) {
    CLI::Option* option = Add(name, path, help)->type_name("FILE");
    inputs_.push_back({"--" + name, &path, option});
    return option;
  }
  // What stands on the command line without a flag before it, any number of times; after --name it may stand as well.
  CLI::Option* AddPositional(const std::string& name, std::vector<std::string>& values, const std::string& help);

  // The file that --name names, which the command writes; what it holds already is its default. The command is refused
  // before it runs if the file can't be written, or if there is one already, unless --overwrite, an option that this
  // adds, says otherwise. A file in the directory of a model or a run is never replaced. Files of which `own` holds,
  // since an earlier call of the command has written them, are replaced anywhere and without asking. A part (in_parts)
  // is checked like the file, and its help tells of it.
  CLI::Option* AddOutput(const std::string& name, OutputFile& file, const std::string& help,
                         std::function<bool(const std::filesystem::path&)> own = {});
  // Whether --overwrite is given, for what else the command writes.
  bool overwrite() const { return overwrite_; }

  // Says of options of the command that they do nothing while `idle` holds, and why: "with --task". Then they are
  // refused where they are given, and left out of the resolved configuration. Names that the command lacks count for
  // nothing.
  void HaveNoEffect(const std::vector<std::string>& names, const std::string& why, std::function<bool()> idle) {
    idle_.push_back({names, why, std::move(idle)});
  }

  // The command is one that several ranks run together; any other is refused to them.
  void AllowRanks() { allows_ranks_ = true; }

  // To be called when the arguments have been parsed, before the command runs. Throws if an output can't be written, an
  // option would do nothing, or this is one of several ranks that the command has no use for.
  void Check();

  // {"command": ..., option: value, ...} as the values are now; empty texts are left out. Taken as --config, it gives
  // the same again, with or without the field of RunEnvironment beside it.
  nlohmann::ordered_json Resolved() const;

 private:
  CLI::App& app_;
  const Environment& environment_;
  bool allows_ranks_ = false;
  Launch launch_;
  std::string config_;
  std::vector<std::pair<std::string, std::function<nlohmann::ordered_json()>>> records_;
  struct File {
    std::string flag;
    const std::string* path;
    const CLI::Option* option;
  };
  struct Output : File {
    OutputFile* file;
    std::function<bool(const std::filesystem::path&)> own;
    bool IsOwn() const { return own && own(*path); }
  };
  struct Idle {
    std::vector<std::string> names;
    std::string why;
    std::function<bool()> holds;
  };
  void CheckOutput(const Output& output, const std::string& path, const std::string& flag_names) const;
  void CheckIdle(const Idle& idle);

  std::vector<File> inputs_;
  std::vector<Output> outputs_;
  std::vector<Idle> idle_;
  bool overwrite_ = false;
};

// The arguments, without the program's name. If --config FILE is among them, its content is put in after the command's
// name, so that what the user typed comes later and wins. Throws UsageError for a key that is no option of
// the command.
std::vector<std::string> ExpandConfig(CLI::App& program, const std::vector<std::string>& arguments);

// For CLI11 checks: a finite number from `least` on.
CLI::Validator AtLeast(double least);
// The same for numbers up to `most`.
CLI::Validator Between(double least, double most);
// What counts of things may be that are held at a time.
inline CLI::Validator CountFrom(double least) { return Between(least, kMostCount); }
// What --max-steps may be.
inline CLI::Validator StepsFrom(double least) { return Between(least, static_cast<double>(kMostSteps)); }

// "1,2,3" as integers; throws UsageError, naming the option, for anything else.
std::vector<int> ParseIntegers(const std::string& list, const std::string& option);

// {"environment": {"version", "revision"}}, with a context also device, kernels, threads and machine: what a result was
// made by.
// It decides nothing, and --config passes it over.
nlohmann::ordered_json RunEnvironment(const Context* ctx = nullptr, int ranks = 1);

// Where and how numbers are computed.
struct ComputeOptions {
  std::string device = "auto", dtype = "f32", gemm = "own", cpu = "auto";
  int threads = 0;
  std::uint64_t seed = 0;
  bool memory_report = false;
  MemoryReport memory;  // what was noted, if it is to be reported
  std::optional<AvailableMemory> available;
  std::vector<MemoryPart> needed;

  // Of a command that draws completions, which follow from the command too (StreamKey, Purpose).
  static constexpr const char* kSeedOfDraws =
      "seed of all random numbers; with the same one eval draws other completions than sample and generate";

  void AddTo(OptionSet& options, const std::string& seed_help = "seed of all random numbers");
  void AddDeviceTo(OptionSet& options);  // --device alone
  void AddDTypeTo(OptionSet& options, const std::string& help);
  void AddCpuTo(OptionSet& options, const std::string& help);
  void AddThreadsTo(OptionSet& options);

  // These throw Error for what this build or machine can't do, UsageError for what does not exist.
  Device ResolveDevice();  // "auto" becomes the name of the device, so that it is recorded
  DType MakeDType() const;
  Context MakeContext(StepMemory& memory_of_steps);  // it notes memory in `memory`
  // `of` ends the names of the model's parts in the sentence that says that they don't fit.
  std::unique_ptr<Transformer> Load(const std::string& model_dir, bool with_gradients, const std::string& of = "");

  // To be called before memory for the parts is allocated. Throws Error if they, with all parts named before, exceed
  // what there was when the first were named (requirements.h).
  void Need(const std::vector<MemoryPart>& parts);

  // On stderr, if it is to be reported.
  void PrintMemory(const Arena& arena) const;
};

// What --threads may be (ResolveThreads).
inline const CLI::Validator kThreadRange = Between(0, 1024);  // far beyond this the system refuses to start them

// Throws unless nothing is in the directory, or `overwrite`. `directory` may not exist.
void RequireFree(const std::filesystem::path& directory, bool overwrite);

// One line on stdout. Bytes that are no UTF-8 become U+FFFD.
void PrintJson(const nlohmann::ordered_json& json);

// The program, or a command of commands.
struct CommandGroup {
  CLI::App& app;
  const Environment& environment;

  CommandGroup AddGroup(const std::string& name, const std::string& help) const {
    CLI::App* group = app.add_subcommand(name, help)->require_subcommand(1);
    group->get_help_ptr()->group(kGeneralGroup);
    return {*group, environment};
  }

  // Adds the command `name`; its help ends with `example`, an indented command line. Its struct adds the options in its
  // constructor, Command(OptionSet&, arguments...), and does its work in Run(). It lives as long as the program.
  template <class Command, class... Arguments>
  void Add(const std::string& name, const std::string& help, const std::string& example,
           const Arguments&... arguments) const {
    CLI::App* command_app = app.add_subcommand(name, help)->footer(example);
    command_app->get_help_ptr()->group(kGeneralGroup);
    const auto options = std::make_shared<OptionSet>(*command_app, environment);
    const auto command = std::make_shared<Command>(*options, arguments...);
    command_app->callback([options, command] {
      options->Check();
      command->Run();
    });
  }
};

// Each adds one command; a file per command.
using CommandAdder = void(const CommandGroup& program);
CommandAdder AddStudy, AddData, AddPretrain, AddSft, AddRl, AddConvert, AddEval, AddSample, AddGenerate, AddInspect,
    AddLogits, AddTokenize, AddVerify, AddOracle, AddBench, AddCompletion, AddReport;

}  // namespace swarr
