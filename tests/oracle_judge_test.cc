// SPDX-License-Identifier: Apache-2.0
// The judge and the diagnosis on candidates that are incomplete, misshapen or wrong in ways that no table knows.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "oracle/verdict_text.h"
#include "oracle_candidates.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

struct Bench {
  Suite suite = MakeSuite("attention");
  Expectations expectations{suite};
  const Family& family() const { return suite.families.front(); }
  Candidate Right(std::string_view dtype = "f32") { return TruthIn(expectations, PrecisionNamed(dtype)); }
  Candidate With(const std::string& mistake, std::string_view dtype = "f32") {
    return CandidateWith(expectations, family(), mistake, PrecisionNamed(dtype));
  }
  std::vector<Diagnosis> DiagnosisOf(const Candidate& candidate) {
    return Diagnose(expectations, candidate, Judge(expectations, candidate));
  }
};

const CaseVerdict& Of(const Verdict& verdict, const std::string& name) {
  for (const CaseVerdict& c : verdict.cases) {
    if (c.c->name == name) return c;
  }
  throw Error("no case " + name);
}

const TensorVerdict& Of(const Verdict& verdict, const std::string& name, const std::string& tensor) {
  for (const TensorVerdict& t : Of(verdict, name).tensors) {
    if (t.tensor == tensor) return t;
  }
  throw Error("no tensor " + tensor);
}

void EraseGradients(Candidate& candidate) {
  std::erase_if(candidate, [](const auto& item) { return item.first.find(".d") != std::string::npos; });
}

}  // namespace

TEST_CASE("a missing, a misshapen and an unreadable tensor fail their case and are named, and nothing else fails") {
  Bench b;
  Candidate candidate = b.Right();
  candidate.erase("full.dk");
  candidate.at("window_3.out").value.shape = {2, 17, 8};
  candidate.at("sinks_1.lse") = {{{17, 2}, {}, false}, "I64"};
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.failures() == 3);
  CHECK(Of(verdict, "full", "dk").problem == "missing");
  CHECK(Of(verdict, "window_3", "out").problem == "expected [17, 2, 8], got [2, 17, 8]");
  CHECK(Of(verdict, "sinks_1", "lse").problem == "expected F64, F32, BF16 or F16, got I64");
  CHECK(Diagnose(b.expectations, candidate, verdict).empty());  // no number is wrong
  const std::string text = Text(verdict, {}, false);
  CHECK(text.find("expected [17, 2, 8], got [2, 17, 8]") != std::string::npos);
  CHECK(text.find("3 of 38 cases fail") != std::string::npos);
}

TEST_CASE("what is not finite where the truth is fails, and so does a finite number for -infinity") {
  Bench b;
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Candidate candidate = b.Right();
    candidate.at("full.out").value.data[5] = bad;
    const Verdict verdict = Judge(b.expectations, candidate);
    CHECK(verdict.failures() == 1);
    CHECK(std::isinf(Of(verdict, "full", "out").error));
  }
  Candidate candidate = b.Right();
  double& lse = candidate.at("blind_rows.lse").value.data[0];
  REQUIRE(std::isinf(lse));
  lse = -1e30;
  CHECK(Judge(b.expectations, candidate).failures() == 1);
}

TEST_CASE("a name that no output has is noted and fails nothing") {
  Bench b;
  Candidate candidate = b.Right();
  candidate["full.attention_weights"] = {Zeros({3}), "F32"};
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.failures() == 0);
  CHECK(Accepted(verdict, false));
  CHECK(verdict.unknown == std::vector<std::string>{"full.attention_weights"});
}

TEST_CASE("a candidate without any gradient is judged by its values, and accepted only by --forward-only") {
  Bench b;
  Candidate candidate = b.Right();
  EraseGradients(candidate);
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.values_alone);
  CHECK(verdict.failures() == 0);
  CHECK(!Accepted(verdict, false));
  CHECK(Accepted(Judge(b.expectations, candidate, true), true));
  CHECK(Text(verdict, {}, false).find("--forward-only") != std::string::npos);
  CHECK(ToJson(verdict, {}, false)["values_alone"] == true);

  Candidate wrong = b.With("a window of W+1 keys");
  EraseGradients(wrong);
  const std::vector<Diagnosis> diagnoses = b.DiagnosisOf(wrong);
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].complete());
  CHECK(diagnoses[0].explanations[0].mistake == "a window of W+1 keys");
}

TEST_CASE("a single gradient is not enough to leave out the others") {
  Bench b;
  Candidate candidate = b.Right();
  std::erase_if(candidate, [](const auto& item) { return item.first.ends_with(".dk"); });
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(!verdict.values_alone);
  CHECK(verdict.failures() == verdict.cases.size());
}

TEST_CASE("the coarsest dtype of a case's tensors decides its tolerance") {
  Bench b;
  Candidate candidate = b.Right("bf16");
  for (const auto& [name, value] : b.expectations.Outputs(b.family(), b.family().cases[2], "")) {
    CandidateTensor& tensor = candidate.at("full." + name);
    CHECK(tensor.stored == "BF16");
    if (name != "out") tensor.stored = "F32";  // as computations in bf16 keep sums
  }
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.failures() == 0);
  CHECK(Of(verdict, "full").precision->name == "bf16");
  candidate.at("full.out").stored = "F32";  // none is left that says bf16
  CHECK(Judge(b.expectations, candidate).failures() == 1);
}

TEST_CASE("a candidate of bf16's errors under the name of f32 fails everywhere") {
  Bench b;
  Candidate candidate = b.Right("bf16");
  for (auto& item : candidate) item.second.stored = "F32";
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.failures() == verdict.cases.size());
}

TEST_CASE("a mistake that no table knows is said to be none, with what the failing cases have in common") {
  Bench b;
  Candidate candidate = b.Right();
  for (const Case& c : b.family().cases) {
    if (c.parameters.at("head_dim") != 64) continue;
    for (double& x : candidate.at(c.name + ".dq").value.data) x += 0.37;
  }
  const std::vector<Diagnosis> diagnoses = b.DiagnosisOf(candidate);
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].explanations.empty());
  const std::vector<std::string> expected = {"values are right, gradients are wrong", "wrong in every failing case: dq",
                                             "all cases with head_dim = 64 fail, and no other"};
  CHECK(diagnoses[0].hints == expected);
}

TEST_CASE("a mistake made in some cases alone explains these, and the passing ones speak against it") {
  Bench b;
  Candidate candidate = b.Right();
  const Candidate wrong = b.With("a window of W+1 keys");
  for (const auto& [name, tensor] : wrong) {
    if (name.starts_with("window_3.")) candidate.at(name) = tensor;
  }
  const Verdict verdict = Judge(b.expectations, candidate);
  const std::vector<Diagnosis> diagnoses = Diagnose(b.expectations, candidate, verdict);
  REQUIRE(diagnoses.size() == 1);
  CHECK(!diagnoses[0].complete());
  REQUIRE(!diagnoses[0].explanations.empty());
  CHECK(diagnoses[0].explanations[0].mistake == "a window of W+1 keys");
  CHECK(diagnoses[0].explanations[0].explained == 1);
  CHECK(diagnoses[0].explanations[0].contradicted > 10);
  CHECK(Text(verdict, diagnoses, false).find("speak against it") != std::string::npos);
}

TEST_CASE("mistakes in two families are named side by side") {
  const Suite suite = MakeSuite("ops");
  Expectations expectations(suite);
  const Family &norm = suite.families.at(2), &rope = suite.families.at(3);
  Candidate candidate = CandidateWith(expectations, norm, "eps missing", PrecisionNamed("f32"));
  const Candidate other = CandidateWith(expectations, rope, "rotation the other way", PrecisionNamed("f32"));
  for (const auto& [name, tensor] : other) {
    if (name.starts_with("rope")) candidate.at(name) = tensor;
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  REQUIRE(diagnoses.size() == 2);
  CHECK(diagnoses[0].explanations.at(0).mistake == "eps missing");
  CHECK(diagnoses[1].explanations.at(0).mistake == "rotation the other way");
}

TEST_CASE("what only some cases have as a parameter does not confuse the hints") {
  const Suite suite = MakeSuite("ops");
  Expectations expectations(suite);
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  for (const char* name : {"rope_llama3", "rope_llama3_64"}) {
    for (double& x : candidate.at(Concat(name, ".dx")).value.data) x = 1 - x;
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].explanations.empty());
  CHECK(diagnoses[0].hints.at(2) == "all cases with theta = 500000 fail, and no other");
}
