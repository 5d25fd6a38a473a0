// SPDX-License-Identifier: Apache-2.0
#include "model/decode_step.h"

#include <algorithm>

#include "tensor/transfer.h"

namespace swarr {
namespace {

// With more rows a step keeps the device busy without a graph, and drawing after all of them would cost much for
// nothing.
constexpr std::int64_t kMostGraphRows = 256;

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
Tensor AsTensor(const SampleRow* draws, std::int64_t count) {
  return {const_cast<SampleRow*>(draws), DType::kI32, {count, sizeof(SampleRow) / sizeof(std::int32_t)}};
}

}  // namespace

Drawn DecodeStep(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  const Var hidden = model.Forward(ctx, step.fed, cache);
  const std::int64_t M = step.draw_rows.dim(0);
  if (M == 0) return {};
  const Tensor last = ctx.arena->New(model.dtype(), {M, model.config().hidden});
  GatherRows(ctx, last, hidden.value, ToDevice(ctx, step.draw_rows));
  const Tensor tokens = ctx.arena->New(DType::kI32, {M});
  const Tensor logp = ctx.arena->New(AccumulatorOf(model.dtype()), {M});
  SampleForward(ctx, tokens, logp, last, model.head().value, ToDevice(ctx, step.draw_positions), step.draws);
  return {ToHost(ctx, tokens), ToHost(ctx, logp)};
}

DeviceSteps::DeviceSteps(int max_rows) {
  const std::int64_t most =
      std::max<std::int64_t>(max_rows, GraphRows(std::min<std::int64_t>(max_rows, kMostGraphRows)));
  for (OwnedTensor* t : {&ids_, &positions_, &slots_, &prompts_, &draw_rows_, &draw_positions_}) {
    *t = OwnedTensor(DType::kI32, {most}, MemoryKind::kPinned);
  }
  draws_ = OwnedTensor(AsTensor(nullptr, most), MemoryKind::kPinned);
}

// The step in pinned memory, filled up to so many rows and draws. The step before no longer reads it, since Run waits.
StepBatch DeviceSteps::Fill(const StepBatch& step, std::int64_t rows, std::int64_t draws) {
  const auto fill = [](const OwnedTensor& to, const Tensor& from, std::int64_t count) {
    const Tensor part = to.view().Rows(0, count);
    if (count > 0) FillUp(part, from);
    return part;
  };
  const Tensor how = fill(draws_, AsTensor(step.draws, step.draw_rows.dim(0)), draws);
  return {.fed = {.ids = fill(ids_, step.fed.ids, rows),
                  .positions = fill(positions_, step.fed.positions, rows),
                  .documents = {},
                  .slots = fill(slots_, step.fed.slots, rows),
                  .prompts = fill(prompts_, step.fed.prompts, rows)},
          .draw_rows = fill(draw_rows_, step.draw_rows, draws),
          .draw_positions = fill(draw_positions_, step.draw_positions, draws),
          .draws = static_cast<const SampleRow*>(how.raw())};
}

Drawn DeviceSteps::Run(const Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  Context own = ctx;
  own.arena = &arena_;
  own.host = &host_;
  own.steady_weights = true;  // a step begins with copies and the embedding, which no launch overtakes
  arena_.Release({});
  host_.Release({});
  const std::int64_t fed = step.fed.ids.dim(0), draws = step.draw_rows.dim(0);
  const bool plain = draws == 0 || fed > kMostGraphRows;
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
