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

#include "base/names.h"
#include "tensor/bf16.h"

namespace swarr {

enum class DType : std::uint8_t { kF64, kF32, kBF16, kI32 };

template <>
inline constexpr std::array kNames<DType> = {"f64", "f32", "bf16", "i32"};

std::size_t SizeOf(DType dtype);  // bytes of one element

// The type that a kernel computes in, and stores sums, log-probabilities and gradients of weights in: f32 for bf16,
// else the type itself.
DType AccumulatorOf(DType dtype);
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

template <class T>
constexpr DType kDTypeOf = [] {
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, BFloat16>) return DType::kBF16;
  if constexpr (std::is_same_v<T, std::int32_t>) return DType::kI32;
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
    if (empty() || kDTypeOf<T> != dtype_) ThrowReadAs(kDTypeOf<T>);
    return static_cast<T*>(data_);
  }

  // The same view as a gradient that holds nothing yet: a backward writes it instead of adding to it. That saves
  // filling it with zeros and reading them again (autograd/tape.h).
  Tensor Fresh() const {
    Tensor t = *this;
    t.fresh_ = true;
    return t;
  }
  bool fresh() const { return fresh_; }

  // The same elements under another shape of equal size.
  Tensor Reshape(std::initializer_list<std::int64_t> shape) const;
  // Rows [begin, end) of the first dimension.
  Tensor Rows(std::int64_t begin, std::int64_t end) const;
  // The same dtype and shape.
  bool SameShape(const Tensor& other) const {
    return dtype_ == other.dtype_ && rank_ == other.rank_ && shape_ == other.shape_;
  }
  // The same shape and dtype over other memory.
  Tensor Over(void* data) const {
    Tensor t = *this;
    t.data_ = data;
    t.fresh_ = false;
    return t;
  }

 private:
  [[noreturn]] void ThrowReadAs(DType dtype) const;

  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  bool fresh_ = false;
  int rank_ = 0;
  std::array<std::int64_t, kMaxRank> shape_{};  // 0 beyond the rank
};

// Throws unless `t` has exactly this dtype and shape; -1 stands for any size. `what` names it in the sentence.
void CheckShape(const Tensor& t, DType dtype, std::initializer_list<std::int64_t> shape, const char* what);

// For memory that the processor reaches; transfer.h has the same for the memory of any device.
void FillZero(const Tensor& t);
void Copy(const Tensor& to, const Tensor& from);  // same shape and dtype
std::int64_t CountNonFinite(const Tensor& t);     // values that are NaN or infinite

[[noreturn]] void ThrowNotFloating(DType dtype);

// Calls f.template operator()<T>() with T the floating-point type of `dtype`. Only here a dtype becomes a type.
template <class F>
[[gnu::always_inline]] inline decltype(auto) Dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64:
      return f.template operator()<double>();
    case DType::kF32:
      return f.template operator()<float>();
    case DType::kBF16:
      return f.template operator()<BFloat16>();
    default:
      ThrowNotFloating(dtype);
  }
}

// The same for the types that sums are kept in: f64 and f32.
template <class F>
[[gnu::always_inline]] inline decltype(auto) DispatchSum(DType dtype, F&& f) {
  if (dtype == DType::kF64) return f.template operator()<double>();
  if (dtype != DType::kF32) ThrowNotFloating(dtype);
  return f.template operator()<float>();
}

}  // namespace swarr
