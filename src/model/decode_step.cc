// SPDX-License-Identifier: Apache-2.0
#include "model/decode_step.h"

#include <algorithm>

#include "tensor/transfer.h"

namespace swarr {
namespace {

// How many rows the graph for a step of `rows` has: at most an eighth of the next power of two more, so that few graphs
// serve all steps.
constexpr std::int64_t GraphRows(std::int64_t rows) {
  std::int64_t step = 1;
  while (8 * step < rows) step *= 2;
  return (rows + step - 1) / step * step;
}
static_assert(GraphRows(1) == 1 && GraphRows(8) == 8 && GraphRows(9) == 10 && GraphRows(65) == 80);

// Copies `from`, and then its last row until `to` is full.
void FillUp(const Tensor& to, const Tensor& from) {
  Copy(to.Rows(0, from.dim(0)), from);
  for (std::int64_t n = from.dim(0); n < to.dim(0); ++n) Copy(to.Rows(n, n + 1), to.Rows(n - 1, n));
}

// The draws as a tensor, for copying.
constexpr std::int64_t kDrawInts = sizeof(SampleRow) / sizeof(std::int32_t);
Tensor AsTensor(const SampleRow* draws, std::int64_t count) {
  return {const_cast<SampleRow*>(draws), DType::kI32, {count, kDrawInts}};
}

// The step in another memory, to which `move` takes its tensors.
template <class F>
StepBatch Moved(const StepBatch& step, F&& move) {
  const Batch& fed = step.fed;
  return {.fed = {.ids = move(fed.ids),
                  .positions = move(fed.positions),
                  .documents = move(fed.documents),
                  .slots = move(fed.slots),
                  .prompts = move(fed.prompts)},
          .draw_rows = move(step.draw_rows),
          .draw_positions = move(step.draw_positions),
          .draws = static_cast<const SampleRow*>(move(AsTensor(step.draws, step.draw_positions.dim(0))).raw())};
}

// The step in pinned memory, filled up to so many rows and draws.
StepBatch Fill(const Tensor& memory, const StepBatch& step, std::int64_t rows, std::int64_t draws) {
  std::int64_t used = 0;
  const auto fill = [&](const Tensor& from, std::int64_t count) {
    const std::int64_t begin = used, ints = from.rank() == 2 ? kDrawInts : 1;
    used += count * ints;
    const Tensor part = from.rank() == 2 ? memory.Rows(begin, used).Reshape({count, ints}) : memory.Rows(begin, used);
    if (count > 0) FillUp(part, from);
    return part;
  };
  StepBatch filled;
  const Tensor how = fill(AsTensor(step.draws, step.draw_positions.dim(0)), draws);
  filled.draws = static_cast<const SampleRow*>(how.raw());
  filled.fed = {.ids = fill(step.fed.ids, rows),
                .positions = fill(step.fed.positions, rows),
                .documents = {},
                .slots = fill(step.fed.slots, rows),
                .prompts = fill(step.fed.prompts, rows)};
  if (draws < rows) filled.draw_rows = fill(step.draw_rows, draws);
  filled.draw_positions = fill(step.draw_positions, draws);
  filled.block = memory.Rows(0, used);
  return filled;
}

// The forward pass of a step that lies where ops read it, and its draws.
void ForwardAndDraw(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& moved,
                    const Tensor& tokens, const Tensor& logp) {
  Tensor last = model.ForwardMoved(ctx, moved.fed, cache).value;
  const std::int64_t M = moved.draw_positions.dim(0);
  if (M == 0) return;
  if (!moved.draw_rows.empty()) {
    const Tensor hidden = last;
    last = ctx.arena->New(model.dtype(), {M, model.config().hidden});
    GatherRows(ctx, last, hidden, moved.draw_rows);
  }
  SampleForward(ctx, tokens, logp, last, model.head().value, moved.draw_positions, moved.draws);
}

}  // namespace

Drawn DecodeStep(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  model.Check(step.fed, &cache);
  const std::int64_t M = step.draw_positions.dim(0);
  Drawn drawn;
  if (M > 0) {
    // A device writes these few numbers to the host's memory itself, which takes less time than a copy.
    drawn.tokens = ctx.HostArena().New(DType::kI32, {M});
    drawn.logp = ctx.HostArena().New(AccumulatorOf(model.dtype()), {M});
  }
  const StepBatch moved = Moved(step, [&](const Tensor& t) { return ToDevice(ctx, t); });
  ForwardAndDraw(ctx, model, cache, moved, drawn.tokens, drawn.logp);
  return drawn;
}

DeviceSteps::DeviceSteps(int max_rows, DType dtype) {
  constexpr std::int64_t kInts = 6 + kDrawInts;  // of a row, in Fill
  const std::int64_t rows = GraphRows(max_rows);
  const DType logp = AccumulatorOf(dtype);
  for (Begun& step : steps_) {
    step.rows = OwnedTensor(DType::kI32, {kInts * rows}, MemoryKind::kPinned);
    step.tokens = OwnedTensor(DType::kI32, {rows}, MemoryKind::kPinned);
    step.logp = OwnedTensor(logp, {rows}, MemoryKind::kPinned);
  }
  rows_ = OwnedTensor(DType::kI32, {kInts * rows}, MemoryKind::kDevice);
  tokens_ = OwnedTensor(DType::kI32, {rows}, MemoryKind::kDevice);
  logp_ = OwnedTensor(logp, {rows}, MemoryKind::kDevice);
}

void DeviceSteps::Begin(const Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  SWARR_CHECK(begun_ - ended_ < kAtOnce, "more than ", kAtOnce, " steps of decoding at once");
  const std::int64_t fed = step.fed.ids.dim(0), draws = step.draw_positions.dim(0);
  const std::int32_t* ids = step.fed.ids.data<std::int32_t>();
  known_.resize(static_cast<std::size_t>(fed));
  std::transform(ids, ids + fed, known_.begin(), [](std::int32_t id) { return std::max(0, id); });
  Batch known = step.fed;
  known.ids = {known_.data(), DType::kI32, {fed}};
  model.Check(known, &cache);

  Context own = ctx;
  own.arena = &arena_;
  own.steady_weights = true;  // a step begins with TakeRows, which no launch overtakes
  arena_.Release({});
  Begun& begun = Beginning();
  const bool plain = draws < fed;
  const std::int64_t rows = plain ? fed : GraphRows(fed);
  const StepBatch filled = Fill(begun.rows.view(), step, rows, plain ? draws : rows);
  plain ? Enqueue(own, model, cache, filled) : EnqueueRecorded(own, model, cache, filled);
  begun.draws = draws;
  begun.done.Record(*ctx.stream);
  ++begun_;
}

Drawn DeviceSteps::End() {
  SWARR_CHECK(!AllEnded(), "no step of decoding has begun");
  const Begun& begun = steps_[ended_ % kAtOnce];
  ++ended_;
  begun.done.Wait();
  if (begun.draws == 0) return {};
  return {begun.tokens.view().Rows(0, begun.draws), begun.logp.view().Rows(0, begun.draws)};
}

void DeviceSteps::Enqueue(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& filled) const {
  const Begun& begun = Beginning();
  const auto* from = static_cast<const std::byte*>(begun.rows.view().raw());
  const StepBatch moved = Moved(filled, [&](const Tensor& t) {
    return t.empty() ? t
                     : t.Over(static_cast<std::byte*>(rows_.view().raw()) + (static_cast<std::byte*>(t.raw()) - from));
  });
  TakeRows(ctx, rows_.view().Rows(0, filled.block.dim(0)), filled.block, filled.fed.ids, tokens_.view());
  const std::int64_t M = moved.draw_positions.dim(0);
  if (M == 0) return ForwardAndDraw(ctx, model, cache, moved, {}, {});
  const Drawn drawn{tokens_.view().Rows(0, M), logp_.view().Rows(0, M)};
  ForwardAndDraw(ctx, model, cache, moved, drawn.tokens, drawn.logp);
  GiveDrawn(ctx, {begun.tokens.view().Rows(0, M), begun.logp.view().Rows(0, M)}, drawn);
}

// As a graph of so many rows: plainly the first time, recorded the second, then only launched.
void DeviceSteps::EnqueueRecorded(Context& ctx, const Transformer& model, const KvCache& cache,
                                  const StepBatch& filled) {
  if (attention_ != model.config().attention || gemm_ != ctx.gemm) {  // graphs hold both fixed
    recorded_.clear();
    attention_ = model.config().attention;
    gemm_ = ctx.gemm;
  }
  const auto [place, first] = recorded_.try_emplace(filled.fed.ids.dim(0));
  if (first) return Enqueue(ctx, model, cache, filled);
  std::optional<CudaGraph>& graph = place->second[static_cast<std::size_t>(begun_ % kAtOnce)];
  if (!graph) graph.emplace(*ctx.stream, [&] { Enqueue(ctx, model, cache, filled); });
  graph->Launch(*ctx.stream);
}

}  // namespace swarr
