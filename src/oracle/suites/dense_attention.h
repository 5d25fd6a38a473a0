// SPDX-License-Identifier: Apache-2.0
// Attention in plain loops over all queries and keys, forward and backward, with a switch for everything that an
// implementation may get wrong. By default the switches are right: then it computes what attn/attention.h defines, and
// a test holds it to that.
#pragma once

#include <cmath>

#include "attn/spec.h"
#include "oracle/suite.h"

namespace swarr::oracle {

// A query or a key: where it stands in its document, and in its tensor.
struct Place {
  std::int32_t position = 0, document = 0;
  std::int64_t row = 0;
};

enum class Masking : std::uint8_t {
  kBeforeSoftmax,  // right: an unseen score is -infinity
  kAfterSoftmax,   // the softmax runs over all earlier keys of the document, then unseen weights become 0
  kZeroScore,      // an unseen score becomes 0, and its key takes part
};
enum class GroupGradient : std::uint8_t { kSum, kFirst, kLast, kMean };

struct DenseRule;
bool SameDocument(const Place& q, const Place& k);
// Key k is in the query's document and not after it.
bool Causal(const Place& q, const Place& k);
// The rule of attn/spec.h; unlike there a window of 0 keys is one of none.
bool InWindow(const DenseRule& rule, const Place& q, const Place& k);
// h / (H / G)
std::int64_t KeyHead(const DenseRule& rule, std::int64_t h);

struct DenseRule {
  std::int64_t H, G, D;
  double window;  // keys, with the current one; infinite in full attention, where one more or less changes nothing
  int sinks;
  bool HasWindow() const { return std::isfinite(window); }

  bool (*sees)(const DenseRule& rule, const Place& query, const Place& key) = InWindow;
  std::int64_t (*key_head)(const DenseRule& rule, std::int64_t h) = KeyHead;
  double scale = 1 / std::sqrt(static_cast<double>(D));
  Masking masking = Masking::kBeforeSoftmax;
  GroupGradient group_gradient = GroupGradient::kSum;
  bool average_where_blind = false;  // a query that sees nothing gets the mean of all values
  bool one_in_denominator = false;   // softmax over the scores and one more, 0, without a value
  bool row_term = true;              // ds = p (dp - sum p dp), not p dp
  bool scale_in_dq = true, scale_in_dk = true;
  bool lse_has_largest = true;  // log sum exp(s), not log sum exp(s - max)
  double lse_unit = 1;          // 1: natural logarithm
};

// Inputs and outputs as the attention suite names them.
Values DenseAttention(const Values& inputs, const DenseRule& rule, Noise& noise);

// The places of queries or keys: rows of <which>_position and <which>_document, with `which` "q" or "k".
std::vector<Place> PlacesOf(const Values& inputs, const std::string& which);

}  // namespace swarr::oracle
