// SPDX-License-Identifier: Apache-2.0
// What the commands have in common: options that CLI11 parses, that --config FILE may give as JSON, and that are
// written as the resolved configuration; the choice of device, dtype and threads; JSON on stdout.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor/memory_report.h"
#include "tensor/transfer.h"

namespace swarr {

// Whether an option belongs to the resolved configuration: all that decides the result does. Where results go, how many
// threads compute them and what is shown meanwhile do not.
enum class Record : std::uint8_t { kYes, kNo };

// The options of one command. Values stay where they are: the set refers to them.
class OptionSet {
 public:
  // Adds --config to the command; its content is put among the arguments before they are parsed (ExpandConfig).
  explicit OptionSet(CLI::App& app);

  // --name with the value's current content as default; a bool is a flag. `name` may be "tied,!--untied": a flag with
  // its negation.
  template <class T>
  CLI::Option* Add(const std::string& name, T& value, const std::string& help, Record record = Record::kYes) {
    if (record == Record::kYes) {
      records_.emplace_back(name.substr(0, name.find(',')), [&value] { return nlohmann::ordered_json(value); });
    }
    if constexpr (std::is_same_v<T, bool>) {
      return app_.add_flag("--" + name, value, help);
    } else {
      return app_.add_option("--" + name, value, help);
    }
  }

  // Takes an option out of the resolved configuration, where it turned out to have no meaning.
  void Omit(const std::string& name) {
    std::erase_if(records_, [&](const auto& record) { return record.first == name; });
  }

  // {"command": ..., option: value, ...} as the values are now; empty texts are left out. Taken as --config, it gives
  // the same again.
  nlohmann::ordered_json Resolved() const;

 private:
  CLI::App& app_;
  std::string config_;
  std::vector<std::pair<std::string, std::function<nlohmann::ordered_json()>>> records_;
};

// The arguments (without the program's name) with the content of --config FILE, if it occurs, put in after the
// command's name, so that what the user typed comes later and wins. Throws UsageError for a key that is no option of
// the command.
std::vector<std::string> ExpandConfig(CLI::App& program, const std::vector<std::string>& arguments);

// For CLI11 checks: a finite number from `least` on.
CLI::Validator AtLeast(double least);

// "1,2,3" as integers; throws UsageError, naming the option, for anything else.
std::vector<int> ParseIntegers(const std::string& list, const std::string& option);

constexpr int kMaxThreads = 1024;  // far beyond this the system refuses to start them

// Where and how numbers are computed.
struct ComputeOptions {
  std::string device = "auto", dtype = "f32", gemm = "own", cpu = "auto";
  int threads = 0;
  std::uint64_t seed = 0;
  bool memory_report = false;
  MemoryReport memory;  // what was noted, if it is to be reported

  void AddTo(OptionSet& options);
  void AddDeviceTo(OptionSet& options);  // --device alone
  // All throw Error for what this build or machine can't do, UsageError for what does not exist. "auto" becomes the
  // device's name here, so that it is recorded. The context notes memory here.
  Device MakeDevice();
  MemoryKind MakeKind() { return MemoryOf(MakeDevice()); }  // of models
  Context MakeContext(StepMemory& memory_of_steps);
  // On stderr, if it is to be reported.
  void PrintMemory(const Arena& arena) const;
  DType MakeDType() const;
};

// --threads, where 0 means one for every processor that this process may use.
int ResolveThreads(int threads);

// One line on stdout. Bytes that are no UTF-8 become U+FFFD.
void PrintJson(const nlohmann::ordered_json& json);

}  // namespace swarr
