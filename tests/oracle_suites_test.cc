// SPDX-License-Identifier: Apache-2.0
// What is promised of every suite of the oracle: the truth passes, every known mistake is rejected and named.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/files.h"
#include "oracle/export.h"
#include "oracle_candidates.h"
#include "temp_directory.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

const std::vector<std::string> kSuites = {"ops",     "attention", "loss",  "advantages", "policy",
                                          "distill", "step",      "model", "rollout"};
constexpr std::string_view kDTypes[] = {"f64", "f32", "bf16"};

// What no candidate in this dtype can tell apart: gelu's tanh approximation differs from gelu by at most 5e-4 of its
// argument, where numbers of bf16 lie 4e-3 apart.
bool Twins(const std::string& a, const std::string& b, std::string_view dtype) {
  const std::set<std::string> gelus = {"gelu instead of silu", "gelu's tanh approximation instead of silu"};
  return dtype == "bf16" && gelus.contains(a) && gelus.contains(b);
}

}  // namespace

TEST_CASE("the oracle's truth passes, in f64 and rounded to f32 and bf16") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (const std::string_view dtype : kDTypes) {
      CAPTURE(name);
      CAPTURE(dtype);
      const oracle::Verdict verdict = Judge(expectations, TruthIn(expectations, PrecisionNamed(dtype)));
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
    // Of the error that gives a mistake away over its tolerance, and whose it is.
    std::map<std::string, std::pair<double, std::string>> smallest_margin;
    for (const Family& family : suite.families) {
      for (const std::string& mistake : family.mistakes) {
        for (const std::string_view dtype : kDTypes) {
          CAPTURE(name);
          CAPTURE(family.name);
          CAPTURE(mistake);
          CAPTURE(dtype);
          const Candidate candidate = CandidateWith(expectations, family, mistake, PrecisionNamed(dtype));
          const oracle::Verdict verdict = Judge(expectations, candidate);
          CHECK(verdict.failures() > 0);
          auto& margin = smallest_margin.try_emplace(std::string(dtype), HUGE_VAL, "").first->second;
          margin = std::min(margin, {LargestExcess(verdict), mistake});
          const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, verdict);
          REQUIRE(diagnoses.size() == 1);
          CHECK(diagnoses[0].family == family.name);
          CHECK(diagnoses[0].complete());
          std::set<std::string> named;
          for (const Explanation& e : diagnoses[0].explanations) named.insert(Together(e.mistakes));
          CHECK(named.contains(mistake));
          for (const std::string& other : named)
            CHECK_MESSAGE((other == mistake || Twins(other, mistake, dtype)), other);
        }
      }
    }
    for (const auto& [dtype, margin] : smallest_margin) {
      MESSAGE(name << " in " << dtype << ": each mistake is off by " << margin.first
                   << " tolerances or more somewhere (" << margin.second << ")");
      CHECK(margin.first >= 2);
    }
  }
}

TEST_CASE("what computes the oracle's mistakes gives the truth where no mistake is made") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (const Family& family : suite.families) {
      for (const Case& c : family.cases) {
        CAPTURE(c.name);
        const Values& plain = expectations.Outputs(family, c, kNoMistake);
        for (const auto& [output, exact] : expectations.Outputs(family, c, "")) {
          CAPTURE(output);
          const double error = Distance(plain.at(output), exact);
          CHECK(error <= expectations.Tolerance(family, c, "", output, PrecisionNamed("f64")));
          CHECK(error <= 1e-12 * std::max(1.0, LargestFinite(exact)));  // the promise, whatever the tolerance is
        }
      }
    }
  }
}

TEST_CASE("floating inputs of the oracle are numbers of bf16") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    for (const Family& family : suite.families) {
      for (const Case& c : family.cases) {
        for (const auto& [input, value] : c.inputs) {
          CAPTURE(c.name);
          CAPTURE(input);
          CHECK(std::all_of(value.data.begin(), value.data.end(),
                            [&](double x) { return value.integer || RoundedTo(PrecisionNamed("bf16"), x) == x; }));
        }
      }
    }
  }
}

TEST_CASE("an export of the oracle has the same bytes for any number of threads, and on every run") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    const TempDirectory dir;
    for (const int threads : {1, 2, 7}) {
      const Suite again = MakeSuite(name);
      Expectations expectations(again, threads);
      Export(expectations, dir / std::to_string(threads));
      for (const char* file : {"manifest.json", "inputs.safetensors", "expected.safetensors"}) {
        CAPTURE(name);
        CAPTURE(file);
        CHECK(ReadFile(dir / std::to_string(threads) / name / file) == ReadFile(dir / "1" / name / file));
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
