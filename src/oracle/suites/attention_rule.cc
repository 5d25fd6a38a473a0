// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/attention_rule.h"

#include <algorithm>

namespace swarr::oracle::dense_attention {
namespace {

// --- who sees whom ---

// Rows taken for positions.
Place ByRow(const Place& place, std::int32_t document) {
  const auto row = static_cast<std::int32_t>(place.key_row);
  return {place.position < 0 ? -1 : row, document, place.row, place.key_row};
}

bool InBlock(const DenseRule& r, const Place& q, const Place& k) {
  const bool same_block = std::floor(q.position / r.window) == std::floor(k.position / r.window);
  return Causal(q, k) && (same_block || k.position < r.sinks);
}

bool ToBothSides(const DenseRule& r, const Place& q, const Place& k) {
  const bool near = k.position >= 0 && std::abs(q.position - k.position) < r.window;
  return q.position >= 0 && SameDocument(q, k) && (near || r.InWindow(q, k));
}

bool WithFuture(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow(q, k) || (q.position >= 0 && SameDocument(q, k) && k.position > q.position);
}

bool WithoutItself(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow(q, k) && k.position != q.position;
}

bool FromTopLeft(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow({std::min(q.position, static_cast<std::int32_t>(q.row)), q.document, q.row}, k);
}

bool AcrossDocuments(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow(ByRow(q, 0), ByRow(k, 0));
}

bool ByRowInDocument(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow(ByRow(q, q.document), ByRow(k, k.document));
}

// Every key before the first `sinks` rows is a sink, and no other.
bool FirstRowsForSinks(const DenseRule& r, const Place& q, const Place& k) {
  return Causal(q, k) && (q.position - k.position < r.window || k.row < r.sinks);
}

// Positions start anew in each document, but nobody asks for the document.
bool AtSamePositions(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow({q.position, 0, q.row, q.key_row}, {k.position, 0, k.row, k.key_row});
}

// What a row sees where padding is taken for tokens: by the distance of rows.
bool NearByRow(const DenseRule& r, const Place& q, const Place& k) {
  const auto distance = static_cast<double>(q.key_row - k.key_row);
  const bool sink = 0 <= k.position && k.position < r.sinks;
  return SameDocument(q, k) && distance >= 0 && (distance < r.window || sink);
}

bool WithPaddingKeys(const DenseRule& r, const Place& q, const Place& k) {
  return q.position >= 0 && k.position < 0 ? NearByRow(r, q, k) : r.InWindow(q, k);
}

bool WithPaddingQueries(const DenseRule& r, const Place& q, const Place& k) {
  return q.position < 0 && k.position >= 0 ? NearByRow(r, q, k) : r.InWindow(q, k);
}

// --- what is left over in a cache: keys of a text that asks nothing, and keys behind all that is asked ---

bool WithAllOtherTexts(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow(q, k) || (q.position >= 0 && k.asking.count == 0);
}

bool WithOtherTexts(const DenseRule& r, const Place& q, const Place& k) {
  const std::int32_t document = k.asking.count == 0 ? q.document : k.document;
  return r.InWindow(q, {k.position, document, k.row, k.key_row});
}

bool WithRejected(const DenseRule& r, const Place& q, const Place& k) {
  return r.InWindow(q, k) || (q.position >= 0 && SameDocument(q, k) && k.position > k.asking.last);
}

bool AllByOneQuery(const DenseRule& r, const Place& q, const Place& k) { return r.one_query || r.InWindow(q, k); }

// --- rings ---

// Keys that come from a cache: there are some before the first query.
bool GoesOn(const Place& q) { return q.asking.first > 0; }

// The last query of a chunk has put its key where the key W positions before was.
bool WithoutOverwritten(const DenseRule& r, const Place& q, const Place& k) {
  const bool overwritten = GoesOn(q) && k.position >= r.sinks && q.asking.last - k.position >= r.window;
  return r.InWindow(q, k) && !overwritten;
}

// W - 1 keys are read from a full ring, from the slot before the right one on.
bool OneSlotEarly(const DenseRule& r, const Place& q, const Place& k) {
  const int distance = q.position - k.position;
  const bool full = GoesOn(q) && q.asking.count == 1 && q.position >= r.window;
  if (!full) return r.InWindow(q, k);
  return Causal(q, k) && ((distance <= r.window && distance != 1) || k.position < r.sinks);
}

// A ring with W - 1 slots in use: when it is full, the oldest key goes one step early. Before, all is seen.
bool InShortRing(const DenseRule& r, const Place& q, const Place& k) {
  const bool full = q.position >= r.window;
  return r.InWindow(q, k) && (!full || q.position - k.position < r.window - 1 || k.position < r.sinks);
}

bool InShortRingGoingOn(const DenseRule& r, const Place& q, const Place& k) {
  return GoesOn(q) ? InShortRing(r, q, k) : r.InWindow(q, k);
}

bool WithoutWindowAlone(const DenseRule& r, const Place& q, const Place& k) {
  return GoesOn(q) && q.asking.count == 1 ? Causal(q, k) : r.InWindow(q, k);
}

// --- the mistakes ---

constexpr Mistake<DenseRule> kMistakes[] = {
    {"a window of W+1 keys", [](DenseRule& r) { ++r.window; }},
    {"a window of W-1 keys", [](DenseRule& r) { --r.window; }},
    {"the window ignored", [](DenseRule& r) { r.window = HUGE_VAL; }},
    {"sinks counted inside the window", [](DenseRule& r) { r.window = std::max(1.0, r.window - r.sinks); }},
    {"sinks counted inside the window, where they leave no key if they fill it",
     [](DenseRule& r) { r.window -= r.sinks; }},
    {"sinks missing", [](DenseRule& r) { r.sinks = 0; }},
    {"one sink too many", [](DenseRule& r) { r.sinks += r.sinks > 0; }},
    {"one sink too few", [](DenseRule& r) { --r.sinks; }},
    {"blocks of W keys instead of a sliding window", [](DenseRule& r) { r.sees = InBlock; }},
    {"a window to both sides, |i - j| < W, without a causal mask",
     [](DenseRule& r) { r.sees = r.HasWindow() ? ToBothSides : r.sees; }},
    {"no causal mask: all future keys seen", [](DenseRule& r) { r.sees = WithFuture; }},
    {"a query that does not see itself", [](DenseRule& r) { r.sees = WithoutItself; }},
    {"the first query aligned with the first key (top-left) in a chunk", [](DenseRule& r) { r.sees = FromTopLeft; }},
    {"documents that see each other", [](DenseRule& r) { r.sees = AcrossDocuments; }},
    {"documents that see each other at the same positions", [](DenseRule& r) { r.sees = AtSamePositions; }},
    {"rows taken for positions", [](DenseRule& r) { r.sees = ByRowInDocument; }},
    {"sinks of the first document alone: the first rows of the keys",
     [](DenseRule& r) { r.sees = r.HasWindow() ? FirstRowsForSinks : r.sees; }},
    {"padding keys seen as tokens", [](DenseRule& r) { r.sees = WithPaddingKeys; }},
    {"padding queries computed as tokens", [](DenseRule& r) { r.sees = WithPaddingQueries; }},
    {"a ring cache that wraps one slot early: W-1 keys once it is full",
     [](DenseRule& r) { r.sees = r.HasWindow() ? InShortRing : r.sees; }},
    {"a ring cache that wraps one slot early where a text goes on from a cache, and there alone",
     [](DenseRule& r) { r.sees = r.HasWindow() ? InShortRingGoingOn : r.sees; }},
    {"a full ring read one slot early: the key before the window seen, the last one before the token not",
     [](DenseRule& r) { r.sees = OneSlotEarly; }},
    {"a ring of W slots into which a chunk is written before it asks: keys that it overwrote are missing",
     [](DenseRule& r) { r.sees = WithoutOverwritten; }},
    {"keys of another text in reused slots seen, wherever they stand",
     [](DenseRule& r) { r.sees = WithAllOtherTexts; }},
    {"keys of another text in reused slots seen where their positions are in the window",
     [](DenseRule& r) { r.sees = WithOtherTexts; }},
    {"keys of rejected tokens seen after a rollback", [](DenseRule& r) { r.sees = WithRejected; }},
    {"the window ignored where one query asks", [](DenseRule& r) { r.sees = WithoutWindowAlone; }},
    {"no mask where one query asks: every slot of the cache seen", [](DenseRule& r) { r.sees = AllByOneQuery; }},
    {"the mask applied after the softmax, weights not renormalised",
     [](DenseRule& r) { r.masking = Masking::kAfterSoftmax; }},
    {"masked scores set to 0 instead of -infinity", [](DenseRule& r) { r.masking = Masking::kZeroScore; }},
    {"a 1 added to the softmax's denominator", [](DenseRule& r) { r.one_in_denominator = true; }},
    {"rows that see nothing given the average of all values", [](DenseRule& r) { r.average_where_blind = true; }},
    {"key heads interleaved: query head h reads key head h mod G",
     [](DenseRule& r) { r.key_head = [](const DenseRule& rule, std::int64_t h) { return h % rule.G; }; }},
    {"all query heads reading the first key head",
     [](DenseRule& r) { r.key_head = [](const DenseRule&, std::int64_t) { return std::int64_t{0}; }; }},
    {"scores without the scale 1/sqrt(D)", [](DenseRule& r) { r.scale = 1; }},
    {"scores scaled by 1/D (the scale applied twice)", [](DenseRule& r) { r.scale = 1 / static_cast<double>(r.D); }},
    {"scores scaled by 1/sqrt(H D), the model's width",
     [](DenseRule& r) { r.scale = 1 / std::sqrt(static_cast<double>(r.H * r.D)); }},
    {"lse in base 2", [](DenseRule& r) { r.lse_unit = std::log(2.0); }},
    {"lse without the largest score", [](DenseRule& r) { r.lse_has_largest = false; }},
    {"gradients of k and v from the first query head of a group alone",
     [](DenseRule& r) { r.share = [](double member, double) { return member == 0 ? 1.0 : 0.0; }; }},
    {"gradients of k and v from the last query head of a group alone",
     [](DenseRule& r) { r.share = [](double member, double group) { return member == group - 1 ? 1.0 : 0.0; }; }},
    {"gradients of k and v averaged over a group",
     [](DenseRule& r) { r.share = [](double, double group) { return 1 / group; }; }},
    {"dq without the scale", [](DenseRule& r) { r.scale_in_dq = false; }},
    {"dk without the scale", [](DenseRule& r) { r.scale_in_dk = false; }},
    {"the softmax's gradient without its row term: ds = p dp", [](DenseRule& r) { r.row_term = false; }},
    {"learned sinks dropped", [](DenseRule& r) { r.has_sink = [](auto&, auto&) { return false; }; }},
    {"learned sinks without a gradient", [](DenseRule& r) { r.sink_has_gradient = false; }},
    {"a learned sink counted inside the window: it takes a key's place",
     [](DenseRule& r) { r.window -= r.learned_sinks ? 1 : 0; }},
    {"learned sinks ignored where documents are packed",
     [](DenseRule& r) { r.has_sink = [](const DenseRule& rule, const Place&) { return !rule.packed; }; }},
    {"learned sinks in the first document alone",
     [](DenseRule& r) { r.has_sink = [](const DenseRule&, const Place& q) { return q.document == 0; }; }},
    {"learned sinks scaled as scores are", [](DenseRule& r) { r.sink_scale = r.scale; }},
    {"lse without the learned sink", [](DenseRule& r) { r.sink_in_lse = false; }},
};

}  // namespace

std::span<const Mistake<DenseRule>> Mistakes() { return kMistakes; }

}  // namespace swarr::oracle::dense_attention
