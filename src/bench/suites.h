// SPDX-License-Identifier: Apache-2.0
// What the suites of bench.h are made of: the shapes, random data, and how a row is measured. Internal to the
// benchmarks.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "model/transformer.h"
#include "tensor/philox.h"
#include "train/optimizer.h"

namespace swarr {

// What is measured on one kind of device. Shapes are letters of bench.h, windows come beside full attention.
struct BenchSizes {
  std::string op_shapes;
  int op_rows;  // of all ops; attention runs over documents of op_length tokens, so many of them
  int op_documents, op_length, op_window;
  std::string model_shapes;                // of train and decode
  std::vector<std::pair<int, int>> train;  // sequences, and tokens of each
  int train_window;
  std::vector<int> decode;  // sequences
  int decode_window, prompt, new_tokens;
  int longest;  // of scaling
};
const BenchSizes& SizesOf(Device device);

// Shape A, C or D with one window in every layer; 0 is full attention.
ModelConfig BenchShape(char name, int max_positions, int window);
// "full", or "W64".
std::string AttentionName(int window);
// Multiplications and additions of one token's forward pass, averaged over a sequence of `length`: 2 per weight of a
// product, and 4 D per head and visible key.
double ForwardFlopsPerToken(const ModelConfig& config, int length);

// The rows of one suite as they are measured.
class BenchRows {
 public:
  BenchRows(Context& ctx, const BenchOptions& options);

  Context& ctx() const { return ctx_; }
  DType dtype() const { return options_.dtype; }
  MemoryKind kind() const { return MemoryOf(ctx_.device()); }  // of models
  bool on_device() const { return ctx_.device() != Device::kCpu; }
  const BenchSizes& sizes() const { return SizesOf(ctx_.device()); }
  nlohmann::ordered_json& rows() { return rows_; }

  bool Wanted(const std::string& name) const { return name.find(options_.rows) != std::string::npos; }
  // Runs `run`, which returns the seconds that count, as often as bench.h says. Adds "ms" and "repetitions" to the row;
  // returns the median seconds.
  double Measure(nlohmann::ordered_json& row, const std::function<double()>& run) const;
  // The same for a call of an op. A device gets a number of calls between two waits, "calls", of which the mean counts.
  double MeasureOp(nlohmann::ordered_json& row, const std::function<void()>& op) const;
  // What the device can do at best (bench.h). Measured when first asked for, and then added as rows.
  double PeakGflops();
  double PeakBandwidth();
  void Add(nlohmann::ordered_json row);

  // Notes what these hold, if the context asks. `optimizer` may be null.
  void NoteMemory(const Transformer& model, const Optimizer* optimizer) const;

  // Numbers in (-0.5, 0.5) in step memory: a million of them, again and again.
  Tensor Random(DType dtype, std::initializer_list<std::int64_t> shape);
  std::vector<std::vector<std::int32_t>> RandomDocuments(int count, int length, int vocab);

 private:
  void MeasurePeaks();
  double ProductPeakOfDevice();

  Context& ctx_;
  const BenchOptions& options_;
  PhiloxStream random_;
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
  double peak_gflops_ = 0, peak_bandwidth_ = 0;
};

// A whole training step on these documents, loss over all tokens: forward, backward, clipping, AdamW. Returns seconds,
// from a device that has nothing to do to one that has nothing left to do, as below.
double TimeTrainStep(Context& ctx, const Transformer& model, Optimizer& optimizer,
                     const std::vector<std::vector<std::int32_t>>& documents, bool checkpoint);
// A forward pass with the LM head. Returns seconds.
double TimeForward(Context& ctx, const Transformer& model, const std::vector<std::vector<std::int32_t>>& documents);

void OpsSuite(BenchRows& bench);      // ops.cc
void TrainSuite(BenchRows& bench);    // models.cc
void DecodeSuite(BenchRows& bench);   // models.cc
void ScalingSuite(BenchRows& bench);  // scaling.cc

}  // namespace swarr
