// SPDX-License-Identifier: Apache-2.0
#include "oracle/diagnosis.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <set>

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;
using Cases = std::vector<const CaseVerdict*>;

// --- hints: a coarser dtype ---

bool WithinToleranceOf(const Precision& precision, Expectations& expectations, const CaseVerdict& verdict) {
  return std::ranges::all_of(verdict.tensors, [&](const TensorVerdict& t) {
    return t.finding != Finding::kWrong || !t.precision ||
           t.error <= expectations.Tolerance(*verdict.family, *verdict.c, "", t.tensor, precision);
  });
}

// The first dtype, from fine to coarse, that is coarser than that of every failing case and would let them all pass.
// Results computed in it fail nearly everywhere. Errors of that size in a few cases come from something else.
const Precision* CoarserThatFits(Expectations& expectations, const Cases& failing, const Cases& passing) {
  if (failing.size() <= passing.size()) return nullptr;
  for (const Precision& precision : kPrecisions) {
    const auto fits = [&](const CaseVerdict* c) {
      return c->precision() && precision.u > c->precision()->u && WithinToleranceOf(precision, expectations, *c);
    };
    if (std::ranges::all_of(failing, fits)) return &precision;
  }
  return nullptr;
}

// --- hints: outputs ---

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

// --- hints: parameters ---

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
void AddConditions(const std::string& parameter, const Cases& failing, const Cases& passing,
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
  for (const Relation& relation : relations) {
    for (const ordered_json& value : values) {
      if (!(value.is_number() ? relation.numbers : relation.texts)) continue;
      const auto count = [&](const Cases& cases) {
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

void AddSeparations(const Cases& failing, const Cases& passing, std::vector<std::string>& hints) {
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

// Sentences on one family's cases, in this order:
//   - a coarser dtype in whose tolerance everything is, if most cases fail: results of bf16 stored as F32;
//   - which outputs are wrong;
//   - what separates failing from passing cases, as a condition on one parameter: exactly, or else to one side, as
//     "only cases with ... fail" and "all cases with ... fail".
// `failing` has at least one case; cases that are in neither list have tensors that can't be compared.
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

// --- mistakes ---

// Whether two mistakes give the same results in a case. Most change nothing in most cases.
bool SameResults(Expectations& expectations, const CaseVerdict& verdict, const std::string& a, const std::string& b) {
  const Values& other = expectations.Outputs(*verdict.family, *verdict.c, b);
  return std::ranges::all_of(expectations.Outputs(*verdict.family, *verdict.c, a),
                             [&](const auto& item) { return Distance(item.second, other.at(item.first)) == 0; });
}

bool Matches(Expectations& expectations, const Candidate& candidate, const CaseVerdict& verdict,
             const std::string& mistake) {
  if (SameResults(expectations, verdict, mistake, kNoMistake)) return !verdict.wrong();
  const Values& mistaken = expectations.Outputs(*verdict.family, *verdict.c, mistake);
  return std::ranges::all_of(verdict.tensors, [&](const TensorVerdict& t) {
    if (t.finding == Finding::kMissing || t.finding == Finding::kUnusable) return true;
    const Value& given = candidate.at(verdict.c->name + "." + t.tensor).value;
    const double error = Distance(given, mistaken.at(t.tensor));
    if (error == 0 || given.integer) return error == 0;
    return error <= expectations.Tolerance(*verdict.family, *verdict.c, mistake, t.tensor, *t.precision);
  });
}

Explanation Explain(Expectations& expectations, const Candidate& candidate, const Cases& failing, const Cases& passing,
                    const std::string& mistake) {
  const auto matches = [&](const CaseVerdict* c) { return Matches(expectations, candidate, *c, mistake); };
  Explanation e{{mistake}};
  for (const CaseVerdict* c : failing) {
    if (!matches(c)) e.unexplained.push_back(c->c->name);
  }
  e.explained = failing.size() - e.unexplained.size();
  // Where nothing is explained, what is contradicted is of no interest.
  if (e.explained > 0) {
    e.contradicted = passing.size() - static_cast<std::size_t>(std::ranges::count_if(passing, matches));
  }
  return e;
}

bool IsComplete(const Explanation& e) { return e.unexplained.empty() && e.contradicted == 0; }

// Two mistakes that together explain everything and contradict nothing; the first such pair. `likely` are those that
// explain a case by themselves, the best first.
std::optional<Explanation> ExplainByPair(Expectations& expectations, const Candidate& candidate, const Family& family,
                                         const Cases& failing, const Cases& passing,
                                         const std::vector<std::string>& likely) {
  const auto all_match = [&](const Cases& cases, const std::string& mistakes) {
    return std::ranges::all_of(cases,
                               [&](const CaseVerdict* c) { return Matches(expectations, candidate, *c, mistakes); });
  };
  const auto count = [&](const std::string& mistake) {
    const auto matches = [&](const CaseVerdict* c) { return Matches(expectations, candidate, *c, mistake); };
    return static_cast<std::size_t>(std::ranges::count_if(failing, matches));
  };
  for (const std::string& first : likely) {
    // Those that the first does not explain come first: most pairs fail there.
    Cases cases = failing;
    std::stable_partition(cases.begin(), cases.end(),
                          [&](const CaseVerdict* c) { return !Matches(expectations, candidate, *c, first); });
    for (const std::string& second : family.mistakes) {
      const std::string both = Together({first, second});
      // In the first of the cases the first mistake alone does not do.
      if (second == first || SameResults(expectations, *cases.front(), both, first)) continue;
      if (!all_match(cases, both) || !all_match(passing, both)) continue;
      return Explanation{
          .mistakes = {first, second}, .explained = failing.size(), .alone = {count(first), count(second)}};
    }
  }
  return std::nullopt;
}

Diagnosis DiagnoseFamily(Expectations& expectations, const Candidate& candidate, const Family& family,
                         const Cases& failing, const Cases& passing) {
  Diagnosis diagnosis{family.name, failing.size(), {}, {}};
  std::vector<Explanation>& found = diagnosis.explanations;
  for (const std::string& mistake : family.mistakes) {
    if (std::ranges::count(expectations.accepted(), mistake) > 0) continue;
    const Explanation e = Explain(expectations, candidate, failing, passing, mistake);
    if (e.explained > 0) found.push_back(e);
  }
  // explained - contradicted, without a sign that could be lost
  std::ranges::stable_sort(found, [](const Explanation& a, const Explanation& b) {
    return a.explained + b.contradicted > b.explained + a.contradicted;
  });
  if (!diagnosis.complete()) {
    constexpr std::size_t kLikely = 12;
    std::vector<std::string> likely;
    for (const Explanation& e : found) {
      if (likely.size() < kLikely) likely.push_back(e.mistakes.front());
    }
    // Few mistakes make few pairs: then one need not show itself alone.
    constexpr std::size_t kFew = 20;
    if (likely.empty() && family.mistakes.size() <= kFew) likely = family.mistakes;
    if (const auto pair = ExplainByPair(expectations, candidate, family, failing, passing, likely)) found = {*pair};
  }
  if (diagnosis.complete()) {
    std::erase_if(found, [](const Explanation& e) { return !IsComplete(e); });
  } else {
    constexpr std::size_t kShown = 3;
    found.resize(std::min(found.size(), kShown));
    diagnosis.hints = HintsOf(expectations, failing, passing);
  }
  return diagnosis;
}

}  // namespace

bool Diagnosis::complete() const { return !explanations.empty() && IsComplete(explanations.front()); }

std::vector<Diagnosis> Diagnose(Expectations& expectations, const Candidate& candidate, const Verdict& verdict) {
  std::vector<Diagnosis> diagnoses;
  for (const Family& family : expectations.suite().families) {
    Cases failing, passing;
    for (const CaseVerdict& c : verdict.cases) {
      if (c.family != &family) continue;
      if (c.wrong()) failing.push_back(&c);
      if (c.passes()) passing.push_back(&c);
    }
    if (!failing.empty()) diagnoses.push_back(DiagnoseFamily(expectations, candidate, family, failing, passing));
  }
  return diagnoses;
}

}  // namespace swarr::oracle
