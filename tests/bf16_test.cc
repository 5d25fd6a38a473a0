// SPDX-License-Identifier: Apache-2.0
#include "tensor/bf16.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tensor/ops.h"
#include "tensors.h"

using namespace swarr;

namespace {

BFloat16 Pattern(int bits) {
  BFloat16 x;
  x.bits = static_cast<std::uint16_t>(bits);
  return x;
}

int Bits(BFloat16 x) { return x.bits; }

bool IsNaN(int bits) { return (bits & 0x7f80) == 0x7f80 && (bits & 0x7f) != 0; }

float FloatOf(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// Calls f(pattern, its value and that of the next pattern away from 0) for every finite number of one sign.
template <class F>
void ForNeighbours(F&& f) {
  for (int sign : {0, 0x8000}) {
    for (int bits = 0; bits < 0x7f7f; ++bits) {
      f(sign | bits, static_cast<double>(float(Pattern(sign | bits))),
        static_cast<double>(float(Pattern(sign | (bits + 1)))));
    }
  }
}

int Even(int bits) { return bits % 2 == 0 ? bits : bits + 1; }

// Numbers with all kinds of bits, the special ones among them.
std::vector<double> ManyNumbers() {
  std::vector<double> x = {0.0,          -0.0,           1.0,    0x1.01p0, 0x1.03p0, 0x1.00fffep0,
                           0x1.010002p0, 0x1.01000001p0, 3e38,   3.4e38,   -3.4e38,  1e39,
                           -1e300,       1e-40,          -1e-45, 1e-300,   INFINITY, -INFINITY};
  PhiloxStream random(StreamKey(8, Purpose::kData));
  while (x.size() < 9001) x.push_back(std::ldexp(random.NextNormal(), static_cast<int>(random.NextBelow(280)) - 140));
  return x;
}

}  // namespace

TEST_CASE("every one of the 65536 patterns goes to f32 and f64 and comes back, NaN as NaN of its sign") {
  int wrong = 0;
  for (int bits = 0; bits < 0x10000; ++bits) {
    const float x = Pattern(bits);
    wrong += std::bit_cast<std::uint32_t>(x) != static_cast<std::uint32_t>(bits) << 16;
    const int expected = IsNaN(bits) ? bits | 0x40 : bits;  // made quiet
    wrong += Bits(BFloat16(x)) != expected;
    wrong +=
        IsNaN(bits) ? !IsNaN(Bits(BFloat16(static_cast<double>(x)))) : Bits(BFloat16(static_cast<double>(x))) != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("f32 is rounded to the nearest, and a tie to the even one, everywhere") {
  int wrong = 0;
  ForNeighbours([&](int bits, double, double) {
    const std::uint32_t low = static_cast<std::uint32_t>(bits) << 16, middle = low | 0x8000;
    wrong += Bits(BFloat16(FloatOf(middle))) != Even(bits);
    wrong += Bits(BFloat16(FloatOf(middle - 1))) != bits;
    wrong += Bits(BFloat16(FloatOf(middle + 1))) != bits + 1;
    wrong += Bits(BFloat16(FloatOf(low + 1))) != bits;
    wrong += Bits(BFloat16(FloatOf(low + 0xffff))) != bits + 1;
  });
  CHECK(wrong == 0);
}

TEST_CASE("f64 is rounded at once, not by way of f32") {
  int wrong = 0;
  ForNeighbours([&](int bits, double x, double next) {
    const double middle = (x + next) / 2;  // exact
    wrong += Bits(BFloat16(middle)) != Even(bits);
    // So near to the middle that f32 can't tell them from it.
    wrong += Bits(BFloat16(std::nextafter(middle, 0.0))) != bits;
    wrong += Bits(BFloat16(std::nextafter(middle, next * 2))) != bits + 1;
  });
  CHECK(wrong == 0);
  CHECK(Bits(BFloat16(1e-300)) == 0);
  CHECK(Bits(BFloat16(-1e-300)) == 0x8000);
}

TEST_CASE("what is too large becomes infinity, and infinity stays; NaN is never rounded to infinity") {
  const int infinity = 0x7f80;
  for (int sign : {0, 0x8000}) {
    const float one = sign == 0 ? 1.0F : -1.0F;
    CHECK(Bits(BFloat16(one * FloatOf(0x7f7f7fff))) == (sign | 0x7f7f));  // just below half a unit above the largest
    CHECK(Bits(BFloat16(one * FloatOf(0x7f7f8000))) == (sign | infinity));
    CHECK(Bits(BFloat16(one * std::numeric_limits<float>::max())) == (sign | infinity));
    CHECK(Bits(BFloat16(one * std::numeric_limits<float>::infinity())) == (sign | infinity));
    CHECK(Bits(BFloat16(static_cast<double>(one) * 1e39)) == (sign | infinity));
    CHECK(Bits(BFloat16(static_cast<double>(one) * 1e300)) == (sign | infinity));
    CHECK(Bits(BFloat16(static_cast<double>(one) * std::numeric_limits<double>::infinity())) == (sign | infinity));
  }
  for (std::uint32_t nan : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0x7f80ffffu, 0xffffffffu}) {
    CHECK(IsNaN(Bits(BFloat16(FloatOf(nan)))));
    CHECK(IsNaN(Bits(BFloat16(static_cast<double>(FloatOf(nan))))));
  }
}

TEST_CASE("a cast is the rounding of every element, between all dtypes, on every processor, with any threads") {
  const std::vector<double> numbers = ManyNumbers();
  for (Cpu cpu : SupportedCpus()) {
    for (DType from : {DType::kF64, DType::kF32, DType::kBF16}) {
      for (DType to : {DType::kF64, DType::kF32, DType::kBF16}) {
        for (std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{4097}, std::int64_t{9001}}) {
          TestContext t(n == 9001 ? 3 : 1, cpu);
          INFO(Name(cpu) << " " << Name(from) << " to " << Name(to) << ", " << n);
          const Tensor x = t.arena.New(from, {n}), y = t.arena.New(to, {n}), expected = t.arena.New(to, {n});
          Dispatch(from, [&]<class From>() {
            Dispatch(to, [&]<class To>() {
              for (std::int64_t i = 0; i < n; ++i) {
                x.data<From>()[i] = static_cast<From>(numbers[static_cast<std::size_t>(i)]);
                expected.data<To>()[i] = static_cast<To>(x.data<From>()[i]);
              }
            });
          });
          CastForward(t.ctx, y, x);
          CHECK(SameBits(y, expected));
        }
      }
    }
  }
  TestContext t;
  CHECK_THROWS_AS(CastForward(t.ctx, t.arena.New(DType::kF32, {3}), t.arena.New(DType::kBF16, {4})), Error);
  CHECK_THROWS_AS(CastForward(t.ctx, t.arena.New(DType::kI32, {3}), t.arena.New(DType::kF32, {3})), Error);
}

TEST_CASE("bf16 has a name, a size, and f32 as the dtype of its sums") {
  CHECK(Name(DType::kBF16) == "bf16");
  CHECK(ParseName<DType>("dtype", "bf16") == DType::kBF16);
  CHECK(SizeOf(DType::kBF16) == 2);
  CHECK(AccumulatorOf(DType::kBF16) == DType::kF32);
  CHECK(AccumulatorOf(DType::kF32) == DType::kF32);
  CHECK(AccumulatorOf(DType::kF64) == DType::kF64);
  CHECK_THROWS_AS(DispatchSum(DType::kBF16, []<class T>() { return 0; }), Error);
}
