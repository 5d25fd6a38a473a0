// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/embedding.cc. GatherRows: a warp copies a row in packs. Backward: each row of dy has a
// block. The block whose row is the first of its id adds all rows of that id to dw, in ascending order; the others
// leave. So every column of dw is one sum in one order, as on the CPU, without sorting; the atomics are on integers,
// whose largest is the same in any order. Left out: sorting the ids, which would save the scan from the first to the
// last row that every id costs.
#include "cuda/pack.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kIdsPerThread = 16;
constexpr int kChunk = kThreads * kIdsPerThread;  // ids that a block looks at together

template <int k, class T>
__global__ void GatherKernel(std::int64_t N, std::int64_t C, bool aligned, T* y, const T* x, const std::int32_t* rows) {
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  WaitForPrevious();
  LetNextBegin();  // not before: what comes next may read early what a step of decoding has been given (drawn.cu)
  if (n >= N) return;
  const T* from = x + rows[n] * C;
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
    StorePack<k>(y + n * C, c, C, aligned, LoadPack<k>(from, c, C, aligned));
  }
}

// Where an id stands, for all ids; zeros before.
struct Span {
  std::int32_t first;  // N - its first row
  std::int32_t end;    // its last row + 1
};
__global__ void FindSpansKernel(std::int32_t N, Span* spans, const std::int32_t* ids) {
  const auto n = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  WaitForPrevious();
  if (n >= N) return;
  Span& span = spans[ids[n]];
  if (span.first < N - n) atomicMax(&span.first, N - n);
  if (span.end < n + 1) atomicMax(&span.end, n + 1);
}

// Finds which of the rows begin .. begin + kChunk - 1 have this id, writes them to `rows` in shared memory, ascending,
// and returns how many there are. All threads of the block call this. Warp i looks at the i-th run of kWarp *
// kIdsPerThread rows. A lane finds its place by counting the matches before it, in its warp and in the warps before.
__device__ int FindRows(std::int32_t id, const std::int32_t* ids, std::int64_t begin, std::int64_t N,
                        std::int32_t* rows) {
  __shared__ int of_warp[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t first = begin + warp * kWarp * kIdsPerThread + lane;
  unsigned matches[kIdsPerThread];
  int found = 0;
  for (int j = 0; j < kIdsPerThread; ++j) {
    const std::int64_t n = first + j * kWarp;
    matches[j] = __ballot_sync(0xffffffffu, n < N && ids[n] == id);
    found += __popc(matches[j]);
  }
  if (lane == 0) of_warp[warp] = found;
  __syncthreads();
  int place = 0, total = 0;
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) place += of_warp[i];
    total += of_warp[i];
  }
  const unsigned before = (1u << lane) - 1;  // the lanes below this one
  for (int j = 0; j < kIdsPerThread; ++j) {
    if (matches[j] >> lane & 1) {
      rows[place + __popc(matches[j] & before)] = static_cast<std::int32_t>(first + j * kWarp);
    }
    place += __popc(matches[j]);
  }
  __syncthreads();  // `rows` is complete, and of_warp has been read
  return total;
}

template <class T>
__global__ void BackwardKernel(std::int64_t N, std::int64_t C, Accumulator<T>* dw, const T* dy, const std::int32_t* ids,
                               const Span* spans) {
  using Sum = Accumulator<T>;
  __shared__ std::int32_t rows[kChunk];
  const std::int64_t n = blockIdx.x;
  WaitForPrevious();
  const std::int32_t id = ids[n];
  const Span span = spans[id];
  if (N - span.first != n) return;
  Sum* to = dw + id * C;
  for (std::int64_t begin = n; begin < span.end; begin += kChunk) {
    const int count = FindRows(id, ids, begin, span.end, rows);
    if (count == 0) continue;
    for (std::int64_t c = threadIdx.x; c < C; c += kThreads) {
      Sum sum = to[c];
#pragma unroll 8
      for (int i = 0; i < count; ++i) sum += Sum(dy[rows[i] * C + c]);
      to[c] = sum;
    }
    __syncthreads();  // before `rows` is written again
  }
}

}  // namespace

template <>
void Kernels<Cuda>::GatherRows(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rows) {
  const std::int64_t N = rows.dim(0), C = x.dim(1);
  Dispatch(x.dtype(), [&]<class T>() {
    constexpr int k = kPack<T>;
    const bool aligned = RowsAligned<k>(C, y.data<T>(), x.data<T>());
    Launch(ctx, {.blocks = Blocks(N, kWarps), .early = true}, GatherKernel<k, T>, N, C, aligned, y, x, rows);
  });
}

template <>
void Kernels<Cuda>::EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids) {
  const std::int64_t N = ids.dim(0), C = dw.dim(1);
  ArenaScope scope(*ctx.arena);
  Span* spans = ctx.arena->NewArray<Span>(dw.dim(0));
  EnqueueZero(*ctx.stream, spans, static_cast<std::size_t>(dw.dim(0)) * sizeof(Span));
  Launch(ctx, {.blocks = Blocks(N, kThreads), .early = true}, FindSpansKernel, static_cast<std::int32_t>(N), spans,
         ids);
  Dispatch(dy.dtype(),
           [&]<class T>() { Launch(ctx, {.blocks = N, .early = true}, BackwardKernel<T>, N, C, dw, dy, ids, spans); });
}

}  // namespace swarr
