// SPDX-License-Identifier: Apache-2.0
#include "study/bench.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

#include "study/bench_suites.h"
#include "tensor/version.h"

namespace swarr {

using nlohmann::ordered_json;

namespace {

constexpr int kMinRepetitions = 3, kMaxRepetitions = 60;
// A first run that takes longer than this many times the row's seconds is the only one.
constexpr double kPatience = 10.0;

}  // namespace

ModelConfig BenchShape(char name, int max_positions, int window) {
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

std::string AttentionName(int window) { return window == 0 ? "full" : Concat("W", window); }

double ForwardFlopsPerToken(const ModelConfig& config, int length) {
  const double C = config.hidden, heads = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  const double weights = config.layers * (C * (heads + 2 * kv) + heads * C + 3 * C * config.ffn) + C * config.vocab;
  double keys = 0;
  for (int q = 0; q < length; ++q) {
    const VisibleKeys visible = VisibleKeysOf(q, config.attention[0]);
    keys += visible.sinks.size() + visible.recent.size();
  }
  return 2 * weights + config.layers * 4.0 * heads * keys / length;
}

BenchRows::BenchRows(Context& ctx, const BenchOptions& options)
    : ctx_(ctx), options_(options), random_(StreamKey(0, Purpose::kInit)) {}

double BenchRows::Measure(ordered_json& row, const std::function<double()>& run) const {
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

void BenchRows::Add(ordered_json row) {
  if (options_.on_row) options_.on_row(row);
  rows_.push_back(std::move(row));
}

void BenchRows::NoteMemory(const Transformer& model, const Optimizer* optimizer) const {
  if (!ctx_.memory) return;
  model.NoteMemory(*ctx_.memory);
  if (optimizer) optimizer->NoteMemory(*ctx_.memory);
}

Tensor BenchRows::Random(DType dtype, std::initializer_list<std::int64_t> shape) {
  const Tensor t = ctx_.arena->New(dtype, shape);
  Dispatch(dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < t.size(); ++i) t.data<T>()[i] = static_cast<T>(random_.NextUniform() - 0.5);
  });
  return t;
}

std::vector<std::vector<std::int32_t>> BenchRows::RandomDocuments(int count, int length, int vocab) {
  std::vector<std::vector<std::int32_t>> documents(static_cast<std::size_t>(count));
  for (auto& d : documents) {
    for (int t = 0; t < length; ++t) {
      d.push_back(static_cast<std::int32_t>(random_.NextBelow(static_cast<std::uint32_t>(vocab))));
    }
  }
  return documents;
}

ordered_json RunBench(Context& ctx, const BenchOptions& options) {
  BenchRows bench(ctx, options);
  if (options.suite == "ops") {
    OpsSuite(bench);
  } else if (options.suite == "train") {
    TrainSuite(bench);
  } else if (options.suite == "decode") {
    DecodeSuite(bench);
  } else if (options.suite == "scaling") {
    ScalingSuite(bench);
  } else {
    throw UsageError(Concat("unknown suite '", options.suite, "'; use ops, train, decode or scaling"));
  }
  if (bench.rows().empty()) {
    throw UsageError(Concat("no row of the suite ", options.suite, " has '", options.rows, "' in its name"));
  }
  return {{"suite", options.suite},       {"device", "cpu"},
          {"processor", ProcessorName()}, {"threads", ctx.threads},
          {"dtype", Name(options.dtype)}, {"gemm", ctx.gemm == GemmKind::kOwn ? "own" : "eigen"},
          {"cpu", Name(ctx.cpu)},         {"version", Version()},
          {"revision", BuildRevision()},  {"rows", std::move(bench.rows())}};
}

std::string BenchLine(const ordered_json& row) {
  struct Column {
    const char* key;
    const char* format;
    double unit;
  };
  static constexpr std::array<Column, 7> kColumns = {{{"tokens_per_second", "%12.0f tokens/s", 1},
                                                      {"gflops", "%10.2f GFLOP/s", 1},
                                                      {"model_gflops", "%9.1f model GFLOP/s", 1},
                                                      {"gb_per_second", "%10.2f GB/s   ", 1},
                                                      {"peak_share", "%7.1f%% of the peak", 100},
                                                      {"arena_bytes_per_token", "%10.0f arena bytes/token", 1},
                                                      {"kv_bytes", "%11.0f cache bytes", 1}}};
  char text[256];
  std::snprintf(text, sizeof text, "%-36s %11.3f ms", row["name"].get<std::string>().c_str(), row["ms"].get<double>());
  std::string line = text;
  for (const Column& c : kColumns) {
    if (!row.contains(c.key)) continue;
    std::snprintf(text, sizeof text, c.format, c.unit * row[c.key].get<double>());
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
