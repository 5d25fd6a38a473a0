// SPDX-License-Identifier: Apache-2.0
// What steps of decoding and the processor tell each other (model/decode_step.h). These few numbers are read and
// written where the processor has them, in pinned memory: a copy on either side of a step's kernels makes the device
// wait some 6 us each, a launch 3.
#include "cuda/cuda.h"
#include "model/decode_step.h"

namespace swarr {
namespace {

// The ids are those from first_id to end_id.
__global__ void TakeKernel(std::int64_t count, std::int32_t* to, const std::int32_t* from, std::int64_t first_id,
                           std::int64_t end_id, const std::int32_t* drawn) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  LetNextBegin();
  const std::int32_t number = i < count ? from[i] : 0;
  WaitForPrevious();
  if (i >= count) return;
  to[i] = i >= first_id && i < end_id && number < 0 ? drawn[-1 - number] : number;
}

__global__ void GiveKernel(std::int64_t tokens, std::int32_t* to_tokens, const std::int32_t* from_tokens,
                           std::int64_t words, std::int32_t* to_logp, const std::int32_t* from_logp) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  LetNextBegin();
  WaitForPrevious();
  if (i < tokens) to_tokens[i] = from_tokens[i];
  if (i < words) to_logp[i] = from_logp[i];
}

}  // namespace

// Early, since the processor's memory is far away. GatherRows, which comes next, waits for it before it lets others
// begin.
void TakeRows(const Context& ctx, const Tensor& to, const Tensor& from, const Tensor& ids, const Tensor& drawn) {
  const std::int64_t first_id = ids.data<std::int32_t>() - from.data<std::int32_t>();
  Launch(ctx, {.blocks = static_cast<unsigned>(Blocks(from.dim(0), kThreads)), .early = true}, TakeKernel, from.dim(0),
         to, from, first_id, first_id + ids.dim(0), drawn);
}

void GiveDrawn(const Context& ctx, const Drawn& to, const Drawn& from) {
  const auto words = static_cast<std::int64_t>(from.logp.bytes() / sizeof(std::int32_t));
  Launch(ctx, {.blocks = static_cast<unsigned>(Blocks(words, kThreads)), .early = true}, GiveKernel, from.tokens.dim(0),
         to.tokens, from.tokens, words, static_cast<std::int32_t*>(to.logp.raw()),
         static_cast<const std::int32_t*>(from.logp.raw()));
}

}  // namespace swarr
