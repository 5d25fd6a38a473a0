// SPDX-License-Identifier: Apache-2.0
#include "oracle/hints.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;

// --- outputs ---

// The outputs with this finding in some of the cases, in the family's order: values first.
std::vector<const TensorInfo*> OutputsWith(Finding finding, const CaseVerdicts& cases) {
  std::vector<const TensorInfo*> outputs;
  for (const TensorInfo& output : cases.front()->family->outputs) {
    const auto has = [&](const TensorVerdict& t) { return t.tensor == output.name && t.finding == finding; };
    if (std::ranges::any_of(cases, [&](const CaseVerdict* c) { return std::ranges::any_of(c->tensors, has); })) {
      outputs.push_back(&output);
    }
  }
  return outputs;
}

void AddWrongInAll(const CaseVerdicts& failing, std::vector<std::string>& hints) {
  const std::vector<const TensorInfo*> right = OutputsWith(Finding::kPass, failing);
  std::vector<std::string> names;
  for (const TensorInfo* output : OutputsWith(Finding::kWrong, failing)) {
    if (std::ranges::count(right, output) == 0) names.push_back(output->name);
  }
  if (!names.empty()) hints.push_back("wrong in every failing case: " + Some(names, 3));
}

// --- parameters ---

// A statement on one parameter, and in how many cases it holds.
struct Condition {
  std::string parameter, text;  // "clip", "clip = weight"
  bool threshold = false;       // >= or <=
  std::size_t failing = 0, passing = 0;
};

std::string TextOf(const ordered_json& value) {
  if (value.is_number()) return Concat(value.get<double>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Adds all conditions with a value that the parameter has somewhere, from the most to the least definite relation.
void AddConditions(const std::string& parameter, const CaseVerdicts& failing, const CaseVerdicts& passing,
                   std::vector<Condition>& conditions) {
  struct Relation {
    const char* text;
    bool threshold, numbers, texts;
    std::function<bool(const ordered_json& x, const ordered_json& value)> holds;
  };
  static const Relation relations[] = {{" = ", false, true, true, std::equal_to<>()},
                                       {" other than ", false, false, true, std::not_equal_to<>()},
                                       {" >= ", true, true, false, std::greater_equal<>()},
                                       {" <= ", true, true, false, std::less_equal<>()}};
  std::set<ordered_json> values;
  for (const CaseVerdict* c : Joined(failing, passing)) values.insert(c->c->parameters.at(parameter));
  // Where counts are 0, 2 and 4, ">= 2" would say more than the cases do: any at all is ">= 1".
  const auto is_count = [](const ordered_json& value) { return value.is_number_integer() && value >= 0; };
  if (values.contains(0) && std::ranges::all_of(values, is_count)) values.insert(1);
  for (const Relation& relation : relations) {
    for (const ordered_json& value : values) {
      if (!(value.is_number() ? relation.numbers : relation.texts)) continue;
      const auto count = [&](const CaseVerdicts& cases) {
        const auto holds = [&](const CaseVerdict* c) { return relation.holds(c->c->parameters.at(parameter), value); };
        return static_cast<std::size_t>(std::ranges::count_if(cases, holds));
      };
      conditions.push_back({parameter, Concat(parameter, relation.text, TextOf(value)), relation.threshold,
                            count(failing), count(passing)});
    }
  }
}

// The conditions that hold in all failing and in no passing case, one for each parameter. A threshold is left out
// beside an equality: it says less, since numbers may happen to lie apart.
std::vector<Condition> Exact(const std::vector<Condition>& conditions, std::size_t failing) {
  std::vector<Condition> exact;
  for (const Condition& c : conditions) {
    const bool is_first = exact.empty() || exact.back().parameter != c.parameter;
    if (c.failing == failing && c.passing == 0 && is_first) exact.push_back(c);
  }
  const auto is_threshold = [](const Condition& c) { return c.threshold; };
  if (!std::ranges::all_of(exact, is_threshold)) std::erase_if(exact, is_threshold);
  return exact;
}

// How probable it is that some condition tells apart as much by chance, at most: with `failing` of the cases drawn at
// random, the probability that all of them are among the `within` for which a condition holds, times the number of
// conditions that were tried.
bool MayBeChance(std::size_t cases, std::size_t failing, std::size_t within, std::size_t tried) {
  constexpr double kProbable = 0.05;
  const auto log_choose = [](std::size_t n, std::size_t k) {
    const auto log_factorial = [](std::size_t m) { return std::lgamma(static_cast<double>(m) + 1); };
    return log_factorial(n) - log_factorial(k) - log_factorial(n - k);
  };
  const double log_p = log_choose(within, failing) - log_choose(cases, failing);
  return std::exp(log_p) * static_cast<double>(tried) > kProbable;
}

// The best condition that is necessary for failing, and the best that is sufficient. A condition that tells apart less
// than half of what it could, or what it may by chance, is left out.
void AddOneSided(const std::vector<Condition>& conditions, std::size_t failing, std::size_t passing,
                 std::vector<std::string>& hints) {
  const Condition *only = nullptr, *all = nullptr;
  const std::size_t cases = failing + passing, tried = conditions.size();
  for (const Condition& c : conditions) {
    if (c.failing == failing && 2 * c.passing <= passing && (!only || c.passing < only->passing) &&
        !MayBeChance(cases, failing, failing + c.passing, tried)) {
      only = &c;
    }
    // That all cases with it fail is that all passing ones are among those without it.
    if (c.passing == 0 && 2 * c.failing >= failing && (!all || c.failing > all->failing) &&
        !MayBeChance(cases, passing, cases - c.failing, tried)) {
      all = &c;
    }
  }
  if (only) {
    hints.push_back(Concat("only cases with ", only->text, " fail (", failing, " of ", failing + only->passing, ")"));
  }
  if (all) hints.push_back(Concat("all cases with ", all->text, " fail (", all->failing, " of ", failing, " that do)"));
}

void AddSeparations(const CaseVerdicts& failing, const CaseVerdicts& passing, std::vector<std::string>& hints) {
  std::vector<Condition> conditions;
  for (const auto& item : failing.front()->c->parameters.items()) {
    const auto has = [&](const CaseVerdict* c) { return c->c->parameters.contains(item.key()); };
    if (std::ranges::all_of(Joined(failing, passing), has)) AddConditions(item.key(), failing, passing, conditions);
  }
  constexpr std::size_t kMost = 3;
  const std::size_t cases = failing.size() + passing.size();
  std::vector<Condition> exact;
  if (!MayBeChance(cases, failing.size(), failing.size(), conditions.size())) exact = Exact(conditions, failing.size());
  exact.resize(std::min(exact.size(), kMost));
  for (const Condition& c : exact) hints.push_back(Concat("all cases with ", c.text, " fail, and no other"));
  if (exact.empty() && failing.size() > 1) AddOneSided(conditions, failing.size(), passing.size(), hints);
}

}  // namespace

bool AreGradientsAloneWrong(const CaseVerdicts& failing) {
  return std::ranges::all_of(OutputsWith(Finding::kWrong, failing), &TensorInfo::gradient);
}

std::vector<std::string> HintsOf(const CaseVerdicts& failing, const CaseVerdicts& passing) {
  std::vector<std::string> hints;
  if (AreGradientsAloneWrong(failing)) hints.emplace_back(kGradientsAloneAreWrong);
  if (!passing.empty()) AddSeparations(failing, passing, hints);
  AddWrongInAll(failing, hints);
  return hints;
}

}  // namespace swarr::oracle
