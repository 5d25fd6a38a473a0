// SPDX-License-Identifier: Apache-2.0
// What this machine can do at best, as a measure for the speed of kernels. Each is the best of several runs.
#pragma once

#include "tensor/context.h"

namespace swarr {

// On the processor: f32 multiply-adds of ctx.threads threads with all operands in registers, in GFLOP/s, two operations
// each. They use the vectors of ctx.cpu's set, not the products of bf16 that some sets have.
double MultiplyAddPeak(const Context& ctx);

// On a CUDA device: y[M, N] = x[M, K] w[N, K]^T by cuBLAS, in GFLOP/s. For the peak give it some thousands of rows,
// columns and k, and random operands: zeros take less power, so a device computes more of them.
double ProductPeak(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w);

// Copying from one buffer of the device's memory to another, both far larger than a cache: bytes read plus written, in
// GB/s (10^9 bytes).
double CopyBandwidth(const Context& ctx);

}  // namespace swarr
