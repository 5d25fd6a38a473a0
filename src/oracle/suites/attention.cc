// SPDX-License-Identifier: Apache-2.0
// The suite `attention`: softmax attention in a sliding window, with sinks, packed documents and grouped heads.
#include "attn/attention.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "oracle/suites/dense_attention.h"

namespace swarr::oracle {
namespace attention_suite {

// --- the truth: the product's kernels ---

// The kernel takes whole documents with a query for every key. So each document gets a row for every position up to
// its last; what a case has no key or query for stays 0, and position -1 for a query, which sees nothing and adds
// nothing.
struct WholeDocuments {
  std::vector<std::int32_t> begins;         // the first row of each document, then the number of rows
  std::vector<std::int64_t> keys, queries;  // the row of each key and query of the case; -1: padding

  explicit WholeDocuments(const Values& inputs) {
    const Value &position = inputs.at("k_position"), &document = inputs.at("k_document");
    std::map<double, std::int32_t> lengths;
    for (std::int64_t n = 0; n < position.size(); ++n) {
      std::int32_t& length = lengths[document(n)];
      length = std::max(length, static_cast<std::int32_t>(position(n)) + 1);
    }
    std::map<double, std::int32_t> begin;
    std::int32_t rows = 0;
    for (const auto& [d, length] : lengths) {
      begins.push_back(begin[d] = rows);
      rows += length;
    }
    begins.push_back(rows);
    const auto rows_of = [&](const std::string& which) {
      const Value &at = inputs.at(which + "_position"), &of = inputs.at(which + "_document");
      std::vector<std::int64_t> places;
      for (std::int64_t n = 0; n < at.size(); ++n) {
        places.push_back(at(n) < 0 ? -1 : begin.at(of(n)) + static_cast<std::int64_t>(at(n)));
      }
      return places;
    };
    keys = rows_of("k");
    queries = rows_of("q");
  }

  std::int64_t rows() const { return begins.back(); }

  // The rows of a value where the kernel wants them, and `with` elsewhere.
  Value Spread(const Value& value, const std::vector<std::int64_t>& to, double with) const {
    Value spread = value;
    spread.shape[0] = rows();
    spread.data.assign(static_cast<std::size_t>(SizeOf(spread.shape)), with);
    for (std::size_t n = 0; n < to.size(); ++n) {
      if (to[n] >= 0) std::ranges::copy(value.Row(static_cast<std::int64_t>(n)), spread.Row(to[n]).begin());
    }
    return spread;
  }

  // Back: the rows of a result in the order of the case, and `with` for padding.
  static Value Gather(const Tensor& result, const std::vector<std::int64_t>& from, double with) {
    const Value all = ValueOf(result);
    Value value = all;
    value.shape[0] = std::ssize(from);
    value.data.assign(static_cast<std::size_t>(SizeOf(value.shape)), with);
    for (std::size_t n = 0; n < from.size(); ++n) {
      if (from[n] >= 0) std::ranges::copy(all.Row(from[n]), value.Row(static_cast<std::int64_t>(n)).begin());
    }
    return value;
  }
};

Values KernelAttention(const Context& ctx, const Values& inputs, AttentionSpec spec, Noise& noise) {
  const WholeDocuments whole(inputs);
  const auto spread = [&](const char* name, const std::vector<std::int64_t>& to, double with) {
    return InArena(ctx, whole.Spread(inputs.at(name), to, with));
  };
  const Tensor q = spread("q", whole.queries, 0), dout = spread("d_out", whole.queries, 0),
               k = spread("k", whole.keys, 0), v = spread("v", whole.keys, 0),
               positions = spread("q_position", whole.queries, -1);
  const AttentionInputs kernel_inputs{q, k, v, positions, InArena(ctx, Integers(whole.begins)), spec};
  const Tensor out = ZerosLike(ctx, q), lse = ctx.arena->New(DType::kF64, {q.dim(0), q.dim(1)});
  AttentionForward(ctx, out, lse, kernel_inputs);
  Values outputs = {{"out", whole.Gather(out, whole.queries, 0)}, {"lse", whole.Gather(lse, whole.queries, -HUGE_VAL)}};
  // What the backward reads is stored: sum p (dp - d_out . out) is 0 only as far as `out` is exact.
  noise.Disturb(out);
  noise.Disturb(lse);
  const Tensor dq = ZerosLike(ctx, q), dk = ZerosLike(ctx, k), dv = ZerosLike(ctx, v);
  AttentionBackward(ctx, {dq, dk, dv}, dout, out, lse, kernel_inputs);
  outputs["dq"] = whole.Gather(dq, whole.queries, 0);
  outputs["dk"] = whole.Gather(dk, whole.keys, 0);
  outputs["dv"] = whole.Gather(dv, whole.keys, 0);
  return outputs;
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  if (!mistake.empty()) return DenseAttention(c, inputs, mistake, noise);
  return KernelAttention(ctx, inputs, {c.Integer("window"), c.Integer("sinks")}, noise);
}

// --- the cases ---

struct Setting {
  const char* name;
  const char* meaning;
  std::vector<int> lengths;  // of the documents
  AttentionSpec spec;
  std::int64_t H, G, D;
  struct Rest {
    int queries = 0;  // the last so many of the keys; 0: all
    int blind = 0;    // the first so many queries are padding, at position -1
    double score_scale = 1;
    std::vector<int> keys = {};            // of one document: the positions that are there, in the order of their rows
    bool shuffled = false;                 // rows of queries and keys in another order, their own each
    int pad_in_front = 0, pad_behind = 0;  // every document gets rows of padding, up to so many in all
  } rest = {};
};

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
    {"shuffled",
     "two documents with rows of queries and keys in any order, a window",
     {7, 9},
     {3, 0},
     2,
     1,
     8,
     {.shuffled = true}},
    {"shuffled_sinks",
     "two documents with rows in any order, a window and sinks",
     {6, 8},
     {3, 2},
     2,
     2,
     8,
     {.shuffled = true}},
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
    for (const int position : s.rest.keys) rows.Add(position, d);
    pad(d, s.rest.pad_behind);
  }
  return rows;
}

// Those of the keys, or the last positions of the only document.
Rows QueriesOf(const Setting& s, const Rows& keys) {
  if (s.rest.queries == 0) return keys;
  Rows rows;
  for (int t = s.lengths[0] - s.rest.queries; t < s.lengths[0]; ++t) rows.Add(t, 0);
  return rows;
}

Case MakeCase(const Setting& s) {
  Rows keys = KeysOf(s), asking = QueriesOf(s, keys);
  if (s.rest.shuffled) {
    keys.Shuffle(StreamOf("attention keys", s.name));
    asking.Shuffle(StreamOf("attention queries", s.name));
  }
  std::fill_n(asking.positions.begin(), s.rest.blind, -1);
  const std::int64_t N = std::ssize(keys.positions), queries = std::ssize(asking.positions);
  const bool in_order = std::ranges::is_sorted(keys.positions) || s.lengths.size() > 1;
  PhiloxStream random = StreamOf("attention", s.name);
  return {s.name,
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
           {"rows_in_order", in_order && !s.rest.shuffled ? "yes" : "no"}},
          {{"q", RandomNormal(random, {queries, s.H, s.D}, s.rest.score_scale)},
           {"k", RandomNormal(random, {N, s.G, s.D})},
           {"v", RandomNormal(random, {N, s.G, s.D})},
           {"d_out", RandomNormal(random, {queries, s.H, s.D})},
           {"q_position", Integers(asking.positions)},
           {"q_document", Integers(asking.documents)},
           {"k_position", Integers(keys.positions)},
           {"k_document", Integers(keys.documents)}},
          std::max(N * s.H / s.G, s.D)};  // dk and dv: over queries and heads of the group
}

}  // namespace attention_suite

Suite AttentionSuite() {
  using namespace attention_suite;
  Family f{
      .name = "attention",
      .semantics =
          {"out[i, h] = sum_j p_j v[j, g], p = softmax over the visible keys j of q[i, h] . k[j, g] / sqrt(D).",
           "Key head g = h / (H / G), rounded down: query heads 0 .. H/G-1 read key head 0, the next H/G key head 1, "
           "and so on.",
           "Query i sees key j iff both have the same document, and with q = q_position[i], k = k_position[j]: 0 <= k "
           "<= q and (q - k < window or k < sinks). window = 0 means full attention: 0 <= k <= q.",
           "The window counts the current token: window = W is W keys with it (sliding_window of transformers; "
           "flash-attention's left window is W - 1). Sinks are the first positions of each document, beside the "
           "window.",
           "lse[i, h] = log sum_j exp(q . k_j / sqrt(D)) over the visible keys, natural logarithm.",
           "A query at position -1 is padding and sees nothing: out is 0, lse -infinity, and it gives no gradient. A "
           "key "
           "at position -1 is padding and is seen by nobody.",
           "Rows may stand in any order, as in a ring cache that has wrapped: positions alone say what is before what.",
           "dq, dk, dv are the gradients of sum(out * d_out); dk and dv are summed over the query heads of a group."},
      .inputs = {{"q", "[Tq, H, D]", "queries"},
                 {"k", "[Tk, G, D]", "keys"},
                 {"v", "[Tk, G, D]", "values"},
                 {"q_position", "[Tq]", "position of each query in its document, from 0; -1 is padding"},
                 {"q_document", "[Tq]", "document of each query"},
                 {"k_position", "[Tk]", "position of each key in its document; -1 is padding"},
                 {"k_document", "[Tk]", "document of each key"},
                 {"d_out", "[Tq, H, D]", "gradient of the loss with respect to out"}},
      .outputs = {{"out", "[Tq, H, D]", "weighted values"},
                  {"lse", "[Tq, H]", "log of the sum of exponentials of the scaled scores"},
                  {"dq", "[Tq, H, D]", "gradient of q", true},
                  {"dk", "[Tk, G, D]", "gradient of k", true},
                  {"dv", "[Tk, G, D]", "gradient of v", true}},
      .roundings = {{"scores q . k", "scores times the scale", "weights exp(s - max)", "weights divided by their sum"},
                    {"weights once more", "d_out . v", "row term sum p dp", "dp less the row term",
                     "its product with p", "ds times the scale", "gradients of a group's heads before their sum"}},
      .mistakes = AttentionMistakeNames(),
      .cases = CasesOf(kSettings, MakeCase),
      .evaluate = Evaluate};
  return {"attention",
          "Causal softmax attention, full or in a sliding window, with sinks, grouped heads and documents.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
