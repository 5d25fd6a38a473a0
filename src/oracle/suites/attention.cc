// SPDX-License-Identifier: Apache-2.0
// The suite `attention`: softmax attention in a sliding window, with sinks, learned sinks, packed documents and grouped
// heads.
#include "attn/attention.h"

#include <algorithm>

#include "oracle/suites/dense_attention.h"

namespace swarr::oracle {
namespace attention_suite {

// --- the truth: the product's kernels ---

// The kernel takes as many queries as keys. Those of a chunk are the last; rows before them are at position -1, which
// sees nothing and adds nothing.
Tensor PaddedInFront(const Context& ctx, Value value, std::int64_t N, double with) {
  const std::size_t width = value.Row(0).size();
  value.data.insert(value.data.begin(), static_cast<std::size_t>(N - value.dim(0)) * width, with);
  value.shape[0] = N;
  return InArena(ctx, value);
}

// The first row of each document, and the end of the last.
std::vector<std::int32_t> DocumentsIn(const Value& k_position) {
  std::vector<std::int32_t> documents;
  for (std::int32_t n = 0; n < k_position.size(); ++n) {
    if (k_position(n) == 0) documents.push_back(n);
  }
  documents.push_back(static_cast<std::int32_t>(k_position.size()));
  return documents;
}

Values KernelAttention(const Context& ctx, const Values& inputs, AttentionSpec spec, Noise& noise) {
  const TensorsOf in{ctx, inputs};
  const Tensor k = in("k"), v = in("v"), documents = InArena(ctx, Integers(DocumentsIn(inputs.at("k_position"))));
  const std::int64_t N = k.dim(0), first = N - inputs.at("q").dim(0);
  const Tensor q = PaddedInFront(ctx, inputs.at("q"), N, 0), dout = PaddedInFront(ctx, inputs.at("d_out"), N, 0),
               positions = PaddedInFront(ctx, inputs.at("q_position"), N, -1);
  const AttentionInputs kernel_inputs{q, k, v, positions, documents, spec, in("sink_logits")};
  const Tensor out = ZerosLike(ctx, q), lse = ctx.arena->New(DType::kF64, {N, q.dim(1)});
  const auto queries = [&](const Tensor& t) { return ValueOf(t.Rows(first, N)); };
  AttentionForward(ctx, out, lse, kernel_inputs);
  Values outputs = {{"out", queries(out)}, {"lse", queries(lse)}};
  // What the backward reads is stored: sum p (dp - d_out . out) is 0 only as far as `out` is exact.
  noise.Disturb(out);
  noise.Disturb(lse);
  const Tensor dq = ZerosLike(ctx, q), dk = ZerosLike(ctx, k), dv = ZerosLike(ctx, v);
  const bool learned = !kernel_inputs.sink_logits.empty();
  const Tensor dsink = learned ? ZerosLike(ctx, kernel_inputs.sink_logits) : Tensor{};
  AttentionBackward(ctx, {dq, dk, dv, dsink}, dout, out, lse, kernel_inputs);
  outputs["dq"] = queries(dq);
  outputs["dk"] = ValueOf(dk);
  outputs["dv"] = ValueOf(dv);
  if (learned) outputs["dsink_logits"] = ValueOf(dsink);
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
    bool learned_sinks = false;
  } rest = {};
};

constexpr Setting::Rest kLearned = {.learned_sinks = true};

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

Case MakeCase(const Setting& s) {
  std::vector<std::int32_t> positions, documents;
  for (std::size_t d = 0; d < s.lengths.size(); ++d) {
    for (int t = 0; t < s.lengths[d]; ++t) {
      positions.push_back(t);
      documents.push_back(static_cast<std::int32_t>(d));
    }
  }
  const auto N = static_cast<std::int64_t>(positions.size()), queries = s.rest.queries > 0 ? s.rest.queries : N;
  std::vector<std::int32_t> q_positions(positions.end() - queries, positions.end());
  std::fill_n(q_positions.begin(), s.rest.blind, -1);
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
          {"padding_rows", s.rest.blind},
          {"learned_sinks", s.rest.learned_sinks ? 1 : 0}},
         {{"q", RandomNormal(random, {queries, s.H, s.D}, s.rest.score_scale)},
          {"k", RandomNormal(random, {N, s.G, s.D})},
          {"v", RandomNormal(random, {N, s.G, s.D})},
          {"d_out", RandomNormal(random, {queries, s.H, s.D})},
          {"q_position", Integers(q_positions)},
          {"q_document", Integers({documents.end() - queries, documents.end()})},
          {"k_position", Integers(positions)},
          {"k_document", Integers(documents)}},
         std::max(N * s.H / s.G, s.D)};  // dk and dv: over queries and heads of the group
  if (s.rest.learned_sinks) c.inputs["sink_logits"] = RandomNormal(random, {s.H}, 2);
  return c;
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
           "A query at position -1 is padding and sees nothing: out is 0, lse -infinity, and it gives no gradient.",
           "Where learned_sinks = 1, one more logit of each query head joins the softmax, without a key and a value: "
           "p_j = exp(s_j) / (sum_j exp(s_j) + exp(sink_logits[h])) with the scaled scores s_j, and lse is the "
           "logarithm of this denominator. It is not scaled, stands beside the window, and is the same in all "
           "documents. A query that sees no key has out 0 and lse sink_logits[h].",
           "dq, dk, dv, dsink_logits are the gradients of sum(out * d_out); dk and dv are summed over the query heads "
           "of a group, dsink_logits over all queries."},
      .inputs = {{"q", "[Tq, H, D]", "queries"},
                 {"k", "[Tk, G, D]", "keys"},
                 {"v", "[Tk, G, D]", "values"},
                 {"q_position", "[Tq]", "position of each query in its document, from 0; -1 is padding"},
                 {"q_document", "[Tq]", "document of each query"},
                 {"k_position", "[Tk]", "position of each key in its document"},
                 {"k_document", "[Tk]", "document of each key"},
                 {"sink_logits", "[H]", "learned sink of each query head, where learned_sinks = 1"},
                 {"d_out", "[Tq, H, D]", "gradient of the loss with respect to out"}},
      .outputs = {{"out", "[Tq, H, D]", "weighted values"},
                  {"lse", "[Tq, H]", "log of the sum of exponentials of the scaled scores"},
                  {"dq", "[Tq, H, D]", "gradient of q", true},
                  {"dk", "[Tk, G, D]", "gradient of k", true},
                  {"dv", "[Tk, G, D]", "gradient of v", true},
                  {"dsink_logits", "[H]", "gradient of sink_logits, where learned_sinks = 1", true}},
      .roundings = {{"scores q . k", "scores times the scale", "weights exp(s - max)", "weights divided by their sum"},
                    {"weights once more", "d_out . v", "row term sum p dp", "dp less the row term",
                     "its product with p", "ds times the scale", "gradients of a group's heads before their sum"}},
      .mistakes = AttentionMistakeNames(),
      .cases = CasesOf(kSettings, MakeCase),
      .evaluate = Evaluate};
  return {"attention",
          "Causal softmax attention, full or in a sliding window, with sinks, learned sinks, grouped heads and "
          "documents.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
