// SPDX-License-Identifier: Apache-2.0
#include "oracle/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace swarr::oracle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One query of one head, forward and backward.
class QueryPass {
 public:
  QueryPass(const Values& inputs, Values& outputs, const DenseRule& rule, const std::vector<Place>& keys, Noise& noise)
      : q_(inputs.at("q")),
        k_(inputs.at("k")),
        v_(inputs.at("v")),
        dout_(inputs.at("d_out")),
        out_(outputs.at("out")),
        lse_(outputs.at("lse")),
        dq_(outputs.at("dq")),
        dk_(outputs.at("dk")),
        dv_(outputs.at("dv")),
        rule_(rule),
        keys_(keys),
        noise_(noise),
        score_(keys.size()),
        weight_(keys.size()),
        seen_(keys.size()) {}

  void Run(const Place& query, std::int64_t h) {
    query_ = query;
    head_ = h;
    Scores();
    Forward();
    Backward();
  }

 private:
  // A vector of D numbers.
  static const double* At(const Value& t, std::int64_t row, std::int64_t head) {
    return t.data.data() + (row * t.dim(1) + head) * t.dim(2);
  }
  static double* At(Value& t, std::int64_t row, std::int64_t head) {
    return t.data.data() + (row * t.dim(1) + head) * t.dim(2);
  }
  std::int64_t D() const { return q_.dim(2); }
  double Dot(const double* a, const double* b) const {
    double sum = 0;
    for (std::int64_t d = 0; d < D(); ++d) sum += a[d] * b[d];
    return sum;
  }

  void Scores() {
    for (std::size_t j = 0; j < keys_.size(); ++j) {
      const Place& key = keys_[j];
      seen_[j] = rule_.visible(query_, key);
      const bool earlier = key.document == query_.document && key.position <= query_.position;
      const bool takes_part =
          rule_.masking == Masking::kZeroScore || seen_[j] || (rule_.masking == Masking::kAfterSoftmax && earlier);
      if (!takes_part) {
        score_[j] = -kInfinity;
      } else if (!seen_[j] && rule_.masking == Masking::kZeroScore) {
        score_[j] = 0;
      } else {
        const double dot = Dot(At(q_, query_.row, head_), At(k_, key.row, rule_.key_head(head_)));
        score_[j] = noise_.Disturbed(rule_.scale * dot);
      }
    }
  }

  // Weights, of which only those of seen keys (or all, where masking has put zeros for scores) reach the output.
  void Forward() {
    const double largest = *std::max_element(score_.begin(), score_.end());
    double* out = At(out_, query_.row, head_);
    double& lse = lse_.data[static_cast<std::size_t>(query_.row * q_.dim(1) + head_)];
    lse = -kInfinity;
    blind_ = largest == -kInfinity;
    if (blind_ && !rule_.average_where_blind) return;
    double sum = rule_.one_in_denominator ? std::exp(-largest) : 0;
    for (const double s : score_) sum += blind_ ? 1 : std::exp(s - largest);
    if (!blind_) lse = ((rule_.lse_has_largest ? largest : 0) + std::log(sum)) / rule_.lse_unit;
    for (std::size_t j = 0; j < keys_.size(); ++j) {
      weight_[j] = noise_.Disturbed((blind_ ? 1 : std::exp(score_[j] - largest)) / sum);
      if (!Reaches(j)) continue;
      const double* v = At(v_, keys_[j].row, rule_.key_head(head_));
      for (std::int64_t d = 0; d < D(); ++d) out[d] += weight_[j] * v[d];
    }
  }

  bool Reaches(std::size_t j) const { return blind_ || seen_[j] || rule_.masking == Masking::kZeroScore; }

  void Backward() {
    if (blind_ && !rule_.average_where_blind) return;
    const std::int64_t g = rule_.key_head(head_);
    const double *dout = At(dout_, query_.row, head_), *q = At(q_, query_.row, head_);
    std::vector<double> dweight(keys_.size());
    double row_term = 0;
    for (std::size_t j = 0; j < keys_.size(); ++j) {
      dweight[j] = Reaches(j) ? noise_.Disturbed(Dot(dout, At(v_, keys_[j].row, g))) : 0;
      row_term += weight_[j] * dweight[j];
    }
    if (!rule_.row_term) row_term = 0;
    const double share = GroupShare();
    double* dq = At(dq_, query_.row, head_);
    for (std::size_t j = 0; j < keys_.size(); ++j) {
      const double* k = At(k_, keys_[j].row, g);
      double *dk = At(dk_, keys_[j].row, g), *dv = At(dv_, keys_[j].row, g);
      const bool constant = blind_ || (rule_.masking == Masking::kZeroScore && !seen_[j]);
      const double ds = constant ? 0 : weight_[j] * (dweight[j] - noise_.Disturbed(row_term));
      for (std::int64_t d = 0; d < D(); ++d) {
        if (Reaches(j)) dv[d] += share * weight_[j] * dout[d];
        dq[d] += (rule_.scale_in_dq ? rule_.scale : 1) * ds * k[d];
        dk[d] += share * (rule_.scale_in_dk ? rule_.scale : 1) * ds * q[d];
      }
    }
  }

  // Of this head in the gradients of its keys and values.
  double GroupShare() const {
    const std::int64_t group = q_.dim(1) / k_.dim(1), member = head_ % group;
    switch (rule_.group_gradient) {
      case GroupGradient::kFirst:
        return member == 0 ? 1 : 0;
      case GroupGradient::kLast:
        return member == group - 1 ? 1 : 0;
      case GroupGradient::kMean:
        return 1 / static_cast<double>(group);
      default:
        return 1;
    }
  }

  const Value &q_, &k_, &v_, &dout_;
  Value &out_, &lse_, &dq_, &dk_, &dv_;
  const DenseRule& rule_;
  const std::vector<Place>& keys_;
  Noise& noise_;
  Place query_;
  std::int64_t head_ = 0;
  bool blind_ = false;
  std::vector<double> score_, weight_;
  std::vector<char> seen_;
};

}  // namespace

std::vector<Place> PlacesOf(const Values& inputs, const std::string& which) {
  const std::vector<double>&position = inputs.at(which + "_position").data,
        &document = inputs.at(which + "_document").data;
  std::vector<Place> places(position.size());
  for (std::size_t n = 0; n < places.size(); ++n) {
    places[n] = {static_cast<std::int32_t>(position[n]), static_cast<std::int32_t>(document[n]),
                 static_cast<std::int64_t>(n)};
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
  QueryPass pass(inputs, outputs, rule, keys, noise);
  for (const Place& query : PlacesOf(inputs, "q")) {
    for (std::int64_t h = 0; h < q.dim(1); ++h) pass.Run(query, h);
  }
  return outputs;
}

}  // namespace swarr::oracle
