// SPDX-License-Identifier: Apache-2.0
// The tape: one closure per recorded op, replayed in reverse. There is no graph: ops run in program order, so the
// reverse of that order is a valid order for the backward (docs/tape.md).
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

#include "tensor/transfer.h"

namespace swarr {

// A value and where its gradient is summed up. An empty grad means that no gradient is wanted: a frozen input.
struct Var {
  Tensor value;
  Tensor grad;
  bool* fresh = nullptr;  // whether nothing has been added to grad yet: then it holds nothing; null: it always does

  // The gradient for a backward to add to; the first to ask is to write it.
  Tensor ClaimGrad() const {
    if (fresh == nullptr || !*fresh) return grad;
    *fresh = false;
    return grad.Fresh();
  }
  // The gradient as the sum of what has been added so far: zero if nothing was.
  const Tensor& SettleGrad(const Context& ctx) const {
    if (fresh != nullptr && *fresh) FillZero(ctx, grad);
    if (fresh != nullptr) *fresh = false;
    return grad;
  }
};

// The entries form a list through the host's arena, so that recording allocates nothing.
class Tape {
 public:
  // Appends a closure that reads the output's gradient and adds to the inputs' gradients. It lives in step memory, as
  // do the tensors it refers to, and is dropped without a destructor call.
  template <class F>
  void Record(const Context& ctx, const F& backward) {
    using Closure = EntryOf<F>;
    static_assert(std::is_trivially_copyable_v<F> && alignof(Closure) <= kAlignment);
    void* place = ctx.HostArena().New(DType::kI32, {static_cast<std::int64_t>((sizeof(Closure) + 3) / 4)}).raw();
    const auto call = [](const Entry& e, Context& c) { static_cast<const Closure&>(e).backward(c); };
    last_ = new (place) Closure{{call, last_, ctx.arena->label()}, backward};
    ++size_;
  }

  // Replays all closures, last first, and empties the tape. The caller has set the gradient of the result before
  // (AddTo). During the replay ctx.tape is null: a backward is not itself recorded. What it takes from the arena counts
  // for the op that recorded it.
  void Backward(Context ctx) {
    ctx.tape = nullptr;
    for (const Entry* entry = last_; entry; entry = entry->before) {
      const ArenaLabel label(*ctx.arena, entry->label);
      entry->call(*entry, ctx);
    }
    last_ = nullptr;
    size_ = 0;
  }

  std::size_t size() const { return size_; }

 private:
  struct Entry {
    void (*call)(const Entry&, Context&);
    const Entry* before;
    const char* label;  // the arena's when this was recorded
  };
  template <class F>
  struct EntryOf : Entry {
    F backward;
  };
  const Entry* last_ = nullptr;
  std::size_t size_ = 0;
};

// A new result of this shape; its gradient exists only under a live tape.
inline Var NewVar(const Context& ctx, DType dtype, std::initializer_list<std::int64_t> shape) {
  Var var{ctx.arena->New(dtype, shape), {}};
  if (ctx.tape) {
    var.grad = ctx.arena->New(dtype, shape);
    var.fresh = new (ctx.HostArena().New(DType::kI32, {1}).raw()) bool(true);
  }
  return var;
}

}  // namespace swarr
