// SPDX-License-Identifier: Apache-2.0
// The built-in tasks and the reward rules, by name. To add a task, define it in a file of its own, then declare and
// list it in registry.cc. `--task NAME`, `--reward NAME` and `swarr data NAME` know it from then on, with a flag for
// each parameter, and `pretrain` knows its tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "task/task.h"

namespace swarr {

constexpr std::string_view kEndOfText = "<|end|>";  // the token that ends the texts of all built-in tasks

// A number that the user may set, --NAME on the command line. Two tasks can't have parameters of one name.
struct TaskParameter {
  std::string name;
  std::variant<int*, double*> value;  // where it lies; the default at first
  std::string help;
  bool of_completions = false;  // a share, which changes nothing where completions are not imitated
  std::string field = {};       // its name in a study's file; empty: `name`, with _ for -

  std::string Field() const;
};

// What a study's report says of a task, which has TraceRule's measures beside.
struct TaskView {
  std::string title;                                // "Chain task"
  std::string step;                                 // what problems have some of: "step", "line"
  std::function<std::string(int window)> describe;  // sentences: what has to be known, and what slides away
  std::function<std::pair<int, int>()> sizes;       // fewest and most steps of a problem
  std::function<double()> repeat_rate;              // the first measure, in the task's own completions
  // The accuracy on problems of each of `from` to `to` steps of the policy that has the best mean over them, if it
  // repeats what has slid away at random, at this rate. Empty: not known without counting.
  std::function<std::vector<double>(int layers, int window, double rate, int from, int to)> memoryless = {};
};

struct BuiltInTask {
  std::string name;
  std::function<nlohmann::ordered_json()> tokenizer;  // tokenizer.json of a model that learns its texts from nothing
  std::vector<TaskParameter> parameters;
  // The problems of one split, with the parameters as they are now. `seed` is of what the task draws. Throws UsageError
  // for parameters that make no sense.
  std::function<std::unique_ptr<Task>(Split split, std::uint64_t seed)> make;
  RewardRule reward;  // judges its answers, in data files too; has the task's name
  TaskView view;
};

// Each call gives parameters of their own.
std::vector<BuiltInTask> BuiltInTasks();

// `count` rows, one a line: the first problems of the task. Where `count` exceeds them (0: stops there), the problems
// come again in the same order, with completions drawn afresh.
std::string DataRows(const Task& task, std::int64_t count);

// A built-in task's rule, called like the task. "math": VerifyMath with an answer that is marked, the rule to train
// with; "math-lenient" also takes the last number. "gsm8k-strict-match", "gsm8k-flexible-extract": VerifyGsm8k, as
// others report GSM8K; these two judge unfinished texts too. All are worth 1 or 0. Throws UsageError for any other
// name, and names what exists.
RewardRule RewardByName(const std::string& name);

// All names of RewardByName, for texts of help and errors.
std::string RewardNames();

}  // namespace swarr
