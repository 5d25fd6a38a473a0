// SPDX-License-Identifier: Apache-2.0
// All random numbers of the project: Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011). A number is a pure function of a key and a counter, so results do not depend on the
// order, the thread or the batch slot in which they are drawn, and there is no state to save for a resume.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace swarr {

using PhiloxWords = std::array<std::uint32_t, 4>;

constexpr int kPhiloxRounds = 10;

// The key of the present round.
struct PhiloxKey {
  std::uint32_t k0, k1;
  [[gnu::always_inline]] constexpr explicit PhiloxKey(std::uint64_t key)
      : k0(static_cast<std::uint32_t>(key)), k1(static_cast<std::uint32_t>(key >> 32)) {}
  [[gnu::always_inline]] constexpr void Next() {
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
};

[[gnu::always_inline]] constexpr std::uint64_t WideProduct(std::uint32_t a, std::uint32_t b) {
#ifdef __CUDA_ARCH__
  std::uint64_t product;  // in one instruction; of a product of two 64-bit numbers the compiler makes two
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
#else
  return std::uint64_t{a} * b;
#endif
}

[[gnu::always_inline]] constexpr void PhiloxRound(PhiloxKey key, std::uint32_t& c0, std::uint32_t& c1,
                                                  std::uint32_t& c2, std::uint32_t& c3) {
  const std::uint64_t p0 = WideProduct(0xD2511F53, c0), p1 = WideProduct(0xCD9E8D57, c2);
  c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ key.k0;
  c1 = static_cast<std::uint32_t>(p1);
  c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ key.k1;
  c3 = static_cast<std::uint32_t>(p0);
}

// Ten rounds of Philox4x32 on `counter` under the 64-bit `key`. Known answers: Random123's kat_vectors
// (tests/philox_test.cc).
constexpr PhiloxWords Philox(std::uint64_t key, PhiloxWords counter) {
  PhiloxKey round_key(key);
  for (int round = 0; round < kPhiloxRounds; ++round, round_key.Next()) {
    PhiloxRound(round_key, counter[0], counter[1], counter[2], counter[3]);
  }
  return counter;
}

// What random numbers are for. Streams of different purposes never share numbers.
enum class Purpose : std::uint32_t { kInit = 1, kSample = 2, kData = 3, kOrder = 4, kBootstrap = 5, kEvaluate = 6 };

// A key for one stream, derived from the run's seed by Philox itself.
constexpr std::uint64_t StreamKey(std::uint64_t seed, Purpose purpose, std::uint32_t a = 0, std::uint32_t b = 0,
                                  std::uint32_t c = 0) {
  const PhiloxWords w = Philox(seed, {a, b, c, static_cast<std::uint32_t>(purpose)});
  return w[0] | std::uint64_t{w[1]} << 32;
}

// Uniform in (0, 1), never 0 or 1: the midpoints of 2^32 equal cells.
[[gnu::always_inline]] constexpr double UniformFrom(std::uint32_t word) { return (word + 0.5) * 0x1p-32; }

// A sequential reader of one stream, for code that draws an unknown number of values (data, bootstrap).
class PhiloxStream {
 public:
  explicit PhiloxStream(std::uint64_t key) : key_(key) {}
  std::uint32_t NextWord() {
    if (i_ == 4) {
      words_ = Philox(key_, {static_cast<std::uint32_t>(block_), static_cast<std::uint32_t>(block_ >> 32), 0, 0});
      ++block_;
      i_ = 0;
    }
    return words_[i_++];
  }
  double NextUniform() { return UniformFrom(NextWord()); }
  // Uniform in 0 .. n-1 (n < 2^32; the bias of the multiply-shift is below n * 2^-32).
  std::uint32_t NextBelow(std::uint32_t n) { return static_cast<std::uint32_t>((std::uint64_t{NextWord()} * n) >> 32); }
  // Standard normal, by Box and Muller.
  double NextNormal() {
    constexpr double kTwoPi = 6.283185307179586476925;
    const double u = NextUniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(kTwoPi * NextUniform());
  }

 private:
  std::uint64_t key_;
  std::uint64_t block_ = 0;
  PhiloxWords words_{};
  unsigned i_ = 4;
};

}  // namespace swarr
