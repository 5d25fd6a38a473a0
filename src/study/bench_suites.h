// SPDX-License-Identifier: Apache-2.0
// What the suites of bench.h are made of: the shapes, random data, and how a row is measured. Internal to the
// benchmarks.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "study/bench.h"
#include "tensor/philox.h"
#include "train/optimizer.h"

namespace swarr {

// Shape C or D with one window in every layer; 0 is full attention.
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
  nlohmann::ordered_json& rows() { return rows_; }

  bool Wanted(const std::string& name) const { return name.find(options_.rows) != std::string::npos; }
  // Runs `run`, which returns the seconds that count, as often as bench.h says. Adds "ms" and "repetitions" to the row;
  // returns the median seconds.
  double Measure(nlohmann::ordered_json& row, const std::function<double()>& run) const;
  void Add(nlohmann::ordered_json row);

  // Notes what these hold, if the context asks. `optimizer` may be null.
  void NoteMemory(const Transformer& model, const Optimizer* optimizer) const;

  // Numbers in (-0.5, 0.5) in step memory.
  Tensor Random(DType dtype, std::initializer_list<std::int64_t> shape);
  std::vector<std::vector<std::int32_t>> RandomDocuments(int count, int length, int vocab);

 private:
  Context& ctx_;
  const BenchOptions& options_;
  PhiloxStream random_;
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

// A whole training step on these documents, loss over all tokens: forward, backward, clipping, AdamW. Returns seconds.
double TimeTrainStep(Context& ctx, const Transformer& model, Optimizer& optimizer,
                     const std::vector<std::vector<std::int32_t>>& documents, bool checkpoint);
// A forward pass with the LM head. Returns seconds.
double TimeForward(Context& ctx, const Transformer& model, const std::vector<std::vector<std::int32_t>>& documents);

void OpsSuite(BenchRows& bench);      // bench_ops.cc
void TrainSuite(BenchRows& bench);    // bench_models.cc
void DecodeSuite(BenchRows& bench);   // bench_models.cc
void ScalingSuite(BenchRows& bench);  // bench_scaling.cc

}  // namespace swarr
