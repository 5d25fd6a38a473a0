// SPDX-License-Identifier: Apache-2.0
// The definition of attention in plain loops over f64, forward and backward: O(T^2), one query of one head at a time.
// The kernel (attn/attention.h) is held to it by tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "attn/spec.h"
#include "plain/array.h"

namespace swarr::plain {

// Whether query n sees key j.
using Sees = std::function<bool(int n, int j)>;

// Row documents[d] + p of the keys is position p of document d, where `documents` holds the first row of each document
// and N at the end. A query stands in the document of its row, at q_pos[n], and sees that document's keys within the
// window, and its sinks: where the spec keeps prompts, prompts[n] of them. At position -1 it sees nothing.
inline Sees WithinDocuments(Indices documents, Indices q_pos, AttentionSpec spec, Indices prompts = {}) {
  return [=](int n, int j) {
    int d = 0;
    while (n >= documents(d + 1)) ++d;
    const AttentionSpec own = spec.prompt ? OfDocument(spec, prompts(n)) : spec;
    return j >= documents(d) && j < documents(d + 1) && Visible(q_pos(n), j - documents(d), own);
  };
}

// q[N, H, D]  k, v[N, G, D]  H a multiple of G: H / G query heads in a row share a key head
// sink_logits[H]  one more logit of each query head, without a value; empty: none
struct AttentionInputs {
  Array q, k, v;
  Sees sees;
  Array sink_logits = {};

  double Sink(int h) const { return sink_logits.empty() ? -std::numeric_limits<double>::infinity() : sink_logits(h); }
  int KeyHead(int h) const { return h / (q.dim(1) / k.dim(1)); }
  // scale * q[n, h] . k[j, g] for every key; -infinity where it is not seen
  std::vector<double> Scores(int n, int h) const {
    std::vector<double> scores;
    for (int j = 0; j < k.dim(0); ++j) {
      double& score = scores.emplace_back(-std::numeric_limits<double>::infinity());
      if (!sees(n, j)) continue;
      score = 0;
      for (int d = 0; d < q.dim(2); ++d) score += q(n, h, d) * k(j, KeyHead(h), d) / std::sqrt(q.dim(2));
    }
    return scores;
  }
};

// out[n, h] = sum_j p_j v[j, g],  p_j = exp(score_j) / exp(lse),  lse[n, h] = log(sum_j exp(score_j) + exp(sink_h))
// Exponentials are taken of score_j - largest, which is at most 0. A query that sees nothing has out 0 and lse sink_h,
// which is -infinity where there is no learned sink.
inline void AttentionForward(Array out, Array lse, const AttentionInputs& in, Rounding stored = Exact) {
  for (int n = 0; n < out.dim(0); ++n) {
    for (int h = 0; h < out.dim(1); ++h) {
      const std::vector<double> scores = in.Scores(n, h);
      const double largest = std::max(in.Sink(h), *std::max_element(scores.begin(), scores.end()));
      const bool blind = std::isinf(largest);
      double sum = blind ? 0 : std::exp(in.Sink(h) - largest);
      for (const double score : scores) sum += blind ? 0 : std::exp(score - largest);
      lse(n, h) = largest + (blind ? 0 : std::log(sum));
      for (int d = 0; d < out.dim(2); ++d) {
        double weighted = 0;
        for (int j = 0; j < in.k.dim(0) && !blind; ++j) {
          weighted += stored(std::exp(scores[static_cast<std::size_t>(j)] - largest)) * in.v(j, in.KeyHead(h), d);
        }
        out(n, h, d) = blind ? 0 : stored(weighted / sum);
      }
    }
  }
}

struct AttentionGradients {
  Array dq, dk, dv;
  Array dsink_logits = {};  // empty: not wanted
};

// With p_j = exp(score_j - lse) and dp_j = dout . v_j:
//   dv_j = p_j dout,  ds_j = scale p_j (dp_j - dout . out),  dq = sum_j ds_j k_j,  dk_j = ds_j q,
//   dsink_h = sum_n p_sink (0 - dout . out),  p_sink = exp(sink_h - lse): its value is 0, and so is its dp
// dout . out is sum_j p_j dp_j, the row term of the softmax's derivative. Keys and values add up what the query heads
// of their group give. `out` and `lse` are the forward's.
inline void AttentionBackward(const AttentionGradients& to, Array dout, Array out, Array lse, const AttentionInputs& in,
                              Rounding stored = Exact) {
  const int D = in.q.dim(2);
  for (int n = 0; n < out.dim(0); ++n) {
    for (int h = 0; h < out.dim(1); ++h) {
      const std::vector<double> scores = in.Scores(n, h);
      const int g = in.KeyHead(h);
      for (int j = 0; j < in.k.dim(0); ++j) {
        if (!in.sees(n, j)) continue;
        const double p = std::exp(scores[static_cast<std::size_t>(j)] - lse(n, h));
        double difference = 0;  // dp - dout . out
        for (int d = 0; d < D; ++d) difference += dout(n, h, d) * (in.v(j, g, d) - out(n, h, d));
        const double ds = stored(p * difference / std::sqrt(D));
        for (int d = 0; d < D; ++d) {
          to.dv(j, g, d) += stored(p) * dout(n, h, d);
          to.dq(n, h, d) += ds * in.k(j, g, d);
          to.dk(j, g, d) += ds * in.q(n, h, d);
        }
      }
      for (int d = 0; d < D && !to.dsink_logits.empty(); ++d) {
        to.dsink_logits(h) -= std::exp(in.Sink(h) - lse(n, h)) * dout(n, h, d) * out(n, h, d);
      }
    }
  }
}

}  // namespace swarr::plain
