// SPDX-License-Identifier: Apache-2.0
// The one table of op cases. A case is data (inputs) and one function that runs a recorded op on them: without a tape
// it is the forward, under a tape it brings its backward with it. Whatever holds for every op is tested by walking this
// table (ops_test.cc), on any context: another device or a speed measurement needs no second list.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "plain/array.h"

namespace swarr {

struct OpInput {
  std::string name;
  std::vector<std::int64_t> shape;  // rank 1 to 3
  std::vector<double> reals;        // a floating input: numbers that f32 holds exactly
  std::vector<std::int32_t> ints;   // or ids, positions, ...
  bool per_row = false;             // row n of the result depends on row n of this input, and on no other row of it
  bool parameter = false;           // its gradient is of the sum dtype
  bool frozen = false;              // a constant: it has no gradient
};

struct OpResult {
  Var out;
  std::vector<Tensor> also = {};  // results without a gradient
};

struct OpCase {
  std::string name;
  std::vector<OpInput> inputs;
  std::function<OpResult(Context&, std::span<const Var>)> run;
  // The same in f64 on the host, by the plain definition (plain_ops.h). `stored` is done to what the op stores as bf16
  // on its way from inputs to results, if it `stores` anything.
  std::function<OpResult(Context&, std::span<const Var>, plain::Rounding stored)> run_plain;
  bool stores = false;
  int longest_sum = 1;  // terms in the longest sum of forward or backward: what rounding errors grow with
  bool differentiable = true;
  bool large = false;  // every kernel has several blocks of work for each of 3 threads; too big for differences
  bool bf16 = true;    // works on bf16 too
};

// Every recorded op, and the ops without a backward, in awkward shapes and at sizes with several blocks (large).
std::vector<OpCase> OpCases();

// Ops whose rows depend on nothing but themselves, with kBatchRows rows.
constexpr std::int64_t kBatchRows = 257;
std::vector<OpCase> RowCases();

// The inputs of a case as tensors of `dtype` (ints stay i32), with zero gradients if wanted: on the context's device,
// or in the processor's memory. `held_by`: rounded to this dtype before.
std::vector<Var> MakeInputs(const Context& ctx, const OpCase& c, DType dtype, bool gradients);
std::vector<Var> MakeInputs(Arena& arena, const OpCase& c, DType dtype, bool gradients);
std::vector<Var> MakeInputs(Arena& arena, const OpCase& c, DType dtype, bool gradients, DType held_by);

// Rows of the inputs that are per row, and of the results; 0 if there are none.
std::int64_t RowsOf(const OpCase& c);

}  // namespace swarr
