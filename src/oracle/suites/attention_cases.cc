// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/attention_cases.h"

#include <algorithm>

#include "attn/spec.h"

namespace swarr::oracle {
namespace attention_suite {

// What a slot of a cache holds. Documents from the number of the setting's on ask nothing: they are other texts, whose
// slots these were.
struct Slot {
  Slot(int held, int of = 0) : position(held), document(of) {}  // NOLINT(google-explicit-constructor): lists of numbers
  int position, document;                                       // position -1: never written
};

struct Setting {
  const char* name;
  const char* meaning;
  std::vector<int> lengths;  // of the documents
  AttentionSpec spec;
  std::int64_t H, G, D;
  struct Rest {
    int queries = 0;  // the last so many positions of each document; 0: all
    int blind = 0;    // the first so many queries are padding, at position -1
    double score_scale = 1;
    std::vector<Slot> keys = {};           // what is there, in the order of its rows; empty: every position
    bool shuffled = false;                 // rows of queries and keys in another order, their own each
    int pad_in_front = 0, pad_behind = 0;  // every document gets rows of padding, up to so many in all
    bool learned_sinks = false;
  } rest = {};
};

const Setting::Rest kLearned = {.learned_sinks = true}, kShuffled = {.shuffled = true};

const Setting kSettings[] = {
    {"one_token", "T = 1", {1}, {0, 0}, 2, 2, 4},
    {"one_token_window", "T = 1 in a window of 1", {1}, {1, 0}, 2, 1, 4},
    {"full", "full causal attention, as many key heads as query heads", {7}, {0, 0}, 3, 3, 8},
    {"full_gqa", "full causal attention, two query heads for each key head", {13}, {0, 0}, 4, 2, 8},
    {"full_mqa", "full causal attention, one key head for seven query heads", {11}, {0, 0}, 7, 1, 4},
    {"full_long", "full causal attention over more than two tiles of 32 keys", {67}, {0, 0}, 1, 1, 8},
    {"window_1", "each token sees itself alone", {9}, {1, 0}, 2, 2, 4},
    {"window_2", "the shortest window with a past", {9}, {2, 0}, 2, 1, 4},
    {"window_3", "a window shorter than the text", {17}, {3, 0}, 2, 2, 8},
    {"window_4_gqa", "a window with grouped heads", {17}, {4, 0}, 4, 2, 8},
    {"window_5_gqa_3", "a window, three query heads for each of two key heads", {23}, {5, 0}, 6, 2, 16},
    {"window_7_mqa", "a window with one key head", {19}, {7, 0}, 7, 1, 4},
    {"window_beyond", "a window longer than the text: full attention", {5}, {8, 0}, 2, 1, 8},
    {"window_equal", "a window as long as the text: full attention", {8}, {8, 0}, 2, 1, 8},
    {"window_less_one", "a window one shorter than the text", {9}, {8, 0}, 2, 1, 8},
    {"window_32", "a window of one tile of 32 keys", {41}, {32, 0}, 1, 1, 8},
    {"window_33", "a window of one tile of 32 keys and one more, with sinks", {41}, {33, 3}, 2, 1, 8},
    {"sinks_1", "one sink", {17}, {4, 1}, 2, 2, 8},
    {"sinks_2_gqa", "two sinks with grouped heads", {23}, {5, 2}, 4, 2, 8},
    {"sinks_4", "four sinks", {19}, {6, 4}, 2, 1, 8},
    {"sinks_beyond_window", "more sinks than the window has keys", {17}, {3, 4}, 2, 2, 8},
    {"sinks_with_window_1", "sinks, and beside them each token alone", {13}, {1, 2}, 2, 1, 4},
    {"sinks_beyond_text", "more sinks than tokens: full attention", {6}, {2, 8}, 2, 2, 4},
    {"sinks_without_window", "sinks mean nothing in full attention", {9}, {0, 4}, 2, 1, 4},
    {"head_dim_2", "heads of 2 numbers", {13}, {4, 1}, 2, 1, 2},
    {"head_dim_5", "heads of an odd size", {13}, {4, 0}, 2, 1, 5},
    {"head_dim_64", "heads of 64 numbers", {13}, {3, 1}, 2, 1, 64},
    {"packed_full", "three documents in one row, full attention in each", {5, 1, 9}, {0, 0}, 2, 1, 8},
    {"packed_window", "four documents in one row, a window", {5, 1, 9, 3}, {3, 0}, 4, 2, 8},
    {"packed_sinks", "three documents in one row, each with its own sinks", {7, 11, 6}, {3, 2}, 2, 2, 8},
    {"chunk_full", "the last 5 of 13 tokens as queries", {13}, {0, 0}, 4, 2, 8, {.queries = 5}},
    {"chunk_window", "the last 6 of 17 tokens as queries, a window", {17}, {4, 0}, 2, 1, 8, {.queries = 6}},
    {"chunk_sinks", "the last 6 of 17 tokens as queries, a window and sinks", {17}, {4, 2}, 2, 2, 8, {.queries = 6}},
    {"decode_window", "one query against the keys so far, a window", {13}, {4, 0}, 4, 2, 8, {.queries = 1}},
    {"decode_sinks", "one query against the keys so far, a window and sinks", {13}, {4, 1}, 4, 2, 8, {.queries = 1}},
    {"blind_rows", "two rows of padding at position -1, which see nothing", {9}, {3, 0}, 2, 1, 8, {.blind = 2}},
    {"ring",
     "one query against a ring cache that has wrapped: keys 8 to 12 in the order of its 5 slots",
     {13},
     {5, 0},
     4,
     2,
     8,
     {.queries = 1, .keys = {10, 11, 12, 8, 9}}},
    {"ring_sinks",
     "a ring cache that has wrapped, behind two sinks",
     {13},
     {4, 2},
     4,
     2,
     8,
     {.queries = 1, .keys = {0, 1, 10, 11, 12, 9}}},
    {"ring_chunk",
     "three queries against a ring cache of 6 slots that has wrapped",
     {13},
     {4, 0},
     2,
     1,
     8,
     {.queries = 3, .keys = {12, 7, 8, 9, 10, 11}}},
    {"ring_full",
     "full attention with keys in another order than their positions",
     {9},
     {0, 0},
     2,
     1,
     8,
     {.queries = 2, .keys = {4, 5, 6, 7, 8, 0, 1, 2, 3}}},
    {"ring_longer",
     "one query against a ring cache of 8 slots, longer than the window",
     {13},
     {4, 0},
     4,
     2,
     8,
     {.queries = 1, .keys = {8, 9, 10, 11, 12, 5, 6, 7}}},
    {"cache_reused",
     "one query against a ring of 6 slots, half of which still hold another text's keys",
     {3},
     {6, 0},
     4,
     2,
     8,
     {.queries = 1, .keys = {0, 1, 2, {9, 1}, {10, 1}, {11, 1}}}},
    {"cache_reused_full",
     "two queries, full attention: behind their text another one's keys, and a slot that was never written",
     {5},
     {0, 0},
     2,
     1,
     8,
     {.queries = 2, .keys = {0, 1, 2, 3, 4, {5, 1}, {6, 1}, {-1, 1}}}},
    {"cache_pool",
     "a query of each of two texts in one pool of slots, among keys of a third at positions that would fit",
     {7, 9},
     {4, 1},
     2,
     2,
     8,
     {.queries = 1,
      .keys = {{5, 2},
               {0, 0},
               {6, 1},
               {5, 0},
               {-1, 2},
               {0, 1},
               {8, 1},
               {3, 0},
               {6, 2},
               {4, 0},
               {7, 1},
               {1, 2},
               {6, 0},
               {5, 1}}}},
    {"cache_rollback",
     "one query after a rollback: a ring of 8 slots, three of which hold rejected tokens",
     {9},
     {5, 0},
     4,
     2,
     8,
     {.queries = 1, .keys = {8, 9, 10, 11, 4, 5, 6, 7}}},
    {"cache_rollback_full",
     "two queries after a rollback, full attention: rejected tokens behind them",
     {6},
     {0, 0},
     2,
     2,
     8,
     {.queries = 2, .keys = {0, 1, 2, 3, 4, 5, 6, 7, 8}}},
    {"cache_rollback_sinks",
     "three queries after a rollback: two sinks, and behind them a ring of 7 slots",
     {10},
     {3, 2},
     4,
     2,
     8,
     {.queries = 3, .keys = {0, 1, 9, 10, 11, 5, 6, 7, 8}}},
    {"shuffled",
     "two documents with rows of queries and keys in any order, a window",
     {7, 9},
     {3, 0},
     2,
     1,
     8,
     kShuffled},
    {"shuffled_sinks", "two documents with rows in any order, a window and sinks", {6, 8}, {3, 2}, 2, 2, 8, kShuffled},
    {"left_padding",
     "three sequences padded in front to one length, keys too, a window",
     {5, 8, 3},
     {4, 0},
     2,
     1,
     8,
     {.pad_in_front = 8}},
    {"left_padding_full",
     "two sequences padded in front to one length, full attention",
     {4, 7},
     {0, 0},
     2,
     2,
     8,
     {.pad_in_front = 7}},
    {"right_padding",
     "three sequences padded behind to one length, keys too, a window",
     {5, 8, 3},
     {4, 0},
     2,
     1,
     8,
     {.pad_behind = 8}},
    {"right_padding_sinks",
     "two sequences padded behind to one length, a window and sinks",
     {4, 7},
     {3, 1},
     2,
     2,
     8,
     {.pad_behind = 7}},
    {"large_scores", "scores of some tens", {11}, {0, 0}, 2, 1, 8, {.score_scale = 16}},
    {"large_scores_window", "scores of some tens in a window", {13}, {4, 1}, 2, 1, 8, {.score_scale = 4}},
    {"learned_one_token", "one token beside a learned sink", {1}, {0, 0}, 2, 1, 4, kLearned},
    {"learned_full", "learned sinks, full causal attention", {11}, {0, 0}, 3, 3, 8, kLearned},
    {"learned_window", "learned sinks beside a window", {17}, {4, 0}, 4, 2, 8, kLearned},
    {"learned_window_1", "learned sinks, and beside them each token alone", {9}, {1, 0}, 2, 1, 4, kLearned},
    {"learned_and_sinks", "learned sinks, sinks that are keys, and a window", {19}, {5, 2}, 4, 2, 8, kLearned},
    {"learned_long", "learned sinks, more than two tiles of 32 keys", {67}, {33, 0}, 1, 1, 8, kLearned},
    {"learned_packed_full", "three documents in one row, the same learned sinks", {5, 1, 9}, {0, 0}, 2, 1, 8, kLearned},
    {"learned_packed",
     "four documents in one row, a window, the same learned sinks",
     {5, 1, 9, 3},
     {3, 1},
     4,
     2,
     8,
     kLearned},
    {"learned_chunk",
     "the last 6 of 17 tokens as queries, learned sinks",
     {17},
     {4, 1},
     2,
     2,
     8,
     {.queries = 6, .learned_sinks = true}},
    {"learned_decode",
     "one query against the keys so far, learned sinks",
     {13},
     {4, 0},
     4,
     2,
     8,
     {.queries = 1, .learned_sinks = true}},
    {"learned_blind_rows",
     "two rows of padding, which see no key but the learned sinks",
     {9},
     {3, 0},
     2,
     1,
     8,
     {.blind = 2, .learned_sinks = true}},
    {"learned_large_scores",
     "scores of some tens beside learned sinks",
     {13},
     {4, 1},
     2,
     1,
     8,
     {.score_scale = 4, .learned_sinks = true}},
};

// Position and document of every row.
struct Rows {
  std::vector<std::int32_t> positions, documents;

  void Add(std::int32_t position, std::size_t document) {
    positions.push_back(position);
    documents.push_back(static_cast<std::int32_t>(document));
  }
  void Shuffle(PhiloxStream random) {
    for (std::size_t n = positions.size(); n > 1; --n) {
      const std::size_t other = random.NextBelow(static_cast<std::uint32_t>(n));
      std::swap(positions[n - 1], positions[other]);
      std::swap(documents[n - 1], documents[other]);
    }
  }
};

Rows KeysOf(const Setting& s) {
  Rows rows;
  const auto pad = [&](std::size_t d, int width) {
    for (int t = s.lengths[d]; t < width; ++t) rows.Add(-1, d);
  };
  for (std::size_t d = 0; d < s.lengths.size(); ++d) {
    pad(d, s.rest.pad_in_front);
    for (int t = 0; t < s.lengths[d] && s.rest.keys.empty(); ++t) rows.Add(t, d);
    pad(d, s.rest.pad_behind);
  }
  for (const Slot& slot : s.rest.keys) rows.Add(slot.position, static_cast<std::size_t>(slot.document));
  return rows;
}

// Those of the keys, or the last positions of each document.
Rows QueriesOf(const Setting& s, const Rows& keys) {
  if (s.rest.queries == 0) return keys;
  Rows rows;
  for (std::size_t d = 0; d < s.lengths.size(); ++d) {
    for (int t = s.lengths[d] - s.rest.queries; t < s.lengths[d]; ++t) rows.Add(t, d);
  }
  return rows;
}

// Slots that no query may see, now or later, unless they are written anew.
std::int64_t LeftOver(const Setting& s) {
  return std::ranges::count_if(s.rest.keys, [&](const Slot& slot) {
    const auto d = static_cast<std::size_t>(slot.document);
    return d >= s.lengths.size() || slot.position >= s.lengths[d];
  });
}

Case MakeCase(const Setting& s) {
  Rows keys = KeysOf(s), asking = QueriesOf(s, keys);
  if (s.rest.shuffled) {
    keys.Shuffle(StreamOf("attention keys", s.name));
    asking.Shuffle(StreamOf("attention queries", s.name));
  }
  std::fill_n(asking.positions.begin(), s.rest.blind, -1);
  const std::int64_t N = std::ssize(keys.positions), queries = std::ssize(asking.positions);
  PhiloxStream random = StreamOf("attention", s.name);
  Case c{s.name,
         s.meaning,
         {{"queries", queries},
          {"keys", N},
          {"documents", s.lengths.size()},
          {"window", s.spec.window},
          {"sinks", s.spec.sinks},
          {"heads", s.H},
          {"kv_heads", s.G},
          {"heads_per_kv_head", s.H / s.G},
          {"head_dim", s.D},
          {"padding_rows", std::ranges::count(asking.positions, -1)},
          {"rows_in_order", s.rest.keys.empty() && !s.rest.shuffled ? "yes" : "no"},
          {"leftover_slots", LeftOver(s)},
          {"learned_sinks", s.rest.learned_sinks ? 1 : 0}},
         {{"q", RandomNormal(random, {queries, s.H, s.D}, s.rest.score_scale)},
          {"k", RandomNormal(random, {N, s.G, s.D})},
          {"v", RandomNormal(random, {N, s.G, s.D})},
          {"d_out", RandomNormal(random, {queries, s.H, s.D})},
          {"q_position", Integers(asking.positions)},
          {"q_document", Integers(asking.documents)},
          {"k_position", Integers(keys.positions)},
          {"k_document", Integers(keys.documents)}},
         std::max(N * s.H / s.G, s.D)};  // dk and dv: over queries and heads of the group
  if (s.rest.learned_sinks) c.inputs["sink_logits"] = RandomNormal(random, {s.H}, 2);
  return c;
}

}  // namespace attention_suite

std::vector<Case> AttentionCases() { return CasesOf(attention_suite::kSettings, attention_suite::MakeCase); }

}  // namespace swarr::oracle
