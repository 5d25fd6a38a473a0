// SPDX-License-Identifier: Apache-2.0
#include "study/cost.h"

#include <algorithm>
#include <array>

#include "model/transformer.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

constexpr std::array<int, 4> kLengths = {256, 1024, 4096, 16384};
constexpr int kRepeats = 15;

// Median milliseconds of one forward step of one sequence whose newest token is at position length - 1.
double DecodeMilliseconds(Context& ctx, const Transformer& model, int length) {
  const KvCache cache(model.config(), model.dtype(), /*slots=*/1, length, /*max_chunk=*/1, MemoryOf(ctx.device()));
  std::array<std::int32_t, 3> token = {0, length - 1, 0};
  const auto one = [&](std::size_t i) { return Tensor(&token[i], DType::kI32, {1}); };
  std::vector<double> times;
  for (int i = 0; i < kRepeats; ++i) {
    const StepTimer timer;
    StepScope scope(ctx);
    model.Forward(ctx, Batch{one(0), one(1), one(2), {}}, cache);
    Wait(ctx);
    times.push_back(1e3 * timer.Seconds());
  }
  std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
  return times[kRepeats / 2];
}

// Measures one forward pass, or a second one if the first is so short that its page faults would show.
double ForwardTokensPerSecond(Context& ctx, const Transformer& model, int length) {
  constexpr double kLongSeconds = 0.2;
  const std::vector<std::int32_t> tokens(static_cast<std::size_t>(length), 0);
  double seconds = 0;
  for (int i = 0; i < 2 && seconds < kLongSeconds; ++i) {
    ResetStep(ctx);
    const StepTimer timer;
    model.Forward(ctx, PackDocuments(ctx.HostArena(), {&tokens, 1}));
    Wait(ctx);
    seconds = timer.Seconds();
  }
  return length / seconds;
}

}  // namespace

std::vector<CostPoint> MeasureCost(Context& ctx, const ModelConfig& shape, AttentionSpec windowed) {
  ModelConfig config = shape;
  config.max_positions = kLengths.back();
  std::vector<CostPoint> points;
  for (const auto& [arm, spec] : {std::pair{"sa", AttentionSpec{}}, std::pair{"swa", windowed}}) {
    config.attention.assign(static_cast<std::size_t>(config.layers), spec);
    const Transformer model(config, DType::kF32, /*with_gradients=*/false, MemoryOf(ctx.device()));
    InitializeParameters(model.parameters(), config.layers, /*seed=*/0);
    for (const int length : kLengths) {
      points.push_back({.arm = arm,
                        .length = length,
                        .kv_bytes = static_cast<std::int64_t>(KvBytesPerSequence(config, DType::kF32, length)),
                        .decode_ms_per_token = DecodeMilliseconds(ctx, model, length),
                        .forward_tokens_per_second = ForwardTokensPerSecond(ctx, model, length)});
    }
  }
  return points;
}

}  // namespace swarr
