// SPDX-License-Identifier: Apache-2.0
// The verdicts on pairs of answers: those that tools/make_verifier_fixtures.py wrote, beside those of math-verify, and
// those that tools/make_verifier_neighbours.py generates.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/files.h"
#include "task/math/verify.h"

using namespace swarr;
using nlohmann::json;

namespace {

json Pairs() { return json::parse(ReadFile(SWARR_TEST_DATA "/verifier_pairs.json"))["pairs"]; }

}  // namespace

TEST_CASE("every pair of the fixture gets its verdict, in both directions but for percent signs") {
  const json pairs = Pairs();
  CHECK(pairs.size() >= 300);
  for (const json& pair : pairs) {
    const std::string gold = pair["gold"], answer = pair["answer"];
    CAPTURE(gold);
    CAPTURE(answer);
    const bool equal = pair["equal"];
    CHECK(VerifyMath(gold, "\\boxed{" + answer + "}", Extraction::kStrict).correct == equal);
    CHECK(VerifyMath(gold, "\\boxed{" + gold + "}", Extraction::kStrict).correct);
    if ((gold + answer).find('%') != std::string::npos) continue;
    CHECK(VerifyMath(answer, "\\boxed{" + gold + "}", Extraction::kStrict).correct == equal);
  }
}

TEST_CASE("every disagreement with math-verify is listed in docs/verifier.md, and no other") {
  const std::string docs = ReadFile(SWARR_TEST_DATA "/../../docs/verifier.md");
  for (const json& pair : Pairs()) {
    const std::string row =
        "| `" + pair["gold"].get<std::string>() + "` | `" + pair["answer"].get<std::string>() + "` |";
    CAPTURE(row);
    CHECK((docs.find(row) != std::string::npos) == (pair["equal"] != pair["math_verify"]));
  }
}

TEST_CASE("of the generated pairs no wrong answer is rewarded, and no right one refused") {
  const json pairs = json::parse(ReadFile(SWARR_TEST_DATA "/verifier_neighbours.json"))["pairs"];
  int wrong = 0;
  for (const json& pair : pairs) {
    const std::string kind = pair[0], gold = pair[1], answer = pair[2];
    CAPTURE(kind);
    CAPTURE(gold);
    CAPTURE(answer);
    const bool equal = pair[3];
    CHECK(VerifyMath(gold, "\\boxed{" + answer + "}", Extraction::kStrict).correct == equal);
    wrong += !equal;
  }
  CHECK(wrong >= 500);
}
