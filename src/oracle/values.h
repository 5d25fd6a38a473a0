// SPDX-License-Identifier: Apache-2.0
// Named tensors of the oracle. They are on the host and in f64, whatever dtype they stand for, so that any case can be
// perturbed, compared and written.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/context.h"
#include "tensor/philox.h"

namespace swarr::oracle {

struct Value {
  std::vector<std::int64_t> shape;  // rank 1 to 4; a scalar is [1]
  std::vector<double> data;         // row-major, as many as the shape has; integers too
  bool integer = false;             // ids and positions: i32 in files, compared exactly

  std::int64_t dim(int i) const { return shape.at(static_cast<std::size_t>(i)); }
  std::int64_t size() const { return static_cast<std::int64_t>(data.size()); }

  // The element at these indices. With fewer than there are dimensions, the first element of the part that they name:
  // q(n, h) begins the vector of a head.
  double& operator()(auto... index) { return data[Offset({static_cast<std::int64_t>(index)...})]; }
  const double& operator()(auto... index) const { return data[Offset({static_cast<std::int64_t>(index)...})]; }
  // The i-th part along the first dimension.
  std::span<double> Row(std::int64_t i) { return std::span(data).subspan(Offset({i}), Offset({1})); }
  std::span<const double> Row(std::int64_t i) const { return std::span(data).subspan(Offset({i}), Offset({1})); }

 private:
  std::size_t Offset(std::initializer_list<std::int64_t> index) const {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      offset = offset * (d == 0 ? 1 : shape[d]) + (d < index.size() ? index.begin()[d] : 0);
    }
    return static_cast<std::size_t>(offset);
  }
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

// Values as tensors in step memory, by name; empty where there is none of the name.
struct TensorsOf {
  const Context& ctx;
  const Values& values;
  Tensor operator()(const std::string& name) const;
};
Tensor ZerosLike(const Context& ctx, const Tensor& t);

Value Zeros(std::vector<std::int64_t> shape);
Value Integers(const std::vector<std::int32_t>& values);
std::vector<std::int32_t> Counting(std::int64_t size);  // 0, 1, ..., size - 1
Value Scalar(double x);
Value Scaled(Value value, double factor);
// A matrix with columns for rows.
Value Transposed(const Value& w);
// Row i of the new value is row order[i] of the old one.
using Order = std::vector<std::int64_t>;
Value Reordered(const Value& value, const Order& order);
Order Inverse(const Order& order);

// Inputs of cases, drawn from the case's own stream of random numbers.
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
