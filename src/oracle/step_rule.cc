// SPDX-License-Identifier: Apache-2.0
#include "oracle/step_rule.h"

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
  double w, m, v;
};

double Update(const StepRule& rule, double m, double v, Noise& noise) {
  const auto t = static_cast<double>(rule.t);
  const double correct_m = rule.corrects_m ? 1 - std::pow(rule.adamw.beta1, t) : 1;
  const double correct_v = rule.corrects_v ? 1 - std::pow(rule.adamw.beta2, t) : 1;
  const double second = noise.Disturbed(v / correct_v);
  double root = 0;
  switch (rule.eps_place) {
    case EpsPlace::kInRoot:
      root = std::sqrt(second + rule.adamw.eps);
      break;
    case EpsPlace::kBeforeCorrection:
      root = (std::sqrt(v) + rule.adamw.eps) / std::sqrt(correct_v);
      break;
    default:
      root = std::sqrt(second) + rule.adamw.eps;
  }
  return rule.sign * rule.lr * noise.Disturbed(m / correct_m) / root;
}

Element Stepped(const StepRule& rule, const Element& old, double gradient, double decay, Noise& noise) {
  const AdamWOptions& o = rule.adamw;
  if (rule.decaying == Decaying::kInGradient) gradient += decay * old.w;
  const double m = o.beta1 * old.m + (rule.m_complements ? 1 - o.beta1 : 1) * gradient;
  const double v = o.beta2 * old.v + (1 - o.beta2) * gradient * gradient;
  double w = old.w - Update(rule, rule.steps_by_old_m ? old.m : m, v, noise);
  if (rule.decaying == Decaying::kDecoupled) w -= rule.lr * decay * old.w;
  if (rule.decaying == Decaying::kWithoutRate) w -= decay * old.w;
  if (rule.decaying == Decaying::kAfterStep) w -= rule.lr * decay * w;
  return {w, m, v};
}

}  // namespace

StepRule RuleOf(const nlohmann::ordered_json& parameters) {
  const auto number = [&](const char* name) { return parameters.at(name).get<double>(); };
  StepRule rule;
  rule.adamw = {number("beta1"), number("beta2"), number("eps"), number("weight_decay")};
  rule.lr = number("lr");
  rule.max_grad_norm = number("max_grad_norm");
  rule.t = parameters.at("t").get<std::int64_t>();
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
    for (std::size_t i = 0; i < w.data.size(); ++i) {
      double gradient = g.data[i];
      if (rule.clipping == Clipping::kElements && rule.max_grad_norm > 0) {
        gradient = std::clamp(gradient, -rule.max_grad_norm, rule.max_grad_norm);
      }
      const Element to =
          Stepped(rule, {w.data[i], m.data[i], v.data[i]}, noise.Disturbed(gradient * factor), decay, noise);
      w.data[i] = to.w;
      m.data[i] = to.m;
      v.data[i] = to.v;
    }
    outputs.erase("g." + name);
  }
  const bool clips = rule.reports_clipped_norm && rule.max_grad_norm > 0;
  outputs["grad_norm"] = {{1}, {clips ? std::min(norm, rule.max_grad_norm) : norm}, false};
  return outputs;
}

}  // namespace swarr::oracle
