// SPDX-License-Identifier: Apache-2.0
// The suites train and decode: whole models.
#include <algorithm>

#include "model/decoder.h"
#include "study/bench_suites.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr int kWindow = 64;

void TrainRow(BenchRows& bench, char shape, int batch, int length, int window) {
  const std::string name = Concat(shape, " train B", batch, " T", length, " ", AttentionName(window));
  if (!bench.Wanted(name)) return;
  const ModelConfig c = BenchShape(shape, length, window);
  const Transformer model(c, bench.dtype(), /*with_gradients=*/true);
  InitializeParameters(model.parameters(), c.layers, /*seed=*/0);
  Optimizer optimizer(model.parameters(), {});
  bench.NoteMemory(model, &optimizer);
  const auto documents = bench.RandomDocuments(batch, length, c.vocab);
  ordered_json row = {{"name", name}, {"B", batch}, {"T", length}, {"window", window}};
  const double tokens = double{1} * batch * length;
  const double seconds =
      bench.Measure(row, [&] { return TimeTrainStep(bench.ctx(), model, optimizer, documents, /*checkpoint=*/false); });
  row["tokens_per_second"] = tokens / seconds;
  row["model_gflops"] = 3e-9 * ForwardFlopsPerToken(c, length) * tokens / seconds;
  bench.Add(std::move(row));
}

void DecodeRow(BenchRows& bench, char shape, int batch, double temperature, int window) {
  constexpr int kPrompt = 32, kNew = 128;
  const char* mode = temperature == 0 ? "greedy" : "sampled";
  const std::string name = Concat(shape, " decode B", batch, " ", mode, " ", AttentionName(window));
  if (!bench.Wanted(name)) return;
  const ModelConfig c = BenchShape(shape, kPrompt + kNew, window);
  const Transformer model(c, bench.dtype(), /*with_gradients=*/false);
  InitializeParameters(model.parameters(), c.layers, /*seed=*/0);
  bench.NoteMemory(model, nullptr);
  std::vector<Request> requests;
  for (const auto& prompt : bench.RandomDocuments(batch, kPrompt, c.vocab)) {
    requests.push_back(
        {prompt, kNew, temperature, StreamKey(0, Purpose::kSample, static_cast<std::uint32_t>(requests.size()))});
  }
  ordered_json row = {{"name", name}, {"B", batch}, {"prompt", kPrompt}, {"new", kNew}, {"window", window}};
  Decoder decoder(model, batch, kPrompt + kNew);
  const double seconds = bench.Measure(row, [&] {
    bench.ctx().arena->Reset();
    double first = -1;
    const StepTimer timer;
    decoder.Generate(bench.ctx(), requests, [&](std::size_t, std::int32_t) {
      if (first < 0) first = timer.Seconds();  // the prompts are done, and all sequences draw their first token here
    });
    return timer.Seconds() - first;
  });
  row["tokens_per_second"] = double{1} * batch * (kNew - 1) / seconds;
  bench.Add(std::move(row));
}

}  // namespace

double TimeTrainStep(Context& ctx, const Transformer& model, Optimizer& optimizer,
                     const std::vector<std::vector<std::int32_t>>& documents, bool checkpoint) {
  const StepTimer timer;
  ctx.arena->Reset();
  Tape tape;
  Context recording = ctx;
  recording.tape = &tape;
  const Batch packed = PackDocuments(*ctx.arena, documents);
  const LogprobResult result = model.Logprob(recording, model.Forward(recording, packed, checkpoint), packed.ids);
  const std::int64_t tokens = result.logp.grad.size();
  DispatchSum(result.logp.value.dtype(), [&]<class T>() {
    std::fill_n(result.logp.grad.data<T>(), tokens, static_cast<T>(-1.0 / static_cast<double>(tokens)));
  });
  tape.Backward(ctx);
  optimizer.Step(ctx, 1e-3, optimizer.GradientNorm(ctx));
  return timer.Seconds();
}

double TimeForward(Context& ctx, const Transformer& model, const std::vector<std::vector<std::int32_t>>& documents) {
  const StepTimer timer;
  ctx.arena->Reset();
  const Batch batch = PackDocuments(*ctx.arena, documents);
  model.Logprob(ctx, model.Forward(ctx, batch), batch.ids);
  return timer.Seconds();
}

void TrainSuite(BenchRows& bench) {
  for (const char shape : {'C', 'D'}) {
    for (const auto& [batch, length] : {std::pair{16, 256}, std::pair{4, 1024}}) {
      for (const int window : {0, kWindow}) TrainRow(bench, shape, batch, length, window);
    }
  }
}

void DecodeSuite(BenchRows& bench) {
  for (const char shape : {'C', 'D'}) {
    for (const int batch : {1, 16, 64}) {
      DecodeRow(bench, shape, batch, 0.0, 0);
      for (const int window : {0, kWindow}) DecodeRow(bench, shape, batch, 1.0, window);
    }
  }
}

}  // namespace swarr
