// SPDX-License-Identifier: Apache-2.0
// Which mathematical answers are judged equal, and how the answer of a completion is found.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "task/math/verify.h"
#include "task/registry.h"

using namespace swarr;

namespace {

struct Pair {
  std::string gold, answer;
};

bool Equal(std::string_view gold, std::string_view answer) {
  return CompareMathAnswers(ParseMathGold(gold), ParseMathAnswer(answer)).correct;
}

void CheckEqual(const std::vector<Pair>& pairs, bool expected) {
  for (const auto& [gold, answer] : pairs) {
    CAPTURE(gold);
    CAPTURE(answer);
    CHECK(Equal(gold, answer) == expected);
    const bool percent = (gold + answer).find('%') != std::string::npos;  // the one rule that is not symmetric
    if (!percent) CHECK(Equal(answer, gold) == expected);
  }
}

MathVerdict Strict(std::string_view gold, std::string_view completion) {
  return VerifyMath(gold, completion, Extraction::kStrict);
}

struct Case {
  std::string gold, completion;
  bool correct;
  std::string rule;
};

void CheckCases(const std::vector<Case>& cases, Extraction mode) {
  for (const Case& c : cases) {
    CAPTURE(c.gold);
    CAPTURE(c.completion);
    const MathVerdict verdict = VerifyMath(c.gold, c.completion, mode);
    CHECK(verdict.correct == c.correct);
    CHECK(verdict.rule == c.rule);
  }
}

}  // namespace

TEST_CASE("numbers are equal by value, whatever their spelling") {
  CheckEqual({{"7425000", "7,425,000"},
              {"1000", "1 000"},
              {"1000", "1000.0"},
              {"0.4", ".4"},
              {"1000.99", "$1,000.99"},
              {"1000.99", "1,000.99\u20ac"},
              {"10/9", "\\frac{10}{9}"},
              {"-10/9", "-\\frac{10}{9}"},
              {"1/3", "\\frac13"},
              {"1", "\\frac3{3}"},
              {"1/3", "\\cfrac{1}{3}"},
              {"1/3", "\\dfrac{1}{3}"},
              {"1/3", "\\tfrac{1}{3}"},
              {"\\frac{1}{3}", "\\left( \\frac13 \\right)"},
              {"14916", "14{,}916"},
              {"16386.20", "\\$16,\\!386.20"},
              {"12000023", "12,\\!000,\\!023"},
              {"4", "004"},
              {"0.25", "\\frac{1}{4}"},
              {"\\frac12", "\\frac24"},
              {"72", "72."},
              {"72", "72.00"},
              {"7", "+7"},
              {"-7", "\u22127"},
              {"12", "\uff11\uff12"},
              {"-\\frac{1}{2}", "\\frac{-1}{2}"},
              {"\\frac{9}{5}", "1\\frac45"},
              {"9/5", "1 4/5"},
              {"-\\frac{9}{5}", "-1\\frac{4}{5}"},
              {"3/2", "1\u00bd"},
              {"0", "-0"},
              {"3000000", "3 \\times 10^6"},
              {"0.001", "10^{-3}"},
              {"2500000", "2.5 million"},
              {"1/3", "\\frac{\\frac12}{\\frac32}"},
              {"5", "$5$"},
              {"5", "\\(5\\)"},
              {"5", "{5}"}},
             true);
}

TEST_CASE("integers have no tolerance, and nothing is equal up to a factor of 100 or to rounding") {
  CheckEqual({{"10000", "10001"},
              {"100000000000000000000000000000", "100000000000000000000000000001"},
              {"50", "0.5"},
              {"50\\%", "0.5"},
              {"0.5", "50\\%"},
              {"1/12", "0.083333333"},
              {"1/3", "0.333..."},
              {"5", "5000\\%"},
              {"72", "27"},
              {"1", "-1"},
              {"2", "AZYUK2A"},
              {"10", "100 units"}},
             false);
}

TEST_CASE("numbers beyond 128 bits are still equal by their digits") {
  const std::string digits(200, '7');
  std::string grouped = "77";
  for (int i = 0; i < 66; ++i) grouped += ",777";
  CHECK(Equal(digits, digits + ".000"));
  CHECK(Equal(digits, grouped));
  CHECK_FALSE(Equal(digits, digits + "7"));
  CHECK_FALSE(Equal("1" + std::string(60, '0'), "1" + std::string(59, '0') + "1"));
}

TEST_CASE("an answer has to be worked out: a task that has the gold value is not equal to it") {
  CheckEqual({{"72", "48+24"},
              {"1591", "37 \\cdot 43"},
              {"1024", "2^{10}"},
              {"2\\sqrt{2}", "\\sqrt2+\\sqrt2"},
              {"6", "\\sqrt4\\sqrt9"},
              {"5", "2+3=5"}},
             false);
}

TEST_CASE("units, currencies and degrees do not count, unless both sides name different measures") {
  CheckEqual({{"\\frac13", "\\frac{1}{3} \\text{meters}"},
              {"15", "15\\mbox{ cm}^2"},
              {"125", "125\\textnormal{ miles}"},
              {"90", "90^\\circ"},
              {"90^{\\circ}", "90\u00b0"},
              {"90^\\circ", "90 degrees"},
              {"18", "18 dollars"},
              {"\\$18", "18 dollars"},
              {"18 apples", "18 red apples"},
              {"5 cm", "5 centimeters"},
              {"5\\text{ km/h}", "5"},
              {"-3", "-\\$3"},
              {"120", "120 square feet"}},
             true);
  CheckEqual({{"5 minutes", "5 hours"},
              {"\\$50", "50 cents"},
              {"3 am", "3 pm"},
              {"15 cm^2", "15 cm^3"},
              {"5", "5x"},
              {"6", "6xyz"},
              {"5", "5 or more"},
              {"5", "5 squared"},
              {"5", "5 thousandths"},
              {"18", "18 negative"},
              {"2", "2\\mathrm{i}"},
              {"2", "2\\text{x}"},
              {"5", "\\text{5 is wrong}"},
              {"3", "3!"},
              {"5", "5 m^4"}},
             false);
}

TEST_CASE("a percent sign in the gold has to be in the answer; one in the answer alone is a unit") {
  CheckEqual({{"28\\%", "28\\%"}, {"28\\%", "28 \\%"}, {"28\\%", "28 percent"}, {"50", "50\\%"}, {"50", "50%"}}, true);
  CHECK_FALSE(Equal("50\\%", "50"));
  CHECK_FALSE(Equal("50\\%", "\\frac12"));
}

TEST_CASE("roots, pi and i are compared exactly") {
  CheckEqual({{"\\sqrt3", "\\sqrt{3}"},
              {"\\sqrt 2+\\sqrt 5", "\\sqrt{5}+\\sqrt{2}"},
              {"\\frac94\\pi", "\\frac{9}{4}\\pi"},
              {"\\frac{9\\pi}{4}", "\\frac94\\pi"},
              {"10\\sqrt3+\\sqrt4", "10\\sqrt{3}+2"},
              {"\\frac34i", "\\frac{3}{4}i"},
              {"\\frac{3i}{4}", "\\frac34 i"},
              {"\\sqrt{12}", "2\\sqrt3"},
              {"\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"},
              {"\\frac{1}{1+\\sqrt2}", "\\sqrt2-1"},
              {"\\frac{1+\\sqrt5}{2}", "\\frac12+\\frac{\\sqrt5}{2}"},
              {"2\\sqrt{3}", "2 * sqrt(3)"},
              {"2\\sqrt{3}", "2\u221a3"},
              {"3\\pi", "3\u03c0"},
              {"2i", "\\sqrt{-4}"},
              {"\\pi^2/6", "\\frac{\\pi^{2}}{6}"},
              {"\\sqrt{\\frac34}", "\\frac{\\sqrt3}{2}"},
              {"\\sqrt[3]{2}", "\\sqrt[3] 2"}},
             true);
  CheckEqual({{"1", "1\\sqrt{19}"},
              {"2", "\\frac{1+\\sqrt5}{2}"},
              {"\\sqrt{3}", "1.7320508"},
              {"\\pi", "3.14159265358979"},
              {"\\sqrt[3]{2}", "\\sqrt{2}"},
              {"\\frac{1}{2\\pi}", "1/2\\pi"},
              {"2i", "2"}},
             false);
}

TEST_CASE("tuples, intervals, lists, sets: order and brackets count where they have a meaning") {
  CheckEqual({{"(6,31,-1)", "(6, 31, -1)"},
              {"(1,\\frac92)", "(1,4.5)"},
              {"[0,1)", "[0, 1)"},
              {"(-\\infty,3]", "(-\u221e, 3.0]"},
              {"\\{1\\pm\\sqrt5,-2\\}", "\\{-2, 1-\\sqrt{5}, 1+\\sqrt{5}\\}"},
              {"1 \\pm \\sqrt{19}", "1 \\pm \\sqrt{19}"},
              {"1 \\pm \\sqrt{19}", "1-\\sqrt{19}, 1+\\sqrt{19}"},
              {"\\{1,2\\}", "\\{2,1\\}"},
              {"{1,2}", "\\{2, 1\\}"},
              {"\\{-12,-11,3\\}", "3;-11;-12"},
              {"1,2", "1 and 2"},
              {"1, 2, 3", "1, 2, and 3"},
              {"2, 3", "x = 3 or x = 2"},
              {"(p,q)=(3,2)", "(3,2)"},
              {"x \\in [0,1)", "[0,1)"},
              {"\\emptyset", "\\varnothing"},
              {"((1,2),(3,4))", "((1,2),(3,\\frac{8}{2}))"},
              {"(-\\infty,0)\\cup(1,2]", "(-\u221e,0) \u222a (1,2]"}},
             true);
  CheckEqual({{"10, 4, -2", "4, 10, -2"},
              {"[0,1)", "(0,1)"},
              {"[0,1)", "[0,9)"},
              {"(0,1)", "(0,1]"},
              {"(3,1)", "\\{1,3\\}"},
              {"\\{1,2\\}", "\\{1,2,3\\}"},
              {"\\{1,2,3\\}", "\\{1,2\\}"},
              {"(1,2)", "(2,1)"},
              {"(1,2)", "(1,2,3)"},
              {"1,2", "1"},
              {"(1,234)", "1234"}},
             false);
}

TEST_CASE("matrices are compared by element, whichever environment holds them") {
  const char* matrix = "\\begin{pmatrix} 1 & \\frac12 \\\\ 3 & 4 \\end{pmatrix}";
  CheckEqual({{matrix, "\\begin{bmatrix}1&0.5\\\\3&4\\\\\\end{bmatrix}"},
              {matrix, "\\left[\\begin{array}{cc} 1 & 1/2 \\\\ 3 & 4 \\end{array}\\right]"}},
             true);
  CheckEqual({{matrix, "\\begin{pmatrix} 1 & 3 \\\\ 1/2 & 4 \\end{pmatrix}"},
              {matrix, "\\begin{pmatrix} 1 & 1/2 & 3 & 4 \\end{pmatrix}"},
              {matrix, "\\begin{vmatrix} 1 & 1/2 \\\\ 3 & 4 \\end{vmatrix}"}},
             false);
}

TEST_CASE("a lone symbol before an equals sign is a label; every other relation is compared as a whole") {
  CheckEqual({{"k=\\frac13", "\\frac13"}, {"5", "x = 5"}, {"5", "x = 2 + 3 = 5"}, {"x_1 = 5", "5"}}, true);
  CheckEqual({{"x=5", "y=5"}, {"7=11a+c", "11a+c"}, {"a+3z=0", "0"}, {"x>5", "x<5"}, {"5", "x>5"}, {"x+2n+1", "x+1"}},
             false);
}

TEST_CASE("other answers are equal by their common spelling") {
  CheckEqual({{"\\text{Evelyn}", "Evelyn"},
              {"Evelyn", "evelyn"},
              {"204_5", "204_{5}"},
              {"4210_{5}", "4210_5"},
              {"(C)", "\\text{(C)}"},
              {"C", "\\textbf{(C)}"},
              {"x^2+1", "x^{2} + 1"},
              {"\\dfrac{x}{2}", "\\frac x2"},
              {"x \\leq 5", "x \\le 5"}},
             true);
  CheckEqual({{"204_5", "204"}, {"204_5", "204_6"}, {"C", "B"}, {"x", "X"}, {"\\text{odd}", "\\text{even}"}}, false);
}

TEST_CASE("the last box decides, after the thinking, or else the last ####; the rule says which") {
  const std::string much(1'000'000, 'x');
  CheckCases({{"189", "so \\boxed{189}", true, "boxed: equal numbers"},
              {"189", "\\boxed{189} </think> The answer is \\boxed{189}", true, "boxed: equal numbers"},
              {"189", "\\boxed{\n189\n}", true, "boxed: equal numbers"},
              {"189", "\\fbox{189}", true, "boxed: equal numbers"},
              {"\\frac{1}{2}", "\\boxed{\\frac{1}{2}}.", true, "boxed: equal numbers"},
              {"-2,1", "\\boxed{1} and \\boxed{-2}", true, "boxed: equal sets"},
              {"\\{1,2\\}", "\\boxed{\\{2,1\\}}", true, "boxed: equal sets"},
              {"5", "\\boxed{5}. Again, \\boxed{6}", false, "boxed: different numbers"},
              {"5", "\\boxed{5}, \\boxed{6}", false, "boxed: different kinds of answer"},
              {"5", "\\boxed{5} \\boxed{5}", true, "boxed: equal numbers"},
              {"5", "\\boxed{5}</think> so it is 5", false, "no marked answer"},
              {"5", "<think> \\boxed{5}", false, "no marked answer"},
              {"5", "Put your final answer within \\boxed{}. It is 5", false, "an empty box"},
              {"5", "\\boxed{5", false, "a box that is not closed"},
              {"5", "\\boxed{4} \\boxed{5", false, "a box that is not closed"},
              {"5", "\\boxed{5 \\boxed{5}", true, "boxed: equal numbers"},
              {"5", "\\boxed{5 or 6}", false, "boxed: different kinds of answer"},
              {"5", "\\boxed{5, 6}", false, "boxed: different kinds of answer"},
              {"5", "\\boxed{5 6}", false, "boxed: different kinds of answer"},
              {"5", "\\boxed{\\boxed{5}}", false, "a box in a box"},
              {"5", "\\boxed{5 \\boxed{6} 7}", false, "a box in a box"},
              {"72", "72. #### 72", true, "####: equal numbers"},
              {"72", "####72", true, "####: equal numbers"},
              {"72", "#### $72", true, "####: equal numbers"},
              {"6", "#### 5\n#### 6", true, "####: equal numbers"},
              {"72", "#### 72 apples\nThat was it.", true, "####: equal numbers"},
              {"72", "####\n72", false, "nothing after ####"},
              {"72", "\\boxed{71} #### 72", false, "boxed: different numbers"},
              {"72", "The answer is 72", false, "no marked answer"},
              {"72", "What is 72?", false, "no marked answer"},
              {"72", "", false, "no marked answer"},
              {"5", much + "\\boxed{5}", true, "boxed: equal numbers"},
              {"5", "\\boxed{5" + much + "}", false, "an answer that is too long"}},
             Extraction::kStrict);
}

TEST_CASE("the lenient mode goes on to 'answer is' and to the last number") {
  CheckCases({{"72", "Answer: $72$", true, "answer is: equal numbers"},
              {"72", "**Answer:** 72", true, "answer is: equal numbers"},
              {"72", "The answer is 72. It took 3 steps", true, "answer is: equal numbers"},
              {"0.5", "the final answer is: \\frac{1}{2}.", true, "answer is: equal numbers"},
              {"0.5", "the total is 1/2", true, "last number: equal numbers"},
              {"1234", "he paid $1,234.", true, "last number: equal numbers"},
              {"-3", "we get x = -3.", true, "last number: equal numbers"},
              {"3", "from 5-3", true, "last number: equal numbers"},
              {"50", "about 50%", true, "last number: equal numbers"},
              {"5", "so \\boxed{6}, or 5", false, "boxed: different numbers"},
              {"5", "no idea", false, "no marked answer"}},
             Extraction::kLenient);
}

TEST_CASE("a gold that can't be compared with is an error that says why") {
  CHECK_THROWS_WITH_AS(ParseMathGold("  "), doctest::Contains("the gold answer is empty"), Error);
  CHECK_THROWS_WITH_AS(ParseMathGold("\\frac{1}{2"), doctest::Contains("don't balance"), Error);
  CHECK_THROWS_WITH_AS(ParseMathGold("so \\boxed{}"), doctest::Contains("an empty box"), Error);
  CHECK_THROWS_WITH_AS(ParseMathGold("steps ####"), doctest::Contains("nothing after ####"), Error);
  CHECK_THROWS_WITH_AS(ParseMathGold(std::string(2000, '1')), doctest::Contains("2000 bytes"), Error);
  CHECK_THROWS_AS(ParseMathGold("\\left \\right"), Error);
}

TEST_CASE("a gold may be the worked solution that holds it") {
  CHECK(Strict("48/2 = 24, 48+24 = 72\n#### 72", "\\boxed{72}").correct);
  CHECK(Strict("Thus $x = \\boxed{\\frac12}$.", "#### 0.5").correct);
}

TEST_CASE("votes of one answer in several spellings are one text, and other answers another") {
  const auto canonical = [](std::string_view text) { return ExtractCanonicalAnswer(text, Extraction::kStrict); };
  CHECK(canonical("\\boxed{0.5}") == "1/2");
  CHECK(canonical("#### 1/2 cups") == "1/2");
  CHECK(canonical("\\boxed{\\{2, 1.0\\}}") == "{1,2}");
  CHECK(canonical("\\boxed{[0, \\sqrt{12})}") == "[0,2*sqrt(3))");
  CHECK(canonical("\\boxed{50\\%}") == "50%");
  CHECK(canonical("\\boxed{\\frac{1-\\pi}{2}}") == "1/2-1/2*pi");
  CHECK(canonical("\\boxed{\\begin{pmatrix}1&2\\\\3&x\\end{pmatrix}}") == "[1,2;3,x]");
  CHECK(canonical("no answer").empty());
}

TEST_CASE("the rewards math and math-lenient judge finished texts by these rules") {
  const RewardRule math = RewardByName("math"), lenient = RewardByName("math-lenient");
  CHECK(math.verify("72", "\\boxed{72}", true).reward == 1.0);
  CHECK(math.verify("72", "\\boxed{72}", false).rule == "truncated");
  CHECK(math.verify("72", "it is 72", true).reward == 0.0);
  CHECK(lenient.verify("72", "it is 72", true).reward == 1.0);
  CHECK(math.extract("\\boxed{72.0}") == "72");
  CHECK_THROWS_AS(math.check_gold(""), Error);
}
