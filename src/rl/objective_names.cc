// SPDX-License-Identifier: Apache-2.0
#include "rl/objective_names.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "base/names.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

template <class T>
void Read(const std::string& name, const ordered_json& value, T& to) {
  if constexpr (HasNames<T>) {
    const std::optional<T> named = value.is_string() ? FindName<T>(value.get<std::string>()) : std::nullopt;
    if (!named) throw UsageError(Concat("the objective's ", name, " is ", value.dump(), "; use ", Listed(kNames<T>)));
    to = *named;
  } else {
    const bool fits = std::is_same_v<T, bool> ? value.is_boolean()
                      : std::is_integral_v<T> ? value.is_number_integer()
                                              : value.is_number();
    if (!fits) throw UsageError(Concat("the objective's ", name, " is ", value.dump(), ", which has the wrong type"));
    to = value.get<T>();
  }
}

// f(name, field) for every switch: the one list of them.
template <class Options, class F>
void ForSwitches(Options& o, F&& f) {
  f("reward_weight", o.reward_weight);
  f("baseline", o.baseline);
  f("scale_rewards", o.scale_rewards);
  f("whiten", o.whiten);
  f("ratio", o.ratio);
  f("clip", o.clip);
  f("epsilon", o.epsilon);
  f("epsilon_high", o.epsilon_high);
  f("normalizer", o.aggregation);
  f("max_completion_length", o.max_completion_length);
  f("kl", o.kl);
  f("kl_in", o.kl_in);
  f("beta", o.beta);
  f("entropy_coef", o.entropy_coef);
  f("dynamic_sampling", o.dynamic_sampling);
  f("overlong_share", o.overlong_share);
}

ObjectiveOptions ObjectiveByName(const ordered_json& name) {
  for (const NamedObjective& named : NamedObjectives()) {
    if (name == named.name) return named.options;
  }
  std::vector<std::string> names;
  for (const NamedObjective& named : NamedObjectives()) names.emplace_back(named.name);
  throw UsageError(Concat("unknown objective ", name.dump(), "; use ", Listed(names)));
}

}  // namespace

ObjectiveOptions ObjectiveFromJson(const ordered_json& switches) {
  ObjectiveOptions options = ObjectiveByName(switches.value("objective", ordered_json("grpo")));
  if (switches.contains("epsilon") && options.epsilon == options.epsilon_high) {
    Read("epsilon", switches["epsilon"], options.epsilon_high);
  }
  std::vector<std::string> known = {"objective"};
  ForSwitches(options, [&](const char* name, auto& field) {
    known.emplace_back(name);
    if (switches.contains(name)) Read(name, switches[name], field);
  });
  for (const auto& [name, value] : switches.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw UsageError(Concat("an objective has no switch '", name, "'; it has ", Listed(known)));
    }
  }
  return options;
}

ordered_json ToJson(const ObjectiveOptions& options) {
  ordered_json switches = ordered_json::object();
  ForSwitches(options, [&]<class T>(const char* name, const T& field) {
    if constexpr (HasNames<T>) {
      switches[name] = Name(field);
    } else {
      switches[name] = field;
    }
  });
  return switches;
}

}  // namespace swarr
