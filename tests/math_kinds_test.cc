// SPDX-License-Identifier: Apache-2.0
// Answers that are easily judged wrong: words and letters behind a number, recurring decimals, names on the left side,
// unions and relations, markup. tools/make_verifier_neighbours.py generates more of each kind.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "task/math/verify.h"

using namespace swarr;

namespace {

struct JudgedPair {
  std::string gold, answer;
};

void CheckBoxed(bool expected, const std::vector<JudgedPair>& pairs) {
  for (const auto& [gold, answer] : pairs) {
    CAPTURE(gold);
    CAPTURE(answer);
    CHECK(VerifyMath(gold, "\\boxed{" + answer + "}", Extraction::kStrict).correct == expected);
  }
}

void CheckLenient(bool expected, const std::vector<JudgedPair>& pairs) {
  for (const auto& [gold, text] : pairs) {
    CAPTURE(gold);
    CAPTURE(text);
    CHECK(VerifyMath(gold, text, Extraction::kLenient).correct == expected);
  }
}

}  // namespace

TEST_CASE("words that say a number, deny it or change it are no units, in any case, singular or plural") {
  CheckBoxed(false, {{"4", "4 Seven"},    {"72", "72 TWENTY-ONE"},   {"4", "4 ninths"},         {"4", "4 Hundredths"},
                     {"2", "2 halves"},   {"4", "4\\text{ Fifths}"}, {"4", "4 Twice"},          {"4", "4 thrice"},
                     {"4", "4 twofold"},  {"4", "4 zillion"},        {"4", "4 score"},          {"4", "4 NOT"},
                     {"4", "4 Never"},    {"4", "4 isn't it"},       {"4", "4 Minuses"},        {"4", "4 negatives"},
                     {"4", "4 Cubed"},    {"4", "4 theta"},          {"4", "4\\text{ pi}"},     {"4", "4 point five"},
                     {"4", "4\\text{M}"}, {"4", "4\\text{ k}"},      {"4", "4 percent percent"}});
}

TEST_CASE("multipliers multiply, one after another, and are never dropped") {
  CheckBoxed(true, {{"4000000", "4 MILLION"},
                    {"400000", "4 hundred Thousand"},
                    {"400000", "4 lakh"},
                    {"576", "4 gross"},
                    {"48", "4 Dozens"},
                    {"-4", "minus 4"},
                    {"-4", "Negative 4"}});
  CheckBoxed(false, {{"4", "4 MILLION"}, {"400", "4 hundred Thousand"}, {"4", "4 gross"}, {"4", "4\\text{ Dozens}"}});
}

TEST_CASE("bare products of letters are no units, and ordinary words are") {
  CheckBoxed(false, {{"7", "7\\,xyz"},
                     {"7\\ pqr", "7"},
                     {"7", "7 abcd"},
                     {"7", "7 mgh"},
                     {"7", "7 abxy"},
                     {"7", "7 nRT"},
                     {"7", "7 a b"},
                     {"7", "7\\mathit{abc}"},
                     {"7", "7\\text{xyz}"},
                     {"7", "7mg"}});
  CheckBoxed(true,
             {{"7", "7 oranges"}, {"7", "7 MEN"}, {"7", "7 pairs of socks"}, {"7", "7 big eggs"}, {"7", "7 logs"}});
}

TEST_CASE("recurring decimals are compared by value, and their zeros count") {
  CheckBoxed(true, {{"\\frac{2}{3}", "0.(6)"},
                    {"\\frac{2}{3}", ".\\overline{6}"},
                    {"\\frac{5}{6}", "0.8\\bar3"},
                    {"\\frac{1}{7}", "0.\\dot14285\\dot7"},
                    {"\\frac{2}{3}", "0.6\u0305"},
                    {"0.\\overline{18}", "\\frac{2}{11}"},
                    {"-\\frac{2}{3}", "-0.\\overline{66}"},
                    {"\\frac{10000}{3}", "3,333.(3)"},
                    {"1", "0.\\overline{9}"}});
  CheckBoxed(false, {{"0.\\overline{6}", "0.\\overline{06}"},
                     {"0.\\overline{18}", "0.1\\overline{8}"},
                     {"0.(6)", "0.66"},
                     {"0.50...", "0.5..."},
                     {"\\overline{05}", "\\overline{5}"}});
}

TEST_CASE("numbers side by side are not one number") {
  CheckBoxed(false, {{"72", "7 2"}, {"10.5", "1 .5"}, {"7.2", "7. 2"}, {"72", "{7}{2}"}, {"1", "1 000/3"}});
}

TEST_CASE("separators of thousands go whatever follows the number") {
  CheckBoxed(true, {{"12345", "12,345\\text{ miles}"},
                    {"12345", "12{,}345\\mathrm{~km}"},
                    {"1000.5", "1,000.50\\text{ m}"},
                    {"1000", "1\\,000\\degree"},
                    {"1000\\pi", "1{,}000\\pi"},
                    {"1000\\sqrt{2}", "1,000\\sqrt2"},
                    {"\\frac{2001}{2}", "1,000\\frac12"},
                    {"1000\\ldots", "1,000\\ldots"}});
  CheckBoxed(false, {{"1000", "1,000\\ldots"}, {"1000", "(1,000\\text{ m})"}, {"2000", "1,000(2)"}});
}

TEST_CASE("a number as computers write it is its value") {
  CheckBoxed(true,
             {{"1500", "1.5e3"}, {"5e-05", "0.00005"}, {"-1.5E3", "-1500"}, {"1e16", "10^{16}"}, {"2e-1", "2e - 1"}});
  CheckBoxed(false, {{"1500", "1.5e4"}, {"3", "3e"}, {"2", "2e-1"}});
}

TEST_CASE("a name on the left side is a label, and a formula is none") {
  CheckBoxed(true, {{"9", "CD = 9"},
                    {"9", "\\text{Perimeter} = 9"},
                    {"9", "P(B) = 9"},
                    {"9", "f(-2) = 9"},
                    {"9", "m\\angle B = 9^\\circ"},
                    {"9", "|PQ| = 9"},
                    {"9", "[ABC] = 9"},
                    {"9", "= 9"},
                    {"9", "9 = x"},
                    {"9", "y \\approx 9"},
                    {"3\\pi", "V = 3\\pi \\approx 9.42"},
                    {"\\text{Area of }\\triangle ABC = 9", "9"}});
  CheckBoxed(false, {{"9", "3x = 9"},
                     {"9", "x^2 = 9"},
                     {"9", "|x| = 9"},
                     {"9", "xy = 9"},
                     {"9", "x(x+2) = 9"},
                     {"9", "\\text{twice }x = 9"},
                     {"9", "\\text{not }x = 9"},
                     {"9", "x \\ne 9"},
                     {"AB = 9", "CD = 9"},
                     {"P(A) = 9", "P(B) = 9"}});
}

TEST_CASE("units of several parts are units, and two different ones conflict") {
  CheckBoxed(true, {{"8", "8 km/h"},
                    {"8", "8 m^3"},
                    {"8", "8 m/s^2"},
                    {"8", "8^\\circ\\text{F}"},
                    {"8", "8 °C"},
                    {"8 degrees Celsius", "8 °C"},
                    {"8^\\circ C", "8^\\circ"},
                    {"8", "8\\text{ W}"},
                    {"8", "8 an hour"},
                    {"8", "\\$8/hour"},
                    {"8 mph", "8 miles per hour"},
                    {"8 cm^2", "8 square centimeters"},
                    {"8", "8 sq. ft"}});
  CheckBoxed(false, {{"8 km/h", "8 m/s"},
                     {"8 km/h", "8 km"},
                     {"8 °C", "8 °F"},
                     {"8 degrees Celsius", "8 degrees Fahrenheit"},
                     {"8\\text{ W}", "8\\text{ V}"},
                     {"8", "8 a"}});
}

TEST_CASE("measures of volume, time, data and money differ from one another, and their spellings do not") {
  CheckBoxed(false, {{"5 gallons", "5 quarts"},
                     {"5 pints", "5 cups"},
                     {"5 cups", "5\\text{ ml}"},
                     {"5 fluid ounces", "5 pints"},
                     {"5 fl oz", "5 gallons"},
                     {"5 fluid ounces", "5 pounds"},
                     {"5 tablespoons", "5 teaspoons"},
                     {"5 milliseconds", "5 seconds"},
                     {"5 microseconds", "5 nanoseconds"},
                     {"5\\text{ ms}", "5\\text{ s}"},
                     {"5 years", "5 decades"},
                     {"5 decades", "5 centuries"},
                     {"5\\text{ yr}", "5 days"},
                     {"5\\text{ GB}", "5\\text{ MB}"},
                     {"5 kilowatts", "5 watts"},
                     {"5 nickels", "5 dimes"},
                     {"5 pesos", "\\$5"},
                     {"\u00a35", "5 dollars"},
                     {"\u00a35", "5 ounces"},
                     {"5", "5ms"},
                     {"5", "5yr"}});
  CheckBoxed(true, {{"5 gallons", "5 gal"},
                    {"5 quart", "5\\text{ qts}"},
                    {"5 pints", "5 pt"},
                    {"5 fluid ounces", "5 fl. oz"},
                    {"5 fluid ounces", "5 ounces"},
                    {"5 liters of fluid", "5\\text{ L}"},
                    {"5 milliseconds", "5 ms"},
                    {"5 nanoseconds", "5\\text{ ns}"},
                    {"5 years", "5 yrs"},
                    {"5 century", "5 centuries"},
                    {"5 degrees Kelvin", "5 kelvin"},
                    {"5 gigabytes", "5\\text{ GB}"},
                    {"5 pennies", "5 cents"},
                    {"\u00a35", "5 pounds"},
                    {"5 cups", "5 cups of milk"},
                    {"5", "5 decades"}});
}

TEST_CASE("unions have no order, their parts are compared by value, and a relation may be read from either side") {
  CheckBoxed(true, {{"[0,\\frac14]\\cup(2,\\infty)", "(2,+\\infty) \\cup [0, 0.25]"},
                    {"(-\\infty,0)\\cup[1,2]", "(-\\text{infinity},0) U [1,2]"},
                    {"\\emptyset", "\\{ \\}"},
                    {"x > \\frac12", "0.5 < x"},
                    {"0 \\le x < 4", "4 > x \\ge 0"},
                    {"x \\le \\frac12", "x <= 0.5"},
                    {"0 \\le x < 4", "4>x>=0"},
                    {"x \\ne 3", "3 \\neq x"},
                    {"x \\ne 3", "x != 3"},
                    {"x \\ne 3", "x\\not=3"},
                    {"x \\le 3", "x \u2266 3"},
                    {"x \\ge 3", "x \u2267 3"},
                    {"x \\le 3", "x \\leqq 3"},
                    {"x \\ge 3", "x \\geqq 3"},
                    {"5!=120", "5! = 120"}});
  CheckBoxed(false, {{"[0,1]\\cup[2,3]", "[0,1)\\cup[2,3]"},
                     {"[0,1]\\cup[2,3]", "[0,1]\\cap[2,3]"},
                     {"x > 3", "3 > x"},
                     {"x > 3", "x \\ge 3"},
                     {"x > 3", "x>=3"},
                     {"x = 3", "x != 3"},
                     {"x < 3", "x \u2266 3"},
                     {"3U+2", "2U+3"}});
}

TEST_CASE("and is not or between relations, which have no order, while between numbers they are commas") {
  const std::string both = "x\\ge5 \\text{ and } x\\le7", either = "x\\ge5 \\text{ or } x\\le7";
  CheckBoxed(false, {{both, either},
                     {either, both},
                     {"(" + both + ")", "(" + either + ")"},
                     {"x = 5 or x > 7", "x = 5 and x > 7"},
                     {"x < 1, x > 2, or x > 7", "x < 1, x > 2, and x > 7"},
                     {"x < 1 or x > 2 and x < 7", "x < 1 and x > 2 or x < 7"},
                     {both, "x\\ge5 \\text{ and } x\\le8"}});
  CheckBoxed(true, {{both, "x\\le7 and 5 \\le x"},
                    {either, "x\\le7 or x >= 5"},
                    {both, "x\\ge5, x\\le7"},
                    {"x\\ge5, x\\le7", either},
                    {"x < 1, x > 2, or x > 7", "x < 1 or x > 2 or x > 7"},
                    {"x < 1 or x > 2 and x < 7", "x<1\\text{ or } x>2\\text{ and }x<7"},
                    {"3 and 5", "3 or 5"},
                    {"3 or 5", "3, 5"},
                    {"x = 3 and x = 5", "x = 3 or x = 5"}});
  const auto boxes = [&](const std::string& word) {
    return VerifyMath(both, "\\boxed{x\\ge5}" + word + "\\boxed{x\\le7}", Extraction::kStrict).correct;
  };
  CHECK(boxes(" and "));
  CHECK(boxes(", "));
  CHECK(!boxes(" or "));
  const auto vote = [](const std::string& text) {
    return ExtractCanonicalAnswer("\\boxed{" + text + "}", Extraction::kStrict);
  };
  CHECK(vote(both) == vote("x \\le 7 and x \\ge 5"));
  CHECK(vote(both) != vote(either));
}

TEST_CASE("markup of LaTeX, of Markdown and of Unicode around an answer says nothing") {
  CheckBoxed(true, {{"6", "\\Huge{6}"},
                    {"6", "\\underline 6"},
                    {"6", "\\textcolor{blue}{6}"},
                    {"6", "6{}\\\\"},
                    {"\\sqrt{6}", "\\\\sqrt{6}"},
                    {"\\mathbb{Q}", "\\mathbb Q"},
                    {"6", "6\\deg"},
                    {"6", "**6** apples"},
                    {"6", "\u201c6\u201d"},
                    {"6", "### `6`"},
                    {"60000", "6\u00d710\u2074"},
                    {"0.06", "6\u00d710\u207b\u00b2"},
                    {"\\frac{3}{8}", "\u215c"},
                    {"6", "\u200f6\u2060"},
                    {"6", "\u20a96"},
                    {"6\\%", "6 Per Cent"},
                    {"6\\%", "6 pct."}});
  CheckBoxed(false,
             {{"6", "~~6~~"}, {"64", "2**6"}, {"6\\%", "6 per thousand"}, {"6\\%", "6 cents"}, {"6", "\\cancel{6}"}});
}

TEST_CASE("the last number comes with its sign and its words, and not out of a denial or a formula") {
  CheckLenient(true, {{"-8", "so x equals \u22128"},
                      {"-8", "so x = - 8"},
                      {"-8", "it is minus 8"},
                      {"-8", "-$8"},
                      {"80000", "Cost: $80{,}000"},
                      {"8000000", "about 8 million people"},
                      {"8\\%", "some 8 per cent"},
                      {"8", "it is 8 cm"},
                      {"8", "from 9 - 8"},
                      {"8", "The answer is 8 because 2+6 is 8."}});
  CheckLenient(false, {{"8", "so x equals \u22128"},
                       {"8", "it is negative 8"},
                       {"8", "it is not 8"},
                       {"8", "it isn't 8"},
                       {"8", "about 8 million people"},
                       {"8", "8 ninths"},
                       {"8", "we get 8x"},
                       {"8", "it is 2^8"},
                       {"8", "it is \\frac{1}{8}"},
                       {"8", "8\\pi"},
                       {"8", "The answer is 8 which is not right."}});
}

TEST_CASE("the last number may have blanks between groups of three digits, as a marked one may") {
  CheckLenient(true, {{"12345", "so 12 345"},
                      {"12345", "so 12\\ 345 people"},
                      {"12345", "so 12~345."},
                      {"12345", "so '12 345 people'"},
                      {"12345", "so 12\u00a0345"},
                      {"12345", "so 12\u202f345"},
                      {"12345", "so 12\\,345"},
                      {"12345", "it costs $12,\\,345"},
                      {"-1234567.5", "x = -1 234 567.5"},
                      {"12345\\%", "some 12 345%"},
                      {"1002003", "so 1 002 003"},
                      {"12345", "5 of 5000 12 345"},
                      {"345", "of 5000 345"},
                      {"345", "x = 3.5, 345"},
                      {"345", "we get 3.5 345"},
                      {"345", "we get 1/2 345"},
                      {"345", "we get 012 345"},
                      {"345", "with x2 345"},
                      {"345", "with x^2 345"},
                      {"345678", "of 12 345,678"},
                      {"3456", "of 12 3456"},
                      {"34", "of 12 34"},
                      {"345", "of 12  345"},
                      {"345", "of 12\n345"}});
  CheckLenient(false,
               {{"345", "so 12 345"}, {"345", "so 12\\ 345"}, {"345", "so 12\u00a0345"}, {"5", "so it is 12 345"}});
}
