// SPDX-License-Identifier: Apache-2.0
// Ownership of memory. Long-lived data sits in a Buffer; everything of one step sits in an Arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor/device.h"
#include "tensor/tensor.h"

namespace swarr {

// All allocations start at multiples of this many bytes (a cache line, and the widest vector register).
constexpr std::size_t kAlignment = 64;

// Owns zero-initialised, aligned memory of a fixed size. It moves and does not copy. The processor's own memory costs
// nothing where it is never written.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes, MemoryKind kind = MemoryKind::kHost);
  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    MemoryKind kind;  // kHost by default
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> memory_;
  std::byte* data_ = nullptr;  // the first aligned byte
  std::size_t bytes_ = 0;
};

// A buffer with a tensor over it.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(DType dtype, std::initializer_list<std::int64_t> shape, MemoryKind kind = MemoryKind::kHost);
  // Has the shape and dtype of `like`.
  explicit OwnedTensor(const Tensor& like, MemoryKind kind = MemoryKind::kHost);
  const Tensor& view() const { return view_; }

 private:
  Buffer buffer_;
  Tensor view_;
};

// A stack of step memory. New() takes from it; Release(mark) gives back all that was taken after the mark; Reset()
// gives back everything. If a step needed several blocks, Reset() replaces them by one that holds all: from the second
// step of equal size on, nothing is allocated.
//
// The arena knows who took its memory: what is taken while an ArenaLabel lives counts for that label.
class Arena {
 public:
  struct Mark {
    std::size_t block;
    std::size_t used;
    std::size_t before;
  };

  explicit Arena(MemoryKind kind = MemoryKind::kHost) : kind_(kind) {}
  MemoryKind kind() const { return kind_; }

  // Uninitialised memory for a tensor of this shape.
  Tensor New(DType dtype, std::initializer_list<std::int64_t> shape);
  Tensor NewLike(const Tensor& t) { return t.Over(Take(t.bytes())); }
  // Uninitialised memory for `count` objects, whose destructors will not run. Always inlined: kernels use it
  // (kernels.h).
  template <class T>
  [[gnu::always_inline]] inline T* NewArray(std::int64_t count) {
    static_assert(alignof(T) <= kAlignment && std::is_trivially_destructible_v<T>);
    return reinterpret_cast<T*>(Take(static_cast<std::size_t>(count) * sizeof(T)));
  }
  // Zeros. Throws if the processor does not reach the memory.
  Tensor NewZero(DType dtype, std::initializer_list<std::int64_t> shape);
  Mark GetMark() const { return {block_, used_, before_}; }
  void Release(Mark mark);
  void Reset();

  // For tests of what is written where. The arena notes in `places` where tensors lie, leaves `gap` bytes unused after
  // each and gives nothing back, until it is called with null.
  struct Place {
    std::byte* begin;
    std::size_t bytes;
  };
  void NotePlaces(std::vector<Place>* places, std::size_t gap = 0);

  std::size_t high_water_bytes() const { return high_water_; }
  // How often memory was asked for from the system.
  std::int64_t blocks_allocated() const { return blocks_allocated_; }
  const char* label() const { return label_; }
  void set_label(const char* label) { label_ = label; }  // a literal; ArenaLabel is the usual way
  // Who held how many bytes when the high-water mark was reached, largest first: (label, bytes).
  std::vector<std::pair<std::string, std::size_t>> HighWaterByLabel() const;

 private:
  // The memory from `begin` to the next span's was taken under this label.
  struct Span {
    const char* label;
    std::size_t begin;
  };

  std::byte* Take(std::size_t wanted);
  void AddBlock(std::size_t bytes);
  void RememberHighWater();
  std::size_t in_use() const { return before_ + used_; }

  MemoryKind kind_;
  std::vector<Buffer> blocks_;
  std::size_t block_ = 0;       // index of the block in use
  std::size_t used_ = 0;        // bytes used of that block
  std::size_t before_ = 0;      // bytes in the full blocks before it
  std::size_t high_water_ = 0;  // most bytes ever in use
  std::int64_t blocks_allocated_ = 0;

  std::vector<Place>* places_ = nullptr;
  std::size_t gap_ = 0;

  const char* label_ = "other";
  std::vector<Span> spans_;             // for what is in use
  std::vector<Span> high_water_spans_;  // a copy of spans_ from when remembered_ bytes were in use
  std::size_t remembered_ = 0;
};

// The label of what is taken from the arena within a scope.
class ArenaLabel {
 public:
  ArenaLabel(Arena& arena, const char* label) : arena_(arena), outer_(arena.label()) { arena.set_label(label); }
  ~ArenaLabel() { arena_.set_label(outer_); }
  ArenaLabel(const ArenaLabel&) = delete;
  ArenaLabel& operator=(const ArenaLabel&) = delete;

 private:
  Arena& arena_;
  const char* outer_;
};

// Releases at the end of a scope what was taken from the arena within it. Always inlined: kernels use it (kernels.h).
class ArenaScope {
 public:
  [[gnu::always_inline]] explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.GetMark()) {}
  [[gnu::always_inline]] ~ArenaScope() { arena_.Release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

// The most memory that this process has held so far.
std::size_t PeakResidentBytes();

}  // namespace swarr
