// SPDX-License-Identifier: Apache-2.0
// What the suites of bench.h share: shapes, random data, and how a row is measured. Internal to the benchmarks.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "model/transformer.h"
#include "tensor/memory.h"
#include "tensor/philox.h"
#include "train/optimizer.h"
#include "train/requirements.h"

namespace swarr {

using Documents = std::vector<std::vector<std::int32_t>>;  // token ids

// Attention over documents of `length` tokens each.
struct AttentionSize {
  int documents, length, heads, kv_heads, head_dim, window;  // window: 0 is full attention
};

// A training step of `sequences` sequences of `length` tokens.
struct TrainSize {
  char shape;
  int sequences, length;
};

// A step of RL: completions of new_tokens each after prompts of `prompt` tokens, which groups of `group` share; `slots`
// decoded and `micro_batch` trained at a time.
struct RlSize {
  char shape;
  int completions, group, prompt, new_tokens, slots, micro_batch;
};

// What is measured on one kind of device; these values are the processor's. Shapes are letters of bench.h. Windows are
// measured beside full attention.
struct BenchSizes {
  std::string product_shapes = "CD", op_shapes = "CD";  // of ops: products, and all else
  int op_rows = 4096;                                   // of all ops; attention's are
  int op_documents = 1, op_length = 1024;               // this many documents of op_length tokens
  int op_window = 128;
  std::vector<AttentionSize> attention = {};  // beside the shapes' own
  std::vector<TrainSize> train = {{'C', 16, 256}, {'C', 4, 1024}, {'D', 16, 256}, {'D', 4, 1024}};
  int train_window = 64;
  RlSize rl = {'D', 128, 8, 32, 64, 128, 32};
  std::string decode_shapes = "CD";
  std::vector<int> decode = {1, 16, 64};  // sequences
  int decode_window = 64, prompt = 32, new_tokens = 128;
  char scaling_shape = 'D';
  int scaling_window = 128;
  std::vector<int> scaling_lengths = {1024, 4096, 16'384, 65'536, 262'144};
  double full_seconds = 20;  // full attention is measured where a run should take less than this
};

// Shape A, B, C or D with one window in every layer; 0 is full attention.
ModelConfig BenchShape(char name, int max_positions, int window);
// "full", or "W64".
std::string AttentionName(int window);
// Multiplications and additions of one token's forward pass, the mean over a sequence of `length`: 2 per weight of a
// product, and 4 D per head and visible key.
double ForwardFlopsPerToken(const ModelConfig& config, int length);
// Visible keys, summed over the queries of a sequence of `length`.
double VisibleKeyCount(AttentionSpec spec, int length);

// What this machine can do at best, as a measure for the speed of kernels. Each is the best of several runs.
// On the processor: f32 multiply-adds of ctx.threads threads with all operands in registers, in GFLOP/s, two operations
// each. They use the vectors of ctx.cpu's set, not the products of bf16 that some sets have.
double MultiplyAddPeak(const Context& ctx);

// A million random numbers where the device reaches them. Tensors are filled by copying from the list, which repeats;
// each begins elsewhere in it. Drawing numbers anew would take longer than a short run measures.
class RepeatedNumbers {
 public:
  RepeatedNumbers(DType dtype, MemoryKind kind, const std::function<double()>& draw);
  void Fill(const Context& ctx, const Tensor& t);

 private:
  OwnedTensor numbers_;
  std::int64_t next_ = 0;
};

// The rows of one suite as they are measured.
class BenchRows {
 public:
  BenchRows(Context& ctx, const BenchOptions& options);

  Context& ctx() const { return ctx_; }
  DType dtype() const { return options_.dtype; }
  MemoryKind kind() const { return MemoryOf(ctx_.device()); }  // of models
  bool on_device() const { return ctx_.device() != Device::kCpu; }
  const BenchSizes& sizes() const;
  nlohmann::ordered_json TakeRows() { return std::move(rows_); }

  // Whether the row is to be measured.
  bool Wanted(const std::string& name);
  // Whether any row has a name that is asked for.
  bool any_wanted() const { return !wanted_.empty(); }
  const std::vector<std::string>& names() const { return names_; }  // that were asked about
  // {"rows", "of"}: how many are measured of those that are asked for.
  nlohmann::ordered_json Measured() const;
  // Adds to a row what follows from the seconds that one run takes.
  using Rates = std::function<void(nlohmann::ordered_json& row, double seconds)>;
  // Measures a row and adds it, on request as often as it is asked for. Calls `run`, which returns the seconds that
  // count, the mean of so many `calls`, as often as bench.h says. Sets "ms", the spread and the rates; returns the
  // median seconds.
  double Measure(nlohmann::ordered_json row, const std::function<double()>& run, const Rates& rates, int calls = 1);
  // The same for an op. On a device it is called "calls" times between two waits, and the mean counts.
  void MeasureOp(nlohmann::ordered_json row, const std::function<void()>& op, const Rates& rates);
  // What the device can do at best (bench.h), of arithmetic in GFLOP/s and of copying in GB/s. The first call measures
  // and adds a row.
  double ArithmeticPeak();
  double CopyPeak();
  // The names of their rows.
  std::string ArithmeticPeakName() const;
  static constexpr const char* kCopyPeakName = "peak of copying";
  void Add(nlohmann::ordered_json row);

  // Throws Error, naming the row, if what a model of this shape and a pass or a decoder need together is more than
  // there was when the benchmark began.
  void CheckMemory(const std::string& row, const ModelConfig& config, bool trained,
                   const std::vector<MemoryPart>& more) const;
  // Empties step memory, so that its high-water mark is that of what comes next.
  void ForgetStepMemory() const;
  // Notes what these hold, if the context asks for it. `optimizer` may be null.
  void NoteMemory(const Transformer& model, const Optimizer* optimizer) const;

  // Numbers in (-0.5, 0.5) in step memory, of a list that repeats.
  Tensor Random(DType dtype, std::initializer_list<std::int64_t> shape);
  // Weights with the deviations of InitializeParameters, of lists that repeat.
  void FillWeights(const Transformer& model);
  Documents RandomDocuments(int count, int length, int vocab);

 private:
  double MeasurePeak(const std::string& name, const char* unit, const std::function<double()>& peak);

  Context& ctx_;
  const BenchOptions& options_;
  AvailableMemory available_;
  PhiloxStream random_;
  std::map<DType, RepeatedNumbers> numbers_;  // of Random
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
  std::optional<double> arithmetic_peak_, copy_peak_;
  std::vector<std::string> names_;
  std::set<std::string> wanted_;
};

// The mean seconds of this many calls between two waits.
double MeanSeconds(const Context& ctx, int calls, const std::function<void()>& call);
// Sets "fastest_ms", "slowest_ms" and "repetitions" by the seconds of each repetition.
void SetSpread(nlohmann::ordered_json& row, const std::vector<double>& times);

void OpsSuite(BenchRows& bench);
void TrainSuite(BenchRows& bench);
void DecodeSuite(BenchRows& bench);
void ScalingSuite(BenchRows& bench);

}  // namespace swarr
