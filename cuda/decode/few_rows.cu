// SPDX-License-Identifier: Apache-2.0
// The plain product of few rows (few_rows.h), with bias and addend; called by gemm.cu.
#include "cuda/decode/few_rows_launch.h"
#include "cuda/gemm.h"

namespace swarr {
namespace {

template <class Out>
class LinearLayer {
 public:
  static constexpr bool kNormed = false;

  explicit LinearLayer(const Product<BFloat16, Out>& product)
      : weight_(DescribeMatrix(product.b.data, product.columns, product.depth, product.depth, kPanel)), p(product) {}

  __device__ static int Lines(int) { return kPanel; }
  template <class F>
  __device__ void ForBoxes(int panel, F&& f) const {
    f(weight_, panel * kPanel, 0);
  }
  // The addend's tile, [kRows, kColumns].
  template <class S>
  static constexpr std::size_t AsideBytes() {
    return S::kRows * S::kColumns * sizeof(Out);
  }
  __device__ Nothing LoadEarly(int, int) const { return {}; }
  template <class S>
  __device__ Nothing Hold(const void*, int, int) const {
    return {};
  }
  template <class S>
  __device__ void FetchEarly(void*, int, int, Nothing) const {}
  template <class S>
  __device__ void FetchLate(void* aside, int tile, int row, int rows) const {
    if (!p.addend) return;
    ForRuns<S>(tile, row, rows, [&](int at, std::int64_t, std::int64_t begin) {
      CopyAsync16(static_cast<Out*>(aside) + at, p.addend + begin);
    });
  }
  // c = (sums + bias) + addend, in runs of 16 bytes of c.
  template <class S>
  __device__ void Store(const float* sums, const void* aside, int tile, int row, int rows, Nothing) const {
    ForRuns<S>(tile, row, rows, [&](int at, std::int64_t column, std::int64_t begin) {
      float run[kRun];
      LoadSums(run, sums + at / S::kColumns * S::kSumsStride + at % S::kColumns);
      if (p.bias) AddRun(run, LoadPack<kRun>(p.bias, column, p.columns, /*aligned=*/false));
      if (p.addend) AddRun(run, *reinterpret_cast<const Pack<Out, kRun>*>(static_cast<const Out*>(aside) + at));
      StoreRun(p.c + begin, run);
    });
  }

 private:
  static constexpr int kRun = 16 / sizeof(Out);

  CUtensorMap weight_;
  Product<BFloat16, Out> p;

  // Calls f(at, column, begin) for this thread's runs: where one begins in a tile, among the columns, and in c.
  template <class S, class F>
  __device__ void ForRuns(int tile, int row, int rows, F&& f) const {
    constexpr int kRuns = S::kColumns / kRun;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * kRuns; i += S::kThreads) {
      const std::int64_t column = std::int64_t{tile} * S::kColumns + i % kRuns * kRun;
      if (column < p.columns) f(i * kRun, column, std::int64_t{row + i / kRuns} * p.columns + column);
    }
  }
};

}  // namespace

template <class Out>
bool FewRowsTake(const Context& ctx, const Product<BFloat16, Out>& p) {
  return ctx.stream->has_warpgroups && p.rows <= (p.columns > kManyColumns ? kMostRowsOfMany : kMostFewRows) &&
         p.depth > 0 && !p.a.transposed && !p.b.transposed && p.a.stride == p.depth &&
         RowsAligned<kChunk>(p.depth, p.a.data, p.b.data) &&
         RowsAligned<16 / static_cast<int>(sizeof(Out))>(p.columns, p.c, p.addend);
}

template <class Out>
void MultiplyFewRows(const Context& ctx, const Product<BFloat16, Out>& p) {
  const LinearLayer<Out> layer(p);
  const FewRowsOfX in{.x = p.a.data, .rows = static_cast<int>(p.rows), .depth = static_cast<int>(p.depth)};
  // Large tiles have twice the warps that multiply, to ask for what they need and to store.
  LaunchCheapestFewRows<FewShape<1, 8>, FewShape<1, 16>, FewShape<1, 32, 8>, FewShape<1, 64, 8>>(ctx, layer, in,
                                                                                                 p.columns);
}

template bool FewRowsTake(const Context&, const Product<BFloat16, BFloat16>&);
template bool FewRowsTake(const Context&, const Product<BFloat16, float>&);
template void MultiplyFewRows(const Context&, const Product<BFloat16, BFloat16>&);
template void MultiplyFewRows(const Context&, const Product<BFloat16, float>&);

}  // namespace swarr
