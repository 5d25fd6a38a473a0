// SPDX-License-Identifier: Apache-2.0
#include "tensor/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace swarr {

std::size_t SizeOf(DType dtype) { return dtype == DType::kF64 ? 8 : (dtype == DType::kBF16 ? 2 : 4); }

DType AccumulatorOf(DType dtype) { return dtype == DType::kBF16 ? DType::kF32 : dtype; }

Tensor::Tensor(void* data, DType dtype, std::initializer_list<std::int64_t> shape)
    : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
  SWARR_CHECK(rank_ >= 1 && rank_ <= kMaxRank, "a tensor has 1 to 4 dimensions, not ", rank_);
  std::size_t i = 0;
  for (std::int64_t n : shape) {
    SWARR_CHECK(n >= 0, "a tensor dimension can't be ", n);
    shape_[i++] = n;
  }
}

std::int64_t Tensor::size() const {
  std::int64_t n = rank_ == 0 ? 0 : 1;
  for (int i = 0; i < rank_; ++i) n *= dim(i);
  return n;
}

std::string Tensor::ShapeString() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dim(i));
  return s + "] " + Name(dtype_);
}

Tensor Tensor::Reshape(std::initializer_list<std::int64_t> shape) const {
  Tensor t(data_, dtype_, shape);
  t.fresh_ = fresh_;
  SWARR_CHECK(t.size() == size(), "can't reshape ", ShapeString(), " to ", t.ShapeString());
  return t;
}

Tensor Tensor::Rows(std::int64_t begin, std::int64_t end) const {
  SWARR_CHECK(0 <= begin && begin <= end && end <= dim(0), "rows ", begin, " to ", end, " of ", ShapeString());
  Tensor t = *this;
  const std::int64_t row = dim(0) == 0 ? 0 : size() / dim(0);
  t.shape_[0] = end - begin;
  t.data_ = static_cast<char*>(data_) + static_cast<std::size_t>(begin * row) * SizeOf(dtype_);
  return t;
}

void Tensor::ThrowReadAs(DType dtype) const { throw Error(Concat("tensor ", ShapeString(), " read as ", Name(dtype))); }

void ThrowNotFloating(DType dtype) { throw Error(Concat("a floating-point tensor is needed here, not ", Name(dtype))); }

void CheckShape(const Tensor& t, DType dtype, std::initializer_list<std::int64_t> shape, const char* what) {
  bool fits = !t.empty() && t.dtype() == dtype && t.rank() == static_cast<int>(shape.size());
  int i = 0;
  for (std::int64_t n : shape) fits &= i < Tensor::kMaxRank && (t.dim(i++) == n || n < 0);
  if (fits) return;
  std::string want;
  for (std::int64_t n : shape) want += (want.empty() ? "" : ", ") + (n < 0 ? std::string("any") : std::to_string(n));
  throw Error(Concat(what, " has shape ", t.ShapeString(), " where [", want, "] ", Name(dtype), " is needed"));
}

void FillZero(const Tensor& t) {
  if (t.bytes() > 0) std::memset(t.raw(), 0, t.bytes());
}

void Copy(const Tensor& to, const Tensor& from) {
  SWARR_CHECK(to.SameShape(from), "can't copy ", from.ShapeString(), " to ", to.ShapeString());
  if (to.bytes() > 0) std::memcpy(to.raw(), from.raw(), to.bytes());
}

std::int64_t CountNonFinite(const Tensor& t) {
  return Dispatch(t.dtype(), [&]<class T>() {
    const T* data = t.data<T>();
    return std::count_if(data, data + t.size(), [](T x) { return !std::isfinite(static_cast<Accumulator<T>>(x)); });
  });
}

}  // namespace swarr
