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

// What no candidate in this dtype can tell apart: gelu's tanh approximation differs from gelu by at most 5e-4 of its
// argument, where numbers of f16 lie 1e-3 apart, and those of bf16 8e-3.
bool Twins(const std::string& a, const std::string& b, std::string_view dtype) {
  const std::set<std::string> gelus = {"gelu instead of silu", "gelu's tanh approximation instead of silu"};
  return (dtype == "f16" || dtype == "bf16") && gelus.contains(a) && gelus.contains(b);
}

// What became of a mistake that was planted in a right candidate.
struct Planted {
  std::vector<std::string> rejecting = {};  // cases
  double margin = 0;                        // of the largest error over its tolerance
  std::vector<Diagnosis> diagnoses = {};

  bool named_alone(const std::string& mistake, std::string_view dtype) const {
    if (diagnoses.size() != 1 || !diagnoses[0].complete()) return false;
    bool named = false;
    for (const Explanation& e : diagnoses[0].explanations) {
      named = named || Together(e.mistakes) == mistake;
      if (Together(e.mistakes) != mistake && !Twins(Together(e.mistakes), mistake, dtype)) return false;
    }
    return named;
  }
};

Planted Plant(Expectations& expectations, const Family& family, const std::string& mistake,
              const Precision& precision) {
  const Candidate candidate = CandidateWith(expectations, family, mistake, precision);
  const oracle::Verdict verdict = Judge(expectations, candidate);
  Planted planted{.margin = LargestExcess(verdict), .diagnoses = Diagnose(expectations, candidate, verdict)};
  for (const CaseVerdict& c : verdict.cases) {
    if (!c.passes()) planted.rejecting.push_back(c.c->name);
  }
  return planted;
}

// Calls f(family, mistake, precision, planted) for every mistake of a suite in every dtype.
template <class F>
void PlantAll(const Suite& suite, const F& f) {
  Expectations expectations(suite);
  for (const Family& family : suite.families) {
    for (const std::string& mistake : family.mistakes) {
      for (const Precision& p : kPrecisions) f(family, mistake, p, Plant(expectations, family, mistake, p));
    }
  }
}

}  // namespace

TEST_CASE("the oracle's truth passes, in f64 and rounded to f32, f16 and bf16") {
  std::size_t judged = 0;
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (const Precision& precision : kPrecisions) {
      CAPTURE(name);
      CAPTURE(precision.name);
      const oracle::Verdict verdict = Judge(expectations, TruthIn(expectations, precision));
      CHECK(verdict.failures() == 0);
      CHECK(!verdict.values_alone);
      CHECK(verdict.unknown.empty());
      for (const CaseVerdict& c : verdict.cases) judged += c.tensors.size();
    }
  }
  MESSAGE(judged << " right tensors are judged");
}

TEST_CASE("every known mistake is rejected in f64, f32, f16 and bf16, and is the one that the oracle names") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    // Of the error that gives a mistake away over its tolerance, and whose it is.
    std::map<std::string_view, std::pair<double, std::string>> smallest_margin;
    PlantAll(suite, [&](const Family& family, const std::string& mistake, const Precision& p, const Planted& planted) {
      CAPTURE(name);
      CAPTURE(family.name);
      CAPTURE(mistake);
      CAPTURE(p.name);
      CHECK(!planted.rejecting.empty());
      REQUIRE(planted.diagnoses.size() == 1);
      CHECK(planted.diagnoses[0].family == family.name);
      CHECK(planted.named_alone(mistake, p.name));
      auto& margin = smallest_margin.try_emplace(p.name, HUGE_VAL, "").first->second;
      margin = std::min(margin, {planted.margin, mistake});
    });
    for (const auto& [dtype, margin] : smallest_margin) {
      MESSAGE(name << " in " << dtype << ": each mistake is off by " << margin.first
                   << " tolerances or more somewhere (" << margin.second << ")");
      // AdamW's case of gradients of a millionth has few bits in f16.
      CHECK(margin.first >= (name == "step" && dtype == "f16" ? 1 : 2));
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

TEST_CASE("floating inputs of the oracle are numbers of bf16 and of f16") {
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    for (const Family& family : suite.families) {
      for (const Case& c : family.cases) {
        for (const auto& [input, value] : c.inputs) {
          CAPTURE(c.name);
          CAPTURE(input);
          CHECK(std::ranges::all_of(value.data, [&](double x) {
            const auto holds = [&](const char* dtype) { return RoundedTo(PrecisionNamed(dtype), x) == x; };
            return value.integer || (holds("bf16") && holds("f16"));
          }));
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
