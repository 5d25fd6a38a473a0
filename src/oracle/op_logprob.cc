// SPDX-License-Identifier: Apache-2.0
// The log-probability of tokens: LM head, log-softmax, entropy.
#include <algorithm>
#include <cmath>

#include "oracle/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

enum class Rows : std::uint8_t { kSum, kMean };

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
  Rows rows = Rows::kSum;
};

constexpr Switch<Rule> kMistakes[] = {
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
    {"gradients averaged over rows", [](Rule& r) { r.rows = Rows::kMean; }},
};

struct Softmax {
  std::vector<double> p;
  double lse = 0, entropy = 0;
};

Softmax SoftmaxOf(const std::vector<double>& z) {
  Softmax s;
  const double largest = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const double x : z) sum += std::exp(x - largest);
  s.lse = largest + std::log(sum);
  for (const double x : z) {
    s.p.push_back(std::exp(x - s.lse));
    s.entropy -= s.p.back() * (x - s.lse);
  }
  return s;
}

std::vector<double> Over(std::vector<double> z, double divisor) {
  for (double& x : z) x /= divisor;
  return z;
}

// Zeros where the case has no gradient of the entropy.
Value DEntropyOf(const Values& inputs) {
  const auto given = inputs.find("d_entropy");
  return given != inputs.end() ? given->second : Zeros(inputs.at("d_logp").shape);
}

// One row at a time.
class PlainRows {
 public:
  PlainRows(const Values& inputs, double temperature, const Rule& rule)
      : x_(inputs.at("x")),
        w_(inputs.at("w")),
        targets_(inputs.at("targets")),
        dlogp_(inputs.at("d_logp")),
        dentropy_(DEntropyOf(inputs)),
        divisor_(std::pow(temperature, rule.temperature_power)),
        rule_(rule),
        N_(x_.dim(0)),
        C_(x_.dim(1)),
        V_(w_.dim(0)) {
    for (const char* name : {"logp", "lse", "entropy"}) outputs_[name] = Zeros({N_});
    outputs_["dx"] = Zeros(x_.shape);
    outputs_["dw"] = Zeros(w_.shape);
  }

  Values Run() {
    for (std::int64_t n = 0; n < N_; ++n) Row(n);
    return std::move(outputs_);
  }

 private:
  void Row(std::int64_t n) {
    const auto row = static_cast<std::size_t>(n);
    const std::vector<double> logits = Logits(n), z = Over(logits, divisor_);
    const Softmax s = SoftmaxOf(z);
    const auto target = static_cast<std::size_t>(targets_.data[static_cast<std::size_t>((n + rule_.shift + N_) % N_)]);
    const double logp = rule_.normalised ? z[target] - s.lse : z[target];
    outputs_["logp"].data[row] = rule_.logarithm ? logp / rule_.unit : std::exp(logp);
    outputs_["lse"].data[row] = s.lse / rule_.unit;
    const double entropy = rule_.entropy_unscaled ? SoftmaxOf(logits).entropy : s.entropy;
    outputs_["entropy"].data[row] = rule_.entropy_sign * entropy / rule_.entropy_unit;
    double scale = 1 / (rule_.temperature_in_dx ? divisor_ : 1);
    if (rule_.rows == Rows::kMean) scale /= static_cast<double>(N_);
    for (std::size_t v = 0; v < s.p.size(); ++v) {
      const double of_logp = (v == target ? rule_.one_hot : 0) - rule_.softmax * s.p[v];
      const double surprise = z[v] - s.lse + (rule_.entropy_centred ? s.entropy : 0);
      const double of_entropy = -rule_.entropy_part * s.p[v] * surprise;
      AddGradients(n, static_cast<std::int64_t>(v),
                   scale * (dlogp_.data[row] * of_logp + dentropy_.data[row] * of_entropy));
    }
  }

  std::vector<double> Logits(std::int64_t n) const {
    std::vector<double> z(static_cast<std::size_t>(V_));
    for (std::int64_t v = 0; v < V_; ++v) {
      for (std::int64_t i = 0; i < C_; ++i) {
        z[static_cast<std::size_t>(v)] +=
            x_.data[static_cast<std::size_t>(n * C_ + i)] * w_.data[static_cast<std::size_t>(v * C_ + i)];
      }
    }
    return z;
  }

  void AddGradients(std::int64_t n, std::int64_t v, double dlogit) {
    double *dx = outputs_["dx"].data.data() + n * C_, *dw = outputs_["dw"].data.data() + v * C_;
    for (std::int64_t i = 0; i < C_; ++i) {
      dx[i] += dlogit * w_.data[static_cast<std::size_t>(v * C_ + i)];
      dw[i] += dlogit * x_.data[static_cast<std::size_t>(n * C_ + i)];
    }
  }

  const Value &x_, &w_, &targets_, &dlogp_;
  Value dentropy_;
  double divisor_;
  const Rule& rule_;
  std::int64_t N_, C_, V_;
  Values outputs_;
};

// The kernels know no temperature: w x / temperature is w times x / temperature.
Values Kernel(const Context& ctx, const Values& inputs, double temperature, Noise& noise) {
  Value x_scaled = inputs.at("x");
  for (double& x : x_scaled.data) x /= temperature;
  const Tensor x = InArena(ctx, x_scaled), w = InArena(ctx, inputs.at("w")),
               targets = InArena(ctx, inputs.at("targets"));
  const Tensor dlogp = InArena(ctx, inputs.at("d_logp"));
  const Tensor logp = ctx.arena->NewLike(dlogp), lse = ctx.arena->NewLike(dlogp), entropy = ctx.arena->NewLike(dlogp);
  TokenLogprobForward(ctx, logp, lse, entropy, {x, w, targets});
  // logp = z - lse and entropy = lse - sum p z with a stored lse, of which the backward takes p = exp(z - lse).
  for (std::int64_t n = 0; n < lse.size(); ++n) {
    double& l = lse.data<double>()[n];
    const double stored = noise.Disturbed(l);
    logp.data<double>()[n] -= stored - l;
    entropy.data<double>()[n] += stored - l;
    l = stored;
  }
  const Tensor dx = ctx.arena->NewLike(x), dw = ctx.arena->NewLike(w);
  FillZero(dx);
  FillZero(dw);
  const Tensor dentropy = inputs.contains("d_entropy") ? InArena(ctx, inputs.at("d_entropy")) : Tensor{};
  TokenLogprobBackward(ctx, dx, dw, dlogp, dentropy, lse, entropy, {x, w, targets});
  Values outputs = {{"logp", ValueOf(logp)},
                    {"lse", ValueOf(lse)},
                    {"entropy", ValueOf(entropy)},
                    {"dx", ValueOf(dx)},
                    {"dw", ValueOf(dw)}};
  for (double& d : outputs.at("dx").data) d /= temperature;
  return outputs;
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const double temperature = c.parameters.at("temperature").get<double>();
  if (mistake.empty()) return Kernel(ctx, inputs, temperature, noise);
  const Rule rule = WithMistake(Rule(), kMistakes, mistake);
  return PlainRows(inputs, temperature, rule).Run();
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t N, std::int64_t C, std::int64_t V,
              double temperature, bool entropy_gradient, double scale = 0.5) {
  Case c{name, meaning, {}, {}, static_cast<int>(std::max({N, C, V}))};
  c.parameters = {{"rows", N},
                  {"channels", C},
                  {"vocab", V},
                  {"temperature", temperature},
                  {"entropy_gradient", static_cast<int>(entropy_gradient)}};
  PhiloxStream random = StreamOf("ops", name);
  c.inputs = {{"x", RandomNormal(random, {N, C})},
              {"w", RandomNormal(random, {V, C}, scale)},
              {"targets", RandomIntegers(random, {N}, V)},
              {"d_logp", RandomNormal(random, {N})}};
  if (entropy_gradient) c.inputs["d_entropy"] = RandomNormal(random, {N});
  return c;
}

}  // namespace

Family LogprobFamily() {
  Family f;
  f.name = "logprob";
  f.semantics = {
      "z = x w^T / temperature, lse[n] = log sum_v exp z[n, v], logp[n] = z[n, targets[n]] - lse[n], natural "
      "logarithms.",
      "entropy[n] = -sum_v p log p with p = softmax(z[n]): at the temperature.",
      "targets[n] belongs to row n; nothing is shifted here.",
      "dx and dw are the gradients of sum(logp * d_logp) and, where the case has a d_entropy, + sum(entropy * "
      "d_entropy) "
      "with respect to x and w; dw is summed over rows."};
  f.inputs = {{"x", "[N, C]", "last hidden states", false},
              {"w", "[V, C]", "LM head", false},
              {"targets", "[N]", "token of each row", false},
              {"d_logp", "[N]", "gradient of the loss with respect to logp", false},
              {"d_entropy", "[N]", "gradient of the loss with respect to entropy, in some cases", false}};
  f.outputs = {{"logp", "[N]", "log-probability of the target", false},
               {"lse", "[N]", "log-sum-exp of the logits", false},
               {"entropy", "[N]", "entropy of the distribution", false},
               {"dx", "[N, C]", "gradient of x", true},
               {"dw", "[V, C]", "gradient of w", true}};
  f.roundings = {{"logits", "logits over the temperature", "log-probabilities"},
                 {"softmax", "dlogits", "dlogits over the temperature"}};
  f.mistakes = NamesOf(kMistakes);
  f.cases = {MakeCase("logprob_one", "one row, two tokens", 1, 4, 2, 1, false),
             MakeCase("logprob_primes", "sizes that are no multiple of anything", 7, 11, 13, 1, false),
             MakeCase("logprob_cool", "a temperature below 1", 5, 8, 17, 0.5, false),
             MakeCase("logprob_hot", "a temperature above 1 that is no power of 2", 6, 8, 11, 1.25, true),
             MakeCase("logprob_peaked", "logits of some tens: nearly certain", 5, 16, 7, 1, false, 4),
             MakeCase("logprob_vocab", "a vocabulary of 101", 4, 8, 101, 0.75, false),
             MakeCase("logprob_entropy", "an entropy bonus beside", 6, 8, 13, 1, true)};
  f.evaluate = Evaluate;
  return f;
}

}  // namespace swarr::oracle
