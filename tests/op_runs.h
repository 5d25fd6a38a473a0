// SPDX-License-Identifier: Apache-2.0
// Runs of the cases of op_cases.h, forward and backward.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "autograd/gradient_check.h"
#include "op_cases.h"
#include "tensors.h"

namespace swarr {

// A forward, and the backward of a gradient that is the same in every run of the case.
struct Run {
  OpResult result;
  std::vector<Var> inputs;
};

// Sets the gradient of the result, given its tensor.
using SetGradient = std::function<void(const Tensor&)>;

// With `stored` by the plain definition, without by the op itself.
inline Run RunOn(Context ctx, const OpCase& c, std::vector<Var> inputs, const SetGradient& set_gradient,
                 plain::Rounding stored = nullptr) {
  Tape tape;
  const TapeScope recording(ctx, c.differentiable ? &tape : nullptr);
  Run run{stored ? c.run_plain(ctx, inputs, stored) : c.run(ctx, inputs), inputs};
  if (!run.result.out.grad.empty()) {
    set_gradient(run.result.out.ClaimGrad());
    tape.Backward(ctx);
  }
  return run;
}

// `inputs`: with the gradients that the backward shall add to.
inline Run RunOn(const Context& ctx, const OpCase& c, std::vector<Var> inputs) {
  return RunOn(ctx, c, std::move(inputs), [&](const Tensor& dout) {
    Copy(ctx, dout.Reshape({dout.size()}), Random(ctx.HostArena(), dout.dtype(), {dout.size()}, 99));
  });
}

inline Run RunOn(const Context& ctx, const OpCase& c, DType dtype) {
  return RunOn(ctx, c, MakeInputs(ctx, c, dtype, /*gradients=*/true));
}

// A run on a device, to be compared.
inline Run OnHost(const Context& ctx, const Run& run) {
  Run host{{OnHost(ctx, run.result.out)}, {}};
  for (const Tensor& t : run.result.also) host.result.also.push_back(OnHost(ctx, t));
  for (const Var& v : run.inputs) host.inputs.push_back(OnHost(ctx, v));
  return host;
}

// Checks every result and every gradient. Runs on the host; returns whether all were the same.
inline bool CheckSameBits(const Run& a, const Run& b) {
  bool all = true;
  const auto check = [&](const Tensor& x, const Tensor& y) {
    const bool same = SameBits(x, y);
    CHECK(same);
    all = all && same;
  };
  check(a.result.out.value, b.result.out.value);
  for (std::size_t i = 0; i < a.result.also.size(); ++i) check(a.result.also[i], b.result.also[i]);
  for (std::size_t i = 0; i < a.inputs.size(); ++i) {
    if (a.inputs[i].grad.empty()) continue;
    INFO("gradient of " << i);
    check(a.inputs[i].grad, b.inputs[i].grad);
  }
  return all;
}

inline double LargestOf(const Tensor& t) {
  double largest = 0;
  for (std::int64_t i = 0; i < t.size(); ++i) largest = std::max(largest, std::fabs(ValueAt(t, i)));
  return largest;
}

// RelativeError of one gradient of many, the largest of which has magnitude `all`. Where it is 0 by the maths (of the
// query of a token that sees one key, and of that key), both runs hold only the rounding of terms that cancel: they are
// of the size of the other gradients.
inline double ErrorBeside(const Tensor& value, const Tensor& reference, double all) {
  if (LargestOf(reference) >= 1e-4 * all) return RelativeError(value, reference);
  double difference = 0;
  for (std::int64_t e = 0; e < value.size(); ++e) {
    const double d = std::fabs(ValueAt(value, e) - ValueAt(reference, e));
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, d);
  }
  return difference == 0 ? 0 : difference / all;
}

// The error of the gradient of input i.
inline double ErrorOfGradient(const Run& run, const Run& exact, std::size_t i) {
  double all = 0;
  for (const Var& input : exact.inputs) {
    if (!input.grad.empty()) all = std::max(all, LargestOf(input.grad));
  }
  return ErrorBeside(run.inputs[i].grad, exact.inputs[i].grad, all);
}

inline std::string Describe(const OpCase& c, std::size_t input) {
  return c.name + ", gradient of " + c.inputs[input].name;
}

}  // namespace swarr
