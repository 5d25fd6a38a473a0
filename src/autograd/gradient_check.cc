// SPDX-License-Identifier: Apache-2.0
#include "autograd/gradient_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/philox.h"

namespace swarr {
namespace {

// dL/dx = (8 (L(x+h) - L(x-h)) - (L(x+2h) - L(x-2h))) / 12h + h^4 L'''''/30. With h = 2^-10 the cut term is 3e-14 times
// the fifth derivative and the rounding of L costs about 2^-53 |L| / h = 1e-13 |L|: both far below 1e-7 with no tuning
// per op. The usual two-point quotient (h^2/6 and 2^-53 / h) leaves 1e-10 at the best h, and far more beside it.
constexpr double kStep = 0x1p-10;

// c_i of the header.
double Weight(std::int64_t i) { return 2 * UniformFrom(Philox(0, {static_cast<std::uint32_t>(i), 0, 0, 0})[0]) - 1; }

// t where the processor can read it.
Tensor Read(const Context& ctx, const Tensor& t) {
  const Tensor host = ToHost(ctx, t);
  Wait(ctx);
  return host;
}

double Loss(Context& ctx, const std::function<Var(Context&)>& f) {
  const StepScope scope(ctx);
  const Tensor y = Read(ctx, f(ctx).value);
  double sum = 0;
  for (std::int64_t i = 0; i < y.size(); ++i) sum += Weight(i) * y.data<double>()[i];
  return sum;
}

void RunBackward(Context ctx, const std::function<Var(Context&)>& f) {
  const StepScope scope(ctx);
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Var y = f(ctx);
  SWARR_CHECK(!y.grad.empty(), "the computation to check has no gradient; record it on the context's tape");
  const Tensor weights = ctx.HostArena().New(DType::kF64, {y.grad.size()});
  for (std::int64_t i = 0; i < weights.size(); ++i) weights.data<double>()[i] = Weight(i);
  Copy(ctx, y.ClaimGrad().Reshape({weights.size()}), weights);
  tape.Backward(ctx);
}

// By element i of x, which holds `at` there.
double Derivative(Context& ctx, const std::function<Var(Context&)>& f, const Tensor& x, std::int64_t i, double at) {
  const auto set = [&](double value) {
    Copy(ctx, x.Reshape({x.size()}).Rows(i, i + 1), Tensor(&value, DType::kF64, {1}));
    Wait(ctx);
  };
  const auto loss = [&](double shift) {
    set(at + shift);
    return Loss(ctx, f);
  };
  const double near = loss(kStep) - loss(-kStep);
  const double far = loss(2 * kStep) - loss(-2 * kStep);
  set(at);
  return (8 * near - far) / (12 * kStep);
}

double LargestMagnitude(const std::vector<double>& values) {
  double largest = 0;
  for (double v : values) largest = std::max(largest, std::fabs(v));
  return largest;
}

}  // namespace

double RelativeError(const Tensor& value, const Tensor& reference) {
  SWARR_CHECK(value.size() == reference.size(), "can't compare ", value.ShapeString(), " with ",
              reference.ShapeString());
  const auto at = [](const Tensor& t, std::int64_t i) {
    return Dispatch(t.dtype(), [&]<class T>() { return static_cast<double>(t.data<T>()[i]); });
  };
  double difference = 0, largest = 0;
  for (std::int64_t i = 0; i < value.size(); ++i) {
    const double a = at(value, i), b = at(reference, i);
    if (std::isfinite(b)) largest = std::max(largest, std::fabs(b));
    if (a == b) continue;  // equal infinities among them
    if (!std::isfinite(a - b)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::fabs(a - b));
  }
  return difference == 0 ? 0 : difference / largest;
}

std::vector<double> GradientErrors(Context ctx, std::span<const Var> inputs, const std::function<Var(Context&)>& f,
                                   std::int64_t stride) {
  for (const Var& input : inputs) {
    if (!input.grad.empty()) FillZero(ctx, input.grad);
  }
  const TapeScope off(ctx, nullptr);
  RunBackward(ctx, f);
  std::vector<std::vector<double>> derivatives(inputs.size());
  double floor = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].grad.empty()) continue;
    const Tensor &x = inputs[i].value, held = Read(ctx, x);
    for (std::int64_t e = 0; e < x.size(); e += stride) {
      derivatives[i].push_back(Derivative(ctx, f, x, e, held.data<double>()[e]));
    }
    floor = std::max(floor, 1e-4 * LargestMagnitude(derivatives[i]));
  }
  std::vector<double> errors(inputs.size(), 0.0);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const double scale = std::max(floor, LargestMagnitude(derivatives[i]));
    const Tensor grad = Read(ctx, inputs[i].grad);
    for (std::size_t e = 0; e < derivatives[i].size(); ++e) {
      const double by_backward = grad.data<double>()[static_cast<std::int64_t>(e) * stride];
      const double difference = std::fabs(by_backward - derivatives[i][e]);
      if (difference == 0) continue;
      errors[i] =
          std::isfinite(difference) ? std::max(errors[i], difference / scale) : std::numeric_limits<double>::infinity();
    }
  }
  return errors;
}

}  // namespace swarr
