// SPDX-License-Identifier: Apache-2.0
#include "bench/bench.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <map>
#include <sstream>

#include "base/machine.h"
#include "base/version.h"
#include "bench/suites.h"
#include "tensor/transfer.h"
#include "train/step_timer.h"

namespace swarr {

using nlohmann::ordered_json;

namespace {

using Suite = void (*)(BenchRows&);

constexpr int kMinRepetitions = 3, kMaxRepetitions = 60;
// Of a row on request, which is measured for a short time but many times.
constexpr int kMinOnRequest = 1, kMaxOnRequest = 10'000;
// A first run that takes longer than this many times the row's seconds is the only run.
constexpr double kPatience = 10.0;
// How long an op is called between two waits on a device, and how often at most.
constexpr double kSecondsBetweenWaits = 0.01;
constexpr int kMostCalls = 500;
// What results say about weights and operands.
constexpr const char* kNumbers = "random, of a million that repeat";

// Whether `begin` stands within a word of the text, which is letters and digits, and not where one begins or ends.
bool SplitsWord(const std::string& text, std::size_t begin) {
  const auto is_of_word = [&](std::size_t i) { return std::isalnum(static_cast<unsigned char>(text[i])) != 0; };
  return begin > 0 && begin < text.size() && is_of_word(begin - 1) && is_of_word(begin);
}

bool HasWords(const std::string& name, const std::string& words) {
  for (std::size_t at = name.find(words); at != std::string::npos; at = name.find(words, at + 1)) {
    if (!SplitsWord(name, at) && !SplitsWord(name, at + words.size())) return true;
  }
  return false;
}

// The texts of BenchOptions::rows.
std::vector<std::string> TextsOf(const std::string& rows) {
  std::vector<std::string> texts;
  std::istringstream parts(rows);
  for (std::string text; std::getline(parts, text, ',');) {
    if (!text.empty()) texts.push_back(text);
  }
  return texts;
}

// BenchOptions::rows; bench/peers/common.py has the same rule.
bool IsAmong(const std::string& name, const std::string& rows) {
  const std::vector<std::string> texts = TextsOf(rows);
  return texts.empty() || std::ranges::any_of(texts, [&](const std::string& text) { return HasWords(name, text); });
}

// A row's times with as many digits as its median asks for: "1.234 ms (1.201 to 1.311 of 60)", "1.234 ms (once)", or
// "1.234 ms" of a peak.
std::string TimesText(const ordered_json& row) {
  const double ms = row["ms"];
  const int digits = ms < 0.1 ? 6 : 3;
  char text[128], spread[96] = "";
  if (row.contains("fastest_ms") && row["repetitions"] != 1) {
    std::snprintf(spread, sizeof spread, "(%.*f to %.*f of %d)", digits, row["fastest_ms"].get<double>(), digits,
                  row["slowest_ms"].get<double>(), row["repetitions"].get<int>());
  } else if (row.contains("fastest_ms")) {
    std::snprintf(spread, sizeof spread, "(once)");
  }
  std::snprintf(text, sizeof text, "%11.*f ms %-28s", digits, ms, spread);
  return text;
}

}  // namespace

const BenchSizes& BenchRows::sizes() const {
  static const BenchSizes kCpu;
  static const BenchSizes kCuda = {.product_shapes = "AB",
                                   .op_shapes = "A",
                                   .op_rows = 16'384,
                                   .op_documents = 8,
                                   .op_length = 2048,
                                   .op_window = 512,
                                   .attention = {{8, 8192, 16, 16, 64, 0},
                                                 {8, 8192, 16, 16, 64, 512},
                                                 {8, 8192, 16, 16, 64, 128},
                                                 {8, 8192, 16, 16, 128, 0},
                                                 {8, 8192, 16, 16, 128, 512},
                                                 {8, 8192, 16, 16, 128, 128},
                                                 {2, 8192, 64, 8, 64, 1024}},
                                   .train = {{'A', 16, 2048},
                                             {'A', 4, 8192},
                                             {'B', 8, 2048},
                                             {'B', 2, 8192},
                                             {'C', 64, 2048},
                                             {'C', 16, 8192},
                                             {'D', 8, 2048}},
                                   .train_window = 512,
                                   .rl = {'A', 384, 8, 100, 100, 384, 192},
                                   .decode_shapes = "ABCD",
                                   .decode = {1, 16, 64, 256},
                                   .decode_window = 128,
                                   .prompt = 128,
                                   .new_tokens = 256,
                                   .scaling_shape = 'A',
                                   .scaling_window = 512,
                                   .scaling_lengths = {1024, 2048, 8192, 32'768, 131'072, 1'048'576},
                                   .full_seconds = 3};
  return on_device() ? kCuda : kCpu;
}

ModelConfig BenchShape(char name, int max_positions, int window) {
  static const std::map<char, ModelConfig> kShapes = {
      {'A', {.layers = 30, .hidden = 576, .heads = 9, .kv_heads = 3, .head_dim = 64, .ffn = 1536, .vocab = 49152}},
      {'B',
       {.layers = 28,
        .hidden = 1024,
        .heads = 16,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn = 3072,
        .vocab = 151936,
        .qk_norm = true}},
      {'C', {.layers = 6, .hidden = 384, .heads = 6, .kv_heads = 6, .head_dim = 64, .ffn = 1024, .vocab = 256}},
      {'D', {.layers = 4, .hidden = 128, .heads = 4, .kv_heads = 4, .head_dim = 32, .ffn = 352, .vocab = 64}}};
  ModelConfig c = kShapes.at(name);
  c.max_positions = max_positions;
  c.tied = true;
  c.attention.assign(static_cast<std::size_t>(c.layers), {window, 0});
  return c;
}

std::string AttentionName(int window) { return window == 0 ? "full" : Concat("W", window); }

double ForwardFlopsPerToken(const ModelConfig& config, int length) {
  const double C = config.hidden, heads = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  const double weights = config.layers * (C * (heads + 2 * kv) + heads * C + 3 * C * config.ffn) + C * config.vocab;
  return 2 * weights + config.layers * 4.0 * heads * VisibleKeyCount(config.attention[0], length) / length;
}

double VisibleKeyCount(AttentionSpec spec, int length) {
  double keys = 0;
  for (int q = 0; q < length; ++q) {
    const VisibleKeys visible = VisibleKeysOf(q, spec);
    keys += visible.sinks.size() + visible.recent.size();
  }
  return keys;
}

BenchRows::BenchRows(Context& ctx, const BenchOptions& options)
    : ctx_(ctx), options_(options), available_(ctx.device()), random_(StreamKey(0, Purpose::kInit)) {}

double MeanSeconds(const Context& ctx, int calls, const std::function<void()>& call) {
  Wait(ctx);
  const StepTimer timer;
  for (int i = 0; i < calls; ++i) call();
  Wait(ctx);
  return timer.Seconds() / calls;
}

void SetSpread(ordered_json& row, const std::vector<double>& times) {
  const auto [fastest, slowest] = std::ranges::minmax(times);
  row["fastest_ms"] = 1e3 * fastest;
  row["slowest_ms"] = 1e3 * slowest;
  row["repetitions"] = times.size();
}

double BenchRows::Measure(ordered_json row, const std::function<double()>& run, const Rates& rates, int calls) {
  double seconds = run();  // warms up; counts only if more runs would take too long
  const auto add = [&](std::vector<double> times) {
    std::ranges::sort(times);
    seconds = (times[(times.size() - 1) / 2] + times[times.size() / 2]) / 2;
    row["ms"] = 1e3 * seconds;
    SetSpread(row, times);
    rates(row, seconds);
    Add(row);
  };
  const auto repeat = [&](int least, int most) {
    const double wanted = options_.seconds_per_row / (calls * seconds);
    std::vector<double> times(static_cast<std::size_t>(std::clamp(wanted, double{1} * least, double{1} * most)));
    std::ranges::generate(times, run);
    add(std::move(times));
  };
  if (options_.await_request) {
    seconds = run();  // the first run asks for step memory, and what it took is asked for anew, as one block
    while (options_.await_request()) repeat(kMinOnRequest, kMaxOnRequest);
  } else if (calls * seconds > kPatience * options_.seconds_per_row) {
    add({seconds});
  } else {
    repeat(kMinRepetitions, kMaxRepetitions);
  }
  return seconds;
}

void BenchRows::MeasureOp(ordered_json row, const std::function<void()>& op, const Rates& rates) {
  int calls = 1;
  if (on_device()) {
    op();  // loads its kernels, takes its memory
    const double once = MeanSeconds(ctx_, 1, op);
    calls = static_cast<int>(std::clamp(kSecondsBetweenWaits / once, 1.0, double{kMostCalls}));
    row["calls"] = calls;
  }
  Measure(
      std::move(row), [&] { return MeanSeconds(ctx_, calls, op); }, rates, calls);
}

bool BenchRows::Wanted(const std::string& name) {
  if (std::ranges::find(names_, name) == names_.end()) names_.push_back(name);
  const bool wanted = options_.await_request ? name == options_.rows : IsAmong(name, options_.rows);
  if (wanted) wanted_.insert(name);
  return wanted && !(options_.stop && options_.stop());
}

ordered_json BenchRows::Measured() const {
  const auto measured = std::ranges::count_if(
      rows_, [&](const ordered_json& row) { return wanted_.contains(row["name"].get<std::string>()); });
  return {{"rows", measured}, {"of", wanted_.size()}};
}

void BenchRows::Add(ordered_json row) {
  if (options_.on_row) options_.on_row(row);
  rows_.push_back(std::move(row));
}

void BenchRows::CheckMemory(const std::string& row, const ModelConfig& config, bool trained,
                            const std::vector<MemoryPart>& more) const {
  std::vector<MemoryPart> parts = ModelParts(config, dtype(), trained);
  parts.insert(parts.end(), more.begin(), more.end());
  try {
    available_.Check(parts);
  } catch (const Error& e) {
    throw Error(Concat("the row '", row, "': ", e.what(), ", or other rows (--rows)"));
  }
}

void BenchRows::ForgetStepMemory() const {
  ResetStep(ctx_);
  *ctx_.arena = Arena(ctx_.arena->kind());
}

void BenchRows::NoteMemory(const Transformer& model, const Optimizer* optimizer) const {
  if (!ctx_.memory) return;
  model.NoteMemory(*ctx_.memory);
  if (optimizer) optimizer->NoteMemory(*ctx_.memory);
}

// Throws UsageError, after on_no_row, unless each text of `rows` is in the name of a row. The suite is asked for its
// names by a pass that measures nothing.
static void RequireRows(Context& ctx, Suite suite, const BenchOptions& options) {
  const std::vector<std::string> texts = TextsOf(options.rows);
  if (texts.empty()) return;
  const BenchOptions nothing{.suite = options.suite, .dtype = options.dtype, .stop = [] { return true; }};
  BenchRows bench(ctx, nothing);
  suite(bench);
  bench.ForgetStepMemory();
  const auto is_unknown = [&](const std::string& text) {
    return std::ranges::none_of(bench.names(), [&](const std::string& name) { return HasWords(name, text); });
  };
  const auto unknown = std::ranges::find_if(texts, is_unknown);
  if (unknown == texts.end()) return;
  if (options.on_no_row) options.on_no_row(bench.names());
  throw UsageError(Concat("no row of the suite ", options.suite, " has '", *unknown, "' in its name, as whole words"));
}

ordered_json RunBench(Context& ctx, const BenchOptions& options) {
  static const std::map<std::string, Suite> kSuites = {
      {"ops", OpsSuite}, {"train", TrainSuite}, {"decode", DecodeSuite}, {"scaling", ScalingSuite}};
  const auto suite = kSuites.find(options.suite);
  if (suite == kSuites.end()) {
    throw UsageError(Concat("unknown suite '", options.suite, "'; use ops, train, decode or scaling"));
  }
  if (!options.await_request) RequireRows(ctx, suite->second, options);
  ordered_json results = BenchSetting(ctx, options);
  BenchRows bench(ctx, options);
  suite->second(bench);
  if (options.await_request && !bench.any_wanted()) {
    throw UsageError(Concat("no row of the suite ", options.suite, " is called '", options.rows,
                            "', and a row on request needs its whole name"));
  }
  const ordered_json measured = bench.Measured();
  if (options.stop && measured["rows"] < measured["of"]) results["stopped"] = measured;
  results["rows"] = bench.TakeRows();
  return results;
}

ordered_json BenchSetting(const Context& ctx, const BenchOptions& options) {
  return {
      {"suite", options.suite}, {"device", Name(ctx.device())}, {"processor", ProcessorName(ctx.device())},
      {"threads", ctx.threads}, {"dtype", Name(options.dtype)}, {"gemm", Name(ctx.gemm)},
      {"cpu", Name(ctx.cpu)},   {"version", Version()},         {"revision", BuildRevision()},
      {"numbers", kNumbers},    {"load_before", SystemLoad()},
  };
}

std::string BenchLine(const ordered_json& row) {
  struct Column {
    const char* key;
    const char* format;
    double unit;
  };
  static constexpr std::array<Column, 8> kColumns = {{{"tokens_per_second", "%12.0f tokens/s", 1},
                                                      {"gflops", "%10.2f GFLOP/s", 1},
                                                      {"model_gflops", "%9.1f model GFLOP/s", 1},
                                                      {"gb_per_second", "%10.2f GB/s   ", 1},
                                                      {"peak_share", "%7.1f%% of the peak", 100},
                                                      {"arena_bytes_per_token", "%10.0f arena bytes/token", 1},
                                                      {"memory_bytes", "%9.2f GB", 1e-9},
                                                      {"kv_bytes", "%11.0f cache bytes", 1}}};
  char text[256];
  std::snprintf(text, sizeof text, "%-36s %s", row["name"].get<std::string>().c_str(), TimesText(row).c_str());
  std::string line = text;
  for (const Column& c : kColumns) {
    if (!row.contains(c.key)) continue;
    std::snprintf(text, sizeof text, c.format, c.unit * row[c.key].get<double>());
    line += text;
  }
  return line;
}

std::string ProcessorName(Device device) { return device == Device::kCuda ? CudaDeviceName() : ProcessorModel(); }

}  // namespace swarr
