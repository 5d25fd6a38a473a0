// SPDX-License-Identifier: Apache-2.0
#include "task/math/number.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace swarr {
namespace {

constexpr std::int64_t kMaxRadicand = 1'000'000'000'000;
constexpr std::size_t kMaxTerms = 16;
constexpr int kMaxPiPower = 64;
constexpr int kMaxDigits = 38;  // 10^38 < 2^127

Int128 Times(Int128 a, Int128 b) {
  Int128 product;
  SWARR_CHECK(!__builtin_mul_overflow(a, b, &product), "a product exceeds 128 bits");
  return product;
}

Int128 Plus(Int128 a, Int128 b) {
  Int128 sum;
  SWARR_CHECK(!__builtin_add_overflow(a, b, &sum), "a sum exceeds 128 bits");
  return sum;
}

Int128 Magnitude(Int128 a) { return a < 0 ? Times(a, -1) : a; }

Int128 GreatestCommonDivisor(Int128 a, Int128 b) {
  while (b != 0) a = std::exchange(b, a % b);
  return a;
}

std::string Text(Int128 value) {
  std::string digits;
  for (Int128 rest = value; digits.empty() || rest != 0; rest /= 10) {
    digits += static_cast<char>('0' + static_cast<int>(rest < 0 ? -(rest % 10) : rest % 10));
  }
  if (value < 0) digits += '-';
  return {digits.rbegin(), digits.rend()};
}

// n = outside^2 * inside with a square-free `inside`, for 1 <= n <= kMaxRadicand.
std::pair<std::int64_t, std::int64_t> SplitSquare(std::int64_t n) {
  std::int64_t outside = 1, inside = 1;
  for (std::int64_t p = 2; p * p * p <= n; ++p) {
    for (; n % (p * p) == 0; n /= p * p) outside *= p;
    if (n % p == 0) {
      n /= p;
      inside *= p;
    }
  }
  // No factor up to its cube root is left, so n is 1, a prime, a product of two primes, or a prime's square.
  const auto root = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(n))));
  if (root * root == n) return {outside * root, inside};
  return {outside, inside * n};
}

auto Kind(const NumberTerm& term) { return std::tuple(term.imaginary, term.pi_power, term.radicand); }

NumberTerm Product(const NumberTerm& a, const NumberTerm& b) {
  const int pi_power = a.pi_power + b.pi_power;
  SWARR_CHECK(std::abs(pi_power) <= kMaxPiPower, "a power of pi is too large");
  const std::int64_t common = std::gcd(a.radicand, b.radicand);
  const Int128 radicand = Times(a.radicand / common, b.radicand / common);
  SWARR_CHECK(radicand <= kMaxRadicand, "a radicand is too large");
  const Rational factor(a.imaginary && b.imaginary ? -common : common);
  return {.imaginary = a.imaginary != b.imaginary,
          .pi_power = pi_power,
          .radicand = static_cast<std::int64_t>(radicand),
          .coefficient = a.coefficient * b.coefficient * factor};
}

// 1 / (c sqrt(n) pi^k) = sqrt(n) / (c n) pi^-k, and 1/i = -i.
NumberTerm Inverse(const NumberTerm& term) {
  return {.imaginary = term.imaginary,
          .pi_power = -term.pi_power,
          .radicand = term.radicand,
          .coefficient = Rational(term.imaginary ? -1 : 1) / (term.coefficient * Rational(term.radicand))};
}

}  // namespace

Rational::Rational(Int128 numerator, Int128 denominator) {
  SWARR_CHECK(denominator != 0, "a division by 0");
  const Int128 common = GreatestCommonDivisor(Magnitude(numerator), Magnitude(denominator));
  const Int128 divisor = denominator < 0 ? -common : common;
  numerator_ = numerator / divisor;
  denominator_ = denominator / divisor;
}

Rational Rational::FromDecimal(std::string_view digits) {
  const std::size_t cycle = std::min(digits.find('('), digits.size());
  const std::size_t point = std::min(digits.find('.'), digits.size());
  Int128 value = 0, scale = 1, before = 0, scale_before = 0;  // before: the value without what recurs
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i == cycle) std::tie(before, scale_before) = std::pair(value, scale);
    if (i == point || i == cycle || (cycle < digits.size() && i + 1 == digits.size())) continue;
    SWARR_CHECK(digits[i] >= '0' && digits[i] <= '9', "no digit in a number");
    value = Plus(Times(value, 10), digits[i] - '0');
    if (i > point) scale = Times(scale, 10);
  }
  // x = 0.1666... has 100x - 10x = 16.66... - 1.66... = 16 - 1.
  return Rational(Plus(value, -before), Plus(scale, -scale_before));
}

Rational Rational::operator+(const Rational& other) const {
  return Rational(Plus(Times(numerator_, other.denominator_), Times(other.numerator_, denominator_)),
                  Times(denominator_, other.denominator_));
}

Rational Rational::operator*(const Rational& other) const {
  return Rational(Times(numerator_, other.numerator_), Times(denominator_, other.denominator_));
}

Rational Rational::operator/(const Rational& other) const {
  return *this * Rational(other.denominator_, other.numerator_);
}

std::string Rational::Text() const {
  return IsInteger() ? swarr::Text(numerator_) : swarr::Text(numerator_) + "/" + swarr::Text(denominator_);
}

Number Number::SquareRoot(const Number& radicand) {
  const Rational value = radicand.AsRational();
  if (value.IsZero()) return {};
  // sqrt(p/q) = sqrt(p q) / q
  const Int128 under_root = Times(Magnitude(value.numerator()), value.denominator());
  SWARR_CHECK(under_root <= kMaxRadicand, "a radicand is too large");
  const auto [outside, inside] = SplitSquare(static_cast<std::int64_t>(under_root));
  return Number(NumberTerm{
      .imaginary = value.numerator() < 0, .radicand = inside, .coefficient = Rational(outside, value.denominator())});
}

Number Number::PowerOfTen(int exponent) {
  SWARR_CHECK(std::abs(exponent) < kMaxDigits, "a power of ten is too large");
  Int128 power = 1;
  for (int i = 0; i < std::abs(exponent); ++i) power *= 10;
  return Number(exponent < 0 ? Rational(1, power) : Rational(power));
}

bool Number::IsRational() const {
  return terms_.empty() || (terms_.size() == 1 && Kind(terms_[0]) == Kind(NumberTerm{}));
}

Rational Number::AsRational() const {
  SWARR_CHECK(IsRational(), "a rational number is needed");
  return terms_.empty() ? Rational() : terms_[0].coefficient;
}

bool Number::HasLikeTerms(const Number& other) const {
  return std::ranges::any_of(terms_,
                             [&](const NumberTerm& a) { return std::ranges::count(other.terms_, Kind(a), Kind) > 0; });
}

void Number::Add(const NumberTerm& term) {
  const auto at = std::ranges::lower_bound(terms_, Kind(term), {}, Kind);
  if (at != terms_.end() && Kind(*at) == Kind(term)) {
    at->coefficient = at->coefficient + term.coefficient;
    if (at->coefficient.IsZero()) terms_.erase(at);
  } else if (!term.coefficient.IsZero()) {
    SWARR_CHECK(terms_.size() < kMaxTerms, "a sum has too many terms");
    terms_.insert(at, term);
  }
}

Number Number::operator-() const { return *this * Number(Rational(-1)); }

Number Number::operator+(const Number& other) const {
  Number sum = *this;
  for (const NumberTerm& term : other.terms_) sum.Add(term);
  return sum;
}

Number Number::operator*(const Number& other) const {
  Number product;
  for (const NumberTerm& a : terms_) {
    for (const NumberTerm& b : other.terms_) product.Add(Product(a, b));
  }
  return product;
}

Number Number::operator/(const Number& other) const {
  SWARR_CHECK(!other.terms_.empty(), "a division by 0");
  if (other.terms_.size() == 1) return *this * Number(Inverse(other.terms_[0]));
  // (a + b)(a - b) has one term again where a^2 and b^2 are of one kind.
  SWARR_CHECK(other.terms_.size() == 2, "a division by a sum of more than two terms");
  Number conjugate = other;
  conjugate.terms_[1].coefficient = conjugate.terms_[1].coefficient * Rational(-1);
  const Number norm = other * conjugate;
  SWARR_CHECK(norm.terms_.size() == 1, "a division by a sum");
  return *this * conjugate / norm;
}

std::string Number::Text() const {
  if (terms_.empty()) return "0";
  std::string text;
  for (const NumberTerm& term : terms_) {
    std::string factors;
    if (term.radicand != 1) factors += Concat("*sqrt(", term.radicand, ")");
    if (term.pi_power != 0) factors += term.pi_power == 1 ? "*pi" : Concat("*pi^", term.pi_power);
    if (term.imaginary) factors += "*i";
    std::string coefficient = term.coefficient.Text();
    if (!text.empty() && coefficient[0] != '-') text += '+';
    if (!factors.empty() && (coefficient == "1" || coefficient == "-1")) {
      coefficient.pop_back();
      factors.erase(0, 1);
    }
    text += coefficient + factors;
  }
  return text;
}

}  // namespace swarr
