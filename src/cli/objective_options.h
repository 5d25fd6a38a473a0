// SPDX-License-Identifier: Apache-2.0
// The objective on the command line: a name, and switches that change what it stands for.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "rl/objective_names.h"

namespace swarr {

class ObjectiveSwitches {
 public:
  // --objective and a flag for every switch of ObjectiveFromJson, in kebab-case.
  void AddTo(OptionSet& options);

  // The named objective with the switches that were given, but for max_completion_length. From then on the recorded
  // configuration holds the name and the values of all switches, given or not. Throws UsageError as ObjectiveFromJson
  // and CheckObjective do.
  ObjectiveOptions Resolve();

  // After Resolve: the name, the switches that differ from what it stands for, and all switches as flags, in one line.
  std::string ToText() const;

 private:
  struct Switch {
    std::string name;  // in JSON
    CLI::Option* option;
    std::function<nlohmann::ordered_json()> read;
    std::function<void(const nlohmann::ordered_json&)> write;
  };
  template <class T>
  CLI::Option* Add(OptionSet& options, const std::string& flag, T& value, const std::string& help);

  std::string name_ = "grpo";
  std::string baseline_, scale_rewards_, ratio_, clip_, normalizer_, kl_, kl_in_;
  double epsilon_ = 0, epsilon_high_ = 0, beta_ = 0, entropy_coef_ = 0, overlong_share_ = 0;
  bool whiten_ = false, dynamic_sampling_ = false;
  std::vector<Switch> switches_;
};

}  // namespace swarr
