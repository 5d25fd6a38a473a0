// SPDX-License-Identifier: Apache-2.0
#include "study/bench.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

#include "autograd/ops.h"
#include "model/decoder.h"
#include "tensor/gemm.h"
#include "tensor/philox.h"
#include "tensor/version.h"
#include "train/optimizer.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr int kWindow = 128;
constexpr int kMinRepetitions = 3, kMaxRepetitions = 60;
constexpr double kPatience =
    10.0;  // a first run that takes longer than this many times the row's seconds is the only one

ModelConfig ShapeOf(char name, int max_positions, int window) {
  ModelConfig c;
  const bool large = name == 'C';
  c.layers = large ? 6 : 4;
  c.hidden = large ? 384 : 128;
  c.heads = c.kv_heads = large ? 6 : 4;
  c.head_dim = c.hidden / c.heads;
  c.ffn = large ? 1024 : 352;
  c.vocab = large ? 256 : 64;
  c.max_positions = max_positions;
  c.tied = true;
  c.attention.assign(static_cast<std::size_t>(c.layers), {window, 0});
  return c;
}

std::string AttentionName(int window) { return window == 0 ? "full" : "W" + std::to_string(window); }

// Multiplications and additions of one token's forward pass: 2 per weight of a product, and 4 D per head and visible
// key.
double ForwardFlopsPerToken(const ModelConfig& c, int length) {
  const double C = c.hidden, heads = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const double weights = c.layers * (C * (heads + 2 * kv) + heads * C + 3 * C * c.ffn) + C * c.vocab;
  double keys = 0;
  for (int q = 0; q < length; ++q) {
    const VisibleKeys visible = VisibleKeysOf(q, c.attention[0]);
    keys += visible.sinks.size() + visible.recent.size();
  }
  return 2 * weights + c.layers * 4.0 * heads * keys / length;
}

// Runs one suite.
class Bench {
 public:
  Bench(Context& ctx, const BenchOptions& options)
      : ctx_(ctx), options_(options), random_(StreamKey(0, Purpose::kInit)) {}

  void Ops() {
    for (const char shape : {'C', 'D'}) {
      const ModelConfig c = ShapeOf(shape, 1024, 0);
      const std::string prefix = std::string(1, shape) + " ";
      Product(prefix + "gemm qkv", 4096, (c.heads + 2 * c.kv_heads) * c.head_dim, c.hidden);
      Product(prefix + "gemm gate-up", 4096, 2 * c.ffn, c.hidden);
      Product(prefix + "gemm down", 4096, c.hidden, c.ffn);
      Product(prefix + "gemm gate-up decode16", 16, 2 * c.ffn, c.hidden);
      for (const int window : {0, kWindow}) AttentionRows(prefix, c, window);
      Kernels(prefix, c, 4096);
    }
  }

  void Train() {
    for (const char shape : {'C', 'D'}) {
      for (const auto& [batch, length] : {std::pair{16, 256}, std::pair{4, 1024}}) {
        for (const int window : {0, kWindow}) TrainRow(shape, batch, length, window);
      }
    }
  }

  void Decode() {
    for (const char shape : {'C', 'D'}) {
      for (const int batch : {1, 16, 64}) {
        DecodeRow(shape, batch, 0.0, 0);
        for (const int window : {0, kWindow}) DecodeRow(shape, batch, 1.0, window);
      }
    }
  }

  void Scaling() {
    for (int length = 1024; length <= 16384; length *= 2) {
      for (const int window : {0, kWindow}) ScalingRow(length, window);
    }
  }

  ordered_json rows = ordered_json::array();

 private:
  Tensor Random(std::initializer_list<std::int64_t> shape) {
    const Tensor t = ctx_.arena->New(options_.dtype, shape);
    Dispatch(t.dtype(), [&]<class T>() {
      for (std::int64_t i = 0; i < t.size(); ++i) t.data<T>()[i] = static_cast<T>(random_.NextUniform() - 0.5);
    });
    return t;
  }

  std::vector<std::vector<std::int32_t>> RandomDocuments(int count, int length, int vocab) {
    std::vector<std::vector<std::int32_t>> documents(static_cast<std::size_t>(count));
    for (auto& d : documents) {
      for (int t = 0; t < length; ++t) {
        d.push_back(static_cast<std::int32_t>(random_.NextBelow(static_cast<std::uint32_t>(vocab))));
      }
    }
    return documents;
  }

  // `run` returns the seconds that count. Adds "ms" and "repetitions" to the row; returns the median seconds.
  template <class F>
  double Measure(ordered_json& row, const F& run) {
    const double once = run();  // warms up; counts only where more runs would take too long
    std::vector<double> times;
    if (once > kPatience * options_.seconds_per_row) {
      times = {once};
    } else {
      const int wanted = static_cast<int>(options_.seconds_per_row / std::max(once, 1e-6));
      for (int i = 0; i < std::clamp(wanted, kMinRepetitions, kMaxRepetitions); ++i) times.push_back(run());
    }
    std::sort(times.begin(), times.end());
    const double median = (times[(times.size() - 1) / 2] + times[times.size() / 2]) / 2;
    row["ms"] = 1e3 * median;
    row["repetitions"] = times.size();
    return median;
  }

  void Add(ordered_json row) {
    if (options_.on_row) options_.on_row(row);
    rows.push_back(std::move(row));
  }

  template <class F>
  void Kernel(const std::string& name, const F& run) {
    ordered_json row = {{"name", name}};
    Measure(row, [&] {
      const StepTimer timer;
      run();
      return timer.Seconds();
    });
    Add(std::move(row));
  }

  void Product(const std::string& name, int M, int N, int K) {
    ArenaScope scope(*ctx_.arena);
    const Tensor y = Random({M, N}), x = Random({M, K}), w = Random({N, K});
    ordered_json row = {{"name", name}, {"M", M}, {"N", N}, {"K", K}};
    const double seconds = Measure(row, [&] {
      const StepTimer timer;
      MatMulNT(ctx_, y, x, w);
      return timer.Seconds();
    });
    row["gflops"] = 2e-9 * M * N * K / seconds;
    Add(std::move(row));
  }

  void AttentionRows(const std::string& prefix, const ModelConfig& c, int window) {
    constexpr int kLength = 1024;
    ArenaScope scope(*ctx_.arena);
    const Batch batch = PackDocuments(*ctx_.arena, RandomDocuments(1, kLength, c.vocab));
    const auto heads = [&] { return Random({kLength, c.heads, c.head_dim}); };
    const Tensor q = heads(), k = heads(), v = heads(), out = heads(), dout = heads(), dq = heads(), dk = heads(),
                 dv = heads();
    const Tensor lse = Random({kLength, c.heads});
    const KeyLayout layout{batch.positions, batch.first_row};
    const std::string name = " T1024 " + AttentionName(window);
    Kernel(prefix + "attention" + name, [&] { AttentionForward(ctx_, out, lse, q, k, v, layout, {window, 0}); });
    Kernel(prefix + "attention backward" + name, [&] {
      AttentionBackward(ctx_, dq, dk, dv, dout, out, lse, q, k, v, layout, batch.documents, {window, 0});
    });
  }

  // What is neither a product nor attention.
  void Kernels(const std::string& prefix, const ModelConfig& c, int N) {
    ArenaScope scope(*ctx_.arena);
    const auto hidden = [&] { return Random({N, c.hidden}); };
    const Tensor x = hidden(), y = hidden(), rstd = Random({N}), norm = Random({c.hidden});
    const Batch batch = PackDocuments(*ctx_.arena, RandomDocuments(N / 256, 256, c.vocab));
    Kernel(prefix + "rmsnorm", [&] { RmsNormForward(ctx_, y, rstd, x, norm, c.rms_eps); });
    const Tensor table = Random({256, c.head_dim});
    const auto as_heads = [&](const Tensor& t) { return t.Reshape({N, c.heads, c.head_dim}); };
    Kernel(prefix + "rope", [&] { RopeForward(ctx_, as_heads(y), as_heads(x), batch.positions, table); });
    const Tensor gate = Random({N, c.ffn}), up = Random({N, c.ffn}), gated = Random({N, c.ffn});
    Kernel(prefix + "swiglu", [&] { SwiGluForward(ctx_, gated, gate, up); });
    const Tensor w = Random({c.vocab, c.hidden}), dw = Random({c.vocab, c.hidden}), dx = hidden();
    const Tensor logp = Random({N}), lse = Random({N}), entropy = Random({N});
    Kernel(prefix + "token_logprob", [&] { TokenLogprobForward(ctx_, logp, lse, entropy, x, w, batch.ids); });
    Kernel(prefix + "token_logprob backward", [&] { TokenLogprobBackward(ctx_, dx, dw, logp, lse, x, w, batch.ids); });
    const std::vector<SampleRow> draws(static_cast<std::size_t>(N), SampleRow{1, 1.0});
    const Tensor tokens = ctx_.arena->New(DType::kI32, {N});
    Kernel(prefix + "sample", [&] { SampleForward(ctx_, tokens, logp, x, w, batch.positions, draws.data()); });
  }

  void TrainRow(char shape, int batch, int length, int window) {
    const ModelConfig c = ShapeOf(shape, length, window);
    const Transformer model(c, options_.dtype, /*with_gradients=*/true);
    InitializeParameters(model.parameters(), c.layers, /*seed=*/0);
    Optimizer optimizer(model.parameters(), {});
    const auto documents = RandomDocuments(batch, length, c.vocab);
    ordered_json row = {{"name", Concat(shape, " train B", batch, " T", length, " ", AttentionName(window))},
                        {"B", batch},
                        {"T", length},
                        {"window", window}};
    const double tokens = double{1} * batch * length;
    const double seconds = Measure(row, [&] {
      const StepTimer timer;
      ctx_.arena->Reset();
      Tape tape;
      Context recording = ctx_;
      recording.tape = &tape;
      const Batch packed = PackDocuments(*ctx_.arena, documents);
      const LogprobResult result = model.Logprob(recording, model.Forward(recording, packed), packed.ids);
      Dispatch(options_.dtype, [&]<class T>() {
        std::fill_n(result.logp.grad.data<T>(), result.logp.grad.size(), static_cast<T>(-1.0 / tokens));
      });
      tape.Backward(ctx_);
      optimizer.Step(ctx_, 1e-3, optimizer.GradientNorm(ctx_));
      return timer.Seconds();
    });
    row["tokens_per_second"] = tokens / seconds;
    row["model_gflops"] = 3e-9 * ForwardFlopsPerToken(c, length) * tokens / seconds;
    Add(std::move(row));
  }

  void DecodeRow(char shape, int batch, double temperature, int window) {
    constexpr int kPrompt = 32, kNew = 128;
    const ModelConfig c = ShapeOf(shape, kPrompt + kNew, window);
    const Transformer model(c, options_.dtype, /*with_gradients=*/false);
    InitializeParameters(model.parameters(), c.layers, /*seed=*/0);
    std::vector<Request> requests;
    for (const auto& prompt : RandomDocuments(batch, kPrompt, c.vocab)) {
      requests.push_back(
          {prompt, kNew, temperature, StreamKey(0, Purpose::kSample, static_cast<std::uint32_t>(requests.size()))});
    }
    const char* mode = temperature == 0 ? "greedy" : "sampled";
    ordered_json row = {{"name", Concat(shape, " decode B", batch, " ", mode, " ", AttentionName(window))},
                        {"B", batch},
                        {"prompt", kPrompt},
                        {"new", kNew},
                        {"window", window}};
    const Decoder decoder(model, batch, kPrompt + kNew);
    const double seconds = Measure(row, [&] {
      ctx_.arena->Reset();
      double first = -1;
      const StepTimer timer;
      decoder.Generate(ctx_, requests, [&](std::size_t, std::int32_t) {
        if (first < 0) first = timer.Seconds();  // the prompts are done, and all sequences draw their first token here
      });
      return timer.Seconds() - first;
    });
    row["tokens_per_second"] = double{1} * batch * (kNew - 1) / seconds;
    Add(std::move(row));
  }

  void ScalingRow(int length, int window) {
    const ModelConfig c = ShapeOf('D', length, window);
    const Transformer model(c, options_.dtype, /*with_gradients=*/false);
    InitializeParameters(model.parameters(), c.layers, /*seed=*/0);
    const auto documents = RandomDocuments(1, length, c.vocab);
    ordered_json row = {
        {"name", Concat("D forward T", length, " ", AttentionName(window))}, {"T", length}, {"window", window}};
    const double seconds = Measure(row, [&] {
      const StepTimer timer;
      ctx_.arena->Reset();
      const Batch batch = PackDocuments(*ctx_.arena, documents);
      model.Logprob(ctx_, model.Forward(ctx_, batch), batch.ids);
      return timer.Seconds();
    });
    row["tokens_per_second"] = length / seconds;
    row["model_gflops"] = 1e-9 * ForwardFlopsPerToken(c, length) * length / seconds;
    row["kv_bytes"] = KvBytesPerSequence(c, options_.dtype, length);
    Add(std::move(row));
  }

  Context& ctx_;
  const BenchOptions& options_;
  PhiloxStream random_;
};

}  // namespace

ordered_json RunBench(Context& ctx, const BenchOptions& options) {
  Bench bench(ctx, options);
  if (options.suite == "ops") {
    bench.Ops();
  } else if (options.suite == "train") {
    bench.Train();
  } else if (options.suite == "decode") {
    bench.Decode();
  } else if (options.suite == "scaling") {
    bench.Scaling();
  } else {
    throw UsageError(Concat("unknown suite '", options.suite, "'; use ops, train, decode or scaling"));
  }
  return {{"suite", options.suite},       {"device", "cpu"},
          {"processor", ProcessorName()}, {"threads", ctx.threads},
          {"dtype", Name(options.dtype)}, {"gemm", ctx.gemm == GemmKind::kOwn ? "own" : "eigen"},
          {"version", Version()},         {"revision", BuildRevision()},
          {"rows", std::move(bench.rows)}};
}

std::string BenchLine(const ordered_json& row) {
  char text[256];
  std::snprintf(text, sizeof text, "%-36s %11.3f ms", row["name"].get<std::string>().c_str(), row["ms"].get<double>());
  std::string line = text;
  constexpr std::array<std::pair<const char*, const char*>, 4> kColumns = {{{"tokens_per_second", "%12.0f tokens/s"},
                                                                            {"gflops", "%9.1f GFLOP/s"},
                                                                            {"model_gflops", "%9.1f model GFLOP/s"},
                                                                            {"kv_bytes", "%12.0f cache bytes"}}};
  for (const auto& [key, format] : kColumns) {
    if (!row.contains(key)) continue;
    std::snprintf(text, sizeof text, format, row[key].get<double>());
    line += text;
  }
  return line;
}

std::string ProcessorName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t at = line.find(": ");
    if (at != std::string::npos) return line.substr(at + 2);
  }
  return "unknown processor";
}

}  // namespace swarr
