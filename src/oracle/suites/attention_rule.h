// SPDX-License-Identifier: Apache-2.0
// What attention computes, with a switch for everything that an implementation may get wrong, and the mistakes made of
// them. By default the switches are right.
#pragma once

#include <cmath>
#include <span>

#include "oracle/suite.h"

namespace swarr::oracle::dense_attention {

// The queries of a document that stand in the case.
struct Asking {
  std::int64_t count = 0;
  std::int32_t first = 0, last = -1;  // positions
};

// A query or a key: where it stands in its document, and in its tensor. Positions below 0 are padding.
struct Place {
  std::int32_t position = 0, document = 0;
  std::int64_t row = 0;
  std::int64_t key_row = 0;  // of the key that stands as far from the end: where who goes by rows takes a query to be
  Asking asking = {};        // of its document
};

enum class Masking : std::uint8_t {
  kBeforeSoftmax,  // right: an unseen score is -infinity
  kAfterSoftmax,   // the softmax runs over all earlier keys of the document, then unseen weights become 0
  kZeroScore,      // an unseen score becomes 0, and its key takes part
};

inline bool SameDocument(const Place& q, const Place& k) { return q.document == k.document; }
// Key k is a token of the query's document and not after it.
inline bool Causal(const Place& q, const Place& k) {
  return SameDocument(q, k) && 0 <= k.position && k.position <= q.position;
}

struct DenseRule {
  std::int64_t H, G, D;
  double window;  // keys, with the current one; infinite in full attention, where one more or less changes nothing
  int sinks;
  bool HasWindow() const { return std::isfinite(window); }
  // The rule of attn/spec.h; unlike there a window of 0 keys is one of none.
  bool InWindow(const Place& q, const Place& k) const {
    return Causal(q, k) && (q.position - k.position < window || k.position < sinks);
  }

  bool (*sees)(const DenseRule& r, const Place& q, const Place& k) = [](auto& r, auto& q, auto& k) {
    return r.InWindow(q, k);
  };
  std::int64_t (*key_head)(const DenseRule& r, std::int64_t h) = [](auto& r, auto h) { return h / (r.H / r.G); };
  double scale = 1 / std::sqrt(static_cast<double>(D));
  Masking masking = Masking::kBeforeSoftmax;
  // What a query head, a member of its group, counts in the gradients of its keys and values.
  double (*share)(double member, double group) = [](double, double) { return 1.0; };
  bool average_where_blind = false;  // a query that sees nothing gets the mean of all values
  bool one_in_denominator = false;   // softmax over the scores and one more, 0, without a value
  bool row_term = true;              // ds = p (dp - sum p dp), not p dp
  bool scale_in_dq = true, scale_in_dk = true;
  bool lse_has_largest = true;  // log sum exp(s), not log sum exp(s - max)
  double lse_unit = 1;          // 1: natural logarithm

  bool learned_sinks, packed, one_query;  // what the case has
  // Whether a query's softmax has the learned sink.
  bool (*has_sink)(const DenseRule& r, const Place& q) = [](auto&, auto&) { return true; };
  double sink_scale = 1;
  bool sink_in_lse = true, sink_has_gradient = true;
};

std::span<const Mistake<DenseRule>> Mistakes();

}  // namespace swarr::oracle::dense_attention
