// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/step_rule.h"

#include <algorithm>
#include <cmath>

namespace swarr::oracle {
namespace {

double Norm(const Value& value) {
  double sum = 0;
  for (const double x : value.data) sum += x * x;
  return std::sqrt(sum);
}

bool IsMatrix(const Value& value) { return value.shape.size() >= 2; }

double NormOfGradients(const Values& inputs, const StepRule& rule) {
  double squares = 0, sum = 0;
  for (const std::string& name : TensorNames(inputs)) {
    const Value& gradient = inputs.at("g." + name);
    if (rule.norm_of == NormOf::kMatrices && !IsMatrix(gradient)) continue;
    squares += Norm(gradient) * Norm(gradient);
    sum += Norm(gradient);
  }
  return rule.norm_of == NormOf::kSumOfNorms ? sum : std::sqrt(squares);
}

// The factor of a tensor's gradients.
double ClipFactor(const Value& gradient, const StepRule& rule, double global_norm) {
  if (rule.max_grad_norm == 0 || rule.clipping == Clipping::kNone || rule.clipping == Clipping::kElements) return 1;
  const double norm = (rule.clipping == Clipping::kEach ? Norm(gradient) : global_norm) + rule.added_to_norm;
  const double factor = rule.max_grad_norm / norm;
  return rule.clipping == Clipping::kUpToo ? factor : std::min(1.0, factor);
}

// One element.
struct Element {
  double &w, &m, &v;
};

double Root(const StepRule& rule, double v, double correct_v, Noise& noise) {
  const double second = noise.Disturbed(v / correct_v);
  switch (rule.eps_place) {
    case EpsPlace::kOutside:
      return std::sqrt(second) + rule.adamw.eps;
    case EpsPlace::kInRoot:
      return std::sqrt(second + rule.adamw.eps);
    case EpsPlace::kBeforeCorrection:
      return (std::sqrt(v) + rule.adamw.eps) / std::sqrt(correct_v);
  }
  throw Error("unreachable");
}

double Update(const StepRule& rule, double m, double v, Noise& noise) {
  const auto t = static_cast<double>(rule.t);
  const double correct_m = rule.corrects_m ? 1 - std::pow(rule.adamw.beta1, t) : 1;
  const double correct_v = rule.corrects_v ? 1 - std::pow(rule.adamw.beta2, t) : 1;
  const double root = Root(rule, v, correct_v, noise);
  return rule.sign * rule.lr * noise.Disturbed(m / correct_m) / root;
}

void Step(const Element& e, const StepRule& rule, double gradient, double decay, Noise& noise) {
  const AdamWOptions& o = rule.adamw;
  const double w = e.w, m = e.m;  // before the step
  if (rule.decaying == Decaying::kInGradient) gradient += decay * w;
  e.m = o.beta1 * e.m + (rule.m_complements ? 1 - o.beta1 : 1) * gradient;
  e.v = o.beta2 * e.v + (1 - o.beta2) * gradient * gradient;
  e.w -= Update(rule, rule.steps_by_old_m ? m : e.m, e.v, noise);
  if (rule.decaying == Decaying::kDecoupled) e.w -= rule.lr * decay * w;
  if (rule.decaying == Decaying::kWithoutRate) e.w -= decay * w;
  if (rule.decaying == Decaying::kAfterStep) e.w -= rule.lr * decay * e.w;
}

}  // namespace

StepRule RuleOf(const Case& c) {
  StepRule rule;
  rule.adamw = {c.Number("beta1"), c.Number("beta2"), c.Number("eps"), c.Number("weight_decay")};
  rule.lr = c.Number("lr");
  rule.max_grad_norm = c.Number("max_grad_norm");
  rule.t = c.Integer("t");
  return rule;
}

std::vector<std::string> TensorNames(const Values& inputs) {
  std::vector<std::string> names;
  for (const auto& item : inputs) {
    if (item.first.starts_with("w.")) names.push_back(item.first.substr(2));
  }
  return names;
}

Values PlainStep(const Values& inputs, const StepRule& rule, Noise& noise) {
  const double norm = noise.Disturbed(NormOfGradients(inputs, rule));
  Values outputs = inputs;
  for (const std::string& name : TensorNames(inputs)) {
    Value &w = outputs.at("w." + name), &m = outputs.at("m." + name), &v = outputs.at("v." + name);
    const Value& g = inputs.at("g." + name);
    const double decay = rule.vectors_decay || IsMatrix(w) ? rule.adamw.weight_decay : 0;
    const double factor = ClipFactor(g, rule, norm);
    const double most = rule.clipping == Clipping::kElements && rule.max_grad_norm > 0 ? rule.max_grad_norm : HUGE_VAL;
    for (std::size_t i = 0; i < w.data.size(); ++i) {
      const double gradient = noise.Disturbed(std::clamp(g.data[i], -most, most) * factor);
      Step({w.data[i], m.data[i], v.data[i]}, rule, gradient, decay, noise);
    }
    outputs.erase("g." + name);
  }
  const bool clips = rule.reports_clipped_norm && rule.max_grad_norm > 0;
  outputs["grad_norm"] = Scalar(clips ? std::min(norm, rule.max_grad_norm) : norm);
  return outputs;
}

}  // namespace swarr::oracle
