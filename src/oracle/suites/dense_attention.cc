// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace swarr::oracle {
namespace dense_attention {

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

bool SameDocument(const Place& q, const Place& k) { return q.document == k.document; }
// Key k is in the query's document and not after it.
bool Causal(const Place& q, const Place& k) { return SameDocument(q, k) && k.position <= q.position; }

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

  bool learned_sinks, packed;  // what the case has
  // Whether a query's softmax has the learned sink.
  bool (*has_sink)(const DenseRule& r, const Place& q) = [](auto&, auto&) { return true; };
  double sink_scale = 1;
  bool sink_in_lse = true, sink_has_gradient = true;
};

// --- the mistakes ---

// Position and document counted through the tensors.
Place ByRow(const Place& place, std::int32_t document) {
  return {place.position < 0 ? -1 : static_cast<std::int32_t>(place.row), document, place.row};
}

bool InBlock(const DenseRule& r, const Place& q, const Place& k) {
  const bool same_block = std::floor(q.position / r.window) == std::floor(k.position / r.window);
  return Causal(q, k) && (same_block || k.position < r.sinks);
}

bool ToBothSides(const DenseRule& r, const Place& q, const Place& k) {
  return q.position >= 0 && SameDocument(q, k) && (std::abs(q.position - k.position) < r.window || r.InWindow(q, k));
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

constexpr Mistake<DenseRule> kMistakes[] = {
    {"a window of W+1 keys", [](DenseRule& r) { ++r.window; }},
    {"a window of W-1 keys", [](DenseRule& r) { --r.window; }},
    {"the window ignored", [](DenseRule& r) { r.window = HUGE_VAL; }},
    {"sinks counted inside the window", [](DenseRule& r) { r.window = std::max(1.0, r.window - r.sinks); }},
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
    {"sinks of the first document alone (positions counted through the batch)",
     [](DenseRule& r) { r.sees = r.HasWindow() ? ByRowInDocument : r.sees; }},
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

// --- the computation ---

// One query of one head, forward and backward.
struct QueryPass {
  const Values& inputs;
  Values& outputs;
  const DenseRule& rule;
  const std::vector<Place>& keys;
  const Place& query;
  std::int64_t h;
  Noise& noise;

  std::int64_t g = rule.key_head(rule, h);
  const Value &k = inputs.at("k"), &v = inputs.at("v");
  const double *q = &inputs.at("q")(query.row, h), *dout = &inputs.at("d_out")(query.row, h);
  bool blind = false;  // sees no key
  double sink =
      rule.learned_sinks && rule.has_sink(rule, query) ? rule.sink_scale * inputs.at("sink_logits")(h) : -HUGE_VAL;
  std::vector<char> seen = std::vector<char>(keys.size());
  std::vector<double> score = std::vector<double>(keys.size()), weight = score;
  double sink_weight = 0;

  void Run() {
    Scores();
    blind = *std::max_element(score.begin(), score.end()) == -HUGE_VAL;
    double& lse = outputs.at("lse")(query.row, h);
    lse = rule.sink_in_lse ? sink : -HUGE_VAL;
    if (blind && !rule.average_where_blind) return;
    Forward(lse);
    Backward();
  }

  double Dot(const double* a, const double* b) const { return std::inner_product(a, a + rule.D, b, 0.0); }

  void Scores() {
    for (std::size_t j = 0; j < keys.size(); ++j) {
      seen[j] = rule.sees(rule, query, keys[j]);
      score[j] = rule.masking == Masking::kZeroScore ? 0 : -HUGE_VAL;
      if (seen[j] || (rule.masking == Masking::kAfterSoftmax && Causal(query, keys[j]))) {
        score[j] = noise.Disturbed(rule.scale * Dot(q, &k(keys[j].row, g)));
      }
    }
  }

  // Whether the weight of key j reaches the output: those of seen keys do, and all where masking has put 0 for a score.
  bool Reaches(std::size_t j) const { return blind || seen[j] || rule.masking == Masking::kZeroScore; }

  void Forward(double& lse) {
    const double largest = std::max(sink, *std::max_element(score.begin(), score.end()));
    double keys_sum = 0;
    for (const double s : score) keys_sum += blind ? 1 : std::exp(s - largest);
    sink_weight = blind ? 0 : std::exp(sink - largest);
    const double sum = keys_sum + sink_weight + (rule.one_in_denominator ? std::exp(-largest) : 0);
    const double lse_sum = rule.sink_in_lse ? sum : sum - sink_weight;
    if (!blind) lse = ((rule.lse_has_largest ? largest : 0) + std::log(lse_sum)) / rule.lse_unit;
    sink_weight = noise.Disturbed(sink_weight / sum);
    double* out = &outputs.at("out")(query.row, h);
    for (std::size_t j = 0; j < keys.size(); ++j) {
      weight[j] = noise.Disturbed((blind ? 1 : std::exp(score[j] - largest)) / sum);
      for (std::int64_t d = 0; d < rule.D && Reaches(j); ++d) out[d] += weight[j] * v(keys[j].row, g, d);
    }
  }

  void Backward() {
    std::vector<double> dweight(keys.size());
    double row_term = 0;
    for (std::size_t j = 0; j < keys.size(); ++j) {
      dweight[j] = Reaches(j) ? noise.Disturbed(Dot(dout, &v(keys[j].row, g))) : 0;
      row_term += weight[j] * dweight[j];
    }
    if (rule.learned_sinks && rule.sink_has_gradient) {
      outputs.at("dsink_logits")(h) -= rule.sink_scale * sink_weight * noise.Disturbed(row_term);
    }
    if (!rule.row_term) row_term = 0;
    const std::int64_t group = rule.H / rule.G;
    const double share = rule.share(static_cast<double>(h % group), static_cast<double>(group));
    double* dq = &outputs.at("dq")(query.row, h);
    for (std::size_t j = 0; j < keys.size(); ++j) {
      double *dk = &outputs.at("dk")(keys[j].row, g), *dv = &outputs.at("dv")(keys[j].row, g);
      const bool constant = blind || (rule.masking == Masking::kZeroScore && !seen[j]);
      const double ds = constant ? 0 : weight[j] * (dweight[j] - noise.Disturbed(row_term));
      for (std::int64_t d = 0; d < rule.D; ++d) {
        if (Reaches(j)) dv[d] += share * weight[j] * dout[d];
        dq[d] += (rule.scale_in_dq ? rule.scale : 1) * ds * k(keys[j].row, g, d);
        dk[d] += share * (rule.scale_in_dk ? rule.scale : 1) * ds * q[d];
      }
    }
  }
};

// Rows of <which>_position and <which>_document, with `which` "q" or "k".
std::vector<Place> PlacesOf(const Values& inputs, const std::string& which) {
  const Value &position = inputs.at(which + "_position"), &document = inputs.at(which + "_document");
  std::vector<Place> places;
  for (std::int64_t n = 0; n < position.size(); ++n) {
    places.push_back({static_cast<std::int32_t>(position(n)), static_cast<std::int32_t>(document(n)), n});
  }
  return places;
}

}  // namespace dense_attention

std::vector<std::string> AttentionMistakeNames() {
  using namespace dense_attention;
  return NamesOf(kMistakes);
}

Values DenseAttention(const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  using namespace dense_attention;
  const int window = c.Integer("window");
  const DenseRule right{.H = c.Integer("heads"),
                        .G = c.Integer("kv_heads"),
                        .D = c.Integer("head_dim"),
                        .window = window > 0 ? window : HUGE_VAL,
                        .sinks = c.Integer("sinks"),
                        .learned_sinks = c.Integer("learned_sinks") > 0,
                        .packed = c.Integer("documents") > 1};
  const DenseRule rule = WithMistake(right, kMistakes, mistake);
  const Value &q = inputs.at("q"), &k = inputs.at("k");
  Values outputs = {{"out", Zeros(q.shape)},
                    {"lse", Zeros({q.dim(0), q.dim(1)})},
                    {"dq", Zeros(q.shape)},
                    {"dk", Zeros(k.shape)},
                    {"dv", Zeros(k.shape)}};
  if (right.learned_sinks) outputs["dsink_logits"] = Zeros({right.H});
  const std::vector<Place> keys = PlacesOf(inputs, "k");
  for (const Place& query : PlacesOf(inputs, "q")) {
    for (std::int64_t h = 0; h < rule.H; ++h) QueryPass{inputs, outputs, rule, keys, query, h, noise}.Run();
  }
  return outputs;
}

}  // namespace swarr::oracle
