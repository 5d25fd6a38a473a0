// SPDX-License-Identifier: Apache-2.0
// What is promised of every suite of the oracle: the truth passes, every known mistake is rejected and named.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "base/files.h"
#include "oracle/export.h"
#include "oracle_candidates.h"
#include "temp_directory.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

const std::vector<std::string> kSuites = {"ops",     "attention", "loss",  "advantages", "policy",
                                          "distill", "step",      "model", "decode",     "rollout"};

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

// "| `ops` | 73 | 41 |": how many cases and mistakes a suite has, as docs/oracle.md says it.
std::string CountsOf(const Suite& suite) {
  std::size_t cases = 0, mistakes = 0;
  for (const Family& family : suite.families) {
    cases += family.cases.size();
    mistakes += family.mistakes.size();
  }
  return Concat("| `", suite.name, "` | ", cases, " | ", mistakes, " |");
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

TEST_CASE("the kill matrix" * doctest::skip()) {
  std::ostringstream summary, matrix;
  matrix << "| suite | mistake | cases that reject it in f64, f32, f16, bf16 | these |\n|---|---|---|---|\n";
  for (const std::string& name : kSuites) {
    const Suite suite = MakeSuite(name);
    std::map<std::string_view, std::size_t> named;  // and so rejected
    std::map<std::string_view, double> margin;
    PlantAll(suite, [&](const Family& family, const std::string& mistake, const Precision& p, const Planted& planted) {
      const bool first = p.name == kPrecisions[0].name, last = p.name == std::end(kPrecisions)[-1].name;
      if (first) matrix << "| " << name << ' ' << family.name << " | " << mistake << " | ";
      const bool alone = planted.named_alone(mistake, p.name);
      matrix << (first ? "" : ", ") << planted.rejecting.size() << (alone ? "" : " but not named alone");
      if (last) matrix << " | " << Some(planted.rejecting, 3) << " |\n";
      named[p.name] += alone;
      margin[p.name] = std::min(margin.try_emplace(p.name, HUGE_VAL).first->second, planted.margin);
    });
    summary << CountsOf(suite);
    for (const Precision& p : kPrecisions) {
      summary << (p.name == kPrecisions[0].name ? " " : ", ") << named[p.name];
    }
    summary << " |" << std::setprecision(2);
    for (const Precision& p : kPrecisions) summary << (p.name == kPrecisions[0].name ? " " : ", ") << margin[p.name];
    summary << " |\n";
  }
  std::cout << summary.str() << '\n' << matrix.str();
}

TEST_CASE("docs/oracle.md counts the cases and mistakes of every suite") {
  const std::string page = ReadFile(std::filesystem::path(SWARR_TEST_DATA) / "../../docs/oracle.md");
  for (const std::string& name : kSuites) {
    const std::string counts = CountsOf(MakeSuite(name));
    CHECK_MESSAGE(page.find(counts) != std::string::npos, counts);
  }
}

TEST_CASE("the public faults of docs/oracle.md are rejected by the case, and given the name, that stand there") {
  std::istringstream page(ReadFile(std::filesystem::path(SWARR_TEST_DATA) / "../../docs/oracle.md"));
  const std::regex row(R"(\| .*#\d.* \| .* \| `(\w+)` `(\S+)` \| `(.*)` \|)");
  int rows = 0, named = 0;
  std::smatch found;
  for (std::string line; std::getline(page, line);) {
    if (!std::regex_match(line, found, row)) continue;
    ++rows;
    CAPTURE(line);
    const Suite suite = MakeSuite(found[1]);
    Expectations expectations(suite);
    for (const Family& family : suite.families) {
      const std::string mistake = found[3];
      if (std::ranges::count(family.mistakes, mistake) == 0) continue;
      const Planted planted = Plant(expectations, family, mistake, PrecisionNamed("f32"));
      CHECK_MESSAGE(std::ranges::count(planted.rejecting, found[2].str()) == 1, Some(planted.rejecting, 5));
      CHECK(planted.named_alone(mistake, "f32"));
      ++named;
    }
  }
  CHECK(rows >= 11);
  CHECK(named == rows);
}
