// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/dense_attention.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace swarr::oracle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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
  bool blind = false;
  std::vector<char> seen = std::vector<char>(keys.size());
  std::vector<double> score = std::vector<double>(keys.size()), weight = score;

  void Run() {
    Scores();
    blind = *std::max_element(score.begin(), score.end()) == -kInfinity;
    double& lse = outputs.at("lse")(query.row, h);
    lse = -kInfinity;
    if (blind && !rule.average_where_blind) return;
    Forward(lse);
    Backward();
  }

  double Dot(const double* a, const double* b) const { return std::inner_product(a, a + rule.D, b, 0.0); }

  void Scores() {
    for (std::size_t j = 0; j < keys.size(); ++j) {
      seen[j] = rule.sees(rule, query, keys[j]);
      score[j] = rule.masking == Masking::kZeroScore ? 0 : -kInfinity;
      if (seen[j] || (rule.masking == Masking::kAfterSoftmax && Causal(query, keys[j]))) {
        score[j] = noise.Disturbed(rule.scale * Dot(q, &k(keys[j].row, g)));
      }
    }
  }

  // Whether the weight of key j reaches the output: those of seen keys do, and all where masking has put 0 for a score.
  bool Reaches(std::size_t j) const { return blind || seen[j] || rule.masking == Masking::kZeroScore; }

  void Forward(double& lse) {
    const double largest = *std::max_element(score.begin(), score.end());
    double sum = rule.one_in_denominator ? std::exp(-largest) : 0;
    for (const double s : score) sum += blind ? 1 : std::exp(s - largest);
    if (!blind) lse = ((rule.lse_has_largest ? largest : 0) + std::log(sum)) / rule.lse_unit;
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
    if (!rule.row_term) row_term = 0;
    const double share = GroupShare();
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

  // What this head counts in the gradients of its keys and values.
  double GroupShare() const {
    const std::int64_t group = rule.H / rule.G, member = h % group;
    switch (rule.group_gradient) {
      case GroupGradient::kSum:
        return 1;
      case GroupGradient::kFirst:
        return member == 0 ? 1 : 0;
      case GroupGradient::kLast:
        return member == group - 1 ? 1 : 0;
      case GroupGradient::kMean:
        return 1 / static_cast<double>(group);
    }
    throw Error("unreachable");
  }
};

}  // namespace

bool SameDocument(const Place& q, const Place& k) { return q.document == k.document; }
bool Causal(const Place& q, const Place& k) { return SameDocument(q, k) && k.position <= q.position; }
bool InWindow(const DenseRule& rule, const Place& q, const Place& k) {
  return Causal(q, k) && (q.position - k.position < rule.window || k.position < rule.sinks);
}

std::int64_t KeyHead(const DenseRule& rule, std::int64_t h) { return h / (rule.H / rule.G); }

std::vector<Place> PlacesOf(const Values& inputs, const std::string& which) {
  const Value &position = inputs.at(which + "_position"), &document = inputs.at(which + "_document");
  std::vector<Place> places;
  for (std::int64_t n = 0; n < position.size(); ++n) {
    places.push_back({static_cast<std::int32_t>(position(n)), static_cast<std::int32_t>(document(n)), n});
  }
  return places;
}

Values DenseAttention(const Values& inputs, const DenseRule& rule, Noise& noise) {
  const Value &q = inputs.at("q"), &k = inputs.at("k");
  Values outputs = {{"out", Zeros(q.shape)},
                    {"lse", Zeros({q.dim(0), q.dim(1)})},
                    {"dq", Zeros(q.shape)},
                    {"dk", Zeros(k.shape)},
                    {"dv", Zeros(k.shape)}};
  const std::vector<Place> keys = PlacesOf(inputs, "k");
  for (const Place& query : PlacesOf(inputs, "q")) {
    for (std::int64_t h = 0; h < rule.H; ++h) QueryPass{inputs, outputs, rule, keys, query, h, noise}.Run();
  }
  return outputs;
}

}  // namespace swarr::oracle
