// SPDX-License-Identifier: Apache-2.0
#include "oracle/diagnosis.h"

#include <algorithm>
#include <set>

namespace swarr::oracle {
namespace {

using Cases = std::vector<const CaseVerdict*>;

bool Matches(Expectations& expectations, const Candidate& candidate, const CaseVerdict& verdict,
             const std::string& mistake) {
  const Values& mistaken = expectations.Outputs(*verdict.family, *verdict.c, mistake);
  return std::all_of(verdict.tensors.begin(), verdict.tensors.end(), [&](const TensorVerdict& t) {
    if (t.finding == Finding::kMissing || t.finding == Finding::kUnusable) return true;
    const Value& given = candidate.at(verdict.c->name + "." + t.tensor).value;
    const double error = Distance(given, mistaken.at(t.tensor));
    if (error == 0 || given.integer) return error == 0;
    return error <= expectations.Tolerance(*verdict.family, *verdict.c, mistake, t.tensor, *verdict.precision);
  });
}

Explanation Explain(Expectations& expectations, const Candidate& candidate, const Cases& failing, const Cases& passing,
                    const std::string& mistake) {
  const auto matches = [&](const CaseVerdict* c) { return Matches(expectations, candidate, *c, mistake); };
  const auto explained = std::count_if(failing.begin(), failing.end(), matches);
  // Where nothing is explained, what is contradicted is of no interest.
  const auto agreeing = explained == 0 ? 0 : std::count_if(passing.begin(), passing.end(), matches);
  return {mistake, static_cast<int>(explained), static_cast<int>(passing.size()) - static_cast<int>(agreeing)};
}

bool IsComplete(const Explanation& e, int failing) { return e.explained == failing && e.contradicted == 0; }

// The parameter of each case; empty if one of them has no such number.
std::vector<double> NumbersOf(const Cases& cases, const std::string& parameter) {
  std::vector<double> numbers;
  for (const CaseVerdict* c : cases) {
    const auto value = c->c->parameters.find(parameter);
    if (value == c->c->parameters.end() || !value->is_number()) return {};
    numbers.push_back(value->get<double>());
  }
  return numbers;
}

// What separates failing from passing cases in one parameter, or nothing.
std::string Separation(const Cases& failing, const Cases& passing, const std::string& parameter) {
  const std::vector<double> fail = NumbersOf(failing, parameter), pass = NumbersOf(passing, parameter);
  if (fail.empty() || pass.empty()) return "";
  const auto [least, most] = std::minmax_element(fail.begin(), fail.end());
  const auto say = [&](const char* relation, double value) {
    return Concat("all cases with ", parameter, relation, value, " fail, and no other");
  };
  if (*least == *most && std::find(pass.begin(), pass.end(), *least) == pass.end()) return say(" = ", *least);
  if (*least > *std::max_element(pass.begin(), pass.end())) return say(" >= ", *least);
  if (*most < *std::min_element(pass.begin(), pass.end())) return say(" <= ", *most);
  return "";
}

std::vector<std::string> HintsOf(const Cases& failing, const Cases& passing) {
  std::vector<std::string> hints;
  std::set<std::string> wrong, right;
  bool values_wrong = false;
  for (const CaseVerdict* c : failing) {
    for (const TensorVerdict& t : c->tensors) {
      (t.finding == Finding::kWrong ? wrong : right).insert(t.tensor);
      values_wrong = values_wrong || (t.finding == Finding::kWrong && !c->family->Output(t.tensor).gradient);
    }
  }
  std::string always;  // wrong somewhere, right nowhere among failing cases
  for (const std::string& name : wrong) always += right.contains(name) ? "" : (always.empty() ? "" : ", ") + name;
  if (!values_wrong) hints.emplace_back("values are right, gradients are wrong");
  if (!always.empty()) hints.push_back("wrong in every failing case: " + always);
  if (passing.empty()) return hints;
  for (const auto& item : failing.front()->c->parameters.items()) {
    const std::string hint = Separation(failing, passing, item.key());
    if (!hint.empty()) hints.push_back(hint);
  }
  return hints;
}

Diagnosis DiagnoseFamily(Expectations& expectations, const Candidate& candidate, const Family& family,
                         const Cases& failing, const Cases& passing) {
  Diagnosis diagnosis;
  diagnosis.family = family.name;
  diagnosis.failing = static_cast<int>(failing.size());
  for (const std::string& mistake : family.mistakes) {
    const Explanation e = Explain(expectations, candidate, failing, passing, mistake);
    if (e.explained > 0) diagnosis.explanations.push_back(e);
  }
  std::vector<Explanation>& found = diagnosis.explanations;
  const auto rank = [&](const Explanation& e) { return e.explained - e.contradicted; };
  std::stable_sort(found.begin(), found.end(),
                   [&](const Explanation& a, const Explanation& b) { return rank(a) > rank(b); });
  if (diagnosis.complete()) {
    std::erase_if(found, [&](const Explanation& e) { return !IsComplete(e, diagnosis.failing); });
  } else {
    constexpr std::size_t kShown = 3;
    found.resize(std::min(found.size(), kShown));
    diagnosis.hints = HintsOf(failing, passing);
  }
  return diagnosis;
}

}  // namespace

bool Diagnosis::complete() const { return !explanations.empty() && IsComplete(explanations.front(), failing); }

std::vector<Diagnosis> Diagnose(Expectations& expectations, const Candidate& candidate, const Verdict& verdict) {
  std::vector<Diagnosis> diagnoses;
  for (const Family& family : expectations.suite().families) {
    Cases failing, passing;
    for (const CaseVerdict& c : verdict.cases) {
      if (c.family != &family) continue;
      if (c.wrong()) failing.push_back(&c);
      if (c.passes()) passing.push_back(&c);
    }
    if (!failing.empty()) {
      diagnoses.push_back(DiagnoseFamily(expectations, candidate, family, failing, passing));
    }
  }
  return diagnoses;
}

}  // namespace swarr::oracle
