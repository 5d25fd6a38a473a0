// SPDX-License-Identifier: Apache-2.0
// Is a backward the derivative of its forward? Answered by difference quotients, in f64, on the code that ships: the
// kernels are the same templates in f32 (docs/derivations.md has the formulas that are checked).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "autograd/tape.h"

namespace swarr {

// max |value - reference| / max |reference| over the elements of two floating tensors of one shape, of any dtypes.
// 0 where nothing differs, infinity where a difference is not finite or the reference is 0 everywhere.
double RelativeError(const Tensor& value, const Tensor& reference);

// Runs the recorded computation f once under a tape, and compares the gradient that its backward leaves in each input
// with differences of f without a tape. The function differentiated is L = sum_i c_i y_i with y = f(ctx) and fixed
// c_i in (-1, 1) without a pattern, so that no error in a row or column can cancel against another.
//
// inputs: f64; f reads their values and adds to their gradients, which are set to 0 first and hold dL/dx afterwards.
//   An input with an empty gradient is left alone. f must do the same computation each time it is called. On a CUDA
//   device, inputs and result are the device's, and what is summed and compared is copied from there.
// Returns, for each input, max |backward - differences| / max |differences|, infinity where one is not finite. Where
// the gradient is 0 by the maths (the query of a token that sees one key) the differences hold only their rounding:
// the denominator is therefore at least 1e-4 of the largest derivative by any of the inputs.
// Cost: four calls of f per element. With a stride above 1 every stride-th element of an input is compared alone.
std::vector<double> GradientErrors(Context ctx, std::span<const Var> inputs, const std::function<Var(Context&)>& f,
                                   std::int64_t stride = 1);

}  // namespace swarr
