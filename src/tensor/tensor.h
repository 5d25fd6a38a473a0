// SPDX-License-Identifier: Apache-2.0
// Dtypes and the tensor: a checked, non-owning, contiguous view. Memory belongs to an Arena or a Buffer (memory.h).
//
// Dimension glossary, one for the whole repository:
//   B batch, T time, N rows (tokens of all documents of a batch, one after another), C channels, H query heads,
//   G key/value heads, D head dim, F ffn width, V vocabulary, L layers, W window, S sinks.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "tensor/check.h"

namespace swarr {

enum class DType : std::uint8_t { kF64, kF32, kI32 };

std::size_t SizeOf(DType dtype);            // bytes of one element
std::string Name(DType dtype);              // "f64", "f32", "i32"
DType ParseDType(const std::string& name);  // throws UsageError on an unknown name

template <class T>
constexpr DType kDTypeOf = [] {
  static_assert(std::is_same_v<T, double> || std::is_same_v<T, float> || std::is_same_v<T, std::int32_t>);
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  return DType::kI32;
}();

// A contiguous row-major view of rank 1 to 4; copying copies the view. A default-constructed Tensor is empty.
class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;
  // `data` must hold the product of `shape` elements of `dtype` and outlive the view.
  Tensor(void* data, DType dtype, std::initializer_list<std::int64_t> shape);

  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  std::int64_t dim(int i) const { return shape_[static_cast<std::size_t>(i)]; }
  std::int64_t size() const;  // elements
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * SizeOf(dtype_); }
  std::string ShapeString() const;  // "[2, 3] f32"
  void* raw() const { return data_; }

  // The elements. Throws if T is not the tensor's dtype.
  template <class T>
  T* data() const {
    SWARR_CHECK(!empty() && kDTypeOf<T> == dtype_, "tensor ", ShapeString(), " read as ", Name(kDTypeOf<T>));
    return static_cast<T*>(data_);
  }

  // The same elements under another shape of equal size.
  Tensor Reshape(std::initializer_list<std::int64_t> shape) const;
  // Rows [begin, end) of the first dimension.
  Tensor Rows(std::int64_t begin, std::int64_t end) const;
  bool SameShape(const Tensor& other) const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int rank_ = 0;
  std::array<std::int64_t, kMaxRank> shape_{};
};

// Throws unless `t` has exactly this dtype and shape; -1 stands for any size. `what` names it in the sentence.
void CheckShape(const Tensor& t, DType dtype, std::initializer_list<std::int64_t> shape, const char* what);

void FillZero(const Tensor& t);
void Copy(const Tensor& to, const Tensor& from);  // same shape and dtype

// Calls f.template operator()<T>() with T the floating-point type of `dtype`. The one place where a dtype becomes a
// type.
template <class F>
decltype(auto) Dispatch(DType dtype, F&& f) {
  SWARR_CHECK(dtype == DType::kF64 || dtype == DType::kF32, "a floating-point tensor is needed here, not ",
              Name(dtype));
  return dtype == DType::kF64 ? f.template operator()<double>() : f.template operator()<float>();
}

}  // namespace swarr
