// SPDX-License-Identifier: Apache-2.0
// What is promised of every op on every device, for one case of op_cases.h each: checked on the processor by
// ops_test.cc, op_rows_test.cc and op_bf16_test.cc, on a CUDA device by cuda_ops_test.cc.
#pragma once

#include <string>
#include <vector>

#include "op_runs.h"

namespace swarr {

// The largest that GradientErrors of an op may be. 1e-7 is the promise. The differences themselves are good to 4e-11 or
// better here (autograd/gradient_check.cc), and a wrong formula is off by far more than 1e-7: this bound is in between.
constexpr double kDerivativeTolerance = 1e-9;

// GradientErrors of a case in f64; the largest.
double LargestGradientError(const Context& ctx, const OpCase& c);

// How far a run is from an exact one, of any dtypes: the largest RelativeError of its results, of which i32 must be
// equal, and the largest ErrorOfGradient. Both runs on the host.
struct RunErrors {
  double forward = 0, gradients = 0;
};
RunErrors ErrorsOf(const Run& run, const Run& exact);

// What the batch, a run on the context's device, holds of rows [begin, end), forward and backward, must be what these
// rows give alone, bit for bit. `on_host`: the batch on the host. Returns whether it is.
bool CheckRows(const Context& ctx, const OpCase& c, const Run& batch, const Run& on_host, std::int64_t begin,
               std::int64_t end);

// A backward adds to the gradients that hold something, and writes one that does not, whatever its memory holds.
void CheckAddsToGradients(const Context& ctx, const OpCase& c);

// An input without a gradient is frozen, and the other gradients do not notice.
void CheckFrozenInputs(const Context& ctx, const OpCase& c);

// The error of a bf16 run against f64, and what it may be.
struct Judged {
  std::string what;
  double error, bound;
};
// The errors of the result and of every gradient of a case. What else the case returns is checked here
// (op_checks.cc says by what yardstick). The processor does the evaluations in f64, by the context's set of kernels.
std::vector<Judged> JudgeBF16(const Context& ctx, const OpCase& c);

}  // namespace swarr
