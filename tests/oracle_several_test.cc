// SPDX-License-Identifier: Apache-2.0
// Candidates with three mistakes, or with mistakes in cases of their own.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "oracle/verdict_text.h"
#include "oracle_candidates.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

using Mistakes = std::vector<std::string>;

// One of three mistakes in every case, in turn; those that make a difference in their cases are `shown`.
Candidate InTurn(Expectations& expectations, const Family& family, const Mistakes& mistakes,
                 std::set<std::string>& shown) {
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  std::vector<Candidate> mistaken;
  for (const std::string& mistake : mistakes) {
    mistaken.push_back(CandidateWith(expectations, family, mistake, PrecisionNamed("f32")));
  }
  std::size_t turn = 0;
  for (const Case& c : family.cases) {
    for (auto& [name, tensor] : candidate) {
      if (!name.starts_with(c.name + ".")) continue;
      if (Distance(mistaken[turn].at(name).value, tensor.value) > 0) shown.insert(mistakes[turn]);
      tensor = mistaken[turn].at(name);
    }
    turn = (turn + 1) % mistaken.size();
  }
  return candidate;
}

bool Differ(const Candidate& a, const Candidate& b) {
  return std::ranges::any_of(a,
                             [&](const auto& item) { return Distance(item.second.value, b.at(item.first).value) > 0; });
}

// Whether one of the mistakes changes nothing beside the others.
bool OneIsHidden(Expectations& expectations, const Family& family, const Mistakes& mistakes, const Candidate& all) {
  return std::ranges::any_of(mistakes, [&](const std::string& mistake) {
    Mistakes others = mistakes;
    std::erase(others, mistake);
    return !Differ(all, CandidateWith(expectations, family, Together(others), PrecisionNamed("f32")));
  });
}

std::set<std::string> NamedIn(const Diagnosis& diagnosis) {
  std::set<std::string> named;
  for (const Explanation& e : diagnosis.explanations) named.insert(e.mistakes.begin(), e.mistakes.end());
  return named;
}

// Of the mistakes of one family in its suite, three that lie apart in its table; five such triples.
template <class F>
void ForTriples(const F& f) {
  for (const char* name : {"attention", "loss", "step", "ops"}) {
    auto& [suite, expectations] = PreparedSuite(name);
    for (const Family& family : suite.families) {
      const std::size_t count = family.mistakes.size();
      for (std::size_t i = 0; i < 5 && count >= 8; ++i) {
        const Mistakes three = {family.mistakes[i * 5 % count], family.mistakes[(i * 7 + 3) % count],
                                family.mistakes[(i * 11 + 6) % count]};
        if (std::set<std::string>(three.begin(), three.end()).size() == 3) f(expectations, family, three);
      }
    }
  }
}

}  // namespace

TEST_CASE("three mistakes at once are all named, or it is said that nothing explains all") {
  int triples = 0, named = 0;
  ForTriples([&](Expectations& expectations, const Family& family, const Mistakes& three) {
    const Candidate candidate = CandidateWith(expectations, family, Together(three), PrecisionNamed("f32"));
    if (OneIsHidden(expectations, family, three, candidate)) return;  // then there are no three to name
    const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
    REQUIRE(diagnoses.size() == 1);
    CAPTURE(Together(three));
    ++triples;
    if (!diagnoses[0].complete()) return;
    const std::set<std::string> found = NamedIn(diagnoses[0]);
    for (const std::string& mistake : found) CHECK_MESSAGE(std::ranges::count(three, mistake) == 1, mistake);
    named += found.size() == 3;
  });
  MESSAGE(named << " of " << triples << " triples are named");
  CHECK(2 * named >= triples);
}

TEST_CASE("three mistakes in cases of their own are named, with what passing cases say against it") {
  int triples = 0, named = 0;
  ForTriples([&](Expectations& expectations, const Family& family, const Mistakes& three) {
    std::set<std::string> shown;
    const Candidate candidate = InTurn(expectations, family, three, shown);
    if (shown.size() < 3) return;
    const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
    REQUIRE(diagnoses.size() == 1);
    CAPTURE(Together(three));
    ++triples;
    const Explanation& first = diagnoses[0].explanations.at(0);
    if (first.mistakes.size() < 2) return;
    CHECK(!first.at_once);
    CHECK(first.explained == diagnoses[0].failing);
    for (const std::string& mistake : first.mistakes) CHECK_MESSAGE(std::ranges::count(three, mistake) == 1, mistake);
    named += first.mistakes.size() == 3;
  });
  MESSAGE(named << " of " << triples << " triples are named");
  CHECK(2 * named >= triples);
}

TEST_CASE("which of two mistakes explains which cases is told, in text and in JSON") {
  auto& [suite, expectations] = PreparedSuite("attention");
  const Family& family = suite.families[0];
  const std::string window = "a window of W+1 keys", scale = "scores without the scale 1/sqrt(D)";
  const Candidate candidate = CandidateWith(expectations, family, Together({window, scale}), PrecisionNamed("f32"));
  const Verdict verdict = Judge(expectations, candidate);
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, verdict);
  REQUIRE(diagnoses.size() == 1);
  REQUIRE(diagnoses[0].complete());
  const Explanation& e = diagnoses[0].explanations[0];
  REQUIRE(e.mistakes.size() == 2);
  CHECK(e.at_once);
  // Where attention is full the scale alone is wrong.
  const std::size_t i = e.mistakes[0] == scale ? 0 : 1;
  CHECK(std::ranges::count(e.alone[i], "full") == 1);
  CHECK(std::ranges::count(e.alone[1 - i], "full") == 0);
  const std::string text = Text(verdict, diagnoses, false);
  CHECK(text.find("\" together with \"") != std::string::npos);
  CHECK(text.find(Concat("    \"", scale, "\" alone: ", e.alone[i].size(), " (")) != std::string::npos);
  CHECK(text.find("    only together: ") != std::string::npos);
  const nlohmann::ordered_json json = ToJson(verdict, diagnoses, false)["diagnosis"][0]["explanations"][0];
  CHECK(json["at_once"] == true);
  CHECK(json["alone"][i] == e.alone[i]);
}

TEST_CASE("what is not finite in one case hides no mistake in the others, and makes no name of its own") {
  auto& [suite, expectations] = PreparedSuite("attention");
  const Family& family = suite.families[0];
  const Mistakes both = {"a window of W+1 keys", "key heads interleaved: query head h reads key head h mod G"};
  for (const std::string& mistake : both) REQUIRE(std::ranges::count(family.mistakes, mistake) == 1);
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    for (const char* spoilt : {"window_3.out", "window_4_gqa.dq", "one_token.lse"}) {
      CAPTURE(spoilt);
      Candidate candidate = CandidateWith(expectations, family, Together(both), PrecisionNamed("f32"));
      candidate.at(spoilt).value.data[0] = bad;
      const Verdict verdict = Judge(expectations, candidate);
      const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, verdict);
      REQUIRE(diagnoses.size() == 1);
      CHECK(diagnoses[0].complete());
      CHECK(NamedIn(diagnoses[0]) == std::set<std::string>(both.begin(), both.end()));
      CHECK(diagnoses[0].hints == Mistakes{Concat("passed over, for it is not finite: ", spoilt)});
      CHECK(Text(verdict, diagnoses, false).find("where numbers are expected, at [0, 0") != std::string::npos);
    }
  }
}

TEST_CASE("a mistake for every failing case is no explanation") {
  auto& [suite, expectations] = PreparedSuite("attention");
  const Family& family = suite.families[0];
  Candidate candidate = TruthIn(expectations, PrecisionNamed("f32"));
  for (const auto& [name, mistake] : {std::pair{"full", "lse in base 2"}, {"window_3", "a window of W+1 keys"}}) {
    for (const auto& [tensor, value] : CandidateWith(expectations, family, mistake, PrecisionNamed("f32"))) {
      if (tensor.starts_with(std::string(name) + ".")) candidate.at(tensor) = value;
    }
  }
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate));
  REQUIRE(diagnoses.size() == 1);
  CHECK(!diagnoses[0].complete());
  for (const Explanation& e : diagnoses[0].explanations) CHECK(e.mistakes.size() == 1);
}
