// SPDX-License-Identifier: Apache-2.0
#include "tensor/kernels/math.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "cuda_report.h"
#include "tensor/kernels/lanes.h"
#include "tensor/ops.h"
#include "tensor/philox.h"
#include "tensors.h"

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

// The largest distance of Log from the standard library's function in a wider type, in units in the last place.
double LargestLogError(const std::vector<double>& numbers) {
  double worst = 0;
  for (double x : numbers) {
    const long double exact = std::log(static_cast<long double>(x));
    const double rounded = static_cast<double>(exact);
    const double unit = std::nextafter(std::fabs(rounded), INFINITY) - std::fabs(rounded);
    worst = std::max(worst, static_cast<double>(std::fabs(static_cast<long double>(Log(x)) - exact)) / unit);
  }
  return worst;
}

// Uniform numbers as sampling draws them: many, the ends, and around where Log changes its exponent.
std::vector<double> Uniforms() {
  std::vector<std::uint32_t> words = {0, 1, 2, 0xffffffff, 0xfffffffe};
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    words.push_back(i);                         // near 0
    words.push_back(0xffffffffu - i);           // near 1
    words.push_back(0xb504f333u - 10'000 + i);  // near the root of 1/2
    words.push_back(0x80000000u - 10'000 + i);  // near 1/2
  }
  PhiloxStream random(StreamKey(1, Purpose::kData, 9));
  for (int i = 0; i < 300'000; ++i) words.push_back(random.NextWord());
  std::vector<double> u;
  for (std::uint32_t word : words) u.push_back(UniformFrom(word));
  return u;
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
  std::vector<T> x = Values<T>(1003, 1, -90, 90);
  using Limits = std::numeric_limits<T>;
  x[0] = Limits::infinity(), x[1] = -Limits::infinity(), x[2] = Limits::max(), x[3] = Limits::lowest();
  x[4] = 0, x[5] = -0.0, x[6] = Limits::denorm_min();
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
  constexpr std::size_t kCount = kTogether<T>;
  T together[kCount];
  for (std::size_t begin = 0; begin + kCount <= x.size(); begin += kCount) {
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(begin), kCount, together);
    ExpAll(together);
    CHECK(std::memcmp(together, &y[begin], sizeof together) == 0);
  }
}

// As a softmax has them: from far below what has an exponential to a little above 0.
template <class T>
void CheckNotAbove() {
  constexpr std::size_t kCount = 4 * kLanes<T>;
  std::vector<T> x = Values<T>(100 * kCount, 1, -120, 1e-3);
  x[0] = -std::numeric_limits<T>::infinity(), x[1] = 0, x[2] = -0.0, x[3] = ExpSteps<T>::kLow;
  x[4] = std::numeric_limits<T>::lowest(), x[5] = std::nextafter(x[3], T(0)), x[6] = std::nextafter(x[3], T(-1000));
  for (std::size_t begin = 0; begin < x.size(); begin += kCount) {
    Vector<T> together[4];
    std::memcpy(together, &x[begin], sizeof together);
    ExpNotAbove<T>(together);
    T expected[kCount];
    for (std::size_t i = 0; i < kCount; ++i) expected[i] = Exp(x[begin + i]);
    CHECK(std::memcmp(together, expected, sizeof together) == 0);
  }
}

// Of either sign, with each bit that a NaN can carry, and with all of them.
template <class T>
std::vector<T> AllKindsOfNaN() {
  using Bits = typename ExpSteps<T>::Bits;
  const auto quiet = std::bit_cast<Bits>(std::numeric_limits<T>::quiet_NaN());
  std::vector<T> x;
  for (const Bits sign : {Bits{0}, static_cast<Bits>(Bits{1} << (8 * sizeof(T) - 1))}) {
    for (int bit = 0; bit < ExpSteps<T>::kMantissa; ++bit) x.push_back(std::bit_cast<T>(quiet | sign | Bits{1} << bit));
    x.push_back(std::bit_cast<T>(quiet | sign | ((Bits{1} << ExpSteps<T>::kMantissa) - 1)));
  }
  return x;
}

template <class T>
void CheckNaNs() {
  constexpr std::size_t kCount = 4 * kLanes<T>;
  for (const T x : AllKindsOfNaN<T>()) {
    CHECK(std::isnan(Exp(x)));
    T all[kTogether<T>], vectors[kCount];
    std::fill(std::begin(all), std::end(all), x);
    std::fill(std::begin(vectors), std::end(vectors), x);
    ExpAll(all);
    Vector<T> together[4];
    std::memcpy(together, vectors, sizeof together);
    ExpNotAbove<T>(together);
    std::memcpy(vectors, together, sizeof together);
    CHECK(std::all_of(std::begin(all), std::end(all), [](T y) { return std::isnan(y); }));
    CHECK(std::all_of(std::begin(vectors), std::end(vectors), [](T y) { return std::isnan(y); }));
  }
}

// The order that lanes.h promises for LaneSum, written as a definition.
template <class T>
T LaneSumByDefinition(const std::vector<T>& x) {
  std::vector<T> lane(64 / sizeof(T), T(0));
  for (std::size_t i = 0; i < x.size(); ++i) lane[i % lane.size()] += x[i];
  while (lane.size() > 1) {
    for (std::size_t j = 0; j < lane.size() / 2; ++j) lane[j] += lane[j + lane.size() / 2];
    lane.resize(lane.size() / 2);
  }
  return lane[0];
}

template <class T>
T SumOf(const std::vector<T>& x) {
  return LaneSum<T>(static_cast<std::int64_t>(x.size()),
                    [&](std::int64_t i) { return x[static_cast<std::size_t>(i)]; });
}

const std::vector<std::size_t> kLengths = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 100};

template <class T>
void CheckLaneSum() {
  for (std::size_t n : kLengths) {
    const std::vector<T> x = Values<T>(n, 2, -1, 1);
    const T sum = SumOf(x);
    CHECK(sum == LaneSumByDefinition(x));
    std::vector<T> padded(64 / sizeof(T), T(0));  // a multiple of the lanes before, anything after
    padded.insert(padded.end(), x.begin(), x.end());
    padded.resize(padded.size() + 37, T(0));
    CHECK(SumOf(padded) == sum);
  }
}

template <class T>
void CheckLargest() {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  for (std::size_t n : kLengths) {
    std::vector<T> x = Values<T>(n, 4, -5, -1);
    const auto largest = [&] { return Largest(x.data(), static_cast<std::int64_t>(n)); };
    CHECK(largest() == (n == 0 ? -kInfinity : *std::max_element(x.begin(), x.end())));
    for (std::size_t i = 0; i < n; ++i) {  // wherever it is
      const T was = std::exchange(x[i], T(-0.5));
      CHECK(largest() == T(-0.5));
      x[i] = was;
    }
    std::fill(x.begin(), x.end(), -kInfinity);
    CHECK(largest() == -kInfinity);
  }
}

// x sigma(x) on the device, by SwiGLU with an up of 1, and its largest relative error as a share of `bound` of x. Since
// sigma(x) = 1 / (1 + e^-x), the error below 0 is that of e^-x.
template <class T>
std::pair<std::vector<T>, double> DeviceSigmoids(const std::vector<T>& x, const std::function<double(double)>& bound) {
  TestContext t(Device::kCuda);
  constexpr DType dtype = kDTypeOf<T>;
  Arena& host = t.ctx.HostArena();
  const auto size = static_cast<std::int64_t>(x.size());
  const Tensor gate = host.New(dtype, {1, size}), up = host.New(dtype, {1, size}), y = t.arena.New(dtype, {1, size});
  std::ranges::copy(x, gate.data<T>());
  std::fill_n(up.data<T>(), size, T(1));
  SwiGluForward(t.ctx, y, ToDevice(t.ctx, gate), ToDevice(t.ctx, up));
  const Tensor got = OnHost(t.ctx, y);
  std::vector<T> results(got.data<T>(), got.data<T>() + size);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = x[i] / (1 + std::exp(-static_cast<long double>(x[i])));
    const auto error = static_cast<double>(std::fabs((static_cast<long double>(results[i]) - exact) / exact));
    worst = std::max(worst, error / bound(x[i]));
  }
  return {results, worst};
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

TEST_CASE("Exp at the ends: 1 at 0, 0 where it would be no normal number, finite above") {
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
}

TEST_CASE("Exp of NaN is NaN, whatever bits the NaN carries, alone and in vectors") {
  CheckNaNs<float>();
  CheckNaNs<double>();
}

TEST_CASE("Exp gives the same bits in a vector loop, in its remainder, together with others and alone (P8)") {
  CheckVectorLoop<float>();
  CheckVectorLoop<double>();
}

TEST_CASE("Exp of what is not above the largest gives the same bits in vectors, and 0 far below (P8)") {
  CheckNotAbove<float>();
  CheckNotAbove<double>();
}

TEST_CASE("CUDA: e^x errs in f32 by |x| units of 2^-23, besides the instructions' own error, and in f64 by two units") {
  if (SkippedWithoutCuda()) return;
  // x / ln 2 is rounded, and so is 1 / ln 2 in it, 2^-24 each: |x| 2^-23 of e^x. 2^x and the reciprocal err by 2^-22
  // each; adding 1 and two products round, 2^-24 each.
  const auto in_f32 = [](double x) { return std::fabs(x) * 0x1p-23 + 0x1p-21 + 3 * 0x1p-24; };
  CHECK(DeviceSigmoids(Values<float>(100'003, 6, -85, 85), in_f32).second <= 1);
  CHECK(DeviceSigmoids(Values<float>(100'003, 7, -1, 1), in_f32).second <= 1);
  // Two units of e^x (above), the sum, the quotient and two products: half a unit each.
  const auto in_f64 = [](double) { return 4 * 0x1p-52; };
  CHECK(DeviceSigmoids(Values<double>(100'003, 8, -700, 700), in_f64).second <= 1);
  const std::vector<float> ends = DeviceSigmoids<float>({-1e4F, -104, 0, 89, 1e4F}, in_f32).first;
  CHECK(ends == std::vector<float>{0, 0, 0, 89, 1e4F});  // e^-x is infinite, then 0 beside 1
  CHECK(std::isnan(DeviceSigmoids<float>({std::numeric_limits<float>::quiet_NaN()}, in_f32).first[0]));
}

TEST_CASE("Log is exact to less than three units in the last place wherever sampling takes it") {
  std::vector<double> u = Uniforms();
  // Half a unit for the last addition and, where it cancels half of -ln 2 (below 1/sqrt(2)), half a unit for ln 2
  // itself and one and a half for the series: the rounding of its quotient, its sum and their product.
  CHECK(LargestLogError(u) <= 3);
  for (double& x : u) x = -std::log(x);  // 1e-10 to 23
  CHECK(LargestLogError(u) <= 3);
  CHECK(Log(1.0) == 0.0);
  for (int n : {-1000, -1, 1, 1000})
    CHECK(Log(std::ldexp(1.0, n)) == doctest::Approx(n * std::log(2.0)).epsilon(1e-15));
}

TEST_CASE("Log gives the same bits in a vector loop, in its remainder and alone (P8)") {
  const std::vector<double> x = Values<double>(1003, 5, 1e-9, 30);
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = Log(x[i]);
  std::size_t different = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const volatile double alone = x[i];
    const volatile double single = Log(alone);
    different += single != y[i];
  }
  CHECK(different == 0);
}

TEST_CASE("Sigmoid runs from 0 to 1, is 1/2 at 0, and does not overflow") {
  CHECK(Sigmoid(0.0F) == 0.5F);
  CHECK(Sigmoid(1e4F) == 1.0F);
  CHECK(Sigmoid(-1e4F) < 1e-37F);
  CHECK(Sigmoid(-1e4F) >= 0.0F);
  CHECK(Sigmoid(-1e5) < 1e-300);
  CHECK(std::fabs(Sigmoid(2.0) - 1 / (1 + std::exp(-2.0))) <= 0x1p-52);  // two more roundings of a number below 1
}

TEST_CASE("LaneSum adds in the order that its comment promises, at every length, and zeros around leave no trace") {
  CheckLaneSum<float>();
  CheckLaneSum<double>();
}

TEST_CASE("Largest finds the largest wherever it is, and -infinity among nothing") {
  CheckLargest<float>();
  CheckLargest<double>();
}
