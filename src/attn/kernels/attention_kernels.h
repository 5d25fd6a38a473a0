// SPDX-License-Identifier: Apache-2.0
// The sets of attention kernels, compiled as those of tensor/kernels/kernels.h are.
#pragma once

#include "attn/attention.h"
#include "tensor/cpu.h"
#include "tensor/device.h"

namespace swarr {

template <class Set>
struct AttentionKernels;

template <>
struct AttentionKernels<Portable> {
#include "attn/kernels/attention_functions.h"
};

template <>
struct AttentionKernels<Avx2> {
#include "attn/kernels/attention_functions.h"
};

template <>
struct AttentionKernels<Avx512> {
#include "attn/kernels/attention_functions.h"
};

template <>
struct AttentionKernels<Cuda> {
#include "attn/kernels/attention_functions.h"
};

}  // namespace swarr
