// SPDX-License-Identifier: Apache-2.0
// What this machine can do at best, measured: what the speed of kernels is held against.
#pragma once

#include "tensor/context.h"

namespace swarr {

// f32 multiply-adds of ctx.threads threads with all operands in registers, in GFLOP/s: two operations each. With the
// vectors of ctx.cpu's set; the products of bf16 that some sets have are no part of it. The best of several runs.
double MultiplyAddPeak(const Context& ctx);

// Copying from one buffer to another, both far larger than a cache, in GB/s (10^9 bytes): read plus written. The best
// of several runs.
double CopyBandwidth(const Context& ctx);

}  // namespace swarr
