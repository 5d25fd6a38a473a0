// SPDX-License-Identifier: Apache-2.0
// The tape: one closure per recorded op, replayed in reverse. There is no graph: ops run in program order, so the
// reverse of that order is a valid order for the backward (docs/tape.md).
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <vector>

#include "tensor/context.h"

namespace swarr {

// A value and where its gradient is summed up. An empty grad means that no gradient is wanted: a frozen input.
struct Var {
  Tensor value;
  Tensor grad;
};

class Tape {
 public:
  // Appends a closure that reads the output's gradient and adds to the inputs' gradients. It lives in the arena, with
  // the tensors it refers to, and is dropped without a destructor call.
  template <class F>
  void Record(const Context& ctx, const F& backward) {
    static_assert(std::is_trivially_copyable_v<F> && alignof(F) <= kAlignment);
    void* place = ctx.arena->New(DType::kI32, {static_cast<std::int64_t>((sizeof(F) + 3) / 4)}).raw();
    entries_.push_back({[](const void* f, Context& c) { (*static_cast<const F*>(f))(c); }, new (place) F(backward)});
  }

  // Replays all closures, last first, and empties the tape. The caller has set the gradient of the result before.
  // During the replay ctx.tape is null: a backward is not itself recorded.
  void Backward(Context ctx) {
    ctx.tape = nullptr;
    for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) entry->call(entry->closure, ctx);
    entries_.clear();
  }

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    void (*call)(const void*, Context&);
    const void* closure;
  };
  std::vector<Entry> entries_;
};

// A new result of this shape; its gradient, zero, exists only under a live tape.
inline Var NewVar(const Context& ctx, DType dtype, std::initializer_list<std::int64_t> shape) {
  return {ctx.arena->New(dtype, shape), ctx.tape ? ctx.arena->NewZero(dtype, shape) : Tensor{}};
}

}  // namespace swarr
