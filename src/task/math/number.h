// SPDX-License-Identifier: Apache-2.0
// Exact numbers for comparing answers: sums of r * sqrt(n) * pi^k * i^m with rational r. The form of a value is unique
// (n square-free, like terms collected), so two numbers are equal exactly if their terms are.
//
// Integers have 128 bits. Every function throws Error where a result does not fit, is not of this form (a division by a
// sum of three terms, the root of an irrational number), or does not exist (a division by 0).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace swarr {

__extension__ typedef __int128 Int128;  // no part of ISO C++; both compilers have it

// A fraction in lowest terms with a denominator > 0.
class Rational {
 public:
  Rational() = default;
  explicit Rational(Int128 numerator, Int128 denominator = 1);
  // Digits with at most one '.', such as 12, 0.5 or .5; the digits in brackets at the end recur: 0.1(6) is 1/6.
  static Rational FromDecimal(std::string_view digits);

  Int128 numerator() const { return numerator_; }
  Int128 denominator() const { return denominator_; }
  bool IsZero() const { return numerator_ == 0; }
  bool IsInteger() const { return denominator_ == 1; }
  bool operator==(const Rational&) const = default;

  Rational operator+(const Rational& other) const;
  Rational operator*(const Rational& other) const;
  Rational operator/(const Rational& other) const;

  std::string Text() const;  // 3 or -3/4

 private:
  Int128 numerator_ = 0, denominator_ = 1;
};

// coefficient * sqrt(radicand) * pi^pi_power * (i if imaginary); the radicand is square-free and > 0.
struct NumberTerm {
  bool imaginary = false;
  int pi_power = 0;
  std::int64_t radicand = 1;
  Rational coefficient;
  bool operator==(const NumberTerm&) const = default;
};

class Number {
 public:
  Number() = default;  // 0
  explicit Number(const NumberTerm& term) { Add(term); }
  explicit Number(const Rational& value) { Add({.coefficient = value}); }
  static Number PowerOfPi(int exponent) { return Number({.pi_power = exponent, .coefficient = Rational(1)}); }
  static Number ImaginaryUnit() { return Number({.imaginary = true, .coefficient = Rational(1)}); }
  // The root of a rational number whose numerator times denominator is at most 10^12; imaginary if it is negative.
  static Number SquareRoot(const Number& radicand);
  // 10^exponent, for |exponent| <= 37.
  static Number PowerOfTen(int exponent);

  bool operator==(const Number&) const = default;

  bool IsRational() const;
  Rational AsRational() const;  // throws Error unless IsRational()
  // Whether a sum of the two would add up terms of one kind, such as 2 + 3 or sqrt(2) + sqrt(2).
  bool HasLikeTerms(const Number& other) const;

  Number operator-() const;
  Number operator+(const Number& other) const;
  Number operator*(const Number& other) const;
  Number operator/(const Number& other) const;

  std::string Text() const;  // 1/2+3*sqrt(5), 2*pi^2, i

 private:
  void Add(const NumberTerm& term);
  std::vector<NumberTerm> terms_;  // ordered by imaginary, pi_power, radicand; no coefficient is 0
};

}  // namespace swarr
