// SPDX-License-Identifier: Apache-2.0
#include "tensor/math.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/philox.h"

using namespace swarr;

namespace {

// The largest relative error of Exp on a grid, against the standard library's function in a wider type.
template <class T>
double LargestExpError(double low, double high, int steps) {
  double worst = 0;
  for (int i = 0; i <= steps; ++i) {
    const T x = static_cast<T>(low + (high - low) * i / steps);
    const long double exact = std::exp(static_cast<long double>(x));
    worst = std::max(worst, static_cast<double>(std::fabs((static_cast<long double>(Exp(x)) - exact) / exact)));
  }
  return worst;
}

template <class T>
std::vector<T> Values(std::size_t n, std::uint32_t stream, double low, double high) {
  PhiloxStream random(StreamKey(1, Purpose::kData, stream));
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(low + (high - low) * random.NextUniform());
  return x;
}

template <class T>
void CheckVectorLoop() {
  const std::vector<T> x = Values<T>(1003, 1, -90, 90);
  std::vector<T> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = Exp(x[i]);
  std::size_t different = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const volatile T alone = x[i];
    const volatile T single = Exp(static_cast<T>(alone));
    const T value = single;
    different += std::memcmp(&value, &y[i], sizeof(T)) != 0;
  }
  CHECK(different == 0);
}

// The order that math.h promises for Dot, written as a definition.
template <class T>
T DotByDefinition(const std::vector<T>& a, const std::vector<T>& b) {
  std::vector<T> lane(64 / sizeof(T), T(0));
  for (std::size_t i = 0; i < a.size(); ++i) lane[i % lane.size()] += a[i] * b[i];
  while (lane.size() > 1) {
    for (std::size_t j = 0; j < lane.size() / 2; ++j) lane[j] += lane[j + lane.size() / 2];
    lane.resize(lane.size() / 2);
  }
  return lane[0];
}

template <class T>
void CheckDot() {
  for (std::size_t n : std::vector<std::size_t>{0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 100}) {
    const std::vector<T> a = Values<T>(n, 2, -1, 1), b = Values<T>(n, 3, -1, 1);
    CHECK(Dot(a.data(), b.data(), static_cast<std::int64_t>(n)) == DotByDefinition(a, b));
  }
}

}  // namespace

TEST_CASE("Exp is exact to about one unit in the last place over its whole range") {
  // Half a unit for the last addition, half for the cut of the series (math.h), and some for the terms before: less
  // than two units, 2 * 2^-23 and 2 * 2^-52, everywhere.
  CHECK(LargestExpError<float>(-87, 88, 1'000'003) <= 0x1p-22);
  CHECK(LargestExpError<float>(-1, 1, 1'000'003) <= 0x1p-22);
  CHECK(LargestExpError<double>(-708, 709, 300'007) <= 0x1p-51);
  CHECK(LargestExpError<double>(-1, 1, 300'007) <= 0x1p-51);
}

TEST_CASE("Exp at the ends: 1 at 0, 0 where it would be no normal number, finite above, NaN stays NaN") {
  CHECK(Exp(0.0F) == 1.0F);
  CHECK(Exp(-0.0) == 1.0);
  for (float x : {-87.4F, -88.0F, -104.0F, -1e30F, -std::numeric_limits<float>::infinity()}) CHECK(Exp(x) == 0.0F);
  for (double x : {-708.4, -710.0, -1e300, -std::numeric_limits<double>::infinity()}) CHECK(Exp(x) == 0.0);
  for (float x : {88.0F, 89.0F, 1e30F, std::numeric_limits<float>::infinity()}) {
    CHECK((std::isfinite(Exp(x)) && Exp(x) > 1e38F));
  }
  for (double x : {709.0, 710.0, 1e300}) CHECK((std::isfinite(Exp(x)) && Exp(x) > 8e307));
  CHECK(Exp(-86.9F) > std::numeric_limits<float>::min());
  CHECK(Exp(-707.9) > std::numeric_limits<double>::min());
  CHECK(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(Exp(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("Exp gives the same bits in a vector loop, in its remainder and alone (P8)") {
  CheckVectorLoop<float>();
  CheckVectorLoop<double>();
}

TEST_CASE("Sigmoid runs from 0 to 1, is 1/2 at 0, and does not overflow") {
  CHECK(Sigmoid(0.0F) == 0.5F);
  CHECK(Sigmoid(1e4F) == 1.0F);
  CHECK(Sigmoid(-1e4F) < 1e-37F);
  CHECK(Sigmoid(-1e4F) >= 0.0F);
  CHECK(Sigmoid(-1e5) < 1e-300);
  CHECK(std::fabs(Sigmoid(2.0) - 1 / (1 + std::exp(-2.0))) <= 0x1p-52);  // two more roundings of a number below 1
}

TEST_CASE("Dot adds in the order that its comment promises, at every length") {
  CheckDot<float>();
  CheckDot<double>();
}

TEST_CASE("AddScaled adds a multiple") {
  std::vector<double> y = {1, 2, 3};
  AddScaled(y.data(), 2.0, std::vector<double>{10, 20, 30}.data(), 2);
  CHECK(y == std::vector<double>{21, 42, 3});
}
