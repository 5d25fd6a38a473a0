// SPDX-License-Identifier: Apache-2.0
// The suite `attention`: softmax attention in a sliding window, with sinks, learned sinks, packed documents and grouped
// heads.
#include "attn/attention.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "oracle/suites/attention_cases.h"
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

// A row of padding has the learned sinks alone in its softmax.
void SetSinksAsLse(const Values& inputs, const WholeDocuments& whole, Value& lse) {
  for (std::size_t n = 0; n < whole.queries.size(); ++n) {
    if (whole.queries[n] >= 0) continue;
    std::ranges::copy(inputs.at("sink_logits").data, lse.Row(static_cast<std::int64_t>(n)).begin());
  }
}

Values KernelAttention(const Context& ctx, const Values& inputs, AttentionSpec spec, Noise& noise) {
  const WholeDocuments whole(inputs);
  const auto spread = [&](const char* name, const std::vector<std::int64_t>& to, double with) {
    return InArena(ctx, whole.Spread(inputs.at(name), to, with));
  };
  const Tensor q = spread("q", whole.queries, 0), dout = spread("d_out", whole.queries, 0),
               k = spread("k", whole.keys, 0), v = spread("v", whole.keys, 0),
               positions = spread("q_position", whole.queries, -1);
  const AttentionInputs kernel_inputs{
      q, k, v, positions, InArena(ctx, Integers(whole.begins)), spec, TensorsOf{ctx, inputs}("sink_logits")};
  const Tensor out = ZerosLike(ctx, q), lse = ctx.arena->New(DType::kF64, {q.dim(0), q.dim(1)});
  AttentionForward(ctx, out, lse, kernel_inputs);
  Values outputs = {{"out", whole.Gather(out, whole.queries, 0)}, {"lse", whole.Gather(lse, whole.queries, -HUGE_VAL)}};
  // What the backward reads is stored: sum p (dp - d_out . out) is 0 only as far as `out` is exact.
  noise.Disturb(out);
  noise.Disturb(lse);
  const Tensor dq = ZerosLike(ctx, q), dk = ZerosLike(ctx, k), dv = ZerosLike(ctx, v);
  const bool learned = !kernel_inputs.sink_logits.empty();
  const Tensor dsink = learned ? ZerosLike(ctx, kernel_inputs.sink_logits) : Tensor{};
  AttentionBackward(ctx, {dq, dk, dv, dsink}, dout, out, lse, kernel_inputs);
  outputs["dq"] = whole.Gather(dq, whole.queries, 0);
  outputs["dk"] = whole.Gather(dk, whole.keys, 0);
  outputs["dv"] = whole.Gather(dv, whole.keys, 0);
  if (learned) {
    outputs["dsink_logits"] = ValueOf(dsink);
    SetSinksAsLse(inputs, whole, outputs.at("lse"));
  }
  return outputs;
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  if (!mistake.empty()) return DenseAttention(c, inputs, mistake, noise);
  return KernelAttention(ctx, inputs, {c.Integer("window"), c.Integer("sinks")}, noise);
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
           "Keys may be left over in a cache: of documents that ask nothing, in slots that were theirs, and of "
           "positions "
           "after all queries, of tokens that were rejected. The rule above lets nobody see them, and they have no "
           "gradient.",
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
                 {"k_position", "[Tk]", "position of each key in its document; -1 is padding"},
                 {"k_document", "[Tk]", "document of each key"},
                 {"sink_logits", "[H]", "learned sink of each query head, where learned_sinks = 1"},
                 {"d_out", "[Tq, H, D]", "gradient of the loss with respect to out"}},
      .outputs = {{"out", "[Tq, H, D]", "weighted values"},
                  {"lse", "[Tq, H]", "log of the sum of exponentials of the scaled scores", false, true},
                  {"dq", "[Tq, H, D]", "gradient of q", true},
                  {"dk", "[Tk, G, D]", "gradient of k", true},
                  {"dv", "[Tk, G, D]", "gradient of v", true},
                  {"dsink_logits", "[H]", "gradient of sink_logits, where learned_sinks = 1", true}},
      .roundings = {{"scores q . k", "scores times the scale", "weights exp(s - max)", "weights divided by their sum"},
                    {"weights once more", "d_out . v", "row term sum p dp", "dp less the row term",
                     "its product with p", "ds times the scale", "gradients of a group's heads before their sum"}},
      .mistakes = AttentionMistakeNames(),
      .cases = AttentionCases(),
      .evaluate = Evaluate};
  return {"attention",
          "Causal softmax attention, full or in a sliding window, with sinks, learned sinks, grouped heads and "
          "documents.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
