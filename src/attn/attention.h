// SPDX-License-Identifier: Apache-2.0
// Causal softmax attention with grouped query heads, full or in a sliding window, with or without sinks.
//
//   out[n, h] = sum_j p_j v[j, g],  p = softmax over the visible keys j of scale * q[n, h] . k[j, g],  g = h / (H / G),
//   scale = D^-1/2,  lse[n, h] = log sum_j exp(scale * q . k_j)
//
// Which keys are visible is decided by attn/spec.h alone. Training, packed documents, chunked prefill and decode from a
// ring cache are one kernel: each query visits its own visible keys, in ascending position, and does the same sequence
// of operations on them, so its result depends on those keys alone, bit for bit, however they are stored and whatever
// else is in the batch (docs/architecture.md, P8). Time is O(visible pairs): O(T W) under a window. No T x T mask
// exists. A query at a negative position sees nothing: out 0, lse -infinity, gradient 0.
#pragma once

#include "attn/spec.h"
#include "tensor/context.h"

namespace swarr {

// Where the keys of each query row are. Key position p of query n is row key_base[n] + CacheRow(p, sinks, ring).
struct KeyLayout {
  static constexpr int kNoRing = 0x7fffffff;  // keys lie one after another, as they do within a batch
  Tensor q_pos;                               // [N] i32: position of each query in its document
  Tensor key_base;                            // [N] i32: row of k and v that holds position 0 of its document
  int ring = kNoRing;
};

// out, q [N, H, D]   lse [N, H]   k, v [M, G, D]   H a multiple of G
void AttentionForward(const Context& ctx, const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                      const Tensor& v, const KeyLayout& layout, AttentionSpec spec);

// Gradients for keys that lie one after another (layout.ring == kNoRing, M == N), added to dq, dk, dv. `documents`
// [documents + 1] i32 holds the first row of each document and N at the end. A thread takes a document and a key head
// whole, and adds its queries in ascending order.
void AttentionBackward(const Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                       const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                       const KeyLayout& layout, const Tensor& documents, AttentionSpec spec);

// The definition, O(T^2) and plain, for one document of T = N tokens at positions 0 .. T-1: what the kernel is tested
// against (attention_reference.cc).
void AttentionReference(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                        AttentionSpec spec);

}  // namespace swarr
