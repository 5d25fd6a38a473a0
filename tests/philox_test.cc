// SPDX-License-Identifier: Apache-2.0
#include "tensor/philox.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

using namespace swarr;

TEST_CASE("Philox gives the known answers of Random123's kat_vectors, philox4x32-10") {
  static_assert(Philox(0, {0, 0, 0, 0}) == PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(Philox(0xffffffffffffffff, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}) ==
        PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(Philox(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
        PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("streams of other seeds, purposes and indices have other keys") {
  std::set<std::uint64_t> keys;
  std::size_t made = 0;
  for (std::uint64_t seed : {0ULL, 1ULL, 1ULL << 32}) {
    for (Purpose purpose : {Purpose::kInit, Purpose::kSample, Purpose::kData, Purpose::kOrder, Purpose::kBootstrap}) {
      for (std::uint32_t a = 0; a < 3; ++a) {
        for (std::uint32_t b = 0; b < 3; ++b) {
          for (std::uint32_t c = 0; c < 3; ++c, ++made) keys.insert(StreamKey(seed, purpose, a, b, c));
        }
      }
    }
  }
  CHECK(keys.size() == made);
}

TEST_CASE("a stream reads the blocks of its counter one after another") {
  PhiloxStream stream(5);
  for (std::uint32_t block = 0; block < 3; ++block) {
    for (std::uint32_t word : Philox(5, {block, 0, 0, 0})) CHECK(stream.NextWord() == word);
  }
}

TEST_CASE("uniform numbers lie strictly between 0 and 1") {
  static_assert(UniformFrom(0) == 0x1p-33);
  static_assert(UniformFrom(0xffffffff) == 1 - 0x1p-33);
}

TEST_CASE("uniform, bounded and normal numbers have the distribution that they promise") {
  constexpr int kDraws = 100'000;
  PhiloxStream stream(StreamKey(1, Purpose::kData));
  std::vector<int> count(7);
  double sum = 0, normal = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    sum += stream.NextUniform();
    ++count[stream.NextBelow(7)];
    const double z = stream.NextNormal();
    normal += z;
    square += z * z;
  }
  // Four standard deviations of each mean: sqrt(1/12), 1 and sqrt(2) per draw. The numbers are fixed, so that this
  // holds always or never.
  const double deviation = 4 / std::sqrt(static_cast<double>(kDraws));
  CHECK(std::fabs(sum / kDraws - 0.5) <= deviation * std::sqrt(1.0 / 12));
  CHECK(std::fabs(normal / kDraws) <= deviation);
  CHECK(std::fabs(square / kDraws - 1) <= deviation * std::sqrt(2.0));
  double chi_square = 0;
  for (int n : count) chi_square += (n - kDraws / 7.0) * (n - kDraws / 7.0) / (kDraws / 7.0);
  CHECK(chi_square <= 22.46);  // 99.9 % point at 6 degrees of freedom
}
