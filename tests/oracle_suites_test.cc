// SPDX-License-Identifier: Apache-2.0
// What is promised of every suite of the oracle: the truth passes, every known mistake is rejected and named.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "oracle_candidates.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

const std::vector<std::string> kSuites = {"attention", "model", "step", "rollout"};
constexpr std::string_view kDTypes[] = {"f64", "f32", "bf16"};

}  // namespace

TEST_CASE("the oracle's truth passes, in f64 and rounded to f32 and bf16") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (const std::string_view dtype : kDTypes) {
      CAPTURE(name);
      CAPTURE(dtype);
      const Verdict verdict = Judge(expectations, TruthIn(expectations, PrecisionNamed(dtype)));
      CHECK(verdict.failures() == 0);
      CHECK(!verdict.values_alone);
      CHECK(verdict.unknown.empty());
    }
  }
}

TEST_CASE("every known mistake is rejected in f64, f32 and bf16, and is the one that the oracle names") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (const Family& family : suite.families) {
      for (const std::string& mistake : family.mistakes) {
        for (const std::string_view dtype : kDTypes) {
          CAPTURE(name);
          CAPTURE(family.name);
          CAPTURE(mistake);
          CAPTURE(dtype);
          const Candidate candidate = CandidateWith(expectations, family, mistake, PrecisionNamed(dtype));
          const Verdict verdict = Judge(expectations, candidate);
          CHECK(verdict.failures() > 0);
          const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, verdict);
          REQUIRE(diagnoses.size() == 1);
          CHECK(diagnoses[0].family == family.name);
          CHECK(diagnoses[0].complete());
          REQUIRE(!diagnoses[0].explanations.empty());
          CHECK(diagnoses[0].explanations.size() == 1);
          CHECK(diagnoses[0].explanations[0].mistake == mistake);
        }
      }
    }
  }
}

TEST_CASE("names of the oracle's cases are unique in a suite, and mistakes in a family") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    std::set<std::string> cases;
    for (const Family& family : suite.families) {
      for (const Case& c : family.cases) CHECK_MESSAGE(cases.insert(c.name).second, c.name);
      CHECK(std::set<std::string>(family.mistakes.begin(), family.mistakes.end()).size() == family.mistakes.size());
    }
  }
}

TEST_CASE("bf16 holds the oracle's inputs exactly") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    for (const Family& family : suite.families) {
      for (const Case& c : family.cases) {
        for (const auto& item : c.inputs) {
          const Value& value = item.second;
          CAPTURE(c.name);
          CAPTURE(item.first);
          const auto exact = [](double x) { return RoundedTo(PrecisionNamed("bf16"), x) == x; };
          CHECK((value.integer || std::all_of(value.data.begin(), value.data.end(), exact)));
        }
      }
    }
  }
}
