// SPDX-License-Identifier: Apache-2.0
#include "oracle/hints.h"

#include <algorithm>
#include <functional>
#include <set>

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;

// --- a coarser dtype ---

bool WithinToleranceOf(const Precision& precision, Expectations& expectations, const CaseVerdict& verdict) {
  return std::all_of(verdict.tensors.begin(), verdict.tensors.end(), [&](const TensorVerdict& t) {
    return t.finding != Finding::kWrong ||
           t.error <= expectations.Tolerance(*verdict.family, *verdict.c, "", t.tensor, precision);
  });
}

// The first dtype, from fine to coarse, that is coarser than that of every failing case and would let them all pass.
// Results computed in it fail nearly everywhere. Errors of that size in a few cases come from something else.
const Precision* CoarserThatFits(Expectations& expectations, const Cases& failing, const Cases& passing) {
  if (failing.size() <= passing.size()) return nullptr;
  for (const Precision& precision : kPrecisions) {
    const auto fits = [&](const CaseVerdict* c) {
      return c->precision && precision.u > c->precision->u && WithinToleranceOf(precision, expectations, *c);
    };
    if (std::all_of(failing.begin(), failing.end(), fits)) return &precision;
  }
  return nullptr;
}

// --- outputs ---

void AddOutputs(const Cases& failing, std::vector<std::string>& hints) {
  std::set<std::string> wrong, right;
  for (const CaseVerdict* c : failing) {
    for (const TensorVerdict& t : c->tensors) (t.finding == Finding::kWrong ? wrong : right).insert(t.tensor);
  }
  bool values_wrong = false;
  std::vector<std::string> always;  // wrong somewhere, right nowhere among failing cases; values first
  for (const TensorInfo& output : failing.front()->family->outputs) {
    if (!wrong.contains(output.name)) continue;
    values_wrong = values_wrong || !output.gradient;
    if (!right.contains(output.name)) always.push_back(output.name);
  }
  if (!values_wrong) hints.emplace_back("values are right, gradients are wrong");
  if (!always.empty()) hints.push_back("wrong in every failing case: " + Some(always, 3));
}

// --- parameters ---

// A statement on one parameter, and in how many cases it holds.
struct Condition {
  std::string text;        // "clip = weight"
  bool threshold = false;  // >= or <=
  std::size_t failing = 0, passing = 0;
};

std::string TextOf(const ordered_json& value) {
  if (value.is_number()) return Concat(value.get<double>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

bool AllHave(const Cases& cases, const std::string& parameter) {
  return std::all_of(cases.begin(), cases.end(),
                     [&](const CaseVerdict* c) { return c->c->parameters.contains(parameter); });
}

// All conditions with a value that the parameter has somewhere, from the most to the least definite relation.
std::vector<Condition> ConditionsOn(const std::string& parameter, const Cases& failing, const Cases& passing) {
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
  for (const Cases* cases : {&failing, &passing}) {
    for (const CaseVerdict* c : *cases) values.insert(c->c->parameters.at(parameter));
  }
  std::vector<Condition> conditions;
  for (const Relation& relation : relations) {
    for (const ordered_json& value : values) {
      if (!(value.is_number() ? relation.numbers : relation.texts)) continue;
      const auto count = [&](const Cases& cases) {
        return static_cast<std::size_t>(std::count_if(cases.begin(), cases.end(), [&](const CaseVerdict* c) {
          return relation.holds(c->c->parameters.at(parameter), value);
        }));
      };
      conditions.push_back(
          {Concat(parameter, relation.text, TextOf(value)), relation.threshold, count(failing), count(passing)});
    }
  }
  return conditions;
}

// The conditions that hold in all failing and in no passing case, one for each parameter. A threshold is left out
// beside an equality: it says less, since numbers may happen to lie apart.
std::vector<Condition> Exact(const std::vector<std::vector<Condition>>& by_parameter, std::size_t failing) {
  std::vector<Condition> exact;
  for (const std::vector<Condition>& conditions : by_parameter) {
    const auto found = std::find_if(conditions.begin(), conditions.end(),
                                    [&](const Condition& c) { return c.failing == failing && c.passing == 0; });
    if (found != conditions.end()) exact.push_back(*found);
  }
  const auto is_threshold = [](const Condition& c) { return c.threshold; };
  if (!std::all_of(exact.begin(), exact.end(), is_threshold)) std::erase_if(exact, is_threshold);
  return exact;
}

// The best condition that is necessary for failing, and the best that is sufficient. A condition that tells apart less
// than half of what it could is taken for chance.
void AddOneSided(const std::vector<std::vector<Condition>>& by_parameter, std::size_t failing, std::size_t passing,
                 std::vector<std::string>& hints) {
  const Condition *only = nullptr, *all = nullptr;
  for (const std::vector<Condition>& conditions : by_parameter) {
    for (const Condition& c : conditions) {
      if (c.failing == failing && 2 * c.passing <= passing && (!only || c.passing < only->passing)) only = &c;
      if (c.passing == 0 && 2 * c.failing >= failing && (!all || c.failing > all->failing)) all = &c;
    }
  }
  if (only) {
    hints.push_back(Concat("only cases with ", only->text, " fail (", failing, " of ", failing + only->passing, ")"));
  }
  if (all) hints.push_back(Concat("all cases with ", all->text, " fail (", all->failing, " of ", failing, " that do)"));
}

void AddSeparations(const Cases& failing, const Cases& passing, std::vector<std::string>& hints) {
  std::vector<std::vector<Condition>> by_parameter;
  for (const auto& item : failing.front()->c->parameters.items()) {
    if (!AllHave(failing, item.key()) || !AllHave(passing, item.key())) continue;
    by_parameter.push_back(ConditionsOn(item.key(), failing, passing));
  }
  constexpr std::size_t kMost = 3;  // of few cases much is true by chance
  std::vector<Condition> exact = Exact(by_parameter, failing.size());
  exact.resize(std::min(exact.size(), kMost));
  for (const Condition& c : exact) hints.push_back(Concat("all cases with ", c.text, " fail, and no other"));
  if (exact.empty() && failing.size() > 1) AddOneSided(by_parameter, failing.size(), passing.size(), hints);
}

}  // namespace

std::vector<std::string> HintsOf(Expectations& expectations, const Cases& failing, const Cases& passing) {
  std::vector<std::string> hints;
  if (const Precision* coarser = CoarserThatFits(expectations, failing, passing)) {
    hints.push_back(Concat("all is within the tolerance of ", coarser->name,
                           ": if that is what you computed in, store ", coarser->stored));
  }
  AddOutputs(failing, hints);
  if (!passing.empty()) AddSeparations(failing, passing, hints);
  return hints;
}

}  // namespace swarr::oracle
