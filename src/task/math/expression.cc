// SPDX-License-Identifier: Apache-2.0
#include "task/math/expression.h"

#include <algorithm>
#include <string_view>

#include "base/check.h"
#include "task/math/words.h"

namespace swarr {
namespace {

constexpr int kMaxDepth = 64;

//   sum     = ["+" | "-"] product {("+" | "-") product}
//   product = factor {["*"] factor} ["/" factor]
//   factor  = number | integer integer "/" integer | integer \frac{integer}{integer} | "10" "^" group
//           | \frac group group | \sqrt factor | \pi ["^" group] | "i" | group
//   group   = "{" sum "}" | "(" sum ")" | "[" sum "]"
// Throws Error where the text is not of this form or its value not one that Number holds.
class NumberParser {
 public:
  explicit NumberParser(MathTokens tokens) : tokens_(tokens) {}

  Number Parse() {
    const Number value = Sum();
    SWARR_CHECK(at_ == tokens_.size(), "more follows the number");
    return value;
  }

 private:
  bool Next(std::string_view spelling, std::size_t ahead = 0) const {
    return at_ + ahead < tokens_.size() && tokens_[at_ + ahead].Is(spelling);
  }
  bool NextIsNumber(std::size_t ahead = 0) const {
    return at_ + ahead < tokens_.size() && tokens_[at_ + ahead].kind == MathToken::Kind::kNumber;
  }
  bool Take(std::string_view spelling) {
    const bool found = Next(spelling);
    at_ += found;
    return found;
  }

  Number Sum() {
    SWARR_CHECK(++depth_ <= kMaxDepth, "nested too deeply");
    Number sum = SignedProduct();
    while (Next("+") || Next("-")) {
      const Number next = SignedProduct();
      SWARR_CHECK(!sum.HasLikeTerms(next), "a sum that is not worked out");
      sum = sum + next;
    }
    --depth_;
    return sum;
  }

  Number SignedProduct() {
    const bool negative = Take("-");
    if (!negative) Take("+");
    const Number product = Product();
    return negative ? -product : product;
  }

  bool StartsFactor() const {
    return NextIsNumber() || (at_ < tokens_.size() && HasWord("\\frac \\sqrt \\pi i ( { [", tokens_[at_].text));
  }

  Number Product() {
    Number product(Rational(1));
    bool power_of_ten = false, has_rational = false;  // one of the factors, powers of ten aside, is rational
    do {
      const Number factor = Factor(power_of_ten);
      const bool rational = factor.IsRational() && !power_of_ten;
      SWARR_CHECK(!(rational && has_rational), "a product that is not worked out");
      has_rational |= rational;
      product = product * factor;
    } while (Take("*") || StartsFactor());
    if (Take("/")) {
      product = product / Factor(power_of_ten);
      // Whether 1/2\pi is meant as (1/2)\pi is anybody's guess.
      SWARR_CHECK(!StartsFactor() && !Next("*") && !Next("/"), "an ambiguous quotient");
    }
    return product;
  }

  Number Factor(bool& power_of_ten) {
    power_of_ten = Next("^", 1) && NextIsNumber() && tokens_[at_].text == "10";
    if (power_of_ten) {
      at_ += 2;
      return Number::PowerOfTen(Exponent());
    }
    if (NextIsNumber()) return Mixed();
    if (Take("\\frac")) {
      const Number numerator = Group("{", "}");
      return numerator / Group("{", "}");
    }
    if (Take("\\sqrt")) {
      SWARR_CHECK(Next("{") || Next("(") || Next("\\frac"), "a root without an argument");
      return Number::SquareRoot(Factor(power_of_ten));
    }
    if (Take("\\pi")) return PowerOfPi();
    if (Take("i")) return Number::ImaginaryUnit();
    if (Next("(")) return Group("(", ")");
    if (Next("[")) return Group("[", "]");
    return Group("{", "}");
  }

  Number Group(std::string_view open, std::string_view close) {
    SWARR_CHECK(Take(open), open, " is missing");
    const Number value = Sum();
    SWARR_CHECK(Take(close), close, " is missing");
    return value;
  }

  // A decimal, or one of 1 4/5 and 1\frac{4}{5}.
  Number Mixed() {
    const auto take = [&](std::size_t ahead) {
      at_ += ahead + 1;
      return Rational::FromDecimal(tokens_[at_ - 1].text);
    };
    const Rational whole = take(0);
    const bool plain = NextIsNumber() && Next("/", 1) && NextIsNumber(2);
    const bool frac = Next("\\frac") && Next("{", 1) && NextIsNumber(2) && Next("}", 3) && Next("{", 4) &&
                      NextIsNumber(5) && Next("}", 6);
    if (!plain && !frac) return Number(whole);
    const Rational numerator = take(frac ? 2 : 0), denominator = take(frac ? 2 : 1);
    at_ += frac ? 1 : 0;
    const bool integers = whole.IsInteger() && numerator.IsInteger() && denominator.IsInteger();
    SWARR_CHECK(integers && numerator.numerator() < denominator.numerator(), "no proper fraction in a mixed number");
    return Number(whole + numerator / denominator);
  }

  int Exponent() {
    constexpr int kMaxExponent = 10'000;
    const Rational exponent = (Next("(") ? Group("(", ")") : Group("{", "}")).AsRational();
    SWARR_CHECK(exponent.IsInteger() && exponent.numerator() <= kMaxExponent && exponent.numerator() >= -kMaxExponent,
                "no integer exponent");
    return static_cast<int>(exponent.numerator());
  }

  Number PowerOfPi() {
    const int exponent = Take("^") ? Exponent() : 1;
    SWARR_CHECK(exponent >= 1 && exponent <= kMaxDepth, "no power of pi");
    return Number::PowerOfPi(exponent);
  }

  MathTokens tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

// The names of each measure in the singular. An answer in one measure is not equal to one in another.
constexpr std::string_view kMeasures =
    "mm millimeter | cm centimeter centimetre | m meter metre | km kilometer kilometre | inch in inche | foot ft feet "
    "| yard yd | mile mi | mg | g gram | kg kilogram | ounce oz | pound lb | ton | ml milliliter | liter l litre | "
    "gallon | second s sec | minute min | hour h hr | day | week | month | year | am | pm | mph | mpg | dollar usd | "
    "cent | euro eur | yen | rupee | degree \\degree | radian rad | acre | hz";

constexpr std::string_view kCurrencies = "dollar \\$ | euro \u20ac | sterling \u00a3 | yen \u00a5";

constexpr std::string_view kMultipliers =
    "12 dozen | 100 hundred | 1000 thousand | 1000000 million | 1000000000 billion | 1000000000000 trillion";

// Words that change what is said: an answer with one of them is no number with a unit.
constexpr std::string_view kNoUnits =
    "or and not no than more less least most over under above below about around to from mod modulo minus plus times "
    "divided if when where for all none but sin cos tan log ln exp max squared cubed half halves third thirds quarter "
    "quarters fourths fifths tenths hundredths is isn maybe base factorial remainder negative ones tens hundreds "
    "thousands millions billions thousandths";

// "cm" for "centimeters"; empty if the word is no measure.
std::string_view MeasureOf(std::string_view word) {
  std::string name = LowerCase(word);
  if (name.size() > 2 && name.back() == 's') name.pop_back();
  return MeaningOf(name, kMeasures);
}

// A word that may stand behind a number without being part of a formula: 5xy is none, nor is the i of 5\mathrm{i}. One
// letter has to be a measure in \text; bare words need a space before them or be measures.
bool IsUnitWord(const MathToken& token) {
  if (token.Is("\\degree")) return true;
  if (token.kind != MathToken::Kind::kWord || HasWord(kNoUnits, token.text)) return false;
  const std::size_t size = token.text.size();
  const bool measure = !MeasureOf(token.text).empty();
  if (token.in_text) return measure || size >= 2;
  return size >= 2 && (measure || (token.after_space && size >= 3));
}

bool IsPercent(const MathToken& token) { return token.Is("%") || token.Is("percent"); }
std::string_view CurrencyOf(const MathToken& token) {
  return token.kind == MathToken::Kind::kWord ? "" : MeaningOf(token.text, kCurrencies);
}
std::string_view MultiplierOf(const MathToken& token) {
  return token.kind == MathToken::Kind::kWord ? MeaningOf(token.text, kMultipliers) : "";
}

bool StartsUnit(const MathToken& token) {
  return IsPercent(token) || IsUnitWord(token) || !CurrencyOf(token).empty() || !MultiplierOf(token).empty();
}

// Takes one word from the front of `unit`, with what may follow it: an exponent, a full stop, a slash or a hyphen
// before another word. Returns its measure. Throws Error if it is no word of a unit.
std::string TakeMeasure(MathTokens& unit) {
  const MathToken& token = unit[0];
  unit = unit.subspan(1);
  if (const std::string_view currency = CurrencyOf(token); !currency.empty()) return std::string(currency);
  SWARR_CHECK(IsUnitWord(token), "no unit");
  std::string measure(MeasureOf(token.text));
  if (unit.size() >= 4 && unit[0].Is("^") && unit[1].Is("{") && unit[3].Is("}")) {
    const std::string& power = unit[2].text;
    SWARR_CHECK(power == "2" || power == "3", "no unit");
    if (!measure.empty()) measure += "^" + power;
    unit = unit.subspan(4);
  }
  if (!unit.empty() && unit[0].Is(".")) unit = unit.subspan(1);
  if (unit.size() > 1 && (unit[0].Is("/") || unit[0].Is("-"))) unit = unit.subspan(1);
  return measure;
}

// Applies what follows the number to it. Throws Error if that is no unit.
void ApplyUnit(MathTokens unit, Quantity& quantity) {
  if (!unit.empty() && (IsPercent(unit[0]) || !MultiplierOf(unit[0]).empty())) {
    quantity.percent = IsPercent(unit[0]);
    if (!quantity.percent) quantity.value = quantity.value * Number(Rational::FromDecimal(MultiplierOf(unit[0])));
    unit = unit.subspan(1);
  }
  std::string measure;
  int words = 0;
  for (; !unit.empty(); ++words) measure = TakeMeasure(unit);
  if (words == 1) quantity.measure = measure;
}

}  // namespace

std::optional<Number> ParseNumber(MathTokens tokens) {
  try {
    return NumberParser(tokens).Parse();
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<Quantity> ParseQuantity(MathTokens tokens) {
  if (tokens.empty()) return std::nullopt;
  const std::size_t sign = tokens[0].Is("-") ? 1 : 0;
  const std::string_view currency = tokens.size() > 1 ? CurrencyOf(tokens[sign]) : "";
  if (!currency.empty()) tokens = tokens.subspan(sign + 1);
  const auto size = static_cast<std::size_t>(std::ranges::find_if(tokens, StartsUnit) - tokens.begin());
  try {
    const Number value = NumberParser(tokens.first(size)).Parse();
    Quantity quantity{.value = sign == 1 && !currency.empty() ? -value : value};
    ApplyUnit(tokens.subspan(size), quantity);
    if (!currency.empty()) quantity.measure = currency;
    return quantity;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace swarr
