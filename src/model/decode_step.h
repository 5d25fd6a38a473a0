// SPDX-License-Identifier: Apache-2.0
// One step of decoding: a forward pass over the next tokens of some slots, or over whole prompts, and draws. On a CUDA
// device, steps that draw after every row, as most do, run as graphs (tensor/device.h).
#pragma once

#include <array>
#include <map>
#include <optional>
#include <vector>

#include "model/transformer.h"
#include "tensor/device_event.h"

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

// On a CUDA device (cuda/decode/drawn.cu). TakeRows: to = from, a block of i32 in pinned memory, of which `ids` are a
// part; of these -1 - m becomes drawn[m]. GiveDrawn: to, in pinned memory, = from.
void TakeRows(const Context& ctx, const Tensor& to, const Tensor& from, const Tensor& ids, const Tensor& drawn);
void GiveDrawn(const Context& ctx, const Drawn& to, const Drawn& from);

// DecodeStep on a CUDA device. A step may feed tokens that the step before has yet to draw, so the device goes on while
// the processor looks at what it has drawn. Each step lies in the same memory as the steps before, so what a graph has
// recorded holds for later steps with as many rows. Steps that draw after every row run as graphs. One with fewer rows
// than its graph is filled up with copies of its last one: they store the same keys once more, which changes nothing
// because a row depends on itself alone (P8), and their draws are ignored. The first step of a size runs without a
// graph and gets the memory.
class DeviceSteps {
 public:
  // For steps of up to max_rows rows of a model of this dtype.
  DeviceSteps(int max_rows, DType dtype);

  // Begins a step. In its ids -1 - m stands for the m-th token that is drawn by the step that was begun before.
  // `model` and `cache` must be the same at each call. Two steps at most may be begun and not ended.
  void Begin(const Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step);
  // Waits for the first step that is not ended. The result holds until the next one begins.
  Drawn End();
  bool AllEnded() const { return ended_ == begun_; }

  std::size_t bytes() const { return arena_.high_water_bytes(); }

 private:
  static constexpr int kAtOnce = 2;
  // What a step that is not ended has in pinned memory.
  struct Begun {
    OwnedTensor rows, tokens, logp;
    CudaEvent done;
    std::int64_t draws = 0;
  };
  // Of the step begun last, which lies filled up in its pinned memory.
  void Enqueue(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& filled) const;
  void EnqueueRecorded(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& filled);
  Begun& Beginning() { return steps_[begun_ % kAtOnce]; }
  const Begun& Beginning() const { return steps_[begun_ % kAtOnce]; }

  Arena arena_{MemoryKind::kDevice};
  Begun steps_[kAtOnce];
  std::int64_t begun_ = 0, ended_ = 0;
  OwnedTensor rows_, tokens_, logp_;  // on the device, of the step that runs
  std::vector<std::int32_t> known_;   // ids, and 0 for those still to be drawn
  // By rows, for each place in steps_, since a graph holds addresses there too; from the second step of a size on.
  std::map<std::int64_t, std::array<std::optional<CudaGraph>, kAtOnce>> recorded_;
  std::vector<AttentionSpec> attention_;  // the recorded graphs have computed with these and with gemm_
  GemmKind gemm_ = GemmKind::kOwn;
};

}  // namespace swarr
