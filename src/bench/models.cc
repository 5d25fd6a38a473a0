// SPDX-License-Identifier: Apache-2.0
// The suites train, decode and scaling: whole models.
#include <algorithm>
#include <map>
#include <optional>

#include "bench/suites.h"
#include "model/decoder.h"
#include "plot/svg.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// The suite scaling: its window, its shortest sequence, and how many times as long the next one is.
constexpr int kWindow = 128;
constexpr int kShortest = 1024, kGrowth = 4;
// Full attention is measured where a run should take less than this.
constexpr double kMostSeconds = 20;

// A whole training step, loss over all tokens: forward, backward, clipping, AdamW.
void TrainStep(Context& ctx, const Transformer& model, Optimizer& optimizer, const Documents& documents,
               bool checkpoint) {
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Batch packed = PackDocuments(ctx.HostArena(), documents);
  const LogprobResult result = model.Logprob(ctx, model.Forward(ctx, packed, checkpoint), packed.ids);
  const std::int64_t tokens = result.logp.grad.size();
  DispatchSum(result.logp.value.dtype(), [&]<class T>() {
    std::fill_n(result.logp.grad.data<T>(), tokens, static_cast<T>(-1.0 / static_cast<double>(tokens)));
  });
  tape.Backward(ctx);
  optimizer.Step(ctx, 1e-3, optimizer.GradientNorm(ctx));
}

// Measures passes over `batch` sequences of config.max_positions tokens by a model with random weights: training steps,
// or forward passes with the LM head. Sets the row's "ms", "repetitions", "tokens_per_second" and "model_gflops";
// returns the median seconds. A device has nothing to do when the time begins and when it ends.
double MeasureModel(BenchRows& bench, ordered_json& row, const ModelConfig& config, int batch, bool trains,
                    bool checkpoint) {
  Context& ctx = bench.ctx();
  const int length = config.max_positions;
  const PassKind pass = !trains      ? PassKind::kForward
                        : checkpoint ? PassKind::kCheckpointedTraining
                                     : PassKind::kTraining;
  bench.CheckMemory(row["name"], config, trains, {StepPart(config, bench.dtype(), std::int64_t{batch} * length, pass)});
  const Transformer model(config, bench.dtype(), /*with_gradients=*/trains, bench.kind());
  InitializeParameters(model.parameters(), config.layers, /*seed=*/0);
  std::optional<Optimizer> optimizer;
  if (trains) optimizer.emplace(model.parameters(), OptimizerOptions());
  bench.NoteMemory(model, trains ? &*optimizer : nullptr);
  const Documents documents = bench.RandomDocuments(batch, length, config.vocab);
  const double seconds = bench.Measure(row, [&] {
    ResetStep(ctx);  // waits
    const StepTimer timer;
    if (trains) {
      TrainStep(ctx, model, *optimizer, documents, checkpoint);
    } else {
      const Batch packed = PackDocuments(ctx.HostArena(), documents);
      model.Logprob(ctx, model.Forward(ctx, packed), packed.ids);
    }
    Wait(ctx);
    return timer.Seconds();
  });
  const double tokens = double{1} * batch * length;
  row["tokens_per_second"] = tokens / seconds;
  row["model_gflops"] = (trains ? 3e-9 : 1e-9) * ForwardFlopsPerToken(config, length) * tokens / seconds;
  return seconds;
}

void TrainRow(BenchRows& bench, char shape, int batch, int length, int window) {
  const std::string name = Concat(shape, " train B", batch, " T", length, " ", AttentionName(window));
  if (!bench.Wanted(name)) return;
  const double peak = bench.on_device() ? bench.MeasurePeaks().gflops : 0;
  ordered_json row = {{"name", name}, {"B", batch}, {"T", length}, {"window", window}};
  MeasureModel(bench, row, BenchShape(shape, length, window), batch, /*trains=*/true, /*checkpoint=*/false);
  if (peak > 0) row["peak_share"] = row["model_gflops"].get<double>() / peak;
  bench.Add(std::move(row));
}

// Models of one shape by their window. Each is made for the first row that wants it.
using Models = std::map<int, Transformer>;

void DecodeRow(BenchRows& bench, Models& models, char shape, int batch, double temperature, int window) {
  const int prompt = bench.sizes().prompt, new_tokens = bench.sizes().new_tokens;
  const char* mode = temperature == 0 ? "greedy" : "sampled";
  const std::string name = Concat(shape, " decode B", batch, " ", mode, " ", AttentionName(window));
  if (!bench.Wanted(name)) return;
  const ModelConfig c = BenchShape(shape, prompt + new_tokens, window);
  bench.CheckMemory(name, c, /*trained=*/false,
                    DecodeParts(c, bench.dtype(), bench.ctx().device(),
                                {.slots = batch, .requests = batch, .max_length = prompt + new_tokens, .option = ""}));
  const auto [place, made] = models.try_emplace(window, c, bench.dtype(), /*with_gradients=*/false, bench.kind());
  const Transformer& model = place->second;
  if (made) InitializeParameters(model.parameters(), c.layers, /*seed=*/0);
  bench.NoteMemory(model, nullptr);
  std::vector<Request> requests;
  for (const auto& text : bench.RandomDocuments(batch, prompt, c.vocab)) {
    const std::uint64_t key = StreamKey(0, Purpose::kSample, static_cast<std::uint32_t>(requests.size()));
    requests.push_back({.prompt = text, .max_new_tokens = new_tokens, .temperature = temperature, .key = key});
  }
  ordered_json row = {{"name", name}, {"B", batch}, {"prompt", prompt}, {"new", new_tokens}, {"window", window}};
  Decoder decoder(model, batch, prompt + new_tokens);
  const double seconds = bench.Measure(row, [&] {
    ResetStep(bench.ctx());
    double first = -1;
    const StepTimer timer;
    decoder.Generate(bench.ctx(), requests, [&](std::size_t, std::int32_t) {
      if (first < 0) first = timer.Seconds();  // the prompts are done: all sequences draw their first token here
    });
    return timer.Seconds() - first;
  });
  row["tokens_per_second"] = double{1} * batch * (new_tokens - 1) / seconds;
  bench.Add(std::move(row));
}

// Measures one row of scaling. Returns its seconds, or 0 if it is not wanted.
double ScalingRow(BenchRows& bench, bool trains, int length, int window) {
  const std::string name = Concat(trains ? "D train T" : "D forward T", length, " ", AttentionName(window));
  if (!bench.Wanted(name)) return 0;
  Arena& arena = *bench.ctx().arena;
  ResetStep(bench.ctx());
  arena = Arena(arena.kind());  // for the row's own high-water mark
  const ModelConfig config = BenchShape('D', length, window);
  ordered_json row = {{"name", name}, {"T", length}, {"window", window}};
  const double seconds = MeasureModel(bench, row, config, /*batch=*/1, trains, /*checkpoint=*/true);
  row["arena_bytes_per_token"] = static_cast<double>(arena.high_water_bytes()) / length;
  row["kv_bytes"] = KvBytesPerSequence(config, bench.dtype(), length);
  bench.Add(std::move(row));
  return seconds;
}

}  // namespace

void TrainSuite(BenchRows& bench) {
  const BenchSizes& sizes = bench.sizes();
  for (const char shape : sizes.model_shapes) {
    for (const auto& [batch, length] : sizes.train) {
      for (const int window : {0, sizes.train_window}) TrainRow(bench, shape, batch, length, window);
    }
  }
}

void DecodeSuite(BenchRows& bench) {
  const BenchSizes& sizes = bench.sizes();
  for (const char shape : sizes.model_shapes) {
    Models models;
    for (const int batch : sizes.decode) {
      DecodeRow(bench, models, shape, batch, 0.0, 0);
      for (const int window : {0, sizes.decode_window}) DecodeRow(bench, models, shape, batch, 1.0, window);
    }
  }
}

void ScalingSuite(BenchRows& bench) {
  for (const bool trains : {false, true}) {
    for (int length = kShortest; length <= bench.sizes().longest; length *= kGrowth) {
      const double seconds = ScalingRow(bench, trains, length, kWindow);
      const double more_work = ForwardFlopsPerToken(BenchShape('D', length, 0), length) /
                               ForwardFlopsPerToken(BenchShape('D', length, kWindow), length);
      if (more_work * seconds < kMostSeconds) ScalingRow(bench, trains, length, /*window=*/0);
    }
  }
}

std::string ScalingFigure(const ordered_json& results) {
  std::vector<Series> lines;
  for (const bool forward : {true, false}) {
    const char* kind = forward ? "forward" : "train";
    for (const int window : {kWindow, 0}) {
      Series line{.legend = Concat(forward ? "forward" : "training",
                                   window == 0 ? ", full attention" : Concat(", window of ", window)),
                  .style = {.colour = window == 0 ? colour::kBlue : colour::kVermillion,
                            .marker = forward ? Marker::kCircle : Marker::kSquare,
                            .filled = forward,
                            .line = true}};
      for (const ordered_json& row : results["rows"]) {
        if (row["window"] != window || row["name"].get<std::string>().find(kind) == std::string::npos) continue;
        const double thousands = row["tokens_per_second"].get<double>() / 1000;  // short tick labels
        line.points.push_back({row["T"].get<double>(), thousands});
      }
      lines.push_back(std::move(line));
    }
  }
  return SvgFigure("Speed against length", {PanelByLength("", "thousand tokens per second", std::move(lines))});
}

}  // namespace swarr
