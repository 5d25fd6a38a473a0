// SPDX-License-Identifier: Apache-2.0
// The innermost product, kernel by kernel, on what stands around it: padding, strides, neighbours in memory.
#include "tensor/kernels/tile_kernel.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tensor/kernels/panels.h"
#include "tensors.h"

using namespace swarr;

namespace {

template <class T>
struct NamedKernel {
  Cpu cpu;  // the first that uses it
  const TileKernel<T>* kernel;
};

// The kernels for T that this machine runs.
template <class T>
std::vector<NamedKernel<T>> KernelsFor() {
  std::vector<NamedKernel<T>> all = {{Cpu::kPortable, &TileKernelOf<Portable, T>(Cpu::kPortable)}};
#ifdef SWARR_X86_KERNELS
  all.push_back({Cpu::kAvx2, &TileKernelOf<Avx2, T>(Cpu::kAvx2)});
  all.push_back({Cpu::kAvx512, &TileKernelOf<Avx512, T>(Cpu::kAvx512)});
  if constexpr (std::is_same_v<T, BFloat16>) {
    all.push_back({Cpu::kAvx512Bf16, &DotTileKernel()});
    all.push_back({Cpu::kAmx, &AmxTileKernel()});
  }
#endif
  const std::vector<Cpu>& supported = SupportedCpus();
  std::erase_if(all, [&](const NamedKernel<T>& k) {
    const bool missing = std::find(supported.begin(), supported.end(), k.cpu) == supported.end();
    if (missing) MESSAGE("not supported here: the kernel for " << Name(kDTypeOf<T>) << " on " << Name(k.cpu));
    return missing;
  });
  return all;
}

template <class F>
void ForTypes(F&& f) {
  f.template operator()<double>();
  f.template operator()<float>();
  f.template operator()<BFloat16>();
}

const std::int64_t kDepths[] = {1, 2, 3, 16, 31, 32, 33, 64, 129};

// A matrix between numbers that must not be read: NaN in every row behind its columns, and before and behind it.
template <class T>
struct Guarded {
  std::int64_t rows, columns, stride;
  bool transposed;  // element (i, j) is stored at (j, i)
  std::vector<T> data;

  Guarded(std::int64_t r, std::int64_t c, bool t)
      : rows(r),
        columns(c),
        stride((t ? r : c) + 5),
        transposed(t),
        data(static_cast<std::size_t>(((t ? c : r) + 2) * stride), static_cast<T>(std::nanf(""))) {}
  T& At(std::int64_t i, std::int64_t j) {
    return data[static_cast<std::size_t>(transposed ? (j + 1) * stride + i : (i + 1) * stride + j)];
  }
  Strided<T> View() { return transposed ? Strided<T>{&At(0, 0), 1, stride} : Strided<T>{&At(0, 0), stride, 1}; }
  // -8 .. 8: sums of up to 129 products are integers below 2^14, exact in f32.
  void FillWithIntegers(std::uint32_t stream) {
    PhiloxStream random(StreamKey(6, Purpose::kData, stream));
    Each([&] { return static_cast<double>(random.NextBelow(17)) - 8; });
  }
  void FillWithReals(std::uint32_t stream) {
    PhiloxStream random(StreamKey(7, Purpose::kData, stream));
    Each([&] { return RandomReal(random); });
  }
  template <class F>
  void Each(F&& next) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) At(i, j) = static_cast<T>(next());
    }
  }
};

// Memory full of NaN, that is, of bytes 0xff, and what must stay so behind it.
struct Buffer255 {
  std::size_t size;
  std::vector<std::byte> bytes;
  explicit Buffer255(std::int64_t n) : size(static_cast<std::size_t>(n)), bytes(size + 256, std::byte{0xff}) {}
  bool IntactBehind() const {
    return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(),
                       [](std::byte b) { return b == std::byte{0xff}; });
  }
};

// c (+)= a b by a kernel, c with room between its rows. Reports through doctest if it wrote anything but c.
template <class T>
struct Result {
  using Sum = Accumulator<T>;
  static constexpr std::int64_t kStride = kPanel + 3;
  static constexpr Sum kSentinel = 12345;
  std::int64_t rows;
  std::vector<Sum> c;  // a row of sentinels before and behind

  explicit Result(std::int64_t r) : rows(r), c(static_cast<std::size_t>((r + 2) * kStride), kSentinel) {}
  Sum& At(std::int64_t i, std::int64_t j) { return c[static_cast<std::size_t>((i + 1) * kStride + j)]; }
  void Fill(double start) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < kPanel; ++j) At(i, j) = static_cast<Sum>(start + static_cast<double>(i - j));
    }
  }
  void FillWithNaN() {
    for (std::int64_t i = 0; i < rows; ++i) std::fill_n(&At(i, 0), kPanel, std::numeric_limits<Sum>::quiet_NaN());
  }
  bool SentinelsIntact() {
    for (std::int64_t i = -1; i <= rows; ++i) {
      const bool outside = i < 0 || i == rows;
      for (std::int64_t j = outside ? 0 : kPanel; j < kStride; ++j) {
        if (At(i, j) != kSentinel) return false;
      }
    }
    return true;
  }
};

template <class T>
void Multiply(const TileKernel<T>& kernel, Guarded<T>& a, Guarded<T>& b, bool accumulate, Result<T>& c) {
  Buffer255 packed(kernel.PackedBytes(a.rows, a.columns));
  const BlockRows<T> rows = PackRows(kernel, a.View(), a.rows, a.columns, packed.bytes.data());
  CHECK(packed.IntactBehind());
  const std::int64_t panel_bytes = PanelDepth<T>(a.columns) * kPanel * static_cast<std::int64_t>(sizeof(T));
  Buffer255 panel(panel_bytes);
  auto* to = reinterpret_cast<T*>(panel.bytes.data());
  PackPanel(b.View(), a.columns, b.columns, to);
  CHECK(panel.IntactBehind());
  MultiplyPanels(kernel, rows, 0, a.rows, 1, a.columns, PanelView<T>{to}, accumulate, &c.At(0, 0), Result<T>::kStride);
  CHECK(c.SentinelsIntact());
}

// On integers nothing rounds, in whatever order a kernel adds.
template <class T>
void CheckIntegers(const TileKernel<T>& kernel, std::int64_t rows, std::int64_t depth, std::int64_t columns) {
  Guarded<T> a(rows, depth, depth % 3 == 0), b(depth, columns, depth % 2 == 0);
  a.FillWithIntegers(1);
  b.FillWithIntegers(2);
  for (bool accumulate : {false, true}) {
    Result<T> c(rows);
    c.FillWithNaN();  // without accumulate, c is not read
    if (accumulate) c.Fill(100);
    Multiply(kernel, a, b, accumulate, c);
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < kPanel; ++j) {  // columns that are not there are zero
        double sum = accumulate ? static_cast<double>(100 + i - j) : 0;
        for (std::int64_t k = 0; j < columns && k < depth; ++k) {
          sum += static_cast<double>(a.At(i, k)) * static_cast<double>(b.At(k, j));
        }
        wrong += static_cast<double>(c.At(i, j)) != sum;
      }
    }
    INFO("rows " << rows << ", depth " << depth << ", columns " << columns << ", accumulate " << accumulate);
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_CASE("every kernel is exact on small integers, for every height of a tile, and touches nothing but its tile") {
  ForTypes([]<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu));
      for (std::int64_t depth : kDepths) {
        for (int rows = 1; rows <= k.kernel->rows; ++rows) CheckIntegers(*k.kernel, rows, depth, kPanel);
      }
    }
  });
}

TEST_CASE("so is a product of several tiles, and of a panel that is not full") {
  ForTypes([]<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu));
      for (std::int64_t rows : {7, 33, 49, 70}) {
        for (std::int64_t depth : {1, 33, 129}) {
          for (std::int64_t columns : {1, 2, 31, 32}) CheckIntegers(*k.kernel, rows, depth, columns);
        }
      }
    }
  });
}

TEST_CASE("a row and a column that are not numbers spoil themselves and no other") {
  ForTypes([]<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu));
      for (std::int64_t rows : {1, 5, 17, 35}) {
        for (std::int64_t bad_k : {0, 32, 40}) {
          Guarded<T> a(rows, 41, false), b(41, kPanel, false);
          a.FillWithIntegers(1);
          b.FillWithIntegers(2);
          const std::int64_t bad_row = rows / 2, bad_column = 19;
          a.At(bad_row, bad_k) = static_cast<T>(std::nanf(""));
          b.At(bad_k, bad_column) = static_cast<T>(std::nanf(""));
          Result<T> c(rows);
          Multiply(*k.kernel, a, b, /*accumulate=*/false, c);
          std::int64_t wrong = 0;
          for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t j = 0; j < kPanel; ++j) {
              wrong += std::isnan(c.At(i, j)) != (i == bad_row || j == bad_column);
            }
          }
          CHECK(wrong == 0);
        }
      }
    }
  });
}

TEST_CASE("a sum that is stored and taken up again has the bits of one that is not, and a row those of the row alone") {
  ForTypes([]<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu));
      constexpr std::int64_t kRows = 37, kDepth = 129;
      Guarded<T> a(kRows, kDepth, false), b(kDepth, kPanel, false);
      a.FillWithReals(1);
      b.FillWithReals(2);
      Result<T> whole(kRows);
      Multiply(*k.kernel, a, b, /*accumulate=*/false, whole);
      const auto block = [](Guarded<T>& m, std::int64_t i0, std::int64_t rows, std::int64_t j0, std::int64_t columns) {
        Guarded<T> part(rows, columns, false);
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j < columns; ++j) part.At(i, j) = m.At(i0 + i, j0 + j);
        }
        return part;
      };
      for (std::int64_t split : {32, 64, 96}) {  // bf16 is padded to 32 in k
        Result<T> parts(kRows);
        for (const auto& [k0, depth] : {std::pair{std::int64_t{0}, split}, {split, kDepth - split}}) {
          Guarded<T> left = block(a, 0, kRows, k0, depth), right = block(b, k0, depth, 0, kPanel);
          Multiply(*k.kernel, left, right, /*accumulate=*/k0 > 0, parts);
        }
        CHECK(parts.c == whole.c);
      }
      for (std::int64_t row = 0; row < kRows; ++row) {
        Guarded<T> one = block(a, row, 1, 0, kDepth);
        Result<T> alone(1);
        Multiply(*k.kernel, one, b, /*accumulate=*/false, alone);
        CHECK(std::equal(&alone.At(0, 0), &alone.At(0, 0) + kPanel, &whole.At(row, 0)));
      }
    }
  });
}

TEST_CASE("rows that a kernel reads where they are have the bits of packed ones") {
  ForTypes([]<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      for (const auto& [rows, depth] : {std::pair{16, 64}, {48, 128}, {1, 96}, {23, 64}, {9, 33}}) {
        INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu) << ", " << rows << " rows, depth " << depth);
        Guarded<T> a(rows, depth, false), b(depth, kPanel, false);
        a.FillWithReals(1);
        b.FillWithReals(2);
        Result<T> packed(rows), in_place(rows);
        Multiply(*k.kernel, a, b, /*accumulate=*/false, packed);
        if (!k.kernel->MayReadInPlace(depth)) continue;
        std::vector<T> panel(static_cast<std::size_t>(PanelDepth<T>(depth) * kPanel));
        PackPanel(b.View(), depth, kPanel, panel.data());
        const PanelView<T> whole{panel.data()};
        const BlockRows<T> where = PackOrReadInPlace(*k.kernel, a.View(), rows, depth, /*room=*/nullptr);
        constexpr std::int64_t kSplit = 32;  // a sum that is taken up again, too
        MultiplyPanels(*k.kernel, where, 0, rows, 1, kSplit, whole, false, &in_place.At(0, 0), Result<T>::kStride);
        MultiplyPanels(*k.kernel, where, kSplit, rows, 1, depth - kSplit, whole.From(0, kSplit), true,
                       &in_place.At(0, 0), Result<T>::kStride);
        CHECK(in_place.SentinelsIntact());
        CHECK(in_place.c == packed.c);
      }
    }
  });
}

TEST_CASE("columns of a transposed block have the bits of packed rows") {
  const auto check = []<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      for (const auto& [rows, depth] : {std::pair{16, 64}, {128, 40}, {507, 40}, {23, 33}, {1, 7}}) {
        INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu) << ", " << rows << " rows, depth " << depth);
        Guarded<T> a(rows, depth, true), b(depth, kPanel, false);
        a.FillWithReals(1);
        b.FillWithReals(2);
        Result<T> packed(rows), columns(rows);
        Multiply(*k.kernel, a, b, /*accumulate=*/false, packed);
        std::vector<T> panel(static_cast<std::size_t>(PanelDepth<T>(depth) * kPanel));
        PackPanel(b.View(), depth, kPanel, panel.data());
        const PanelView<T> whole{panel.data()};
        Buffer255 room(BlockBytes(*k.kernel, rows, depth));
        const BlockRows<T> where = PackOrReadInPlace(*k.kernel, a.View(), rows, depth, room.bytes.data());
        CHECK(room.IntactBehind());
        const std::int64_t split = depth / 2 / kSegment<T> * kSegment<T>;  // a sum that is taken up again, too
        MultiplyPanels(*k.kernel, where, 0, rows, 1, split, whole, false, &columns.At(0, 0), Result<T>::kStride);
        MultiplyPanels(*k.kernel, where, split, rows, 1, depth - split, whole.From(0, split), true, &columns.At(0, 0),
                       Result<T>::kStride);
        CHECK(columns.SentinelsIntact());
        CHECK(columns.c == packed.c);
      }
    }
  };
  check.operator()<double>();
  check.operator()<float>();
}

TEST_CASE("rows with a panel each have the bits of a row with its panel") {
  ForTypes([]<class T>() {
    for (const NamedKernel<T>& k : KernelsFor<T>()) {
      for (int count = 1; count <= TileKernel<T>::kEach; ++count) {
        INFO(Name(kDTypeOf<T>) << " on " << Name(k.cpu) << ", " << count << " rows");
        constexpr std::int64_t kRows = 7, kDepth = 96, kSplit = 32;  // rows of two tiles of some kernels
        Guarded<T> a(kRows, kDepth, false);
        a.FillWithReals(1);
        Buffer255 packed(k.kernel->PackedBytes(kRows, kDepth));
        const BlockRows<T> rows = PackRows(*k.kernel, a.View(), kRows, kDepth, packed.bytes.data());
        Result<T> together(kRows), alone(kRows);
        std::vector<std::vector<T>> panels;
        TileRows row[TileKernel<T>::kEach], rest[TileKernel<T>::kEach];
        const T *panel[TileKernel<T>::kEach], *rest_of[TileKernel<T>::kEach];
        for (int i = 0; i < count; ++i) {
          const std::int64_t r = kRows - count + i;
          Guarded<T> b(kDepth, kPanel, false);
          b.FillWithReals(static_cast<std::uint32_t>(2 + i));
          panels.emplace_back(static_cast<std::size_t>(PanelDepth<T>(kDepth) * kPanel));
          PackPanel(b.View(), kDepth, kPanel, panels.back().data());
          row[i] = rows.Row(*k.kernel, kRows, r, 0), rest[i] = rows.Row(*k.kernel, kRows, r, kSplit);
          panel[i] = panels.back().data(), rest_of[i] = panel[i] + kSplit * kPanel;
          k.kernel->multiply(1, 1, kDepth, row[i], {panel[i]}, false, &alone.At(r, 0), Result<T>::kStride);
        }
        const auto multiply = [&](std::int64_t depth, const TileRows* x, const T* const* b, bool accumulate) {
          k.kernel->multiply_each(count, depth, x, b, accumulate, &together.At(kRows - count, 0), Result<T>::kStride);
        };
        multiply(kSplit, row, panel, false);
        multiply(kDepth - kSplit, rest, rest_of, true);
        CHECK(together.SentinelsIntact());
        CHECK(together.c == alone.c);
      }
    }
  });
}

TEST_CASE("products of bf16 are summed to within the rounding of f32, on every processor") {
  for (const NamedKernel<BFloat16>& named : KernelsFor<BFloat16>()) {
    for (std::int64_t depth : kDepths) {
      INFO(Name(named.cpu) << ", depth " << depth);
      Guarded<BFloat16> a(9, depth, false), b(depth, kPanel, false);
      a.FillWithReals(1);
      b.FillWithReals(2);
      Result<BFloat16> c(9);
      Multiply(*named.kernel, a, b, /*accumulate=*/false, c);
      for (std::int64_t i = 0; i < 9; ++i) {
        for (std::int64_t j = 0; j < kPanel; ++j) {
          double sum = 0, size = 0;
          for (std::int64_t k = 0; k < depth; ++k) {
            const double product = static_cast<double>(a.At(i, k)) * static_cast<double>(b.At(k, j));
            sum += product;
            size += std::fabs(product);
          }
          // Each of depth additions (and, where a pair is added first, half as many more) rounds a partial sum by
          // 2^-24.
          CHECK(std::fabs(static_cast<double>(c.At(i, j)) - sum) <= 1.5 * static_cast<double>(depth) * 0x1p-24 * size);
        }
      }
    }
  }
}
