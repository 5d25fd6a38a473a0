// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/rmsnorm.cc. A warp takes a row; lane l takes the packs l, l + 32, ... of k elements, and a
// butterfly adds the lanes' partial sums. k depends on C and the dtype: 16 bytes, or 2 elements where that would leave
// lanes idle; in the backward also on whether rows are whole, aligned packs of 16 bytes. The backward computes dx, dw
// and y in one pass; the blocks' parts of dw are added in the order of cuda/sums.h. Left out in the forward: keeping
// the row in registers between its two readings; the second one hits the L1 cache.
#include <tuple>

#include "cuda/mma.h"
#include "cuda/norm_row.h"
#include "cuda/sums.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <class T, int k>
__device__ Pack<T, k> NormedPack(const Pack<T, k>& x, Accumulator<T> r, const Pack<T, k>& w) {
  using Sum = Accumulator<T>;
  Pack<T, k> y;
  for (int j = 0; j < k; ++j) y.at[j] = static_cast<T>(Normed(Sum(x.at[j]), r, Sum(w.at[j])));
  return y;
}

// Rows of a warp: several short ones, so that enough of memory is on its way.
template <int k, class T>
constexpr int kForwardRows = k < kPack<T> ? 4 : 1;

template <int k, bool whole, class T>
__global__ void ForwardKernel(std::int64_t rows, std::int64_t C, T* y, Accumulator<T>* rstd, const T* x, const T* w,
                              Accumulator<T> eps) {
  using Sum = Accumulator<T>;
  constexpr std::bool_constant<whole> aligned;
  constexpr int kRows = kForwardRows<k, T>;
  const std::int64_t first = (std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp) * kRows,
                     lane = threadIdx.x % kWarp;
  WaitForPrevious();
  LetNextBegin();
  if (first >= rows) return;
  const int count = static_cast<int>(min(std::int64_t{kRows}, rows - first));
  Sum r[kRows] = {};
#pragma unroll 4
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const Pack<T, k> value = LoadPack<k>(x + (first + i) * C, c, i < count ? C : 0, aligned);
      for (int j = 0; j < k; ++j) r[i] += Sum(value.at[j]) * Sum(value.at[j]);
    }
  }
#pragma unroll
  for (Sum& sum : r) sum = InverseRms(WarpSum(sum), C, eps);
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
    const Pack<T, k> weight = LoadPack<k>(w, c, C, aligned);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const std::int64_t of_row = i < count ? C : 0;
      const Pack<T, k> value = LoadPack<k>(x + (first + i) * C, c, of_row, aligned);
      StorePack<k>(y + (first + i) * C, c, of_row, aligned, NormedPack(value, r[i], weight));
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    if (lane == 0 && i < count) rstd[first + i] = r[i];
  }
}

// In the backward a block takes the rows of its groups of lanes, here warps: RowsPerGroup each, every kWarps-th. A lane
// keeps its sums of dw in registers, for kKept packs of columns: a range. Wider rows have several ranges, each a
// block's own (blockIdx.y).
constexpr int kKept = 4;
// 16, or 8 if that would not give 132 multiprocessors more than one block each. It depends on the number of rows alone,
// since dw's order of sums does.
constexpr int kMostRowsPerGroup = 16;
inline int RowsPerGroup(std::int64_t rows, int groups) {
  return rows > kMostRowsPerGroup * groups * 132 ? kMostRowsPerGroup : 8;
}
template <int k>
constexpr int kRange = kWarp* k* kKept;

// dw_parts[c] = the sum over the block's groups of kLanes threads, ascending, of their sums of column c < columns. A
// lane of a group has the packs lane, lane + kLanes, ...
template <int kLanes, int kPacks, int k, class Sum>
using SumsOfGroups = Sum[kThreads / kLanes][kLanes * kPacks * k];
template <int kLanes, int kPacks, int k, class Sum>
__device__ void StoreWeightSums(const Sum (&dw)[kPacks][k], SumsOfGroups<kLanes, kPacks, k, Sum>& of_group,
                                std::int64_t columns, Sum* dw_parts) {
  const int group = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  __syncthreads();  // of_group may be memory that threads have just read
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
#pragma unroll
    for (int j = 0; j < k; ++j) of_group[group][(i * kLanes + lane) * k + j] = dw[i][j];
  }
  __syncthreads();
  for (std::int64_t c = threadIdx.x; c < columns; c += kThreads) {
    Sum sum = of_group[0][c];
    for (int i = 1; i < kThreads / kLanes; ++i) sum += of_group[i][c];
    dw_parts[c] = sum;
  }
}

// What a backward reads and writes. Null: not wanted.
template <class T>
struct BackwardRows {
  std::int64_t rows, C;
  int rows_per_group;
  bool fresh;
  T *dx, *y;
  Accumulator<T>* dw_parts;
  const T *dy, *x, *w;
  const Accumulator<T>* rstd;
};

// dx, y, and each block's part of dw: the sum over each warp's rows, ascending, then over the warps.
template <int k, bool whole, class T>
__global__ void __launch_bounds__(kThreads, 2) BackwardKernel(BackwardRows<T> r) {
  using Sum = Accumulator<T>;
  constexpr std::bool_constant<whole> aligned;
  __shared__ SumsOfGroups<kWarp, kKept, k, Sum> of_warp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t C = r.C, begin = std::int64_t{blockIdx.y} * kRange<k>, rows = r.rows_per_group * kWarps,
                     end = min(r.rows, (blockIdx.x + 1) * rows);
  Sum dw[kKept][k] = {};
  WaitForPrevious();
  for (std::int64_t n = blockIdx.x * rows + warp; n < end; n += kWarps) {
    const T *in = r.x + n * C, *grad = r.dy + n * C;
    const Sum scale = r.rstd[n];
    Pack<T, k> out[kKept];  // loaded early: their memory takes as long as that of dy and x
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      out[i] = LoadGradient<k>(r.fresh || !r.dx, r.dx + n * C, begin + (i * kWarp + lane) * k, C, aligned);
    }
    Sum sum = 0;
#pragma unroll kKept
    for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
      const Pack<T, k> g = LoadPack<k>(grad, c, C, aligned), weight = LoadPack<k>(r.w, c, C, aligned),
                       value = LoadPack<k>(in, c, C, aligned);
      for (int j = 0; j < k; ++j) sum += Sum(g.at[j]) * Sum(weight.at[j]) * Sum(value.at[j]);
    }
    const Sum mean = WarpSum(sum) * scale / static_cast<Sum>(C);
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const std::int64_t c = begin + (i * kWarp + lane) * k;
      if (c >= C) break;
      const Pack<T, k> g = LoadPack<k>(grad, c, C, aligned), value = LoadPack<k>(in, c, C, aligned),
                       weight = LoadPack<k>(r.w, c, C, aligned);
      for (int j = 0; j < k; ++j) {
        const Sum d = NormedGradient(Sum(g.at[j]), Sum(weight.at[j]), Sum(value.at[j]), scale, mean);
        out[i].at[j] = static_cast<T>(Sum(out[i].at[j]) + d);
        dw[i][j] += NormWeightGradient(Sum(g.at[j]), Sum(value.at[j]), scale);
      }
      if (r.dx) StorePack<k>(r.dx + n * C, c, C, aligned, out[i]);
      if (r.y) StorePack<k>(r.y + n * C, c, C, aligned, NormedPack(value, scale, weight));
    }
  }
  if (r.dw_parts) {
    StoreWeightSums<kWarp>(dw, of_warp, min(std::int64_t{kRange<k>}, C - begin), r.dw_parts + blockIdx.x * C + begin);
  }
}

// Keeps the compiler from holding in registers, as f32, what it has read before: they don't suffice for several packs.
__device__ inline void ReadAgain() { asm volatile("" : : : "memory"); }

// The same where rows are whole packs of 16 bytes: a group of kLanes threads takes a row, of which a lane has at most
// kPacks. A row of 32 packs or more has its bits from the kernel above; one of up to 16 takes fewer lanes. Rows come to
// shared memory while the group computes those before (cp.async): with loads to registers, of which there are too few
// for several rows, memory had nothing to do while a row's lanes met. A lane reads only what it has copied itself, so
// nobody waits for anybody.
template <int kPacks>
constexpr int kAhead = kPacks < 4 ? 3 : 2;  // rows of a group in shared memory, such that two blocks fit

template <int kLanes, int kPacks, class T>
struct RowCopy {
  Pack<T, kPack<T>> dy[kPacks][kLanes], x[kPacks][kLanes], dx[kPacks][kLanes];
};

template <int kLanes, int kPacks, class T>
__global__ void __launch_bounds__(kThreads, 2) StreamedBackwardKernel(BackwardRows<T> r) {
  using Sum = Accumulator<T>;
  constexpr int k = kPack<T>, kGroups = kThreads / kLanes;
  using RowPack = Pack<T, k>;
  using Row = RowCopy<kLanes, kPacks, T>;
  constexpr int kDeep = kAhead<kPacks>;
  using Ring = Row[kDeep];
  using OfGroup = SumsOfGroups<kLanes, kPacks, k, Sum>;
  static_assert(sizeof(OfGroup) <= kGroups * sizeof(Ring));
  extern __shared__ __align__(16) char shared[];
  const int group = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  Ring& ring = reinterpret_cast<Ring*>(shared)[group];
  const std::int64_t C = r.C, begin = std::int64_t{blockIdx.x} * r.rows_per_group * kGroups;
  const bool add = r.dx && !r.fresh;
  const auto copy = [&](std::int64_t n, Row& to) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const int c = (i * kLanes + lane) * k;
      if (n >= r.rows || c >= C) break;
      CopyAsync16(&to.dy[i][lane], r.dy + n * C + c);
      CopyAsync16(&to.x[i][lane], r.x + n * C + c);
      if (add) CopyAsync16(&to.dx[i][lane], r.dx + n * C + c);
    }
    CommitCopies();
  };
  // Lane l has the scales of rows l, l + kLanes, ... of its group: read one at a time, they would come too late.
  constexpr int kScales = (kMostRowsPerGroup + kLanes - 1) / kLanes;
  Sum scales[kScales];
  WaitForPrevious();
#pragma unroll
  for (int i = 0; i < kScales; ++i) {
    const int number = i * kLanes + lane;
    const std::int64_t n = begin + group + number * kGroups;
    scales[i] = number < r.rows_per_group && n < r.rows ? r.rstd[n] : Sum(0);
  }
#pragma unroll
  for (int i = 0; i < kDeep - 1; ++i) copy(begin + group + i * kGroups, ring[i]);
  Sum dw[kPacks][k] = {};
  for (int i = 0, stage = 0; i < r.rows_per_group; ++i, stage = (stage + 1) % kDeep) {
    const std::int64_t n = begin + group + i * kGroups;
    const bool there = n < r.rows;
    const Sum scale =
        __shfl_sync(0xffffffffu, kScales > 1 && i >= kLanes ? scales[kScales - 1] : scales[0], i % kLanes, kLanes);
    copy(i + kDeep <= r.rows_per_group ? n + (kDeep - 1) * kGroups : r.rows, ring[(stage + kDeep - 1) % kDeep]);
    WaitCopies<kDeep - 1>();
    const Row& row = ring[stage];
    Sum sum = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int c = (p * kLanes + lane) * k;
      if (!there || c >= C) break;
      const RowPack grad = row.dy[p][lane], value = row.x[p][lane], weight = LoadPack<k>(r.w, c, C, std::true_type{});
      for (int j = 0; j < k; ++j) sum += Sum(grad.at[j]) * Sum(weight.at[j]) * Sum(value.at[j]);
    }
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    const Sum mean = sum * scale / static_cast<Sum>(C);
    if constexpr (kPacks > 1) ReadAgain();
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int c = (p * kLanes + lane) * k;
      if (!there || c >= C) break;
      const RowPack grad = row.dy[p][lane], value = row.x[p][lane], weight = LoadPack<k>(r.w, c, C, std::true_type{});
      RowPack out = add ? row.dx[p][lane] : RowPack{};
      for (int j = 0; j < k; ++j) {
        const Sum d = NormedGradient(Sum(grad.at[j]), Sum(weight.at[j]), Sum(value.at[j]), scale, mean);
        out.at[j] = static_cast<T>(Sum(out.at[j]) + d);
        dw[p][j] += NormWeightGradient(Sum(grad.at[j]), Sum(value.at[j]), scale);
      }
      if (r.dx) StorePack<k>(r.dx + n * C, c, C, std::true_type{}, out);
      if (r.y) StorePack<k>(r.y + n * C, c, C, std::true_type{}, NormedPack(value, scale, weight));
    }
  }
  if (r.dw_parts) StoreWeightSums<kLanes>(dw, *reinterpret_cast<OfGroup*>(shared), C, r.dw_parts + blockIdx.x * C);
}

// Threads of a group for rows of C elements; 0: that kernel can't take them.
template <class T>
int StreamedLanes(std::int64_t C) {
  const std::int64_t packs = C / kPack<T>;
  return C % kPack<T> != 0 || packs > kWarp * kKept ? 0 : packs <= 8 ? 8 : packs <= 16 ? 16 : kWarp;
}
// Whether a block's rows fit its shared memory. Where a row has more than a pack a lane, the kernel above gives the
// same bits; rows of fewer packs take at most 36 KiB, which every device has.
template <class T>
bool StreamFits(const Context& ctx, std::int64_t C) {
  const std::int64_t packs = Blocks(C, kWarp * kPack<T>), bytes = kWarps * sizeof(RowCopy<kWarp, 1, T>);
  return packs * (packs < 4 ? kAhead<1> : kAhead<4>)*bytes <= static_cast<std::int64_t>(ctx.stream->shared_memory);
}
template <int kPacks, class T>
void LaunchStreamedByWarps(const Context& ctx, const BackwardRows<T>& r, std::int64_t blocks) {
  if constexpr (kPacks <= kKept) {
    if (r.C > kWarp * kPack<T> * kPacks) return LaunchStreamedByWarps<kPacks + 1>(ctx, r, blocks);
    Launch(ctx, {blocks, kThreads, kWarps * kAhead<kPacks> * sizeof(RowCopy<kWarp, kPacks, T>), /*early=*/true},
           StreamedBackwardKernel<kWarp, kPacks, T>, r);
  }
}
template <class T>
void LaunchStreamed(const Context& ctx, const BackwardRows<T>& r, std::int64_t blocks) {
  const auto by_groups = [&]<int kLanes>() {
    Launch(ctx, {blocks, kThreads, kThreads / kLanes * kAhead<1> * sizeof(RowCopy<kLanes, 1, T>), /*early=*/true},
           StreamedBackwardKernel<kLanes, 1, T>, r);
  };
  const int lanes = StreamedLanes<T>(r.C);
  if (lanes == 8) return by_groups.template operator()<8>();
  if (lanes == 16) return by_groups.template operator()<16>();
  LaunchStreamedByWarps<1>(ctx, r, blocks);
}

// Calls f.template operator()<k, whole>() with the size of the packs of rows of C elements, and whether all of them are
// whole in the rows of these tensors.
template <class F, class... T>
void WithPacks(std::int64_t C, F&& f, const T*... tensors) {
  using First = std::tuple_element_t<0, std::tuple<T...>>;
  const auto with = [&]<int k>() {
    WithWhole(RowsAligned<k>(C, tensors...), [&]<bool whole>() { f.template operator()<k, whole>(); });
  };
  WithNormPack<First>(C, with);
}

}  // namespace

template <>
void Kernels<Cuda>::RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x,
                                   const Tensor& w, double eps) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    const auto launch = [&]<int k, bool whole>() {
      Launch(ctx, {.blocks = Blocks(rows, kWarps * kForwardRows<k, T>), .early = true}, ForwardKernel<k, whole, T>,
             rows, C, y, rstd, x, w, static_cast<Accumulator<T>>(eps));
    };
    WithPacks(C, launch, y.data<T>(), x.data<T>(), w.data<T>());
  });
}

template <>
void Kernels<Cuda>::RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy,
                                    const Tensor& x, const Tensor& w, const Tensor& rstd, const Tensor& y) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ArenaScope scope(*ctx.arena);
    const auto data = [](const Tensor& t) -> T* { return t.empty() ? nullptr : t.data<T>(); };
    const bool whole_packs = RowsAligned<kPack<T>>(C, data(dy), data(x), data(w), data(dx), data(y));
    const int lanes = whole_packs && StreamFits<T>(ctx, C) ? StreamedLanes<T>(C) : 0;
    const int groups = lanes > 0 ? kThreads / lanes : kWarps, of_group = RowsPerGroup(rows, groups);
    const std::int64_t blocks = Blocks(rows, of_group * groups);
    const BackwardRows<T> r{.rows = rows,
                            .C = C,
                            .rows_per_group = of_group,
                            .fresh = dx.fresh(),
                            .dx = data(dx),
                            .y = data(y),
                            .dw_parts = dw.empty() ? nullptr : ctx.arena->NewArray<Sum>(blocks * C),
                            .dy = data(dy),
                            .x = data(x),
                            .w = data(w),
                            .rstd = rstd.data<Sum>()};
    const auto launch = [&]<int k, bool whole>() {
      const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(Blocks(C, kRange<k>)));
      Launch(ctx, {.blocks = grid, .early = true}, BackwardKernel<k, whole, T>, r);
    };
    if (lanes > 0) {
      LaunchStreamed(ctx, r, blocks);
    } else {
      WithPacks(C, launch, r.dy, r.x, r.w, static_cast<const T*>(r.dx), static_cast<const T*>(r.y));
    }
    if (r.dw_parts) AddPartialSums(ctx, dw.data<Sum>(), blocks, C, r.dw_parts);
  });
}

}  // namespace swarr
