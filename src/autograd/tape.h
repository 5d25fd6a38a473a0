// SPDX-License-Identifier: Apache-2.0
// The tape: one closure for each recorded op, replayed in reverse. There is no graph: ops run in program order, so the
// reverse of that order is a valid order for the backward (docs/tape.md).
//
// The rule for gradients, of weights and of activations alike: a backward adds to the gradients of its inputs. The
// gradient of a new result is *fresh*: its memory holds nothing yet, and the first backward that adds to it writes it.
//   ClaimGrad()      is how a backward takes the gradient of an input: it says whether to write or to add
//   SettleGrad(ctx)  is how it reads the gradient of its own result: zero if nobody has added
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

#include "tensor/transfer.h"

namespace swarr {

// Throws if a value is NaN or infinite, naming the op at work: "<what> the op LABEL has ...".
void RequireFinite(const Context& ctx, const Tensor& t, const char* what);

// A value and the sum of its gradient. An empty grad means that nobody wants the gradient: the input is frozen.
struct Var {
  Tensor value;
  Tensor grad;
  bool* fresh = nullptr;  // null: grad holds a sum from the start, zero or more, like the gradient of a weight

  // The gradient, to add to. If it is fresh(), the caller must write it; only the first caller gets it so.
  Tensor ClaimGrad() const {
    if (fresh == nullptr || !*fresh) return grad;
    *fresh = false;
    return grad.Fresh();
  }
  // The finished gradient, to read. Fills it with zeros if nothing has been added.
  const Tensor& SettleGrad(const Context& ctx) const {
    if (ClaimGrad().fresh()) FillZero(ctx, grad);
    if (ctx.trace_non_finite) RequireFinite(ctx, grad, "the gradient that comes to");
    return grad;
  }
};

// The entries form a list in the host's arena, so that recording allocates nothing.
class Tape {
 public:
  // Appends a closure that reads the gradient of an op's result and adds to those of its inputs. The closure lives in
  // step memory, as do the tensors that it refers to, and its destructor never runs.
  template <class F>
  void Record(const Context& ctx, const F& backward) {
    static_assert(std::is_trivially_copyable_v<F>);
    const auto call = [](const Entry& e, Context& c) { static_cast<const Closure<F>&>(e).backward(c); };
    last_ = new (ctx.HostArena().NewArray<Closure<F>>(1)) Closure<F>{{call, last_, ctx.arena->label()}, backward};
    ++size_;
  }

  // Replays all closures, last first, and empties the tape. The caller has written the gradient of the result
  // before. A backward is not itself recorded: ctx.tape is null during the replay. What a backward takes from the
  // arena counts for the op that recorded it.
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
  struct Closure : Entry {
    F backward;
  };
  const Entry* last_ = nullptr;
  std::size_t size_ = 0;
};

// Within a scope, ops record on this tape, or on none if it is null. The tape from before is back when the scope ends.
class TapeScope {
 public:
  TapeScope(Context& ctx, Tape* tape) : ctx_(ctx), outer_(ctx.tape) { ctx.tape = tape; }
  ~TapeScope() { ctx_.tape = outer_; }
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 private:
  Context& ctx_;
  Tape* outer_;
};

// Records an op's backward if a tape is live.
template <class F>
void RecordBackward(const Context& ctx, const F& backward) {
  if (ctx.tape) ctx.tape->Record(ctx, backward);
}

// The result of an op, checked if the context traces values that are not finite.
inline const Var& Traced(const Context& ctx, const Var& y) {
  if (ctx.trace_non_finite) RequireFinite(ctx, y.value, "the result of");
  return y;
}

// A gradient with the shape of `value`, fresh, if a tape is live.
inline Var WithGrad(const Context& ctx, Arena& arena, const Tensor& value) {
  if (!ctx.tape) return {value, {}};
  return {value, arena.NewLike(value), new (ctx.HostArena().NewArray<bool>(1)) bool(true)};
}
// A new result of this shape.
inline Var NewVar(const Context& ctx, DType dtype, std::initializer_list<std::int64_t> shape) {
  return WithGrad(ctx, *ctx.arena, ctx.arena->New(dtype, shape));
}
inline Var NewVarLike(const Context& ctx, const Tensor& t) { return WithGrad(ctx, *ctx.arena, ctx.arena->NewLike(t)); }

}  // namespace swarr
