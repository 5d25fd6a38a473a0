// SPDX-License-Identifier: Apache-2.0
// The judge and the diagnosis on candidates that are incomplete, misshapen or wrong in ways that no table knows.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "oracle/verdict_text.h"
#include "oracle_candidates.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

struct Bench {
  const Suite& suite = PreparedSuite("attention").suite;
  Expectations& expectations = PreparedSuite("attention").expectations;
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
  CHECK(text.find(Concat("3 of ", b.family().cases.size(), " cases fail")) != std::string::npos);
}

TEST_CASE("too few and too many elements for a shape fail their case in a sentence, whatever is read from them") {
  Bench b;
  Candidate candidate = b.Right();
  candidate.at("full.dk").value.data.clear();
  candidate.at("window_3.out").value.data.pop_back();
  candidate.at("sinks_1.lse").value.data.push_back(0);
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.failures() == 3);
  CHECK(Of(verdict, "full", "dk").problem == "shape [7, 3, 8] has 168 elements, got 0");
  CHECK(Of(verdict, "window_3", "out").problem == "shape [17, 2, 8] has 272 elements, got 271");
  CHECK(Of(verdict, "sinks_1", "lse").problem == "shape [17, 2] has 34 elements, got 35");
  CHECK(Diagnose(b.expectations, candidate, verdict).empty());
  CHECK(Text(verdict, {}, false).find("dk: shape [7, 3, 8] has 168 elements, got 0\n") != std::string::npos);
}

TEST_CASE("a forgotten dtype is said to be nothing, and integers go by their dtype's name") {
  Bench b;
  Candidate candidate = b.Right();
  candidate.at("full.dk").stored = "";
  CHECK(Of(Judge(b.expectations, candidate), "full", "dk").problem == "expected F64, F32, BF16 or F16, got nothing");
  auto& [suite, expectations] = PreparedSuite("rollout");
  Candidate rollout = TruthIn(expectations, PrecisionNamed("f32"));
  CandidateTensor& tokens = rollout.at(suite.families.front().cases.front().name + ".tokens");
  tokens.value.integer = false;
  CHECK(Judge(expectations, rollout).failures() == 0);
  tokens.value.data[0] = std::nan("");
  const Verdict verdict = Judge(expectations, rollout);
  CHECK(verdict.failures() == 1);
  CHECK(
      Of(verdict, suite.families.front().cases.front().name, "tokens").problem.starts_with("1 NaN where numbers are"));
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
  const Verdict verdict = Judge(b.expectations, candidate);
  CHECK(verdict.failures() == 1);
  CHECK(Of(verdict, "blind_rows", "lse").problem == "1 number where -infinity is expected, at [0, 0]");
}

TEST_CASE("NaN and infinities are counted and the first is located, in text and in JSON, in place of an error") {
  Bench b;
  Candidate candidate = b.Right();
  std::vector<double>& dk = candidate.at("blind_rows.dk").value.data;  // [9, 1, 8]
  for (int i = 3; i < 11; ++i) dk[static_cast<std::size_t>(i)] = std::nan("");
  std::vector<double>& out = candidate.at("full.out").value.data;  // [7, 3, 8]
  out[out.size() - 1] = out[out.size() - 8] = -std::numeric_limits<double>::infinity();
  candidate.at("full.dq").value.data[0] += 1;
  const Verdict verdict = Judge(b.expectations, candidate);
  const std::string nan = "8 NaN where numbers are expected, the first at [0, 0, 3]",
                    infinite = "2 -infinities where numbers are expected, the first at [6, 2, 0]";
  CHECK(Of(verdict, "blind_rows", "dk").problem == nan);
  CHECK(Of(verdict, "blind_rows", "dk").finding == Finding::kWrong);  // a mistake may give it
  CHECK(Of(verdict, "full", "out").problem == infinite);
  CHECK(Of(verdict, "full", "dq").problem.empty());
  const std::string text = Text(verdict, {}, false);
  CHECK(text.find(Concat("  blind_rows               dk: ", nan, "\n")) != std::string::npos);
  CHECK(text.find("; out: " + infinite) != std::string::npos);
  CHECK(text.find("error inf") == std::string::npos);
  const nlohmann::ordered_json failing = ToJson(verdict, {}, false)["failing"];
  CHECK(failing[0]["tensors"][0] == nlohmann::ordered_json{{"tensor", "out"}, {"problem", infinite}});
  CHECK(failing[1]["tensors"][0] == nlohmann::ordered_json{{"tensor", "dk"}, {"problem", nan}});
}

TEST_CASE("cases that fail in the same way share a row, and tensors with the same problem a sentence") {
  Bench b;
  Candidate candidate = b.Right();
  for (auto& item : candidate) item.second.stored = "I64";
  const std::string text = Text(Judge(b.expectations, candidate), {}, false);
  CHECK(text.starts_with(
      "failing cases\n  one_token and 54 more    out, lse, dq, dk, dv: expected F64, F32, BF16 or F16, got I64\n"));
  CHECK(text.ends_with("suite attention: 67 of 67 cases fail\n"));
}

TEST_CASE("a single failing case is counted in the singular") {
  Bench b;
  Candidate candidate = b.Right();
  candidate.at("full.out").value.data[5] += 1;
  const std::string text = Text(Judge(b.expectations, candidate), b.DiagnosisOf(candidate), false);
  CHECK(text.find("attention: no known mistake gives these results (1 failing case)\n") != std::string::npos);
  CHECK(text.ends_with(Concat("suite attention: 1 of ", b.family().cases.size(), " cases fails, judged in f32\n")));
}

TEST_CASE("a row shows the first wrong output on the way from values to gradients, not the largest error") {
  Bench b;
  Candidate candidate = b.Right();
  candidate.at("full.dv").value.data[0] += 1e6;
  candidate.at("full.lse").value.data[0] += 1;
  CHECK(Text(Judge(b.expectations, candidate), {}, false).find("  full                     lse      error 1.0e+00") !=
        std::string::npos);
}

TEST_CASE("integers in another dtype are said how to convert") {
  auto& [suite, expectations] = PreparedSuite("rollout");
  const Family& family = suite.families.front();
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  CandidateTensor& tokens = candidate.at(family.cases.front().name + ".tokens");
  tokens.stored = "I16";
  tokens.value.integer = false;
  CHECK(Of(Judge(expectations, candidate), family.cases.front().name, "tokens").problem ==
        "expected I32 or I64, got I16; in PyTorch .to(torch.int32)");
}

TEST_CASE("of an empty candidate everything is missing, gradients too") {
  Bench b;
  const Verdict verdict = Judge(b.expectations, {});
  CHECK(!verdict.values_alone);
  const std::string text = Text(verdict, {}, false);
  CHECK(text.starts_with("failing cases\n  one_token and 54 more    out, lse, dq, dk, dv: missing\n"));
  CHECK(text.ends_with("suite attention: 67 of 67 cases fail\n"));
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
  CHECK(Accepted(Judge(b.expectations, candidate, {.forward_only = true}), true));
  CHECK(Text(verdict, {}, false).find("--forward-only") != std::string::npos);
  CHECK(ToJson(verdict, {}, false)["values_alone"] == true);

  Candidate wrong = b.With("a window of W+1 keys");
  EraseGradients(wrong);
  const std::vector<Diagnosis> diagnoses = b.DiagnosisOf(wrong);
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].complete());
  CHECK(diagnoses[0].explanations[0].mistakes == std::vector<std::string>{"a window of W+1 keys"});
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
  CHECK(Of(verdict, "full").precision()->name == "bf16");
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

TEST_CASE("a mistake that explains nearly all is shown with the cases that it does not explain") {
  Bench b;
  Candidate candidate = b.With("a window of W+1 keys");
  for (const char* name : {"window_3.out", "packed_window.dq"}) candidate.at(name).value.data[0] += 1;
  const Verdict verdict = Judge(b.expectations, candidate);
  const std::vector<Diagnosis> diagnoses = Diagnose(b.expectations, candidate, verdict);
  const Explanation& e = diagnoses.at(0).explanations.at(0);
  CHECK(e.mistakes == std::vector<std::string>{"a window of W+1 keys"});
  CHECK(e.unexplained == std::vector<std::string>{"window_3", "packed_window"});
  CHECK(Text(verdict, diagnoses, false)
            .find(Concat("\"a window of W+1 keys\": ", e.explained, " of ", diagnoses[0].failing,
                         " failing cases, not window_3, packed_window\n")) != std::string::npos);
  CHECK(ToJson(verdict, diagnoses, false)["diagnosis"][0]["explanations"][0]["unexplained"].size() == 2);
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
  CHECK(diagnoses[0].explanations[0].mistakes == std::vector<std::string>{"a window of W+1 keys"});
  CHECK(diagnoses[0].explanations[0].explained == 1);
  CHECK(diagnoses[0].explanations[0].contradicted > 10);
  CHECK(Text(verdict, diagnoses, false).find("speak against it") != std::string::npos);
}

TEST_CASE("mistakes in two families are named side by side") {
  auto& [suite, expectations] = PreparedSuite("ops");
  const Family &norm = suite.families.at(2), &rope = suite.families.at(3);
  Candidate candidate = CandidateWith(expectations, norm, "eps missing", PrecisionNamed("f32"));
  const Candidate other = CandidateWith(expectations, rope, "rotation the other way", PrecisionNamed("f32"));
  for (const auto& [name, tensor] : other) {
    if (name.starts_with("rope")) candidate.at(name) = tensor;
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  REQUIRE(diagnoses.size() == 2);
  CHECK(diagnoses[0].explanations.at(0).mistakes == std::vector<std::string>{"eps missing"});
  CHECK(diagnoses[1].explanations.at(0).mistakes == std::vector<std::string>{"rotation the other way"});
}
