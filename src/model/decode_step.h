// SPDX-License-Identifier: Apache-2.0
// One step of decoding: a forward pass over the next tokens of some slots, or over whole prompts, and draws. On a CUDA
// device, steps that draw after every row, as most do, run as graphs (tensor/device.h).
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "model/transformer.h"

namespace swarr {

// What a step feeds, and after which of its rows a token is drawn. In the processor's memory.
struct StepBatch {
  Batch fed;
  // [M] i32: the row, and the position of the token drawn after it. No rows: a draw after each.
  Tensor draw_rows, draw_positions;
  const SampleRow* draws;  // [M]
  Tensor block = {};       // in which all of these lie, to be moved in one copy; empty: they lie apart
};

// Tokens and their log-probabilities [M], in the processor's memory, to be read after Wait. Empty if nothing is drawn.
struct Drawn {
  Tensor tokens, logp;
};

Drawn DecodeStep(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step);

// DecodeStep on a CUDA device, waited for. Each step lies in the same memory as the steps before, and its rows in
// pinned memory, so what a graph has recorded holds for later steps with as many rows. Steps that draw after every row
// run as graphs. One with fewer rows than its graph is filled up with copies of its last one: they store the same keys
// once more, which changes nothing because a row depends on itself alone (P8), and their draws are ignored. The first
// step of a size runs without a graph and gets the memory.
class DeviceSteps {
 public:
  // For steps of up to max_rows rows.
  explicit DeviceSteps(int max_rows);

  // The result holds until the next step. `model` and `cache` must be the same at each call.
  Drawn Run(const Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step);

  std::size_t bytes() const { return arena_.high_water_bytes(); }

 private:
  // What steps of one size share.
  struct Recorded {
    std::optional<CudaGraph> graph;  // from the second step on
    Drawn drawn;                     // where the graph leaves its results
  };
  Drawn RunRecorded(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step,
                    std::int64_t rows);
  StepBatch Fill(const StepBatch& step, std::int64_t rows, std::int64_t draws);

  Arena arena_{MemoryKind::kDevice}, host_{MemoryKind::kPinned};
  OwnedTensor rows_;  // pinned: a step's block
  std::map<std::int64_t, Recorded> recorded_;
  std::vector<AttentionSpec> attention_;  // the recorded graphs have computed with these and with gemm_
  GemmKind gemm_ = GemmKind::kOwn;
};

}  // namespace swarr
