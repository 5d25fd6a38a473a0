// SPDX-License-Identifier: Apache-2.0
// What this machine can do at best, measured: what the speed of kernels is held against. Each is the best of several
// runs.
#pragma once

#include "tensor/context.h"

namespace swarr {

// On the processor: f32 multiply-adds of ctx.threads threads with all operands in registers, in GFLOP/s: two operations
// each. With the vectors of ctx.cpu's set; the products of bf16 that some sets have are no part of it.
double MultiplyAddPeak(const Context& ctx);

// On a CUDA device: y[M, N] = x[M, K] w[N, K]^T by cuBLAS, in GFLOP/s. At its best for some thousands of rows, columns
// and k, and with random operands: of zeros a device computes more, because they take less power.
double ProductPeak(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w);

// Copying from one buffer of the device's memory to another, both far larger than a cache, in GB/s (10^9 bytes): read
// plus written.
double CopyBandwidth(const Context& ctx);

}  // namespace swarr
