// SPDX-License-Identifier: Apache-2.0
// The model: one forward function that training, chunked prefill and decode share (P2).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "autograd/blocks.h"
#include "model/config.h"
#include "model/parameters.h"
#include "tensor/packed_weights.h"

namespace swarr {

// Keys and values of many sequences, one slot each, in O(window) tiles per layer and slot (attn/spec.h, CacheTiles).
class KvCache {
 public:
  // Sequences of up to max_length tokens that arrive in chunks of up to max_chunk.
  KvCache(const ModelConfig& config, DType dtype, int slots, int max_length, int max_chunk,
          MemoryKind kind = MemoryKind::kHost);

  const KeyCache& layer(int i) const { return layers_[static_cast<std::size_t>(i)]; }
  int slots() const { return slots_; }
  int max_length() const { return max_length_; }
  int max_chunk() const { return max_chunk_; }
  std::size_t bytes() const;

 private:
  std::vector<KeyCache> layers_;
  int slots_, max_length_, max_chunk_;
};

// Bytes of keys and values that one sequence of `length` tokens needs in all layers, decoding token by token.
std::size_t KvBytesPerSequence(const ModelConfig& config, DType dtype, int length);

// The rows of one forward pass: the tokens of several sequences, one sequence after another. They lie in the
// processor's memory; a forward pass moves them to the device.
struct Batch {
  Tensor ids;        // [N] i32
  Tensor positions;  // [N] i32, ascending by one within a sequence
  Tensor documents;  // [documents + 1] i32: first row of each document, then N; empty: rows continue their slots
  Tensor slots;  // [N] i32: the slot of each token's sequence; of documents [M, N], M slots or -1; only with a cache
  Tensor prompts = {};  // [N] i32: tokens of the prompt of each token's sequence; empty: not known
};

// The batch in memory that the ops of the context's device read (tensor/transfer.h).
Batch ToDevice(const Context& ctx, const Batch& batch);

// Packs whole documents one after another. They do not see each other. `prompts` are the lengths of their prompts, if
// these are known; a model that keeps prompts visible asks for them.
Batch PackDocuments(Arena& arena, std::span<const std::vector<std::int32_t>> documents,
                    std::span<const int> prompts = {});

class Transformer {
 public:
  // A model can be used only with contexts of the device in whose memory (`kind`) it lies.
  Transformer(const ModelConfig& config, DType dtype, bool with_gradients, MemoryKind kind = MemoryKind::kHost);

  const ModelConfig& config() const { return config_; }
  const ParameterStore& parameters() const { return parameters_; }
  DType dtype() const { return parameters_.dtype(); }

  // Makes `id` the end of text: training appends it and sampling stops there. Sampling still stops at the former ids
  // too. Throws if `id` is outside the vocabulary.
  void SetEndOfText(std::int32_t id);

  // Switches the attention of every layer (P6); the weights stay. Throws unless there is one valid spec per layer.
  void SetAttention(const std::vector<AttentionSpec>& attention);

  // Hidden states [N, C] after the last norm. Without a cache, each document of the batch attends to itself; under a
  // live tape the pass is recorded, each block checkpointed if asked. With a cache, the rows are the next tokens of
  // their slots: their keys are stored, then they attend. Documents with a cache are prompts, whole: each attends to
  // itself, and its keys are stored in all of its slots. Throws if ids or positions are out of range.
  Var Forward(Context& ctx, const Batch& batch, bool checkpoint = false) const {
    return Run(ctx, batch, nullptr, checkpoint);
  }
  Var Forward(Context& ctx, const Batch& batch, const KvCache& cache) const { return Run(ctx, batch, &cache, false); }
  // The check that both make first: ops rely on it (tensor/ops.h). `cache` may be null.
  void Check(const Batch& batch, const KvCache* cache) const;
  // Forward over whole documents that shows what each layer's attention reads: visit(layer, queries, keys and values,
  // learned sinks or nothing). They lie in step memory of the device. Under a live tape it throws.
  using HeadVisitor = std::function<void(int, const QkvHeads&, const Tensor&)>;
  void VisitHeads(Context& ctx, const Batch& batch, const HeadVisitor& visit) const;
  // What is left of Forward with a cache for a batch that has been checked and moved to the device.
  Var ForwardMoved(Context& ctx, const Batch& batch, const KvCache& cache) const {
    return RunMoved(ctx, batch, &cache, false);
  }

  void NoteMemory(MemoryReport& report) const;

  // Packs the weights of all products, as they are now, to decode so many sequences (tensor/packed_weights.h).
  void PackWeights(const Context& ctx, PackedWeights& packed, std::int64_t sequences) const;

  // The LM head: log p(targets[n] | the tokens up to row n) from Forward's hidden states. Targets lie in the
  // processor's memory.
  LogprobResult Logprob(Context& ctx, const Var& hidden, const Tensor& targets) const;
  const Var& head() const { return head_; }

 private:
  struct BlockWeights {
    AttentionWeights attention;
    FeedForwardWeights feed_forward;
  };
  Var Run(Context& ctx, const Batch& host, const KvCache* cache, bool checkpoint) const;
  Var RunMoved(Context& ctx, const Batch& batch, const KvCache* cache, bool checkpoint) const;
  Var Block(Context& ctx, int layer, const Var& x, const Batch& batch, const KvCache* cache) const;
  Var Attend(Context& ctx, int layer, const Var& x, const Batch& batch) const;
  Var FillingAttend(Context& ctx, int layer, const Var& x, const Batch& batch, const KvCache& cache) const;
  Var CachedBlock(Context& ctx, int layer, const Var& x, const Batch& batch, const KvCache& cache) const;
  Var FeedForwardOf(Context& ctx, const FeedForwardWeights& w, const Var& x) const;

  ModelConfig config_;
  ParameterStore parameters_;
  Var embedding_, norm_, head_;
  std::vector<BlockWeights> blocks_;
  OwnedTensor rope_table_;  // [max_positions, D]
};

}  // namespace swarr
