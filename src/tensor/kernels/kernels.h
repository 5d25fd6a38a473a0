// SPDX-License-Identifier: Apache-2.0
// The sets of CPU kernels. Each kernel file defines members of Kernels<SWARR_SET> and is compiled once for each set,
// with that set's instructions and SWARR_SET naming its tag (cmake/kernels.cmake). Whatever such a file includes must
// not leave code behind that another set could link to: helpers in headers are always inlined, or stand in an unnamed
// namespace. The set of CUDA kernels is defined in cuda/, if the build has them.
#pragma once

#include "tensor/ops.h"

namespace swarr {

template <class Set>
struct Kernels;

template <>
struct Kernels<Portable> {
#include "tensor/kernels/kernel_functions.h"
};

template <>
struct Kernels<Avx2> {
#include "tensor/kernels/kernel_functions.h"
};

template <>
struct Kernels<Avx512> {
#include "tensor/kernels/kernel_functions.h"
};

template <>
struct Kernels<Cuda> {
#include "tensor/kernels/kernel_functions.h"
};

}  // namespace swarr
