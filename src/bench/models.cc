// SPDX-License-Identifier: Apache-2.0
// The suites train, decode and scaling: whole models.
#include <algorithm>
#include <map>
#include <optional>
#include <span>

#include "bench/suites.h"
#include "model/decoder.h"
#include "plot/svg.h"
#include "tensor/memory_report.h"
#include "train/data.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// Decoding at the end of a long sequence: tokens drawn, and tokens of the prompt fed at a time.
constexpr int kLastTokens = 64, kPromptChunk = 4096;

// The gradient of minus the mean of log p.
void FillMean(const Var& logp) {
  const std::int64_t tokens = logp.grad.size();
  DispatchSum(logp.value.dtype(), [&]<class T>() {
    std::fill_n(logp.grad.data<T>(), tokens, static_cast<T>(-1.0 / static_cast<double>(tokens)));
  });
}

// Forward and backward, loss over all tokens.
void AddGradients(Context& ctx, const Transformer& model, std::span<const std::vector<std::int32_t>> documents,
                  bool checkpoint) {
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Batch packed = PackDocuments(ctx.HostArena(), documents);
  const LogprobResult result = model.Logprob(ctx, model.Forward(ctx, packed, checkpoint), packed.ids);
  FillMean(result.logp);
  tape.Backward(ctx);
}

// The same of completions after their prompts, loss over the completions.
void AddGradientsOfCompletions(Context& ctx, const Transformer& model, std::span<const Document> documents) {
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const PackedPass pass =
      ForwardPacked(ctx, model, PackCompletions(ctx.HostArena(), documents), /*checkpoint_blocks=*/false);
  FillMean(pass.result.logp);
  tape.Backward(ctx);
}

// A whole training step: gradients, clipping, AdamW.
void TrainStep(Context& ctx, const Transformer& model, Optimizer& optimizer, const Documents& documents,
               bool checkpoint) {
  AddGradients(ctx, model, documents, checkpoint);
  optimizer.Step(ctx, 1e-3, optimizer.GradientNorm(ctx));
}

// Measures passes over `batch` sequences of config.max_positions tokens by a model with random weights: training steps,
// or forward passes with the LM head. Adds the row; `peak` is the arithmetic that it is held against, 0: none. Returns
// the median seconds. A device has nothing to do when the time begins and when it ends.
double MeasureModel(BenchRows& bench, ordered_json row, const ModelConfig& config, int batch, bool trains,
                    bool checkpoint, double peak) {
  Context& ctx = bench.ctx();
  const int length = config.max_positions;
  const PassKind pass = !trains      ? PassKind::kForward
                        : checkpoint ? PassKind::kCheckpointedTraining
                                     : PassKind::kTraining;
  bench.CheckMemory(row["name"], config, trains, {StepPart(config, bench.dtype(), std::int64_t{batch} * length, pass)});
  const Transformer model(config, bench.dtype(), /*with_gradients=*/trains, bench.kind());
  bench.FillWeights(model);
  std::optional<Optimizer> optimizer;
  if (trains) optimizer.emplace(model.parameters(), OptimizerOptions());
  bench.NoteMemory(model, trains ? &*optimizer : nullptr);
  bench.ForgetStepMemory();
  const Documents documents = bench.RandomDocuments(batch, length, config.vocab);
  const auto run = [&] {
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
  };
  return bench.Measure(std::move(row), run, [&](ordered_json& measured, double seconds) {
    const double tokens = double{1} * batch * length;
    const double gflops = (trains ? 3e-9 : 1e-9) * ForwardFlopsPerToken(config, length) * tokens / seconds;
    measured["tokens_per_second"] = tokens / seconds;
    measured["model_gflops"] = gflops;
    if (peak > 0) measured["peak_share"] = gflops / peak;
    MemoryReport held;
    model.NoteMemory(held);
    if (optimizer) optimizer->NoteMemory(held);
    const std::size_t step = ctx.arena->high_water_bytes();
    measured["arena_bytes_per_token"] = static_cast<double>(step) / tokens;
    measured["memory_bytes"] = held.held_bytes() + step;
  });
}

void TrainRow(BenchRows& bench, const TrainSize& size, int window) {
  const auto [shape, batch, length] = size;
  const std::string name = Concat(shape, " train B", batch, " T", length, " ", AttentionName(window));
  if (!bench.Wanted(name)) return;
  const double peak = bench.on_device() ? bench.ArithmeticPeak() : 0;
  MeasureModel(bench, {{"name", name}, {"B", batch}, {"T", length}, {"window", window}},
               BenchShape(shape, length, window), batch, /*trains=*/true, /*checkpoint=*/false, peak);
}

// Random prompts of `prompt` tokens, each `group` times.
std::vector<Request> RandomRequests(BenchRows& bench, int count, int group, int prompt, int new_tokens, int vocab,
                                    double temperature) {
  std::vector<Request> requests;
  for (const auto& text : bench.RandomDocuments(count / group, prompt, vocab)) {
    for (int g = 0; g < group; ++g) {
      const std::uint64_t key = StreamKey(0, Purpose::kSample, static_cast<std::uint32_t>(requests.size()));
      requests.push_back({.prompt = text, .max_new_tokens = new_tokens, .temperature = temperature, .key = key});
    }
  }
  return requests;
}

// A step of RL but for rewards and advantages: samples, then one update on all that was sampled.
void RlRow(BenchRows& bench, const RlSize& size, int window) {
  const std::string name =
      Concat(size.shape, " rl B", size.completions, " T", size.new_tokens, " ", AttentionName(window));
  if (!bench.Wanted(name)) return;
  Context& ctx = bench.ctx();
  const int length = size.prompt + size.new_tokens;
  const ModelConfig c = BenchShape(size.shape, length, window);
  std::vector<MemoryPart> parts =
      DecodeParts(c, bench.dtype(), ctx.device(),
                  {.slots = size.slots, .requests = size.completions, .max_length = length, .option = ""});
  const std::int64_t packed = size.micro_batch;
  parts.push_back(StepPart(c, bench.dtype(), packed * length, packed * size.new_tokens, PassKind::kTraining));
  bench.CheckMemory(name, c, /*trained=*/true, parts);
  const Transformer model(c, bench.dtype(), /*with_gradients=*/true, bench.kind());
  bench.FillWeights(model);
  Optimizer optimizer(model.parameters(), OptimizerOptions());
  const auto requests = RandomRequests(bench, size.completions, size.group, size.prompt, size.new_tokens, c.vocab, 1.0);
  Decoder decoder(model, size.slots, length);
  ordered_json row = {
      {"name", name}, {"B", size.completions}, {"prompt", size.prompt}, {"new", size.new_tokens}, {"window", window}};
  double sampling = 0;
  const auto run = [&] {
    ResetStep(ctx);
    const StepTimer timer;
    const std::vector<Completion> completions = decoder.Generate(ctx, requests);
    sampling = timer.Seconds();
    std::vector<Document> documents;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      documents.push_back({requests[i].prompt, size.prompt});
      std::vector<std::int32_t>& tokens = documents.back().tokens;
      tokens.insert(tokens.end(), completions[i].tokens.begin(), completions[i].tokens.end());
    }
    const auto at_once = static_cast<std::size_t>(size.micro_batch);
    for (std::size_t i = 0; i < documents.size(); i += at_once) {
      ResetStep(ctx);
      AddGradientsOfCompletions(ctx, model, std::span(documents).subspan(i, std::min(at_once, documents.size() - i)));
    }
    optimizer.Step(ctx, 1e-6, optimizer.GradientNorm(ctx));
    Wait(ctx);
    return timer.Seconds();
  };
  bench.Measure(std::move(row), run, [&](ordered_json& measured, double seconds) {
    measured["sampling_ms"] = 1e3 * sampling;
    measured["tokens_per_second"] = double{1} * size.completions * length / seconds;
  });
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
  if (made) bench.FillWeights(model);
  bench.NoteMemory(model, nullptr);
  const auto requests = RandomRequests(bench, batch, /*group=*/1, prompt, new_tokens, c.vocab, temperature);
  ordered_json row = {{"name", name}, {"B", batch}, {"prompt", prompt}, {"new", new_tokens}, {"window", window}};
  Decoder decoder(model, batch, prompt + new_tokens);
  const auto run = [&] {
    ResetStep(bench.ctx());
    double first = -1;
    const StepTimer timer;
    decoder.Generate(bench.ctx(), requests, [&](std::size_t, std::int32_t) {
      if (first < 0) first = timer.Seconds();  // the prompts are done: all sequences draw their first token here
    });
    return timer.Seconds() - first;
  };
  bench.Measure(std::move(row), run, [&](ordered_json& measured, double seconds) {
    measured["tokens_per_second"] = double{1} * batch * (new_tokens - 1) / seconds;
  });
}

// Decodes the last tokens of a sequence of config.max_positions, once, since the tokens before them take far longer.
// Adds the row with "ms", the mean of the last half's tokens, and "tokens_per_second"; returns the seconds of all.
double MeasureLastTokens(BenchRows& bench, ordered_json row, const ModelConfig& config) {
  Context& ctx = bench.ctx();
  const int length = config.max_positions;
  bench.CheckMemory(row["name"], config, /*trained=*/false,
                    DecodeParts(config, bench.dtype(), ctx.device(), {.max_length = length, .option = ""}));
  const Transformer model(config, bench.dtype(), /*with_gradients=*/false, bench.kind());
  bench.FillWeights(model);
  const std::vector<Request> requests = {{.prompt = bench.RandomDocuments(1, length - kLastTokens, config.vocab)[0],
                                          .max_new_tokens = kLastTokens,
                                          .key = StreamKey(0, Purpose::kSample)}};
  Decoder decoder(model, 1, length, std::min(length, kPromptChunk));
  ResetStep(ctx);
  std::vector<double> times;  // when each token came
  const StepTimer timer;
  decoder.Generate(ctx, requests, [&](std::size_t, std::int32_t) { times.push_back(timer.Seconds()); });
  constexpr int kHalf = kLastTokens / 2;
  const double seconds = (times[kLastTokens - 1] - times[kHalf - 1]) / kHalf;
  row["ms"] = 1e3 * seconds;
  std::vector<double> last;
  for (std::size_t i = kHalf; i < kLastTokens; ++i) last.push_back(times[i] - times[i - 1]);
  SetSpread(row, last);
  row["tokens_per_second"] = 1 / seconds;
  bench.Add(std::move(row));
  return times.back();
}

enum class ScalingKind : std::uint8_t { kForward, kTrain, kDecode };
const char* Name(ScalingKind kind) {
  switch (kind) {
    case ScalingKind::kForward:
      return "forward";
    case ScalingKind::kTrain:
      return "train";
    case ScalingKind::kDecode:
      return "decode";
  }
  throw Error("Name: a kind of scaling that does not exist");
}

// Measures one row of scaling. Returns the seconds of a run, or 0 if it is not wanted.
double ScalingRow(BenchRows& bench, ScalingKind kind, int length, int window) {
  const char shape = bench.sizes().scaling_shape;
  const std::string name = Concat(shape, " ", Name(kind), " T", length, " ", AttentionName(window));
  if (!bench.Wanted(name)) return 0;
  const ModelConfig config = BenchShape(shape, length, window);
  const ordered_json row = {{"name", name},
                            {"T", length},
                            {"window", window},
                            {"kv_bytes", KvBytesPerSequence(config, bench.dtype(), length)}};
  if (kind == ScalingKind::kDecode) return MeasureLastTokens(bench, row, config);
  return MeasureModel(bench, row, config, /*batch=*/1, kind == ScalingKind::kTrain, /*checkpoint=*/true, /*peak=*/0);
}

}  // namespace

void TrainSuite(BenchRows& bench) {
  const BenchSizes& sizes = bench.sizes();
  for (const TrainSize& size : sizes.train) {
    for (const int window : {0, sizes.train_window}) TrainRow(bench, size, window);
  }
  RlRow(bench, sizes.rl, sizes.decode_window);
}

void DecodeSuite(BenchRows& bench) {
  const BenchSizes& sizes = bench.sizes();
  for (const char shape : sizes.decode_shapes) {
    Models models;
    for (const int batch : sizes.decode) {
      DecodeRow(bench, models, shape, batch, 0.0, 0);
      for (const int window : {0, sizes.decode_window}) DecodeRow(bench, models, shape, batch, 1.0, window);
    }
  }
}

void ScalingSuite(BenchRows& bench) {
  const BenchSizes& sizes = bench.sizes();
  const auto work = [&](int length, int window) {
    return ForwardFlopsPerToken(BenchShape(sizes.scaling_shape, length, window), length);
  };
  for (const ScalingKind kind : {ScalingKind::kDecode, ScalingKind::kForward, ScalingKind::kTrain}) {
    for (const int length : sizes.scaling_lengths) {
      const double seconds = ScalingRow(bench, kind, length, sizes.scaling_window);
      const double more_work = work(length, 0) / work(length, sizes.scaling_window);
      if (more_work * seconds < sizes.full_seconds) ScalingRow(bench, kind, length, /*window=*/0);
    }
  }
}

std::string ScalingFigure(const ordered_json& results) {
  struct Line {
    const char *name, *legend, *key;
    double unit;
    Marker marker;
  };
  const auto panel = [&](const char* unit, std::initializer_list<Line> kinds) {
    std::vector<Series> lines;
    for (const Line& kind : kinds) {
      std::map<int, Series> by_window;
      for (const ordered_json& row : results["rows"]) {
        if (row["name"].get<std::string>().find(kind.name) == std::string::npos) continue;
        by_window[row["window"]].points.push_back({row["T"].get<double>(), kind.unit * row[kind.key].get<double>()});
      }
      for (auto& [window, line] : by_window) {
        line.legend = Concat(kind.legend, window == 0 ? ", full attention" : Concat(", window of ", window));
        line.style = {.colour = window == 0 ? colour::kBlue : colour::kVermillion,
                      .marker = kind.marker,
                      .filled = kind.marker != Marker::kSquare,
                      .line = true};
        lines.push_back(std::move(line));
      }
    }
    return PanelByLength("", unit, std::move(lines));
  };
  return SvgFigure(
      "Speed against length",
      {panel("thousand tokens per second", {{" forward ", "forward", "tokens_per_second", 1e-3, Marker::kCircle},
                                            {" train ", "training", "tokens_per_second", 1e-3, Marker::kSquare}}),
       panel("milliseconds a decoded token", {{" decode ", "decoding", "ms", 1, Marker::kTriangle}}),
       panel("GB: training's peak, decoding's cache",
             {{" train ", "training", "memory_bytes", 1e-9, Marker::kSquare},
              {" decode ", "decoding", "kv_bytes", 1e-9, Marker::kTriangle}})});
}

}  // namespace swarr
