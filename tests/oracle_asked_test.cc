// SPDX-License-Identifier: Apache-2.0
// The judge on what is asked for alone, on conventions that are meant, on several mistakes at once, and in the dtype of
// each output.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "oracle/verdict_text.h"
#include "oracle_candidates.h"
#include "temp_directory.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

const TensorVerdict& OutputOf(const Verdict& verdict, const std::string& name, const std::string& tensor) {
  for (const CaseVerdict& c : verdict.cases) {
    for (const TensorVerdict& t : c.tensors) {
      if (c.c->name == name && t.tensor == tensor) return t;
    }
  }
  throw Error("no tensor " + tensor + " of " + name);
}

// A candidate of f32 with several mistakes in one family.
Candidate Mistaken(Expectations& expectations, const Family& family, const std::vector<std::string>& mistakes) {
  return CandidateWith(expectations, family, Together(mistakes), PrecisionNamed("f32"));
}

}  // namespace

TEST_CASE("a gradient in bf16 excuses no value in f32") {
  const Suite suite = MakeSuite("attention");
  Expectations expectations(suite);
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  candidate.at("full.dv").stored = "BF16";
  candidate.at("full.out").value.data[0] += 5e-3;
  const Verdict verdict = Judge(expectations, candidate);
  CHECK(OutputOf(verdict, "full", "out").finding == Finding::kWrong);
  CHECK(OutputOf(verdict, "full", "out").precision->name == "f32");
  CHECK(OutputOf(verdict, "full", "dq").precision->name == "bf16");
  CHECK(Text(verdict, {}, false).find(Concat("judged ", suite.families[0].cases.size() - 1, " in f32, 1 in bf16")) !=
        std::string::npos);
  CHECK(ToJson(verdict, {}, false)["dtypes"]["bf16"] == 1);
}

TEST_CASE("an output that is in no case is said to be so, with the flag that judges the others alone") {
  const Suite suite = MakeSuite("attention");
  Expectations expectations(suite);
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  std::erase_if(candidate, [](const auto& tensor) { return tensor.first.ends_with(".lse"); });
  const std::string hint = "; hand it in, or judge what there is: --outputs out,dq,dk,dv,dsink_logits\n";
  const auto text = [&] { return Text(Judge(expectations, candidate), {}, false); };
  CHECK(text().find("no case has lse, and all else is right" + hint) != std::string::npos);
  candidate.at("full.out").value.data[0] += 5e-3;
  CHECK(text().find("no case has lse" + hint) != std::string::npos);
  candidate["full.lse"] = TruthIn(expectations, PrecisionNamed("f32")).at("full.lse");
  CHECK(text().find("no case has") == std::string::npos);
}

TEST_CASE("a token that differs is told with its place and both ids") {
  const Suite suite = MakeSuite("rollout");
  Expectations expectations(suite);
  const std::string name = suite.families[0].cases[1].name;
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  double& token = candidate.at(name + ".tokens").value.data[1];
  const std::string right = Concat(token);
  token += 3;
  const Verdict verdict = Judge(expectations, candidate);
  const std::string expected = Concat("1 of 18 differs, at [0, 1]: ", token, ", not ", right);
  CHECK(OutputOf(verdict, name, "tokens").problem == expected);
  CHECK(Text(verdict, {}, false).find("tokens: " + expected) != std::string::npos);
}

TEST_CASE("a leading dimension of 1 and integers of 64 bits are no failure") {
  const Suite suite = MakeSuite("rollout");
  Expectations expectations(suite);
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  for (auto& [name, tensor] : candidate) {
    tensor.value.shape.insert(tensor.value.shape.begin(), 1);
    if (tensor.value.integer) tensor.stored = "I64";
  }
  CHECK(Judge(expectations, candidate).failures() == 0);

  const TempDirectory dir;
  const std::string header = R"({"t":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}})";
  const std::uint64_t length = header.size();
  const std::int64_t values[] = {-1, std::int64_t{1} << 40};
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(values), sizeof values);
  WriteFileAtomically(dir / "rollout.safetensors", bytes);
  const Candidate read = ReadCandidate(dir.path(), "rollout");
  CHECK(read.at("t").value.integer);
  CHECK(read.at("t").value.data == std::vector<double>{-1, 0x1p40});
}

TEST_CASE("what is not asked for is not judged, and the verdict says how much that was") {
  const Suite suite = MakeSuite("attention");
  Expectations expectations(suite);
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  std::erase_if(candidate, [](const auto& item) {
    return item.first.ends_with(".lse") || item.first.find("sinks") != std::string::npos;
  });
  CHECK(Judge(expectations, candidate).failures() > 0);
  const JudgeOptions asked{.skip = {"*sinks*"}, .outputs = {"out", "dq", "dk", "dv"}};
  const Verdict verdict = Judge(expectations, candidate, asked);
  CHECK(verdict.failures() == 0);
  CHECK(Accepted(verdict, false));
  const std::size_t judged = verdict.cases.size(), all = suite.families[0].cases.size();
  CHECK(judged < all);
  CHECK(Text(verdict, {}, false).find(Concat("; ", judged, " of the suite's ", all, " were asked for")) !=
        std::string::npos);
  const Verdict values = Judge(expectations, candidate, {.cases = {"window_[12]"}, .outputs = {"out"}});
  CHECK(values.cases.size() == 2);
  CHECK(Accepted(values, false));  // no gradient is asked for
  CHECK_THROWS_WITH_AS(Judge(expectations, candidate, {.skip = {"*"}}), doctest::Contains("nothing"), UsageError);
  CHECK_THROWS_WITH_AS(Judge(expectations, candidate, {.forward_only = true, .outputs = {"dq"}}),
                       doctest::Contains("nothing"), UsageError);
  CHECK_THROWS_WITH_AS(Judge(expectations, candidate, {.cases = {"no_such"}}), doctest::Contains("no case"),
                       UsageError);
  CHECK_THROWS_WITH_AS(Judge(expectations, candidate, {.outputs = {"output"}}), doctest::Contains("called 'output'"),
                       UsageError);
}

TEST_CASE("a known mistake that is meant is judged as a convention, and what is wrong beside it is still named") {
  const Suite suite = MakeSuite("loss");
  const std::string meant = "1e-6 in place of 1e-4 beside the standard deviation", wrong = "the entropy bonus missing";
  Expectations strict(suite), lenient(suite, 1, {meant});
  const Family& family = suite.families[0];
  const Candidate candidate = Mistaken(strict, family, {meant});
  CHECK(Judge(strict, candidate).failures() > 0);
  const Verdict verdict = Judge(lenient, candidate);
  CHECK(verdict.failures() == 0);
  CHECK(verdict.bent > 0);
  CHECK(Text(verdict, {}, false).find("; accepted: " + meant) != std::string::npos);

  const Candidate both = Mistaken(strict, family, {meant, wrong});
  const std::vector<Diagnosis> diagnoses = Diagnose(lenient, both, Judge(lenient, both));
  REQUIRE(diagnoses.size() == 1);
  CHECK(diagnoses[0].complete());
  CHECK(diagnoses[0].explanations.at(0).mistakes == std::vector<std::string>{wrong});
  CHECK_THROWS_WITH_AS(Expectations(suite, 1, {"everything"}), doctest::Contains("knows no mistake 'everything'"),
                       UsageError);
}

TEST_CASE("two mistakes at once are both named, or it is said that nothing explains all") {
  int pairs = 0, named = 0;
  for (const char* name : {"attention", "loss", "step", "ops", "distill"}) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (const Family& family : suite.families) {
      const std::size_t count = family.mistakes.size();
      for (std::size_t i = 0; i < 5 && count >= 4; ++i) {
        const std::vector<std::string> both = {family.mistakes[i * 5 % count], family.mistakes[(i * 7 + 3) % count]};
        const Candidate candidate = Mistaken(expectations, family, both);
        const auto differs_from = [&](const std::string& one) {
          const Candidate other = Mistaken(expectations, family, {one});
          return std::ranges::any_of(
              candidate, [&](const auto& item) { return Distance(item.second.value, other.at(item.first).value) > 0; });
        };
        // Where one hides the other everywhere, it alone is what there is to name.
        if (!differs_from(both[0]) || !differs_from(both[1])) continue;
        CAPTURE(both[0]);
        CAPTURE(both[1]);
        const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
        REQUIRE(diagnoses.size() == 1);
        ++pairs;
        if (!diagnoses[0].complete()) continue;
        const std::vector<std::string>& found = diagnoses[0].explanations[0].mistakes;
        CHECK(found.size() == 2);
        for (const std::string& mistake : found) CHECK(std::ranges::count(both, mistake) == 1);
        named += found.size() == 2;
      }
    }
  }
  MESSAGE(named << " of " << pairs << " pairs are named");
  CHECK(4 * named >= 3 * pairs);
}
