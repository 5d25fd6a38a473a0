// SPDX-License-Identifier: Apache-2.0
// The halves of the oracle's suite `loss`: `advantages`, and `policy`, which has them given.
#include <doctest/doctest.h>

#include <algorithm>

#include "oracle_candidates.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

const Case& CaseNamed(const Suite& suite, const std::string& name) {
  const std::vector<Case>& cases = suite.families.at(0).cases;
  return *std::ranges::find(cases, name, &Case::name);
}

}  // namespace

TEST_CASE("the halves of the loss, one after the other, give the whole bit for bit") {
  const Suite whole = MakeSuite("loss"), first = MakeSuite("advantages"), second = MakeSuite("policy");
  Expectations expected(whole), advantages(first);
  const Family& loss = whole.families.at(0);
  for (const Case& c : first.families.at(0).cases) {
    CAPTURE(c.name);
    const Values& right = expected.Outputs(loss, CaseNamed(whole, c.name), "");
    CHECK(advantages.Outputs(first.families.at(0), c, "").at("advantages").data == right.at("advantages").data);
  }
  for (const Case& c : second.families.at(0).cases) {
    CAPTURE(c.name);
    const Values& right = expected.Outputs(loss, CaseNamed(whole, c.name), "");
    Values inputs = c.inputs;
    inputs.at("advantages") = right.at("advantages");
    Noise none;
    const Values given = second.families.at(0).evaluate(Context{}, c, inputs, "", none);
    for (const char* name : {"loss", "dlogp", "dentropy"}) CHECK(given.at(name).data == right.at(name).data);
  }
}

TEST_CASE("a loss and its gradient, all that a trainer returns, are enough to name each mistake after the advantages") {
  const Suite suite = MakeSuite("policy");
  Expectations expectations(suite);
  const Family& family = suite.families.at(0);
  for (const std::string& mistake : family.mistakes) {
    CAPTURE(mistake);
    Candidate candidate = CandidateWith(expectations, family, mistake, PrecisionNamed("f32"));
    std::erase_if(candidate,
                  [](const auto& item) { return !item.first.ends_with(".loss") && !item.first.ends_with(".dlogp"); });
    const oracle::Verdict verdict = Judge(expectations, candidate, {.outputs = {"loss", "dlogp"}});
    CHECK(verdict.cases.size() == family.cases.size());
    CHECK(verdict.failures() > 0);
    const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, verdict);
    REQUIRE(diagnoses.size() == 1);
    CHECK(diagnoses[0].complete());
    REQUIRE(diagnoses[0].explanations.size() == 1);
    CHECK(diagnoses[0].explanations[0].mistakes == std::vector<std::string>{mistake});
  }
}

TEST_CASE("estimates of the KL alone are judged where the loss has a KL") {
  const Suite suite = MakeSuite("policy");
  Expectations expectations(suite);
  const Candidate candidate =
      CandidateWith(expectations, suite.families.at(0), "the KL estimator k2", PrecisionNamed("f32"));
  const oracle::Verdict verdict = Judge(expectations, candidate, {.outputs = {"kl"}});
  for (const CaseVerdict& c : verdict.cases) {
    CAPTURE(c.c->name);
    CHECK(c.c->Number("beta") > 0);
    CHECK(c.passes() == (c.c->parameters.at("kl") == "k2"));
  }
}
