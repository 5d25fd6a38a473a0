// SPDX-License-Identifier: Apache-2.0
#include "rl/objective_names.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "tensor/check.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

struct NamedObjective {
  const char* name;
  ObjectiveOptions options;
};

// The KL's place and estimator are those of the paper or of its authors' code, for whoever sets beta.
const std::array<NamedObjective, 9>& NamedObjectives() {
  static const std::array<NamedObjective, 9> kTable = {{
      {"reinforce",
       {.ratio = RatioKind::kNone,
        .clip = ClipKind::kNone,
        .aggregation = Aggregation::kSequenceSum,
        .kl = KlEstimator::kK1,
        .kl_in = KlPlace::kReward}},
      {"rloo",
       {.baseline = Baseline::kLeaveOneOut,
        .ratio = RatioKind::kSequence,
        .aggregation = Aggregation::kSequenceMean,
        .kl = KlEstimator::kK1,
        .kl_in = KlPlace::kReward}},
      {"reinforce++", {.baseline = Baseline::kNone, .whiten = true, .kl = KlEstimator::kK1, .kl_in = KlPlace::kReturn}},
      {"reinforce++-baseline", {.whiten = true, .kl = KlEstimator::kK2}},
      {"grpo", {.scale_rewards = RewardScale::kGroup, .aggregation = Aggregation::kSequenceMean}},
      {"dr_grpo", {.aggregation = Aggregation::kConstant}},
      {"dapo",
       {.scale_rewards = RewardScale::kGroup, .epsilon_high = 0.28, .dynamic_sampling = true, .overlong_share = 0.2}},
      {"gspo",
       {.scale_rewards = RewardScale::kGroup,
        .ratio = RatioKind::kSequenceMean,
        .epsilon = 3e-4,
        .epsilon_high = 4e-4,
        .aggregation = Aggregation::kSequenceMean}},
      {"cispo", {.scale_rewards = RewardScale::kGroup, .clip = ClipKind::kWeight, .epsilon_high = 4}},
  }};
  return kTable;
}

// The names of an enumeration's values, in their order.
template <class E>
constexpr std::array<const char*, 0> kNames = {};
template <>
constexpr std::array kNames<Baseline> = {"none", "group-mean", "leave-one-out"};
template <>
constexpr std::array kNames<RewardScale> = {"none", "group", "batch"};
template <>
constexpr std::array kNames<RatioKind> = {"none", "token", "sequence", "sequence-mean"};
template <>
constexpr std::array kNames<ClipKind> = {"none", "ppo", "weight"};
template <>
constexpr std::array kNames<Aggregation> = {"token-mean", "sequence-mean", "constant", "sequence-sum"};
template <>
constexpr std::array kNames<KlEstimator> = {"k1", "k2", "k3"};
template <>
constexpr std::array kNames<KlPlace> = {"loss", "reward", "return"};

template <class Names>
std::string Listed(const Names& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  }
  return list;
}

template <class T>
void Read(const std::string& name, const ordered_json& value, T& to) {
  if constexpr (std::is_enum_v<T>) {
    for (std::size_t i = 0; i < kNames<T>.size(); ++i) {
      if (value == kNames<T>[i]) {
        to = static_cast<T>(i);
        return;
      }
    }
    throw UsageError(Concat("the objective's ", name, " is ", value.dump(), "; use ", Listed(kNames<T>)));
  } else {
    const bool fits = std::is_same_v<T, bool> ? value.is_boolean()
                      : std::is_integral_v<T> ? value.is_number_integer()
                                              : value.is_number();
    if (!fits) throw UsageError(Concat("the objective's ", name, " is ", value.dump(), ", which has the wrong type"));
    to = value.get<T>();
  }
}

template <class T>
ordered_json Written(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return kNames<T>[static_cast<std::size_t>(value)];
  } else {
    return value;
  }
}

// f(name, field) for every switch: the one list of them.
template <class Options, class F>
void ForSwitches(Options& o, F&& f) {
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
  throw UsageError(Concat("unknown objective ", name.dump(), "; use ", Listed(ObjectiveNames())));
}

}  // namespace

std::vector<std::string> ObjectiveNames() {
  std::vector<std::string> names;
  for (const NamedObjective& named : NamedObjectives()) names.emplace_back(named.name);
  return names;
}

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
  ForSwitches(options, [&](const char* name, const auto& field) { switches[name] = Written(field); });
  return switches;
}

}  // namespace swarr
