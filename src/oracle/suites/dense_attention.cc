// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "oracle/suites/attention_rule.h"

namespace swarr::oracle {
namespace dense_attention {

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
      seen[j] = rule.sees(rule, query, keys[j]) ? 1 : 0;
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

std::map<double, Asking> AskingOf(const Values& inputs) {
  const Value &position = inputs.at("q_position"), &document = inputs.at("q_document");
  std::map<double, Asking> asking;
  for (std::int64_t n = 0; n < position.size(); ++n) {
    if (position(n) < 0) continue;
    const auto at = static_cast<std::int32_t>(position(n));
    Asking& of = asking[document(n)];
    of = {of.count + 1, of.count == 0 ? at : std::min(of.first, at), std::max(of.last, at)};
  }
  return asking;
}

// Rows of <which>_position and <which>_document, with `which` "q" or "k".
std::vector<Place> PlacesOf(const Values& inputs, const std::string& which) {
  const Value &position = inputs.at(which + "_position"), &document = inputs.at(which + "_document");
  const std::int64_t before = inputs.at("k_position").size() - position.size();
  std::map<double, Asking> asking = AskingOf(inputs);
  std::vector<Place> places;
  for (std::int64_t n = 0; n < position.size(); ++n) {
    places.push_back({static_cast<std::int32_t>(position(n)), static_cast<std::int32_t>(document(n)), n, before + n,
                      asking[document(n)]});
  }
  return places;
}

}  // namespace dense_attention

std::vector<std::string> AttentionMistakeNames() {
  using namespace dense_attention;
  return NamesOf(Mistakes());
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
                        .packed = c.Integer("documents") > 1,
                        .one_query = c.Integer("queries") == 1};
  const DenseRule rule = WithMistake(right, Mistakes(), mistake);
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
