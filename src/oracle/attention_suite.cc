// SPDX-License-Identifier: Apache-2.0
// The suite `attention`: softmax attention in a sliding window, with sinks, packed documents and grouped heads.
#include <algorithm>
#include <cmath>

#include "attn/attention.h"
#include "oracle/dense_attention.h"

namespace swarr::oracle {
namespace {

// --- the truth: the product's kernels ---

// The kernel takes as many queries as keys. Queries of a chunk go to the rows of their positions; a row without a query
// gets one at position -1, which sees nothing and adds nothing.
struct KernelRows {
  std::vector<std::int64_t> row_of_query;
  std::vector<std::int32_t> positions, documents;
};

KernelRows RowsOf(const Values& inputs) {
  const std::vector<Place> queries = PlacesOf(inputs, "q"), keys = PlacesOf(inputs, "k");
  KernelRows rows;
  for (const Place& key : keys) {
    if (key.position == 0) rows.documents.push_back(static_cast<std::int32_t>(key.row));
  }
  rows.documents.push_back(static_cast<std::int32_t>(keys.size()));
  rows.positions.assign(keys.size(), -1);
  for (const Place& query : queries) {
    const std::int64_t row = queries.size() == keys.size()
                                 ? query.row
                                 : rows.documents[static_cast<std::size_t>(query.document)] + query.position;
    rows.row_of_query.push_back(row);
    rows.positions[static_cast<std::size_t>(row)] = query.position;
  }
  return rows;
}

Tensor Spread(const Context& ctx, const Value& value, const KernelRows& rows, std::int64_t N) {
  const Tensor from = InArena(ctx, value);
  const Tensor to = ctx.arena->NewZero(DType::kF64, {N, value.dim(1), value.dim(2)});
  for (std::size_t n = 0; n < rows.row_of_query.size(); ++n) {
    const std::int64_t row = rows.row_of_query[n], i = static_cast<std::int64_t>(n);
    Copy(to.Rows(row, row + 1), from.Rows(i, i + 1));
  }
  return to;
}

// The rows of queries, in the shape [queries, ...] of the rest of t's.
Value Gathered(const Tensor& t, const KernelRows& rows) {
  Value value = ValueOf(t);
  const std::size_t width = value.data.size() / static_cast<std::size_t>(value.dim(0));
  const std::vector<double> all = std::move(value.data);
  value.data.clear();
  for (const std::int64_t row : rows.row_of_query) {
    const auto first = all.begin() + row * static_cast<std::int64_t>(width);
    value.data.insert(value.data.end(), first, first + static_cast<std::int64_t>(width));
  }
  value.shape[0] = static_cast<std::int64_t>(rows.row_of_query.size());
  return value;
}

Values KernelAttention(const Context& ctx, const Values& inputs, AttentionSpec spec, Noise& noise) {
  const Tensor k = InArena(ctx, inputs.at("k")), v = InArena(ctx, inputs.at("v"));
  const std::int64_t N = k.dim(0), H = inputs.at("q").dim(1);
  const KernelRows rows = RowsOf(inputs);
  const Tensor q = Spread(ctx, inputs.at("q"), rows, N), dout = Spread(ctx, inputs.at("d_out"), rows, N);
  const Tensor positions = InArena(ctx, Integers(rows.positions)), documents = InArena(ctx, Integers(rows.documents));
  const Tensor out = ctx.arena->NewLike(q), lse = ctx.arena->New(DType::kF64, {N, H});
  AttentionForward(ctx, out, lse, {q, k, v, positions, documents, spec});
  Values outputs = {{"out", Gathered(out, rows)}, {"lse", Gathered(lse, rows)}};
  // What the backward reads is stored: sum p (dp - d_out . out) is 0 only as far as `out` is exact.
  noise.Disturb(out);
  noise.Disturb(lse);
  const Tensor dq = ctx.arena->NewLike(q), dk = ctx.arena->NewLike(k), dv = ctx.arena->NewLike(v);
  for (const Tensor& t : {dq, dk, dv}) FillZero(t);
  AttentionBackward(ctx, {dq, dk, dv}, dout, out, lse, {q, k, v, positions, documents, spec});
  outputs["dq"] = Gathered(dq, rows);
  outputs["dk"] = ValueOf(dk);
  outputs["dv"] = ValueOf(dv);
  return outputs;
}

// --- the mistakes ---

struct Shape {
  std::int64_t H, G, D;
  AttentionSpec spec;
};

using See = std::function<bool(const Place& q, const Place& k)>;

bool SameDocument(const Place& q, const Place& k) { return q.document == k.document; }
bool Causal(const Place& q, const Place& k) { return SameDocument(q, k) && k.position <= q.position; }

// The rule of attn/spec.h with other numbers; unlike there a window of 0 keys is one of none.
See Window(int keys, int sinks) {
  return [=](const Place& q, const Place& k) {
    return Causal(q, k) && (q.position - k.position < keys || k.position < sinks);
  };
}

See Visibility(AttentionSpec spec) {
  return [=](const Place& q, const Place& k) { return SameDocument(q, k) && Visible(q.position, k.position, spec); };
}

// Positions counted through the tensors instead of in each document.
See ByRow(AttentionSpec spec, bool documents_apart) {
  return [=](const Place& q, const Place& k) {
    if (q.position < 0 || (documents_apart && !SameDocument(q, k))) return false;
    return Visible(static_cast<int>(q.row), static_cast<int>(k.row), spec);
  };
}

struct NamedMistake {
  const char* name;
  bool windows_only;  // says nothing of full attention
  void (*make)(DenseRule& rule, const Shape& s);
};

constexpr NamedMistake kMistakes[] = {
    {"a window of W+1 keys", true,
     [](DenseRule& r, const Shape& s) { r.visible = Window(s.spec.window + 1, s.spec.sinks); }},
    {"a window of W-1 keys", true,
     [](DenseRule& r, const Shape& s) { r.visible = Window(s.spec.window - 1, s.spec.sinks); }},
    {"the window ignored", true, [](DenseRule& r, const Shape&) { r.visible = Causal; }},
    {"sinks counted inside the window", true,
     [](DenseRule& r, const Shape& s) { r.visible = Window(std::max(1, s.spec.window - s.spec.sinks), s.spec.sinks); }},
    {"sinks missing", true, [](DenseRule& r, const Shape& s) { r.visible = Window(s.spec.window, 0); }},
    {"one sink too many", true,
     [](DenseRule& r, const Shape& s) {
       if (s.spec.sinks > 0) r.visible = Window(s.spec.window, s.spec.sinks + 1);
     }},
    {"one sink too few", true,
     [](DenseRule& r, const Shape& s) { r.visible = Window(s.spec.window, s.spec.sinks - 1); }},
    {"blocks of W keys instead of a sliding window", true,
     [](DenseRule& r, const Shape& s) {
       r.visible = [spec = s.spec](const Place& q, const Place& k) {
         return Causal(q, k) && (q.position / spec.window == k.position / spec.window || k.position < spec.sinks);
       };
     }},
    {"a window to both sides, |i - j| < W, without a causal mask", true,
     [](DenseRule& r, const Shape& s) {
       r.visible = [spec = s.spec](const Place& q, const Place& k) {
         return SameDocument(q, k) && q.position >= 0 &&
                (std::abs(q.position - k.position) < spec.window ||
                 (k.position <= q.position && k.position < spec.sinks));
       };
     }},
    {"no causal mask: all future keys seen", false,
     [](DenseRule& r, const Shape& s) {
       r.visible = [see = Visibility(s.spec)](const Place& q, const Place& k) {
         return see(q, k) || (SameDocument(q, k) && q.position >= 0 && k.position > q.position);
       };
     }},
    {"a query that does not see itself", false,
     [](DenseRule& r, const Shape& s) {
       r.visible = [see = Visibility(s.spec)](const Place& q, const Place& k) {
         return see(q, k) && k.position != q.position;
       };
     }},
    {"the first query aligned with the first key (top-left) in a chunk", false,
     [](DenseRule& r, const Shape& s) {
       r.visible = [spec = s.spec](const Place& q, const Place& k) {
         const auto row = static_cast<std::int32_t>(q.row);
         return SameDocument(q, k) && Visible(std::min(q.position, row), k.position, spec);
       };
     }},
    {"documents that see each other", false, [](DenseRule& r, const Shape& s) { r.visible = ByRow(s.spec, false); }},
    {"sinks of the first document alone (positions counted through the batch)", true,
     [](DenseRule& r, const Shape& s) { r.visible = ByRow(s.spec, true); }},
    {"the mask applied after the softmax, weights not renormalised", true,
     [](DenseRule& r, const Shape&) { r.masking = Masking::kAfterSoftmax; }},
    {"masked scores set to 0 instead of -infinity", false,
     [](DenseRule& r, const Shape&) { r.masking = Masking::kZeroScore; }},
    {"a 1 added to the softmax's denominator", false, [](DenseRule& r, const Shape&) { r.one_in_denominator = true; }},
    {"rows that see nothing given the average of all values", false,
     [](DenseRule& r, const Shape&) { r.average_where_blind = true; }},
    {"key heads interleaved: query head h reads key head h mod G", false,
     [](DenseRule& r, const Shape& s) { r.key_head = [G = s.G](std::int64_t h) { return h % G; }; }},
    {"all query heads reading the first key head", false,
     [](DenseRule& r, const Shape&) { r.key_head = [](std::int64_t) { return std::int64_t{0}; }; }},
    {"scores without the scale 1/sqrt(D)", false, [](DenseRule& r, const Shape&) { r.scale = 1; }},
    {"scores scaled by 1/D (the scale applied twice)", false,
     [](DenseRule& r, const Shape& s) { r.scale = 1 / static_cast<double>(s.D); }},
    {"scores scaled by 1/sqrt(H D), the model's width", false,
     [](DenseRule& r, const Shape& s) { r.scale = 1 / std::sqrt(static_cast<double>(s.H * s.D)); }},
    {"lse in base 2", false, [](DenseRule& r, const Shape&) { r.lse_unit = std::log(2.0); }},
    {"lse without the largest score", false, [](DenseRule& r, const Shape&) { r.lse_has_largest = false; }},
    {"gradients of k and v from the first query head of a group alone", false,
     [](DenseRule& r, const Shape&) { r.group_gradient = GroupGradient::kFirst; }},
    {"gradients of k and v from the last query head of a group alone", false,
     [](DenseRule& r, const Shape&) { r.group_gradient = GroupGradient::kLast; }},
    {"gradients of k and v averaged over a group", false,
     [](DenseRule& r, const Shape&) { r.group_gradient = GroupGradient::kMean; }},
    {"dq without the scale", false, [](DenseRule& r, const Shape&) { r.scale_in_dq = false; }},
    {"dk without the scale", false, [](DenseRule& r, const Shape&) { r.scale_in_dk = false; }},
    {"the softmax's gradient without its row term: ds = p dp", false,
     [](DenseRule& r, const Shape&) { r.row_term = false; }},
};

Shape ShapeOf(const Case& c) {
  const auto number = [&](const char* name) { return c.parameters.at(name).get<std::int64_t>(); };
  return {number("heads"),
          number("kv_heads"),
          number("head_dim"),
          {static_cast<int>(number("window")), static_cast<int>(number("sinks"))}};
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const Shape s = ShapeOf(c);
  if (mistake.empty()) return KernelAttention(ctx, inputs, s.spec, noise);
  DenseRule rule;
  rule.visible = Visibility(s.spec);
  rule.key_head = [group = s.H / s.G](std::int64_t h) { return h / group; };
  rule.scale = 1 / std::sqrt(static_cast<double>(s.D));
  for (const NamedMistake& named : kMistakes) {
    if (mistake == named.name && !(named.windows_only && s.spec.window == 0)) named.make(rule, s);
  }
  return DenseAttention(inputs, rule, noise);
}

// --- the cases ---

struct Setting {
  const char* name;
  const char* meaning;
  std::vector<int> lengths;  // of the documents
  AttentionSpec spec;
  std::int64_t H, G, D;
  int queries = 0;  // the last so many of the keys; 0: all
  int blind = 0;    // the first so many queries are padding, at position -1
  double score_scale = 1;
};

const std::vector<Setting>& Settings() {
  static const std::vector<Setting> settings = {
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
      {"chunk_full", "the last 5 of 13 tokens as queries", {13}, {0, 0}, 4, 2, 8, 5},
      {"chunk_window", "the last 6 of 17 tokens as queries, a window", {17}, {4, 0}, 2, 1, 8, 6},
      {"chunk_sinks", "the last 6 of 17 tokens as queries, a window and sinks", {17}, {4, 2}, 2, 2, 8, 6},
      {"decode_window", "one query against the keys so far, a window", {13}, {4, 0}, 4, 2, 8, 1},
      {"decode_sinks", "one query against the keys so far, a window and sinks", {13}, {4, 1}, 4, 2, 8, 1},
      {"blind_rows", "two rows of padding at position -1, which see nothing", {9}, {3, 0}, 2, 1, 8, 0, 2},
      {"large_scores", "scores of some tens", {11}, {0, 0}, 2, 1, 8, 0, 0, 16},
      {"large_scores_window", "scores of some tens in a window", {13}, {4, 1}, 2, 1, 8, 0, 0, 4},
  };
  return settings;
}

Case MakeCase(const Setting& s) {
  Case c{s.name, s.meaning, {}, {}, 1};
  std::vector<std::int32_t> positions, documents;
  for (std::size_t d = 0; d < s.lengths.size(); ++d) {
    for (int t = 0; t < s.lengths[d]; ++t) {
      positions.push_back(t);
      documents.push_back(static_cast<std::int32_t>(d));
    }
  }
  const auto N = static_cast<std::int64_t>(positions.size()), queries = s.queries > 0 ? s.queries : N;
  PhiloxStream random = StreamOf("attention", s.name);
  c.inputs = {{"q", RandomNormal(random, {queries, s.H, s.D}, s.score_scale)},
              {"k", RandomNormal(random, {N, s.G, s.D})},
              {"v", RandomNormal(random, {N, s.G, s.D})},
              {"d_out", RandomNormal(random, {queries, s.H, s.D})},
              {"k_position", Integers(positions)},
              {"k_document", Integers(documents)}};
  std::vector<std::int32_t> q_positions(positions.end() - queries, positions.end());
  std::fill_n(q_positions.begin(), s.blind, -1);
  c.inputs["q_position"] = Integers(q_positions);
  c.inputs["q_document"] = Integers({documents.end() - queries, documents.end()});
  c.parameters = {{"queries", queries},
                  {"keys", N},
                  {"documents", s.lengths.size()},
                  {"window", s.spec.window},
                  {"sinks", s.spec.sinks},
                  {"heads", s.H},
                  {"kv_heads", s.G},
                  {"heads_per_kv_head", s.H / s.G},
                  {"head_dim", s.D},
                  {"padding_rows", s.blind}};
  c.longest_sum = static_cast<int>(std::max(N * s.H / s.G, s.D));  // dk and dv: over queries and heads of the group
  return c;
}

Family AttentionFamily() {
  Family f;
  f.name = "attention";
  f.semantics = {
      "out[i, h] = sum_j p_j v[j, g], p = softmax over the visible keys j of q[i, h] . k[j, g] / sqrt(D).",
      "Key head g = h / (H / G), rounded down: query heads 0 .. H/G-1 read key head 0, the next H/G key head 1, and so "
      "on.",
      "Query i sees key j iff both have the same document, and with q = q_position[i], k = k_position[j]: 0 <= k <= q "
      "and "
      "(q - k < window or k < sinks). window = 0 means full attention: 0 <= k <= q.",
      "The window counts the current token: window = W is W keys with it (sliding_window of transformers; "
      "flash-attention's left window is W - 1). Sinks are the first positions of each document, beside the window.",
      "lse[i, h] = log sum_j exp(q . k_j / sqrt(D)) over the visible keys, natural logarithm.",
      "A query at position -1 is padding and sees nothing: out is 0, lse -infinity, and it gives no gradient.",
      "dq, dk, dv are the gradients of sum(out * d_out); dk and dv are summed over the query heads of a group.",
  };
  f.inputs = {{"q", "[Tq, H, D]", "queries", false},
              {"k", "[Tk, G, D]", "keys", false},
              {"v", "[Tk, G, D]", "values", false},
              {"q_position", "[Tq]", "position of each query in its document, from 0; -1 is padding", false},
              {"q_document", "[Tq]", "document of each query", false},
              {"k_position", "[Tk]", "position of each key in its document", false},
              {"k_document", "[Tk]", "document of each key", false},
              {"d_out", "[Tq, H, D]", "gradient of the loss with respect to out", false}};
  f.outputs = {{"out", "[Tq, H, D]", "weighted values", false},
               {"lse", "[Tq, H]", "log of the sum of exponentials of the scaled scores", false},
               {"dq", "[Tq, H, D]", "gradient of q", true},
               {"dk", "[Tk, G, D]", "gradient of k", true},
               {"dv", "[Tk, G, D]", "gradient of v", true}};
  f.roundings = {{"scores q . k", "scores times the scale", "weights exp(s - max)", "weights divided by their sum"},
                 {"weights once more", "d_out . v", "row term sum p dp", "dp less the row term", "its product with p",
                  "ds times the scale", "gradients of a group's heads before their sum"}};
  for (const NamedMistake& mistake : kMistakes) f.mistakes.emplace_back(mistake.name);
  for (const Setting& setting : Settings()) f.cases.push_back(MakeCase(setting));
  f.evaluate = Evaluate;
  return f;
}

}  // namespace

Suite AttentionSuite() {
  return {"attention",
          "Causal softmax attention, full or in a sliding window, with sinks, grouped heads and documents.",
          {AttentionFamily()}};
}

}  // namespace swarr::oracle
