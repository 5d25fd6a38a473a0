// SPDX-License-Identifier: Apache-2.0
#include "tensor/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace swarr {
namespace {

std::size_t RoundUp(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::size_t BytesOf(DType dtype, std::initializer_list<std::int64_t> shape) {
  std::size_t n = SizeOf(dtype);
  for (std::int64_t d : shape) n *= static_cast<std::size_t>(d);
  return n;
}

}  // namespace

Buffer::Buffer(std::size_t bytes) : bytes_(bytes) {
  const std::size_t rounded = std::max(RoundUp(bytes), kAlignment);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)));
  if (!data_) throw std::bad_alloc();
  std::memset(data_.get(), 0, rounded);
}

void Buffer::Free::operator()(std::byte* p) const { std::free(p); }

OwnedTensor::OwnedTensor(DType dtype, std::initializer_list<std::int64_t> shape)
    : buffer_(BytesOf(dtype, shape)), view_(buffer_.data(), dtype, shape) {}

std::byte* Arena::Take(std::size_t bytes) {
  bytes = std::max(RoundUp(bytes), kAlignment);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].bytes()) {
    before_ += used_;
    used_ = 0;
    ++block_;
  }
  if (block_ == blocks_.size()) {
    constexpr std::size_t kSmallestBlock = std::size_t{1} << 20;
    blocks_.emplace_back(std::max({bytes, kSmallestBlock, before_}));  // doubling keeps the blocks of a first step few
  }
  std::byte* p = blocks_[block_].data() + used_;
  used_ += bytes;
  high_water_ = std::max(high_water_, before_ + used_);
  return p;
}

Tensor Arena::New(DType dtype, std::initializer_list<std::int64_t> shape) {
  return Tensor(Take(BytesOf(dtype, shape)), dtype, shape);
}

Tensor Arena::NewZero(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor t = New(dtype, shape);
  FillZero(t);
  return t;
}

void Arena::Release(Mark mark) {
  block_ = mark.block;
  used_ = mark.used;
  before_ = mark.before;
}

void Arena::Reset() {
  if (blocks_.size() > 1) {
    std::size_t total = 0;
    for (const Buffer& b : blocks_) total += b.bytes();
    blocks_.clear();
    blocks_.emplace_back(total);
  }
  block_ = used_ = before_ = 0;
}

}  // namespace swarr
