// SPDX-License-Identifier: Apache-2.0
// Named tensors of the oracle: on the host, in f64 whatever they stand for, so that a case can be perturbed, compared
// and written without asking what it computes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tensor/context.h"
#include "tensor/philox.h"

namespace swarr::oracle {

struct Value {
  std::vector<std::int64_t> shape;  // rank 1 to 4; a scalar is [1]
  std::vector<double> data;         // row-major
  bool integer = false;             // ids and positions: i32 in files, compared exactly

  std::int64_t dim(int i) const { return shape.at(static_cast<std::size_t>(i)); }
  std::string ShapeString() const;  // "[2, 3]"
};
using Values = std::map<std::string, Value>;

std::int64_t SizeOf(const std::vector<std::int64_t>& shape);
// "[2, 3]"
std::string ShapeString(const std::vector<std::int64_t>& shape);
// "a, b and 4 more": the first `most` of the names.
std::string Some(const std::vector<std::string>& names, std::size_t most);

// A view of this shape, rank 1 to 4.
Tensor ViewOf(void* data, DType dtype, const std::vector<std::int64_t>& shape);
// The same numbers as a tensor in step memory, f64 or i32, and back.
Tensor InArena(const Context& ctx, const Value& value);
Value ValueOf(const Tensor& t);
// Zeros of this shape.
Value Zeros(std::vector<std::int64_t> shape);
Value Integers(const std::vector<std::int32_t>& values);

// Inputs of cases: a stream of random numbers of its own for every case and tensor.
//
// Normal numbers of standard deviation `scale` around `mean`, on the grid of multiples of scale / 64 and with at most
// 255 of them: 8 significant bits, if scale is a power of two and mean 0. bf16, f16, f32 and f64 all hold them exactly,
// so that a candidate of any dtype starts from the very same numbers.
Value RandomNormal(PhiloxStream& random, std::vector<std::int64_t> shape, double scale = 1, double mean = 0);
// Uniform in 0 .. below - 1.
Value RandomIntegers(PhiloxStream& random, std::vector<std::int64_t> shape, std::int64_t below);
// The stream of a case.
PhiloxStream StreamOf(const std::string& suite, const std::string& name);

}  // namespace swarr::oracle
