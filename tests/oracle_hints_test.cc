// SPDX-License-Identifier: Apache-2.0
// What is said of failing cases that no known mistake explains: a coarser dtype, and what they have in common.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "oracle_candidates.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

// The hints to a right candidate of f32 of which `wrong` cases were spoilt: in the family's first output, by 1.
std::vector<std::string> HintsWhere(const std::string& suite_name, const std::function<bool(const Case&)>& wrong) {
  auto& [suite, expectations] = PreparedSuite(suite_name);
  const Family& family = suite.families.front();
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  for (const Case& c : family.cases) {
    if (!wrong(c)) continue;
    for (double& x : candidate.at(c.name + "." + family.outputs.front().name).value.data) x += 1;
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].explanations.empty());
  return diagnoses[0].hints;
}

bool Contains(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

std::vector<Diagnosis> DiagnosisOf(const Candidate& candidate) {
  Expectations& attention = PreparedSuite("attention").expectations;
  return Diagnose(attention, candidate, Judge(attention, candidate));
}

Candidate Right(std::string_view dtype) {
  return TruthIn(PreparedSuite("attention").expectations, PrecisionNamed(dtype));
}

}  // namespace

TEST_CASE("errors that a coarser dtype would excuse are said to be such") {
  const std::string bf16 = "all is within the tolerance of bf16: if that is what you computed in, store BF16",
                    f32 = "all is within the tolerance of f32: if that is what you computed in, store F32";
  Candidate candidate = Right("bf16");
  for (auto& item : candidate) item.second.stored = "F32";
  CHECK(DiagnosisOf(candidate).at(0).hints.at(0) == bf16);
  candidate.at("full.dv").value.data[0] += 1;
  CHECK(!Contains(DiagnosisOf(candidate).at(0).hints, bf16));
  candidate = Right("bf16");
  for (auto& item : candidate) item.second.stored = "F32";
  candidate.at("full.out").value.data[0] = std::nan("");  // passed over
  CHECK(DiagnosisOf(candidate).at(0).hints.at(0) == bf16);
  candidate = Right("f32");
  for (auto& item : candidate) item.second.stored = "F64";
  CHECK(DiagnosisOf(candidate).at(0).hints.at(0) == f32);
}

TEST_CASE("a mistake in a computation in bf16 that was stored as F32 is named, with the dtype to store, or none is") {
  std::size_t named = 0, tried = 0;
  for (const char* name : {"attention", "ops", "step"}) {
    auto& [suite, expectations] = PreparedSuite(name);
    for (const Family& family : suite.families) {
      for (std::size_t i = 0; i < family.mistakes.size(); i += 4) {
        const std::string& mistake = family.mistakes[i];
        CAPTURE(mistake);
        Candidate candidate = CandidateWith(expectations, family, mistake, PrecisionNamed("bf16"));
        for (auto& item : candidate) {
          if (item.second.stored == "BF16") item.second.stored = "F32";
        }
        const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
        const auto of_family = std::ranges::find(diagnoses, family.name, &Diagnosis::family);
        REQUIRE(of_family != diagnoses.end());
        if (of_family->complete()) continue;  // bf16 holds all its results
        // Where results are rounded to bf16 alone, the tolerance of f16, which grants roundings on the way, may do.
        const std::string& hint = of_family->hints.at(0);
        const bool is_named = hint.starts_with(Concat('"', mistake, "\" gives them within the tolerance of ")) &&
                              (hint.ends_with("store BF16") || hint.ends_with("store F16"));
        if (!is_named) CHECK_MESSAGE(hint.find(" them within") == std::string::npos, hint);
        named += is_named;
        ++tried;
      }
    }
  }
  MESSAGE(named << " of " << tried << " are named");
  CHECK(4 * named >= 3 * tried);
}

TEST_CASE("gradients that are coarse beside values that are not are said to be such, and get no name") {
  Candidate candidate = Right("f32");
  Expectations& attention = PreparedSuite("attention").expectations;
  const Family& family = PreparedSuite("attention").suite.families.front();
  const Candidate coarse = Right("bf16");
  const Candidate wrong = CandidateWith(attention, family, "dk without the scale", PrecisionNamed("bf16"));
  const auto take_gradients = [&](const Candidate& from) {
    for (auto& [name, tensor] : candidate) {
      if (name.find(".d") != std::string::npos) tensor.value = from.at(name).value;
    }
  };
  take_gradients(coarse);
  const std::vector<std::string> hints = DiagnosisOf(candidate).at(0).hints;
  CHECK(hints.size() == 2);
  CHECK(hints.at(0).starts_with("all is within the tolerance of "));
  CHECK(hints.at(1) == "values are right, gradients are wrong");
  take_gradients(wrong);
  CHECK(DiagnosisOf(candidate).at(0).hints.at(0) == "values are right, gradients are wrong");
}

TEST_CASE("texts separate cases as numbers do, and no threshold stands beside an equality") {
  const auto has = [](const char* name, const char* value) {
    return [=](const Case& c) { return c.parameters.at(name) == value; };
  };
  const std::vector<std::string> cispo = HintsWhere("loss", has("clip", "weight"));
  CHECK(Contains(cispo, "all cases with clip = weight fail, and no other"));
  for (const std::string& hint : cispo) CHECK(hint.find("epsilon_high") == std::string::npos);
  const std::vector<std::string> others = HintsWhere("loss", [&](const Case& c) { return !has("clip", "ppo")(c); });
  CHECK(Contains(others, "all cases with clip other than ppo fail, and no other"));
}

TEST_CASE("where nothing separates exactly, hints hold to one side, with counts") {
  const auto grouped = [](const Case& c) { return c.parameters.at("heads_per_kv_head") >= 2; };
  const Suite suite = MakeSuite("attention");
  const std::vector<Case>& cases = suite.families.front().cases;
  const auto all = static_cast<std::size_t>(std::count_if(cases.begin(), cases.end(), grouped));
  const auto but_one = [&](const Case& c) { return grouped(c) && c.name != "window_2"; };
  CHECK(Contains(HintsWhere("attention", but_one),
                 Concat("only cases with heads_per_kv_head >= 2 fail (", all - 1, " of ", all, ")")));
  const auto and_one = [&](const Case& c) { return grouped(c) || c.name == "window_1"; };
  CHECK(Contains(HintsWhere("attention", and_one),
                 Concat("all cases with heads_per_kv_head >= 2 fail (", all, " of ", all + 1, " that do)")));
}

TEST_CASE("any of what cases have none, two or more of is said to be >= 1") {
  const auto padded = [](const Case& c) { return c.parameters.at("padding_rows") > 0; };
  for (const Case& c : PreparedSuite("attention").suite.families.front().cases) {
    CHECK(c.parameters.at("padding_rows") != 1);  // else this shows nothing
  }
  CHECK(Contains(HintsWhere("attention", padded), "all cases with padding_rows >= 1 fail, and no other"));
}

TEST_CASE("a model wrong in everything is told so in a few names, values first") {
  const std::vector<std::string> hints = HintsWhere("model", [](const Case&) { return true; });
  CHECK(hints == std::vector<std::string>{"wrong in every failing case: logits"});
  auto& [suite, expectations] = PreparedSuite("model");
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  for (auto& item : candidate) {
    for (double& x : item.second.value.data) x += 1;
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  const std::string hint = diagnoses.at(0).hints.at(0);
  CHECK(hint.starts_with("wrong in every failing case: logits, logp, grad."));
  CHECK(hint.ends_with(" more"));
  CHECK(std::count(hint.begin(), hint.end(), ',') == 2);
}

TEST_CASE("a mistake that no table knows is said to be none, with what the failing cases have in common") {
  Candidate candidate = Right("f32");
  for (const Case& c : PreparedSuite("attention").suite.families.front().cases) {
    if (c.parameters.at("sinks") != 2) continue;
    for (double& x : candidate.at(c.name + ".dq").value.data) x += 0.37;
  }
  const std::vector<Diagnosis> diagnoses = DiagnosisOf(candidate);
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].explanations.empty());
  const std::vector<std::string> expected = {"values are right, gradients are wrong",
                                             "all cases with sinks = 2 fail, and no other",
                                             "wrong in every failing case: dq"};
  CHECK(diagnoses[0].hints == expected);
}

TEST_CASE("what two of many cases have in common may be chance, and is not said") {
  auto& [suite, expectations] = PreparedSuite("ops");
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  for (const char* name : {"rope_llama3", "rope_llama3_64"}) {
    for (double& x : candidate.at(Concat(name, ".dx")).value.data) x = 1 - x;
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].explanations.empty());
  CHECK(diagnoses[0].hints.size() == 2);  // which outputs are wrong
}
