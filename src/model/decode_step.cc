// SPDX-License-Identifier: Apache-2.0
#include "model/decode_step.h"

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

// The step where ops read it.
StepBatch ToDevice(const Context& ctx, const StepBatch& step) {
  const Tensor block = ToDevice(ctx, step.block);
  const auto moved = [&](const Tensor& t) {
    if (t.empty() || block.empty()) return ToDevice(ctx, t);
    return t.Over(static_cast<std::byte*>(block.raw()) +
                  (static_cast<std::byte*>(t.raw()) - static_cast<std::byte*>(step.block.raw())));
  };
  const Batch& fed = step.fed;
  return {.fed = {.ids = moved(fed.ids),
                  .positions = moved(fed.positions),
                  .documents = moved(fed.documents),
                  .slots = moved(fed.slots),
                  .prompts = moved(fed.prompts)},
          .draw_rows = moved(step.draw_rows),
          .draw_positions = moved(step.draw_positions),
          .draws = static_cast<const SampleRow*>(moved(AsTensor(step.draws, step.draw_positions.dim(0))).raw())};
}

}  // namespace

Drawn DecodeStep(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  model.Check(step.fed, &cache);
  const StepBatch moved = ToDevice(ctx, step);
  const Tensor hidden = model.ForwardMoved(ctx, moved.fed, cache).value;
  const std::int64_t M = step.draw_positions.dim(0);
  if (M == 0) return {};
  Tensor last = hidden;
  if (!step.draw_rows.empty()) {
    last = ctx.arena->New(model.dtype(), {M, model.config().hidden});
    GatherRows(ctx, last, hidden, moved.draw_rows);
  }
  // A device writes these few numbers to the host's memory itself, which takes less time than a copy.
  const Tensor tokens = ctx.HostArena().New(DType::kI32, {M});
  const Tensor logp = ctx.HostArena().New(AccumulatorOf(model.dtype()), {M});
  SampleForward(ctx, tokens, logp, last, model.head().value, moved.draw_positions, moved.draws);
  return {tokens, logp};
}

DeviceSteps::DeviceSteps(int max_rows) {
  constexpr std::int64_t kInts = 6 + kDrawInts;  // of a row, in Fill
  rows_ = OwnedTensor(DType::kI32, {kInts * GraphRows(max_rows)}, MemoryKind::kPinned);
}

// The step in pinned memory, filled up to so many rows and draws. The step before no longer reads it, since Run waits.
StepBatch DeviceSteps::Fill(const StepBatch& step, std::int64_t rows, std::int64_t draws) {
  std::int64_t used = 0;
  const auto fill = [&](const Tensor& from, std::int64_t count) {
    const std::int64_t begin = used, ints = from.rank() == 2 ? kDrawInts : 1;
    used += count * ints;
    const Tensor part =
        from.rank() == 2 ? rows_.view().Rows(begin, used).Reshape({count, ints}) : rows_.view().Rows(begin, used);
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
  filled.block = rows_.view().Rows(0, used);
  return filled;
}

Drawn DeviceSteps::Run(const Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  Context own = ctx;
  own.arena = &arena_;
  own.host = &host_;
  own.steady_weights = true;  // a step begins with a copy, which no launch overtakes
  arena_.Release({});
  host_.Release({});
  const std::int64_t fed = step.fed.ids.dim(0), draws = step.draw_positions.dim(0);
  const bool plain = draws < fed;
  const Drawn drawn = plain ? DecodeStep(own, model, cache, Fill(step, fed, draws))
                            : RunRecorded(own, model, cache, step, GraphRows(fed));
  Wait(ctx);
  if (plain) return drawn;
  return {drawn.tokens.Rows(0, draws), drawn.logp.Rows(0, draws)};
}

// Runs the step as a graph of so many rows: plainly the first time, recorded the second, then only launched.
Drawn DeviceSteps::RunRecorded(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step,
                               std::int64_t rows) {
  if (attention_ != model.config().attention || gemm_ != ctx.gemm) {  // graphs hold both fixed
    recorded_.clear();
    attention_ = model.config().attention;
    gemm_ = ctx.gemm;
  }
  const StepBatch filled = Fill(step, rows, rows);
  const auto place = recorded_.find(rows);
  if (place == recorded_.end()) {
    const Drawn drawn = DecodeStep(ctx, model, cache, filled);
    recorded_[rows].drawn = drawn;
    return drawn;
  }
  Recorded& recorded = place->second;
  if (!recorded.graph) {
    recorded.graph.emplace(*ctx.stream, [&] { recorded.drawn = DecodeStep(ctx, model, cache, filled); });
  }
  model.Check(step.fed, &cache);
  recorded.graph->Launch(*ctx.stream);
  return recorded.drawn;
}

}  // namespace swarr
