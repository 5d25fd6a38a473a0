// SPDX-License-Identifier: Apache-2.0
// The log-probability of tokens: LM head, log-softmax, entropy.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/suites/op_families.h"
#include "plain/ops.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace logprob_op {

struct Rule {
  double temperature_power = 1;  // logits are divided by temperature to this power
  bool temperature_in_dx = true;
  int shift = 0;  // whose target a row takes
  double unit = 1, entropy_unit = 1;
  double entropy_sign = 1;
  bool entropy_unscaled = false;  // at temperature 1
  bool normalised = true, logarithm = true;
  double one_hot = 1, softmax = 1;  // parts of dlogits
  double entropy_part = 1;          // likewise
  bool entropy_centred = true;      // -p (log p + H), not -p log p
  bool mean_over_rows = false;
};

constexpr Mistake<Rule> kMistakes[] = {
    {"the temperature missing", [](Rule& r) { r.temperature_power = 0; }},
    {"the temperature applied twice", [](Rule& r) { r.temperature_power = 2; }},
    {"logits multiplied by the temperature", [](Rule& r) { r.temperature_power = -1; }},
    {"the temperature missing in the gradients", [](Rule& r) { r.temperature_in_dx = false; }},
    {"the target of the next row (shifted by one)", [](Rule& r) { r.shift = 1; }},
    {"the target of the row before (shifted by one)", [](Rule& r) { r.shift = -1; }},
    {"logarithms to base 2", [](Rule& r) { r.unit = r.entropy_unit = std::log(2.0); }},
    {"the entropy to base 2", [](Rule& r) { r.entropy_unit = std::log(2.0); }},
    {"the entropy's sign", [](Rule& r) { r.entropy_sign = -1; }},
    {"the entropy at temperature 1", [](Rule& r) { r.entropy_unscaled = true; }},
    {"the target's logit, without log-sum-exp", [](Rule& r) { r.normalised = false; }},
    {"the probability instead of its logarithm", [](Rule& r) { r.logarithm = false; }},
    {"dlogits without the target's 1", [](Rule& r) { r.one_hot = 0; }},
    {"dlogits without the softmax", [](Rule& r) { r.softmax = 0; }},
    {"gradients of the opposite sign", [](Rule& r) { r.one_hot = r.softmax = r.entropy_part = -1; }},
    {"the entropy without a gradient", [](Rule& r) { r.entropy_part = 0; }},
    {"the entropy's gradient with the sign turned", [](Rule& r) { r.entropy_part = -1; }},
    {"the entropy's gradient without its mean: -p log p for -p (log p + H)",
     [](Rule& r) { r.entropy_centred = false; }},
    {"gradients averaged over rows", [](Rule& r) { r.mean_over_rows = true; }},
};

// Writes the values of row n, and returns the derivatives of sum(logp d_logp) + sum(entropy d_entropy) by its logits
// before the temperature.
std::vector<double> Row(const Values& inputs, std::int64_t n, const Rule& rule, double divisor, Values& outputs) {
  const Value &x = inputs.at("x"), &w = inputs.at("w"), &targets = inputs.at("targets");
  std::vector<double> logits, z;
  for (std::int64_t v = 0; v < w.dim(0); ++v) {
    logits.push_back(std::inner_product(x.Row(n).begin(), x.Row(n).end(), w.Row(v).begin(), 0.0));
    z.push_back(logits.back() / divisor);
  }
  const plain::Softmax s(z), entropy_of(rule.entropy_unscaled ? logits : z);
  const auto N = x.dim(0), target = static_cast<std::int64_t>(targets((n + rule.shift + N) % N));
  const double logp = z[static_cast<std::size_t>(target)] - (rule.normalised ? s.lse : 0);
  outputs.at("logp")(n) = rule.logarithm ? logp / rule.unit : std::exp(logp);
  outputs.at("lse")(n) = s.lse / rule.unit;
  outputs.at("entropy")(n) = rule.entropy_sign * entropy_of.entropy / rule.entropy_unit;
  const double dlogp = inputs.at("d_logp")(n), dentropy = inputs.contains("d_entropy") ? inputs.at("d_entropy")(n) : 0;
  const double scale = (rule.mean_over_rows ? 1 / static_cast<double>(N) : 1) / (rule.temperature_in_dx ? divisor : 1);
  std::vector<double> dlogits;
  for (int v = 0; v < s.V(); ++v) {
    const double of_logp = (v == target ? rule.one_hot : 0) - rule.softmax * s.P(v);
    const double of_entropy = -rule.entropy_part * s.P(v) * (s.LogP(v) + (rule.entropy_centred ? s.entropy : 0));
    dlogits.push_back(scale * (dlogp * of_logp + dentropy * of_entropy));
  }
  return dlogits;
}

Values Plain(const Values& inputs, double temperature, const Rule& rule) {
  const Value &x = inputs.at("x"), &w = inputs.at("w");
  const Value rows = Zeros({x.dim(0)});
  Values outputs = {{"logp", rows}, {"lse", rows}, {"entropy", rows}, {"dx", Zeros(x.shape)}, {"dw", Zeros(w.shape)}};
  Value &dx = outputs.at("dx"), &dw = outputs.at("dw");
  const double divisor = std::pow(temperature, rule.temperature_power);
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    const std::vector<double> dlogits = Row(inputs, n, rule, divisor, outputs);
    for (std::int64_t v = 0; v < w.dim(0); ++v) {
      for (std::int64_t i = 0; i < x.dim(1); ++i) {
        dx(n, i) += dlogits[static_cast<std::size_t>(v)] * w(v, i);
        dw(v, i) += dlogits[static_cast<std::size_t>(v)] * x(n, i);
      }
    }
  }
  return outputs;
}

// The kernels know no temperature: w x / temperature is w times x / temperature.
Values Kernel(const Context& ctx, const Values& inputs, double temperature, Noise& noise) {
  Value x_scaled = inputs.at("x");
  for (double& x : x_scaled.data) x /= temperature;
  const TensorsOf in{ctx, inputs};
  const Tensor x = InArena(ctx, x_scaled), w = in("w"), targets = in("targets"), dlogp = in("d_logp");
  const Tensor logp = ZerosLike(ctx, dlogp), lse = ZerosLike(ctx, dlogp), entropy = ZerosLike(ctx, dlogp);
  TokenLogprobForward(ctx, logp, lse, entropy, {x, w, targets});
  // logp = z - lse and entropy = lse - sum p z with a stored lse, of which the backward takes p = exp(z - lse).
  for (std::int64_t n = 0; n < lse.size(); ++n) {
    double& l = lse.data<double>()[n];
    const double stored = noise.Disturbed(l);
    logp.data<double>()[n] -= stored - l;
    entropy.data<double>()[n] += stored - l;
    l = stored;
  }
  const Tensor dx = ZerosLike(ctx, x), dw = ZerosLike(ctx, w);
  TokenLogprobBackward(ctx, dx, dw, dlogp, in("d_entropy"), lse, entropy, {x, w, targets});
  Value dx_scaled = ValueOf(dx);
  for (double& d : dx_scaled.data) d /= temperature;
  return {{"logp", ValueOf(logp)},
          {"lse", ValueOf(lse)},
          {"entropy", ValueOf(entropy)},
          {"dx", dx_scaled},
          {"dw", ValueOf(dw)}};
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const double temperature = c.Number("temperature");
  if (mistake.empty()) return Kernel(ctx, inputs, temperature, noise);
  return Plain(inputs, temperature, WithMistake(Rule(), kMistakes, mistake));
}

struct Setting {
  const char* name;
  const char* meaning;
  std::int64_t N, C, V;
  double temperature = 1;
  bool entropy_gradient = false;
  double scale = 0.5;  // of weights
};

const Setting kSettings[] = {
    {"logprob_one", "one row, two tokens", 1, 4, 2},
    {"logprob_primes", "sizes that are no multiple of anything", 7, 11, 13},
    {"logprob_cool", "a temperature below 1", 5, 8, 17, 0.5},
    {"logprob_hot", "a temperature above 1 that is no power of 2", 6, 8, 11, 1.25, true},
    {"logprob_peaked", "logits of some tens: nearly certain", 5, 16, 7, 1, false, 4},
    {"logprob_vocab", "a vocabulary of 101", 4, 8, 101, 0.75},
    {"logprob_entropy", "an entropy bonus beside", 6, 8, 13, 1, true},
};

Case MakeCase(const Setting& s) {
  PhiloxStream random = StreamOf("ops", s.name);
  Case c{s.name,
         s.meaning,
         {{"rows", s.N},
          {"channels", s.C},
          {"vocab", s.V},
          {"temperature", s.temperature},
          {"entropy_gradient", static_cast<int>(s.entropy_gradient)}},
         {{"x", RandomNormal(random, {s.N, s.C})},
          {"w", RandomNormal(random, {s.V, s.C}, s.scale)},
          {"targets", RandomIntegers(random, {s.N}, s.V)},
          {"d_logp", RandomNormal(random, {s.N})}},
         std::max({s.N, s.C, s.V})};
  if (s.entropy_gradient) c.inputs["d_entropy"] = RandomNormal(random, {s.N});
  return c;
}

}  // namespace logprob_op

Family LogprobFamily() {
  using namespace logprob_op;
  return {.name = "logprob",
          .semantics = {"z = x w^T / temperature, lse[n] = log sum_v exp z[n, v], logp[n] = z[n, targets[n]] - lse[n], "
                        "natural logarithms.",
                        "entropy[n] = -sum_v p log p with p = softmax(z[n]): at the temperature.",
                        "targets[n] belongs to row n; nothing is shifted here.",
                        "dx and dw are the gradients of sum(logp * d_logp) and, where the case has a d_entropy, + "
                        "sum(entropy * d_entropy) with respect to x and w; dw is summed over rows."},
          .inputs = {{"x", "[N, C]", "last hidden states"},
                     {"w", "[V, C]", "LM head"},
                     {"targets", "[N]", "token of each row"},
                     {"d_logp", "[N]", "gradient of the loss with respect to logp"},
                     {"d_entropy", "[N]", "gradient of the loss with respect to entropy, in some cases"}},
          .outputs = {{"logp", "[N]", "log-probability of the target", false, true},
                      {"lse", "[N]", "log-sum-exp of the logits", false, true},
                      {"entropy", "[N]", "entropy of the distribution", false, true},
                      {"dx", "[N, C]", "gradient of x", true},
                      {"dw", "[V, C]", "gradient of w", true}},
          .roundings = {{"logits", "logits over the temperature", "log-probabilities"},
                        {"softmax", "dlogits", "dlogits over the temperature"}},
          .mistakes = NamesOf(kMistakes),
          .cases = CasesOf(kSettings, MakeCase),
          .evaluate = Evaluate};
}

}  // namespace swarr::oracle
