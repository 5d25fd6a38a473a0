// SPDX-License-Identifier: Apache-2.0
// The suite `step`: gradients to new weights through clipping and AdamW, and the learning rate of each step.
#include <algorithm>
#include <cmath>
#include <utility>

#include "oracle/suite.h"
#include "tensor/ops.h"
#include "train/optimizer.h"

namespace swarr::oracle {
namespace step_suite {

// --- one step ---

// One step of AdamW in plain loops, with a switch for everything that an implementation may get wrong. By default the
// switches are right: then it computes what tensor/ops.h and train/optimizer.h define, and a test holds it to that.
enum class Clipping : std::uint8_t {
  kGlobal,    // right: by the norm of all gradients, down only
  kNone,      // gradients as they are
  kUpToo,     // to the largest norm also where the norm is smaller
  kEach,      // every tensor by a norm of its own
  kElements,  // every element into [-max_grad_norm, max_grad_norm]
};
enum class NormOf : std::uint8_t { kAll, kMatrices, kSumOfNorms };
enum class Decaying : std::uint8_t {
  kDecoupled,    // right: w -= lr weight_decay w, w before the step
  kInGradient,   // weight_decay w added to the clipped gradient (L2)
  kWithoutRate,  // w -= weight_decay w
  kAfterStep,    // w the new weight
};

struct StepRule {
  AdamWOptions adamw;
  double lr = 0, max_grad_norm = 0;  // max_grad_norm 0: no clipping
  std::int64_t t = 1;
  Clipping clipping = Clipping::kGlobal;
  NormOf norm_of = NormOf::kAll;
  double added_to_norm = 0;
  bool reports_clipped_norm = false;
  bool vectors_decay = false;
  Decaying decaying = Decaying::kDecoupled;
  // What m is divided by, from v, its correction 1 - b2^t and `second`, v over the correction.
  double (*root)(double second, double v, double correction,
                 double eps) = [](double second, double, double, double eps) { return std::sqrt(second) + eps; };
  bool corrects_m = true, corrects_v = true;
  bool m_complements = true;  // the gradient enters m times 1 - b1, not 1
  bool steps_by_old_m = false;
  double sign = 1;  // -1: uphill
};

StepRule RuleOf(const Case& c) {
  return {.adamw = {c.Number("beta1"), c.Number("beta2"), c.Number("eps"), c.Number("weight_decay")},
          .lr = c.Number("lr"),
          .max_grad_norm = c.Number("max_grad_norm"),
          .t = c.Integer("t")};
}

// The tensors' names: <name> of each input "w.<name>".
std::vector<std::string> TensorNames(const Values& inputs) {
  std::vector<std::string> names;
  for (const auto& item : inputs) {
    if (item.first.starts_with("w.")) names.push_back(item.first.substr(2));
  }
  return names;
}

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

double Update(const StepRule& rule, double m, double v, Noise& noise) {
  const auto t = static_cast<double>(rule.t);
  const double correct_m = rule.corrects_m ? 1 - std::pow(rule.adamw.beta1, t) : 1;
  const double correct_v = rule.corrects_v ? 1 - std::pow(rule.adamw.beta2, t) : 1;
  const double root = rule.root(noise.Disturbed(v / correct_v), v, correct_v, rule.adamw.eps);
  return rule.sign * rule.lr * noise.Disturbed(m / correct_m) / root;
}

// One element: its weight, its moments.
void Step(double& w, double& m, double& v, const StepRule& rule, double gradient, double decay, Noise& noise) {
  const AdamWOptions& o = rule.adamw;
  const double old_w = w, old_m = m;
  if (rule.decaying == Decaying::kInGradient) gradient += decay * w;
  m = o.beta1 * m + (rule.m_complements ? 1 - o.beta1 : 1) * gradient;
  v = o.beta2 * v + (1 - o.beta2) * gradient * gradient;
  w -= Update(rule, rule.steps_by_old_m ? old_m : m, v, noise);
  if (rule.decaying == Decaying::kDecoupled) w -= rule.lr * decay * old_w;
  if (rule.decaying == Decaying::kWithoutRate) w -= decay * old_w;
  if (rule.decaying == Decaying::kAfterStep) w -= rule.lr * decay * w;
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
      Step(w.data[i], m.data[i], v.data[i], rule, gradient, decay, noise);
    }
    outputs.erase("g." + name);
  }
  const bool clips = rule.reports_clipped_norm && rule.max_grad_norm > 0;
  outputs["grad_norm"] = Scalar(clips ? std::min(norm, rule.max_grad_norm) : norm);
  return outputs;
}

// The truth: the product's kernels under Optimizer's rules of clipping and decay.
Values KernelStep(const Context& ctx, const Values& inputs, const StepRule& rule, Noise& noise) {
  const TensorsOf in{ctx, inputs};
  Value all = Zeros({0});
  for (const std::string& name : TensorNames(inputs)) {
    const Value& g = inputs.at("g." + name);
    all.data.insert(all.data.end(), g.data.begin(), g.data.end());
  }
  all.shape = {all.size()};
  const double norm = noise.Disturbed(GlobalNorm(ctx, InArena(ctx, all)));
  const bool clips = rule.max_grad_norm > 0 && norm > rule.max_grad_norm;
  Values outputs = {{"grad_norm", Scalar(norm)}};
  for (const std::string& name : TensorNames(inputs)) {
    const Tensor w = in("w." + name), m = in("m." + name), v = in("v." + name), g = in("g." + name);
    AdamWOptions adamw = rule.adamw;
    if (w.rank() < 2) adamw.weight_decay = 0;
    AdamWStep(ctx, w, m, v, g, {rule.lr, rule.t, noise.Disturbed(clips ? rule.max_grad_norm / norm : 1), adamw});
    outputs["w." + name] = ValueOf(w);
    outputs["m." + name] = ValueOf(m);
    outputs["v." + name] = ValueOf(v);
  }
  return outputs;
}

constexpr Mistake<StepRule> kStepMistakes[] = {
    {"weight decay of norms and biases too", [](StepRule& r) { r.vectors_decay = true; }},
    {"no weight decay", [](StepRule& r) { r.adamw.weight_decay = 0; }},
    {"weight decay added to the gradient (L2, Adam) instead of decoupled",
     [](StepRule& r) { r.decaying = Decaying::kInGradient; }},
    {"weight decay not multiplied by the learning rate", [](StepRule& r) { r.decaying = Decaying::kWithoutRate; }},
    {"weight decay of the new weight, after the step", [](StepRule& r) { r.decaying = Decaying::kAfterStep; }},
    {"no bias correction", [](StepRule& r) { r.corrects_m = r.corrects_v = false; }},
    {"no bias correction of m", [](StepRule& r) { r.corrects_m = false; }},
    {"no bias correction of v", [](StepRule& r) { r.corrects_v = false; }},
    {"the step counted from 0: bias correction of t - 1", [](StepRule& r) { --r.t; }},
    {"the step counted twice: bias correction of t + 1", [](StepRule& r) { ++r.t; }},
    {"eps inside the root",
     [](StepRule& r) { r.root = [](double second, double, double, double eps) { return std::sqrt(second + eps); }; }},
    {"eps added before the bias correction of v",
     [](StepRule& r) {
       r.root = [](double, double v, double correction, double eps) {
         return (std::sqrt(v) + eps) / std::sqrt(correction);
       };
     }},
    {"eps of 1e-8 whatever eps is given", [](StepRule& r) { r.adamw.eps = 1e-8; }},
    {"beta1 and beta2 swapped", [](StepRule& r) { std::swap(r.adamw.beta1, r.adamw.beta2); }},
    {"the gradient added to m without 1 - beta1", [](StepRule& r) { r.m_complements = false; }},
    {"a step by m before its update", [](StepRule& r) { r.steps_by_old_m = true; }},
    {"a step uphill", [](StepRule& r) { r.sign = -1; }},
    {"no clipping", [](StepRule& r) { r.clipping = Clipping::kNone; }},
    {"gradients scaled up too where their norm is below max_grad_norm",
     [](StepRule& r) { r.clipping = Clipping::kUpToo; }},
    {"every tensor clipped by its own norm", [](StepRule& r) { r.clipping = Clipping::kEach; }},
    {"elements clipped to max_grad_norm, not the norm", [](StepRule& r) { r.clipping = Clipping::kElements; }},
    {"the norm of matrices alone", [](StepRule& r) { r.norm_of = NormOf::kMatrices; }},
    {"the sum of the tensors' norms instead of the root of the sum of squares",
     [](StepRule& r) { r.norm_of = NormOf::kSumOfNorms; }},
    {"1e-6 added to the norm before it divides (torch.nn.utils.clip_grad_norm_)",
     [](StepRule& r) { r.added_to_norm = 1e-6; }},
    {"grad_norm reported after clipping", [](StepRule& r) { r.reports_clipped_norm = true; }},
};

Values EvaluateStep(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  if (mistake.empty()) return KernelStep(ctx, inputs, RuleOf(c), noise);
  return PlainStep(inputs, WithMistake(RuleOf(c), kStepMistakes, mistake), noise);
}

struct StepSetting {  // NOLINT(clang-analyzer-optin.performance.Padding): in the order in which its table is read
  const char* name;
  const char* meaning;
  int t;
  double lr, max_grad_norm;
  AdamWOptions adamw;    // beta1, beta2, eps, weight_decay
  double gradients = 1;  // their size; 0: all are zero
  bool lone = false;     // one element alone has a gradient, of this very size
};

constexpr AdamWOptions kUsual = {0.9, 0.95, 1e-8, 0.5};

const StepSetting kStepSettings[] = {
    {"first_step", "t = 1, moments zero, no clipping", 1, 0.125, 0, kUsual},
    {"second_step", "t = 2, a norm below max_grad_norm", 2, 0.125, 32, {0.9, 0.999, 1e-8, 0.5}},
    {"tenth_step", "t = 10, no clipping", 10, 0.125, 0, {0.9, 0.999, 1e-8, 0.25}},
    {"late_step", "t = 1000: the correction of m is over, that of v is not", 1000, 0.25, 0, {0.9, 0.999, 1e-8, 0.5}},
    {"clipped", "a norm beyond max_grad_norm", 1, 0.125, 1, kUsual},
    {"clipped_later", "a norm beyond max_grad_norm at t = 5", 5, 0.125, 0.5, kUsual},
    {"below_the_clip", "a norm below max_grad_norm at t = 5", 5, 0.125, 16, kUsual},
    {"zero_gradients", "no gradient at t = 1: decay alone moves weights", 1, 0.5, 1, kUsual, 0},
    {"small_gradients", "gradients of the size of eps at t = 1", 1, 0.5, 0, {0.9, 0.95, 0x1p-6, 0.5}, 0x1p-6},
    {"small_gradients_later", "gradients of the size of eps at t = 10", 10, 0.5, 0, {0.9, 0.999, 0x1p-6, 0}, 0x1p-6},
    {"one_tiny_gradient", "one gradient of 2^-20 alone, clipped to half: what is added to the norm would show", 2,
     0.125, 0x1p-21, kUsual, 0x1p-20, true},
    {"strong_decay", "lr weight_decay = 1/2", 3, 0.5, 0, {0.9, 0.95, 1e-8, 1}},
    {"no_decay", "weight_decay = 0", 3, 0.125, 1, {0.9, 0.95, 1e-8, 0}},
    {"no_momentum", "beta1 = 0", 2, 0.125, 1, {0, 0.95, 1e-8, 0.5}},
};

const std::pair<const char*, std::vector<std::int64_t>> kStepTensors[] = {
    {"up", {4, 3}}, {"down", {3, 4}}, {"bias", {4}}, {"norm", {3}}};

Case MakeStepCase(const StepSetting& s) {
  Case c{s.name,
         s.meaning,
         {{"t", s.t},
          {"lr", s.lr},
          {"beta1", s.adamw.beta1},
          {"beta2", s.adamw.beta2},
          {"eps", s.adamw.eps},
          {"weight_decay", s.adamw.weight_decay},
          {"max_grad_norm", s.max_grad_norm}}};
  c.longest_sum = 0;  // the norm's
  PhiloxStream random = StreamOf("step", s.name);
  for (const auto& [name, shape] : kStepTensors) {
    c.inputs[Concat("w.", name)] = RandomNormal(random, shape, 0.25);
    Value& g = c.inputs[Concat("g.", name)] = RandomNormal(random, shape, s.gradients);
    Value& m = c.inputs[Concat("m.", name)] = RandomNormal(random, shape, s.gradients / 2);
    Value& v = c.inputs[Concat("v.", name)] = RandomNormal(random, shape, s.gradients * s.gradients);
    for (double& x : v.data) x = std::abs(x);
    if (s.t == 1 || s.lone) m = v = Zeros(shape);
    if (s.lone) g = Zeros(shape);
    c.longest_sum += g.size();
  }
  if (s.lone) c.inputs.at("g.up").data[5] = s.gradients;
  return c;
}

// "<which>.<tensor>" of all tensors, for each pair of `which` and its meaning.
std::vector<TensorInfo> InfosOf(std::initializer_list<std::pair<const char*, const char*>> kinds) {
  std::vector<TensorInfo> infos;
  for (const auto& [which, meaning] : kinds) {
    for (const auto& [name, shape] : kStepTensors) {
      infos.push_back({Concat(which, ".", name), ShapeString(shape), Concat(meaning, " of ", name)});
    }
  }
  return infos;
}

Family StepFamily() {
  return {.name = "adamw",
          .semantics =
              {"grad_norm is the root of the sum of squares of all gradients of all tensors, before clipping.",
               "Where max_grad_norm > 0 and grad_norm > max_grad_norm, all gradients are multiplied by max_grad_norm / "
               "grad_norm; else they stay. Nothing is added to the norm (torch.nn.utils.clip_grad_norm_ adds 1e-6).",
               "m' = beta1 m + (1 - beta1) g, v' = beta2 v + (1 - beta2) g^2 with the clipped g.",
               "w' = w - lr (m' / (1 - beta1^t) / (sqrt(v' / (1 - beta2^t)) + eps) + weight_decay w), t = 1 at the "
               "first step.",
               "weight_decay is that of matrices; for tensors of rank 1 (biases, norms) it is 0.",
               "f16 can't hold some of the second moments: compute the step in another dtype."},
          .inputs = InfosOf({{"w", "weights"},
                             {"g", "gradients"},
                             {"m", "first moments before the step"},
                             {"v", "second moments before the step"}}),
          .outputs = Joined<TensorInfo>(
              {{"grad_norm", "[1]", "norm of all gradients before clipping"}},
              InfosOf({{"w", "new weights"}, {"m", "new first moments"}, {"v", "new second moments"}})),
          .roundings = {{"clipped gradients", "new moments", "m corrected", "v corrected", "its root",
                         "the root plus eps", "their quotient", "the quotient times lr", "the weight less its decay"},
                        {}},
          .mistakes = NamesOf(kStepMistakes),
          .cases = CasesOf(kStepSettings, MakeStepCase),
          .evaluate = EvaluateStep};
}

// --- the learning rate ---

struct RateRule {
  OptimizerOptions options;
  std::int64_t steps = 0, first_step = 0;
  bool starts_at_0 = false;          // the warm-up
  bool decay_counts_warmup = false;  // as steps of the decay
  std::int64_t decay_shift = 0;      // steps by which it is early
  double floor = 0;                  // of the rate after the warm-up

  void SetDecay(Schedule schedule) {
    if (options.schedule != Schedule::kConstant) options.schedule = schedule;
  }
};

double RateOf(const RateRule& rule, std::int64_t step) {
  OptimizerOptions options = rule.options;
  step += rule.first_step;
  if (step < options.warmup_steps) {
    if (!rule.starts_at_0) return LearningRate(options, step, rule.steps);
    return options.lr * static_cast<double>(step) / static_cast<double>(options.warmup_steps);
  }
  if (rule.decay_counts_warmup) options.warmup_steps = 0;
  return std::max(LearningRate(options, step + rule.decay_shift, rule.steps), rule.floor);
}

constexpr Mistake<RateRule> kRateMistakes[] = {
    {"a warm-up that starts at 0: lr step / warmup_steps", [](RateRule& r) { r.starts_at_0 = true; }},
    {"no warm-up: the decay from the first step on", [](RateRule& r) { r.options.warmup_steps = 0; }},
    {"the decay counted over all steps, those of the warm-up included",
     [](RateRule& r) { r.decay_counts_warmup = true; }},
    {"a decay that is over at the last step, not after it", [](RateRule& r) { --r.steps; }},
    {"a decay one step early: lowered at the first step after the warm-up", [](RateRule& r) { r.decay_shift = 1; }},
    {"steps counted from 1", [](RateRule& r) { r.first_step = 1; }},
    {"a decay to 0, min_lr_ratio ignored", [](RateRule& r) { r.options.min_lr_ratio = 0; }},
    {"min_lr_ratio as a floor of a decay to 0",
     [](RateRule& r) { r.floor = r.options.lr * std::exchange(r.options.min_lr_ratio, 0); }},
    {"linear for cosine", [](RateRule& r) { r.SetDecay(Schedule::kLinear); }},
    {"cosine for linear", [](RateRule& r) { r.SetDecay(Schedule::kCosine); }},
    {"no decay", [](RateRule& r) { r.SetDecay(Schedule::kConstant); }},
};

Values EvaluateRate(const Context&, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const RateRule right{.options = {.lr = c.Number("lr"),
                                   .schedule = ParseSchedule(c.parameters.at("schedule")),
                                   .warmup_steps = c.Integer("warmup_steps"),
                                   .min_lr_ratio = c.Number("min_lr_ratio"),
                                   .adamw = {}},
                       .steps = c.Integer("steps")};
  const RateRule rule = WithMistake(right, kRateMistakes, mistake);
  Value rates = inputs.at("step");
  rates.integer = false;
  for (double& x : rates.data) x = noise.Disturbed(RateOf(rule, static_cast<std::int64_t>(x)));
  return {{"rate", rates}};
}

Case MakeRateCase(const char* name, const char* meaning, const char* schedule, int warmup, int steps, double ratio) {
  return {name,
          meaning,
          {{"lr", 0.5}, {"schedule", schedule}, {"warmup_steps", warmup}, {"steps", steps}, {"min_lr_ratio", ratio}},
          {{"step", Integers(Counting(steps))}}};
}

Family RateFamily() {
  return {.name = "schedule",
          .semantics =
              {"Of step s = 0, 1, ..., steps - 1. While s < warmup_steps: rate = lr (s + 1) / warmup_steps.",
               "Then rate = lr (r + (1 - r) f(u)) with r = min_lr_ratio and u = (s - warmup_steps) / (steps - "
               "warmup_steps): 0 at the first step after the warm-up, 1 after the last of all.",
               "f = 1 - u (linear) or (1 + cos(pi u)) / 2 (cosine). A constant schedule stays at lr and has no r."},
          .inputs = {{"step", "[N]", "steps, from 0"}},
          .outputs = {{"rate", "[N]", "learning rate of each step"}},
          .roundings = {{"u", "pi u", "its cosine", "1 + the cosine", "(1 - r) f", "r + (1 - r) f"}, {}},
          .mistakes = NamesOf(kRateMistakes),
          .cases = {MakeRateCase("rate_constant", "a warm-up, then constant", "constant", 3, 8, 0.125),
                    MakeRateCase("rate_linear", "linear after a warm-up", "linear", 3, 11, 0.25),
                    MakeRateCase("rate_linear_alone", "linear from the first step on", "linear", 0, 8, 0),
                    MakeRateCase("rate_cosine", "cosine after a warm-up", "cosine", 4, 12, 0.125),
                    MakeRateCase("rate_cosine_to_0", "cosine to 0", "cosine", 2, 10, 0),
                    MakeRateCase("rate_warmup_alone", "a warm-up over all steps", "cosine", 6, 6, 0.125),
                    MakeRateCase("rate_one_step", "one step", "cosine", 0, 1, 0.125)},
          .evaluate = EvaluateRate};
}

}  // namespace step_suite

Suite StepSuite() {
  using namespace step_suite;
  return {"step",
          "A training step's end: clipping and AdamW, from gradients to new weights; and the learning rate of a step.",
          {StepFamily(), RateFamily()}};
}

}  // namespace swarr::oracle
