// SPDX-License-Identifier: Apache-2.0
// An op of your own on the tape, y = tanh(x), and its gradient held against differences of its values.
#include <swarr/autograd/gradient_check.h>
#include <swarr/autograd/ops.h>
#include <swarr/tensor/transfer.h>

#include <cmath>
#include <iostream>

namespace {

using namespace swarr;

// dL/dx += dL/dy (1 - y^2). What a closure refers to lies in step memory, as y does, or outlives the step.
void AddTanhGradient(const Tensor& dx, const Tensor& y, const Tensor& dy) {
  DispatchSum(y.dtype(), [&]<class T>() {
    for (std::int64_t i = 0; i < y.size(); ++i) {
      const T value = y.data<T>()[i], grad = dy.data<T>()[i] * (1 - value * value);
      dx.data<T>()[i] = dx.fresh() ? grad : dx.data<T>()[i] + grad;  // fresh: nothing is there to add to
    }
  });
}

Var Tanh(Context& ctx, const Var& x) {
  const Var y = NewVarLike(ctx, x.value);
  DispatchSum(x.value.dtype(), [&]<class T>() {
    for (std::int64_t i = 0; i < x.value.size(); ++i) y.value.data<T>()[i] = std::tanh(x.value.data<T>()[i]);
  });
  RecordBackward(ctx, [x, y](Context& c) { AddTanhGradient(x.ClaimGrad(), y.value, y.SettleGrad(c)); });
  return y;
}

}  // namespace

int main() {
  OwnContext ctx;
  const OwnedTensor value(DType::kF64, {3, 5}), grad(DType::kF64, {3, 5});
  for (int i = 0; i < 15; ++i) value.view().data<double>()[i] = std::sin(i + 1);
  const Var x{value.view(), grad.view()};

  // x is used twice, so that the second gradient is added to the first.
  const auto f = [&](Context& c) { return Add(c, x, Tanh(c, Tanh(c, x))); };
  const double error = GradientErrors(ctx, {&x, 1}, f)[0];
  std::cout << "x + tanh(tanh(x)): the backward is off by " << error << " of the largest derivative\n";
  return error < 1e-9 ? 0 : 1;
}
