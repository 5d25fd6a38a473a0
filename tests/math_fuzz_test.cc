// SPDX-License-Identifier: Apache-2.0
// Random, mutated and hostile texts: the verifier judges all of them, in bounded time.
#include <doctest/doctest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/files.h"
#include "task/math/gsm8k.h"
#include "task/math/verify.h"

using namespace swarr;

namespace {

const std::vector<std::string> kFragments = {"\\frac",
                                             "\\sqrt",
                                             "\\sqrt[3]",
                                             "{",
                                             "}",
                                             "(",
                                             ")",
                                             "[",
                                             "]",
                                             "\\{",
                                             "\\}",
                                             ",",
                                             ";",
                                             "\\pm",
                                             "\\pi",
                                             "i",
                                             "x",
                                             "=",
                                             "<",
                                             "\\in ",
                                             "-",
                                             "+",
                                             "*",
                                             "/",
                                             "^",
                                             "_",
                                             "1",
                                             "12",
                                             "000",
                                             ".5",
                                             "0",
                                             "10",
                                             " ",
                                             "\\text{",
                                             " cm",
                                             "and",
                                             " or ",
                                             "$",
                                             "\\$",
                                             "%",
                                             "\\%",
                                             ",000",
                                             "{,}",
                                             "\\!",
                                             "^\\circ",
                                             "million",
                                             "\\begin{pmatrix}",
                                             "\\end{pmatrix}",
                                             "&",
                                             "\\\\",
                                             "\u2212",
                                             "\u221a",
                                             "\xff",
                                             "\xe2\x88",
                                             "\\boxed{",
                                             "####",
                                             "answer is ",
                                             "</think>",
                                             "\\",
                                             "\n",
                                             "99999999999999999999"};

std::string RandomText(std::mt19937_64& random) {
  std::string text;
  for (std::uint64_t n = random() % 24; n > 0; --n) text += kFragments[random() % kFragments.size()];
  return text;
}

// One of `seeds` with a few bytes overwritten, inserted or cut out.
std::string Mutated(const std::vector<std::string>& seeds, std::mt19937_64& random) {
  std::string text = seeds[random() % seeds.size()];
  for (int edit = 0; edit < 3 && !text.empty(); ++edit) {
    const std::size_t at = random() % text.size();
    switch (random() % 3) {
      case 0:
        text[at] = static_cast<char>(random() % 256);
        break;
      case 1:
        text.insert(at, kFragments[random() % kFragments.size()]);
        break;
      default:
        text.erase(at, random() % 4);
    }
  }
  return text;
}

std::vector<std::string> FixtureTexts() {
  std::vector<std::string> texts;
  const auto fixture = nlohmann::json::parse(ReadFile(SWARR_TEST_DATA "/verifier_pairs.json"));
  for (const auto& pair : fixture["pairs"]) {
    texts.push_back(pair["gold"]);
    texts.push_back(pair["answer"]);
  }
  return texts;
}

void JudgeByAllRules(const std::string& text) {
  for (const Extraction mode : {Extraction::kStrict, Extraction::kLenient}) {
    VerifyMath("1", text, mode);
    ExtractCanonicalAnswer(text, mode);
  }
  for (const Gsm8kMode mode : {Gsm8kMode::kStrictMatch, Gsm8kMode::kFlexibleExtract}) VerifyGsm8k("1", text, mode);
}

bool HasPercent(const std::string& text) {
  return text.find('%') != std::string::npos || text.find("percent") != std::string::npos;
}

std::string Repeat(const std::string& text, std::size_t bytes) {
  std::string all;
  while (all.size() < bytes) all += text;
  return all;
}

}  // namespace

TEST_CASE("no text makes the verifier throw, and comparison is reflexive and symmetric on all of them") {
  std::mt19937_64 random(5);
  const std::vector<std::string> seeds = FixtureTexts();
  std::string before = "1";
  int equal = 0;
  // `make fuzz` judges millions of such texts; so many find soon what comes often.
  for (int i = 0; i < 10'000; ++i) {
    const std::string text = i % 2 == 0 ? RandomText(random) : Mutated(seeds, random);
    CAPTURE(text);
    CHECK_NOTHROW(JudgeByAllRules(text));
    CHECK_NOTHROW(JudgeByAllRules("\\boxed{" + text + "}"));
    const MathAnswer answer = ParseMathAnswer(text),
                     other = ParseMathAnswer(i % 4 == 1 ? Mutated({text}, random) : before);
    CHECK(CompareMathAnswers(answer, answer).correct);
    const bool same = CompareMathAnswers(answer, other).correct;
    if (!HasPercent(text) && !answer.quantity.percent && !other.quantity.percent && !HasPercent(before)) {
      CHECK(CompareMathAnswers(other, answer).correct == same);
    }
    equal += same;
    before = text;
  }
  CHECK(equal > 100);  // the comparisons are not all of strangers
}

TEST_CASE("hostile texts of a megabyte are judged in linear time") {
  constexpr std::size_t kSize = 1'000'000;
  const auto begin = std::chrono::steady_clock::now();
  for (const char* part : {"{",         "}",        "\\boxed{", "\\boxed{1} ", "\\boxed{1}\\boxed{2}",
                           "\\boxed{ ", "####",     "#### 1\n", "answer ",     "answer is ",
                           "<think>",   "</think>", "9",        "9,",          "-",
                           "$",         ". ",       "1/",       "\\",          " ",
                           "\xff"}) {
    JudgeByAllRules(Repeat(part, kSize));
    JudgeByAllRules("\\boxed{" + Repeat(part, kSize));
  }
  // All of it, 250 MB, takes some 1.5 s; anything quadratic would take 10^12 steps, an hour. The margin is for slow
  // machines.
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
}

TEST_CASE("nested and crowded answers at the limit of length are judged in bounded time") {
  const auto begin = std::chrono::steady_clock::now();
  for (const char* part : {"(",
                           "{",
                           "\\{",
                           "[",
                           "\\{1,",
                           "(1,",
                           "\\frac{",
                           "\\frac1",
                           "\\sqrt{",
                           "\\sqrt",
                           "-",
                           "+",
                           "1,",
                           "x,",
                           "1+",
                           "\\sqrt{999999999989}",
                           "\\sqrt{999999999989}+",
                           "\\pm",
                           "\\pi",
                           "\\pi^9",
                           "10^99",
                           "i",
                           "x=",
                           "1 1/2 ",
                           "^",
                           "_",
                           "\\text{",
                           "\\begin{pmatrix}",
                           "&",
                           "\\\\",
                           "9"}) {
    const std::string open = Repeat(part, kMaxAnswerBytes - 16);
    const MathAnswer once = ParseMathAnswer(open);
    CHECK(CompareMathAnswers(once, ParseMathAnswer(open)).correct);
    CompareMathAnswers(once, ParseMathAnswer(open + "1"));
  }
  for (const auto& [left, right] :
       {std::pair{"\\{", "\\}"}, {"(", ")"}, {"{", "}"}, {"\\{1,\\{2,", "\\},3\\}"}, {"\\{(", ",1)\\}"}}) {
    std::string a = "1", b = "2";
    while (a.size() < kMaxAnswerBytes - 16) {
      a = left + a + right;
      b = left + b + right;
    }
    CHECK_FALSE(CompareMathAnswers(ParseMathAnswer(a), ParseMathAnswer(b)).correct);
  }
  // Well under 0.1 s; comparing each pair of nested elements twice would take 2^32 steps.
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}
