// SPDX-License-Identifier: Apache-2.0
#include "oracle/diagnosis.h"

#include <algorithm>

#include "oracle/hints.h"

namespace swarr::oracle {
namespace {

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
  Explanation e{mistake};
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

Diagnosis DiagnoseFamily(Expectations& expectations, const Candidate& candidate, const Family& family,
                         const Cases& failing, const Cases& passing) {
  Diagnosis diagnosis{family.name, failing.size(), {}, {}};
  std::vector<Explanation>& found = diagnosis.explanations;
  for (const std::string& mistake : family.mistakes) {
    const Explanation e = Explain(expectations, candidate, failing, passing, mistake);
    if (e.explained > 0) found.push_back(e);
  }
  // explained - contradicted, without a sign that could be lost
  std::ranges::stable_sort(found, [](const Explanation& a, const Explanation& b) {
    return a.explained + b.contradicted > b.explained + a.contradicted;
  });
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
    if (!failing.empty()) {
      diagnoses.push_back(DiagnoseFamily(expectations, candidate, family, failing, passing));
    }
  }
  return diagnoses;
}

}  // namespace swarr::oracle
