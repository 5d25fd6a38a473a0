// SPDX-License-Identifier: Apache-2.0
#include "tensor/kernels/short_panels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "tensor/kernels/panels.h"
#include "tensor/philox.h"
#include "tensors.h"

using namespace swarr;

#ifdef SWARR_X86_KERNELS
namespace {

bool ExpandsHere() {
  return BestCpu() >= Cpu::kAvx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}

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
    std::vector<ShortNote> notes(static_cast<std::size_t>(padded / kSegment<BFloat16>));
    fits = ShortenPanel({w.data(), 1, depth}, depth, valid, panel.data(), notes.data());
    if (!fits) return;
    expanded.resize(static_cast<std::size_t>(padded * kPanel));
    const PanelView<BFloat16> short_panel{panel.data(), 0, notes.data()};
    for (std::int64_t k = 0; k < padded; k += kSegment<BFloat16>) {
      alignas(64) BFloat16 block[ShortBlock::kNumbers];
      const PanelView<BFloat16> rest = short_panel.From(0, k);
      ExpandBlock(rest.data, *rest.notes, block);
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
  // All numbers of the scales up to the largest, both signs, whatever the largest is: the 8 that have names, or 7 and
  // scale 0.
  for (const int top : {0, 3, 7, 8, 15, 16, 63, 64, 126, 127}) {
    for (const bool zero : {false, true}) {
      std::vector<BFloat16> w;
      for (int bits = 0; bits < 0x8000; ++bits) {
        const int scale = bits >> 8, lowest = std::max(top, 7) - 7;
        if (scale > top || (scale < lowest && !zero) || (scale <= lowest && scale > 0 && zero)) continue;
        w.push_back(OfBits(bits));
        w.push_back(OfBits(bits | 0x8000));
      }
      INFO("top " << top << (zero ? ", with" : ", without") << " scale 0, " << w.size() << " numbers");
      CHECK(w.size() == std::size_t{2} * 256 * static_cast<std::size_t>(1 + std::min(top, 7)));
      const std::int64_t valid = kPanel, depth = static_cast<std::int64_t>(w.size()) / valid;
      const Shortened whole(w, depth, valid);
      CHECK(whole.fits);
      CHECK(SamePanel(w, depth, valid, whole.expanded));
    }
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

TEST_CASE("a view of short panels finds a panel's blocks and their notes") {
  constexpr std::int64_t kBlocks = 3, kDepth = kBlocks * kSegment<BFloat16>;
  std::vector<BFloat16> panels(2 * kDepth * PanelView<BFloat16>::kShort);
  std::vector<ShortNote> notes(2 * kBlocks);
  const PanelView<BFloat16> view{panels.data(), kDepth * PanelView<BFloat16>::kShort, notes.data()};
  for (std::size_t block = 0; block < notes.size(); ++block) {
    const auto panel = static_cast<std::int64_t>(block) / kBlocks,
               k = static_cast<std::int64_t>(block) % kBlocks * kSegment<BFloat16>;
    const PanelView<BFloat16> found = view.From(panel, 0).From(0, k);
    CHECK(found.data == panels.data() + block * sizeof(ShortBlock) / sizeof(BFloat16));
    CHECK(found.notes == &notes[block]);
    CHECK(view.From(panel, k).notes == &notes[block]);
  }
}

TEST_CASE("a block's note takes five numbers whose scale has no name, wherever they are, and no more" *
          doctest::skip(!ExpandsHere())) {
  constexpr std::int64_t kDepth = 70, kValid = 32;
  const std::vector<BFloat16> ones(static_cast<std::size_t>(kDepth * kValid), BFloat16(1.0f));
  // 1 has the scale of 0.5 to below 2; 8 scales reach down to 2^-15.
  for (const float x : {0x1.fep-16f, -0x1.fep-16f, 0x1p-100f, 0x1p-130f, 0.0f, -0.0f}) {
    for (const std::int64_t first : {0, 1, 33, 63, 64}) {
      for (const std::int64_t count : {1, 4, 5, 6}) {
        std::vector<BFloat16> w = ones;
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t k = first + i % (std::min(kDepth, (first / 32 + 1) * 32) - first),
                             j = (i * 13 + first) % kValid;
          w[static_cast<std::size_t>(j * kDepth + k)] = BFloat16(x);
        }
        const Shortened whole(w, kDepth, kValid);
        INFO(count << " times " << x << " from row " << first);
        CHECK(whole.fits == (count <= 5 || std::abs(x) < 0x1p-125f));  // scale 0 can have a name
        if (whole.fits) CHECK(SamePanel(w, kDepth, kValid, whole.expanded));
      }
    }
  }
}

TEST_CASE("short panels of weights as they are drawn fit" * doctest::skip(!ExpandsHere())) {
  constexpr std::int64_t kDepth = 384, kValid = 32;
  for (const double sigma : {0.02, 0.03, 0.05, 1.0}) {
    std::vector<BFloat16> w;
    PhiloxStream stream(7);
    for (std::int64_t i = 0; i < kDepth * kValid; ++i) w.emplace_back(static_cast<float>(sigma * stream.NextNormal()));
    const Shortened whole(w, kDepth, kValid);
    INFO("standard deviation " << sigma);
    CHECK(whole.fits);
    CHECK(SamePanel(w, kDepth, kValid, whole.expanded));
  }
}
#endif
