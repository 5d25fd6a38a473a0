// SPDX-License-Identifier: Apache-2.0
#include "task/math/expression.h"

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
    Number value = Sum();
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
    return NextIsNumber() || (at_ < tokens_.size() && HasWord(R"(\frac \sqrt \pi i ( { [)", tokens_[at_].text));
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
    Number value = Sum();
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
    const bool integers = whole.IsInteger() && numerator.IsInteger() && denominator.IsInteger() && !numerator.IsZero();
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

}  // namespace

std::optional<Number> ParseNumber(MathTokens tokens) {
  try {
    return NumberParser(tokens).Parse();
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace swarr
