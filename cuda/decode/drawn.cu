// SPDX-License-Identifier: Apache-2.0
// Tokens that a step of decoding feeds before the processor has seen them (model/decode_step.h).
#include "cuda/cuda.h"
#include "model/decode_step.h"

namespace swarr {
namespace {

__global__ void TakeKernel(std::int64_t N, std::int32_t* ids, const std::int32_t* drawn) {
  const std::int64_t n = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (n < N && ids[n] < 0) ids[n] = drawn[-1 - ids[n]];
}

}  // namespace

void TakeDrawn(const Context& ctx, const Tensor& ids, const Tensor& drawn) {
  Launch(ctx, {static_cast<unsigned>(Blocks(ids.dim(0), kThreads))}, TakeKernel, ids.dim(0), ids, drawn);
}

}  // namespace swarr
