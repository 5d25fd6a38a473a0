// SPDX-License-Identifier: Apache-2.0
// Ownership of memory. Long-lived data sits in a Buffer; everything of one step sits in an Arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace swarr {

// All allocations start at multiples of this many bytes (a cache line, and the widest vector register).
constexpr std::size_t kAlignment = 64;

// Owns zero-initialised, aligned memory of a fixed size; moves, does not copy.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes);
  std::byte* data() const { return data_.get(); }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t bytes_ = 0;
};

// A buffer with a tensor over it.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(DType dtype, std::initializer_list<std::int64_t> shape);
  const Tensor& view() const { return view_; }

 private:
  Buffer buffer_;
  Tensor view_;
};

// A stack of step memory. New() never frees; Release(mark) gives back all that came after the mark; Reset() gives back
// everything and, if the last step needed several blocks, replaces them by one that holds it all: from the second step
// of equal size on, nothing is allocated.
class Arena {
 public:
  struct Mark {
    std::size_t block;
    std::size_t used;
    std::size_t before;
  };

  // Uninitialised memory for a tensor of this shape.
  Tensor New(DType dtype, std::initializer_list<std::int64_t> shape);
  Tensor NewZero(DType dtype, std::initializer_list<std::int64_t> shape);
  Mark GetMark() const { return {block_, used_, before_}; }
  void Release(Mark mark);
  void Reset();
  std::size_t high_water_bytes() const { return high_water_; }

 private:
  std::byte* Take(std::size_t bytes);
  std::vector<Buffer> blocks_;
  std::size_t block_ = 0;       // index of the block in use
  std::size_t used_ = 0;        // bytes used of that block
  std::size_t before_ = 0;      // bytes in the full blocks before it
  std::size_t high_water_ = 0;  // most bytes ever in use
};

// Releases, at the end of a scope, all that was taken from the arena within it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.GetMark()) {}
  ~ArenaScope() { arena_.Release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace swarr
