// SPDX-License-Identifier: Apache-2.0
#include "tensor/kernels/short_panels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "tensor/kernels/panels.h"
#include "tensors.h"

using namespace swarr;

#ifdef SWARR_X86_KERNELS
namespace {

bool ExpandsHere() { return BestCpu() >= Cpu::kAvx512; }

BFloat16 OfBits(int bits) {
  BFloat16 x;
  x.bits = static_cast<std::uint16_t>(bits);
  return x;
}

// A weight [valid, depth] as a short panel, and what becomes of it again, if it fits.
struct Shortened {
  bool fits;
  std::vector<BFloat16> expanded;

  Shortened(const std::vector<BFloat16>& w, std::int64_t depth, std::int64_t valid) {
    const std::int64_t padded = PanelDepth<BFloat16>(depth);
    std::vector<BFloat16> panel(static_cast<std::size_t>(padded * PanelView<BFloat16>::kShort));
    const std::uint8_t top = ShortenPanel({w.data(), 1, depth}, depth, valid, panel.data());
    fits = top != 0;
    if (!fits) return;
    expanded.resize(static_cast<std::size_t>(padded * kPanel));
    const PanelView<BFloat16> short_panel{panel.data(), 0, &top};
    for (std::int64_t k = 0; k < padded; k += kSegment<BFloat16>) {
      alignas(64) BFloat16 block[ShortBlock::kNumbers];
      ExpandBlock(short_panel.From(0, k).data, top, block);
      std::copy_n(block, ShortBlock::kNumbers, expanded.begin() + k * kPanel);
    }
  }
};

bool SamePanel(const std::vector<BFloat16>& w, std::int64_t depth, std::int64_t valid,
               const std::vector<BFloat16>& expanded) {
  std::vector<BFloat16> panel(expanded.size());
  PackPanel(Strided<BFloat16>{w.data(), 1, depth}, depth, valid, panel.data());
  return std::ranges::equal(panel, expanded, {}, &BFloat16::bits, &BFloat16::bits);
}

}  // namespace

TEST_CASE("a short panel becomes the panel that it was made of, every bit" * doctest::skip(!ExpandsHere())) {
  // All numbers of the 15 scales up to the largest, both signs, and all of scale 0, whatever the largest is.
  for (const int top : {0, 3, 15, 16, 63, 64, 126, 127}) {
    std::vector<BFloat16> w;
    for (int bits = 0; bits < 0x8000; ++bits) {
      const int scale = bits >> 8;
      if (scale > 0 && (scale > top || scale + 15 <= top)) continue;
      w.push_back(OfBits(bits));
      w.push_back(OfBits(bits | 0x8000));
    }
    INFO("top " << top << ", " << w.size() << " numbers");
    CHECK(w.size() == std::size_t{2} * 256 * static_cast<std::size_t>(1 + std::min(top, 15)));
    const std::int64_t valid = kPanel, depth = static_cast<std::int64_t>(w.size()) / valid;
    const Shortened whole(w, depth, valid);
    CHECK(whole.fits);
    CHECK(SamePanel(w, depth, valid, whole.expanded));
  }
}

TEST_CASE("a short panel of any depth and width is padded with zeros" * doctest::skip(!ExpandsHere())) {
  for (const std::int64_t depth : {1, 31, 32, 33, 100}) {
    for (const std::int64_t valid : {1, 7, 31, 32}) {
      INFO(valid << " columns of " << depth);
      std::vector<BFloat16> w;
      for (std::int64_t i = 0; i < valid * depth; ++i) w.push_back(BFloat16(static_cast<float>(i % 97) - 40.5f));
      const Shortened whole(w, depth, valid);
      CHECK(whole.fits);
      CHECK(SamePanel(w, depth, valid, whole.expanded));
    }
  }
}

TEST_CASE("a panel with a number that has no name is not shortened" * doctest::skip(!ExpandsHere())) {
  const std::int64_t depth = 70, valid = 32;
  const std::vector<BFloat16> ones(static_cast<std::size_t>(depth * valid), BFloat16(1.0f));
  const auto fits = [&](std::size_t at, float x) {
    std::vector<BFloat16> w = ones;
    w[at] = BFloat16(x);
    return Shortened(w, depth, valid).fits;
  };
  for (const std::size_t at : {std::size_t{0}, std::size_t{95}, ones.size() - 1}) {
    INFO("number " << at);
    // 1 has the scale of 0.5 to below 2; 15 scales reach down to 2^-29.
    CHECK(fits(at, 0x1p-29f));
    CHECK(!fits(at, 0x1.fep-30f));
    CHECK(!fits(at, -0x1p-124f));
    CHECK(fits(at, 0x1.fep-126f));  // scale 0
    CHECK(!fits(at, 0x1p100f));     // the others are too small beside it
  }
}
#endif
