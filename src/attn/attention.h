// SPDX-License-Identifier: Apache-2.0
// Causal softmax attention with grouped query heads, full or in a sliding window, with or without sinks.
//
//   out[n, h] = sum_j p_j v[j, g],  p = softmax over the visible keys j of scale * q[n, h] . k[j, g],  g = h / (H / G),
//   scale = D^-1/2,  lse[n, h] = log sum_j exp(scale * q . k_j)
//
// A learned sink is one more logit of a query head, s[h], which joins the sum and has no value:
//
//   p_j = exp(scale * q . k_j) / (sum_i exp(scale * q . k_i) + exp(s[h])),  lse = log(sum_i ... + exp(s[h]))
//
// It is no key: it stands beside any window and in no document. gpt-oss (arXiv 2508.10925) and GraniteSWA have it.
//
// attn/spec.h alone decides which keys are visible. Training, packed documents, chunked prefill and decoding from a
// ring cache are one kernel, which reads keys in tiles counted from the document's start. A query's result depends on
// its own visible keys alone, bit for bit, however they are stored and whatever else is in the batch (P8,
// docs/exactness.md). Under a window, time is O(T W), and there is no T x T mask. A query at a negative position sees
// nothing: its out is 0, its lse -infinity (s[h] where there is a learned sink) and its gradient 0.
//
// bf16: scores and their softmax are f32. The weights p and their gradients are rounded to bf16 before they are
// multiplied with values, keys and queries.
#pragma once

#include "attn/spec.h"
#include "tensor/context.h"

namespace swarr {

// Whoever makes documents, positions and slots checks them, as with other i32 tensors (ops.h); the ops below rely on
// it. CheckDocuments throws unless `documents`, as below, ascends from 0 to the number of queries and no query is
// beyond its document. CheckPrompts throws unless `prompts`, as below, is one number from 0 on for each document.
// CheckSlots throws unless a cache of `count` slots has all of `slots`, and for positions below 0.
void CheckDocuments(const Tensor& documents, const Tensor& q_pos);
void CheckPrompts(const Tensor& prompts, const Tensor& documents);
void CheckSlots(const Tensor& slots, const Tensor& positions, std::int64_t count);

// Whole documents, one after another. Row documents[d] + p of k and v belongs to position p of document d.
struct AttentionInputs {
  Tensor q, k, v;    // [N, H, D], [N, G, D] and [N, G, D]; H is a multiple of G
  Tensor q_pos;      // [N] i32: the position of each query in its document
  Tensor documents;  // [documents + 1] i32: the first row of each document, then N
  AttentionSpec spec;
  Tensor sink_logits = {};  // [H]: the learned sink of each query head; empty: none
  Tensor prompts = {};      // [N] i32: tokens of the prompt of each query's document; only where the spec keeps prompts
};
// Empty: not wanted; fresh: to be written (ops.h).
struct AttentionGradients {
  Tensor dq, dk, dv;
  Tensor dsink_logits = {};  // [H], sum dtype
  Tensor rope_table = {};  // rope_table.h; not empty: q and k were turned at q_pos, and dq and dk, which are fresh, are
                           // those of queries and keys before that
};
// out [N, H, D]   lse [N, H], sum dtype (ops.h)
void AttentionForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& inputs);
// On the processor dk and dv add queries in ascending order; a thread takes a document and a key head whole. A CUDA
// device adds the queries of one head after those of another. What dsink_logits adds is a sum over all queries, in the
// order of gradients of weights.
void AttentionBackward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& out,
                       const Tensor& lse, const AttentionInputs& inputs);

// Keys and values of many sequences, one slot each, in tiles. The layout of a tile is the kernel's own.
class KeyCache {
 public:
  KeyCache() = default;
  // For sequences of up to max_length tokens that arrive in chunks of up to max_chunk.
  KeyCache(DType dtype, int slots, int G, int D, AttentionSpec spec, int max_length, int max_chunk,
           MemoryKind kind = MemoryKind::kHost);

  int tiles() const { return tiles_; }  // per slot
  int sink_tiles() const { return sink_tiles_; }
  int ring() const { return tiles_ - sink_tiles_ > 0 ? tiles_ - sink_tiles_ : 1; }
  const Tensor& k() const { return k_.view(); }  // [slots, G, tiles, elements of a tile]
  const Tensor& v() const { return v_.view(); }
  std::size_t bytes() const { return k().bytes() + v().bytes(); }

 private:
  OwnedTensor k_, v_;
  int tiles_ = 0, sink_tiles_ = 0;
};

// Bytes of one slot of such a cache.
std::size_t KeyCacheBytes(DType dtype, int G, int D, AttentionSpec spec, int max_length, int max_chunk);

// Stores k, v [N, G, D] as the keys of positions [N] in slots [N] (i32); none where a slot is -1. A ring has one place
// for several positions of a long sequence. Where the rows are whole sequences, `lengths` [N] (i32) are their numbers
// of tokens, and the keys that later rows would overwrite are left out.
void StoreKeys(const Context& ctx, const KeyCache& cache, const Tensor& k, const Tensor& v, const Tensor& positions,
               const Tensor& slots, const Tensor& lengths = {});
// Queries whose keys are stored. All but q, k and v is as in AttentionInputs.
struct CachedAttentionInputs {
  Tensor q;
  const KeyCache& cache;
  Tensor q_pos, slots;  // [N] i32: query n sees keys of slot slots[n], which must be there
  AttentionSpec spec;
  Tensor sink_logits = {}, prompts = {};
};
// AttentionForward of the same queries over their documents, bit for bit.
void CachedAttentionForward(const Context& ctx, const Tensor& out, const Tensor& lse,
                            const CachedAttentionInputs& inputs);

}  // namespace swarr
