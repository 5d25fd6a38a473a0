// SPDX-License-Identifier: Apache-2.0
// What the plain definitions read and write: row-major arrays that somebody else holds. a(n, c) is an element.
#pragma once

#include <array>

#include "tensor/tensor.h"

namespace swarr::plain {

template <class T>
class View {
 public:
  View() = default;  // empty: an optional input that is not given, or a gradient that is not wanted
  View(T* data, std::array<int, 3> shape) : data_(data), shape_(shape) {}
  // A tensor of rank 1 to 3, on the host: of f64 for Array, of i32 for Indices.
  View(const Tensor& t) {  // NOLINT(google-explicit-constructor): kernels and definitions take the same arguments
    if (t.empty()) return;
    data_ = t.data<std::remove_const_t<T>>();
    for (int i = 0; i < t.rank(); ++i) shape_.at(static_cast<std::size_t>(i)) = static_cast<int>(t.dim(i));
  }

  bool empty() const { return data_ == nullptr; }
  int dim(int i) const { return shape_.at(static_cast<std::size_t>(i)); }
  int size() const { return dim(0) * dim(1) * dim(2); }
  T& operator()(int i) const { return data_[i]; }
  T& operator()(int i, int j) const { return data_[i * dim(1) + j]; }
  T& operator()(int i, int j, int k) const { return data_[(i * dim(1) + j) * dim(2) + k]; }

 private:
  T* data_ = nullptr;
  std::array<int, 3> shape_ = {1, 1, 1};
};

using Array = View<double>;
using Indices = View<const std::int32_t>;

// What is done to numbers that the op stores on its way from inputs to results. The definitions store them as they are;
// a test rounds them to bf16 there, and so sees what bf16 costs.
using Rounding = double (*)(double);
inline double Exact(double x) { return x; }

}  // namespace swarr::plain
