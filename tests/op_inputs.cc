// SPDX-License-Identifier: Apache-2.0
// The inputs of the cases of op_cases.h as tensors.
#include <algorithm>

#include "op_cases.h"
#include "tensors.h"

namespace swarr {

std::int64_t RowsOf(const OpCase& c) {
  for (const OpInput& input : c.inputs) {
    if (input.per_row) return input.shape[0];
  }
  return 0;
}

std::vector<Var> MakeInputs(const Context& ctx, const OpCase& c, DType dtype, bool gradients) {
  std::vector<Var> vars = MakeInputs(ctx.HostArena(), c, dtype, gradients);
  for (Var& v : vars) v = ToDevice(ctx, v);
  return vars;
}

std::vector<Var> MakeInputs(Arena& arena, const OpCase& c, DType dtype, bool gradients) {
  return MakeInputs(arena, c, dtype, gradients, dtype);
}

std::vector<Var> MakeInputs(Arena& arena, const OpCase& c, DType dtype, bool gradients, DType held_by) {
  std::vector<Var> vars;
  for (const OpInput& input : c.inputs) {
    Var& var = vars.emplace_back();
    if (!input.ints.empty()) {
      var.value = NewTensor(arena, DType::kI32, input.shape);
      std::copy(input.ints.begin(), input.ints.end(), var.value.data<std::int32_t>());
      continue;
    }
    var.value = NewTensor(arena, dtype, input.shape);
    Dispatch(dtype, [&]<class T>() {
      Dispatch(held_by, [&]<class Held>() {
        std::transform(input.reals.begin(), input.reals.end(), var.value.data<T>(),
                       [](double x) { return static_cast<T>(static_cast<Held>(x)); });
      });
    });
    if (gradients && !input.frozen)
      var.grad = NewTensor(arena, input.parameter ? AccumulatorOf(dtype) : dtype, input.shape);
  }
  return vars;
}

}  // namespace swarr
