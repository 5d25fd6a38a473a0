// SPDX-License-Identifier: Apache-2.0
// The suite `step`: gradients to new weights through clipping and AdamW, and the learning rate of each step.
#include <algorithm>
#include <cmath>

#include "oracle/step_rule.h"
#include "train/optimizer.h"

namespace swarr::oracle {
namespace {

// --- one step ---

// The truth: the product's kernels under Optimizer's rules of clipping and decay.
Values KernelStep(const Context& ctx, const Values& inputs, const StepRule& rule, Noise& noise) {
  Value all = Zeros({0});
  for (const std::string& name : TensorNames(inputs)) {
    const Value& g = inputs.at("g." + name);
    all.data.insert(all.data.end(), g.data.begin(), g.data.end());
  }
  all.shape = {static_cast<std::int64_t>(all.data.size())};
  const double norm = noise.Disturbed(GlobalNorm(ctx, InArena(ctx, all)));
  const bool clips = rule.max_grad_norm > 0 && norm > rule.max_grad_norm;
  Values outputs = {{"grad_norm", {{1}, {norm}, false}}};
  for (const std::string& name : TensorNames(inputs)) {
    const auto input = [&](const char* which) { return InArena(ctx, inputs.at(which + name)); };
    const Tensor w = input("w."), m = input("m."), v = input("v."), g = input("g.");
    AdamWOptions adamw = rule.adamw;
    if (w.rank() < 2) adamw.weight_decay = 0;
    AdamWStep(ctx, w, m, v, g, {rule.lr, rule.t, noise.Disturbed(clips ? rule.max_grad_norm / norm : 1), adamw});
    outputs["w." + name] = ValueOf(w);
    outputs["m." + name] = ValueOf(m);
    outputs["v." + name] = ValueOf(v);
  }
  return outputs;
}

struct StepMistake {
  const char* name;
  void (*make)(StepRule& rule);
};

constexpr StepMistake kStepMistakes[] = {
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
    {"eps inside the root", [](StepRule& r) { r.eps_place = EpsPlace::kInRoot; }},
    {"eps added before the bias correction of v", [](StepRule& r) { r.eps_place = EpsPlace::kBeforeCorrection; }},
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
  StepRule rule = RuleOf(c.parameters);
  if (mistake.empty()) return KernelStep(ctx, inputs, rule, noise);
  for (const StepMistake& named : kStepMistakes) {
    if (mistake == named.name) named.make(rule);
  }
  return PlainStep(inputs, rule, noise);
}

struct StepSetting {
  const char* name;
  const char* meaning;
  std::int64_t t;
  double lr, max_grad_norm;
  AdamWOptions adamw;
  double gradients = 1;  // their size; 0: all are zero
  double weights = 0.25;
  bool lone = false;  // one element alone has a gradient, of this very size
};

const std::vector<StepSetting>& StepSettings() {
  static const std::vector<StepSetting> settings = {
      {"first_step", "t = 1, moments zero, no clipping", 1, 0.125, 0, {0.9, 0.95, 1e-8, 0.5}},
      {"second_step", "t = 2, a norm below max_grad_norm", 2, 0.125, 32, {0.9, 0.999, 1e-8, 0.5}},
      {"tenth_step", "t = 10, no clipping", 10, 0.125, 0, {0.9, 0.999, 1e-8, 0.25}},
      {"late_step", "t = 1000: the correction of m is over, that of v is not", 1000, 0.25, 0, {0.9, 0.999, 1e-8, 0.5}},
      {"clipped", "a norm beyond max_grad_norm", 1, 0.125, 1, {0.9, 0.95, 1e-8, 0.5}},
      {"clipped_later", "a norm beyond max_grad_norm at t = 5", 5, 0.125, 0.5, {0.9, 0.95, 1e-8, 0.5}},
      {"below_the_clip", "a norm below max_grad_norm at t = 5", 5, 0.125, 16, {0.9, 0.95, 1e-8, 0.5}},
      {"zero_gradients", "no gradient at t = 1: decay alone moves weights", 1, 0.5, 1, {0.9, 0.95, 1e-8, 0.5}, 0},
      {"small_gradients", "gradients of the size of eps at t = 1", 1, 0.5, 0, {0.9, 0.95, 0x1p-6, 0.5}, 0x1p-6},
      {"small_gradients_later", "gradients of the size of eps at t = 10", 10, 0.5, 0, {0.9, 0.999, 0x1p-6, 0}, 0x1p-6},
      {"one_tiny_gradient",
       "one gradient of 2^-20 alone, clipped to half: what is added to the norm would show",
       2,
       0.125,
       0x1p-21,
       {0.9, 0.95, 1e-8, 0.5},
       0x1p-20,
       0.25,
       true},
      {"strong_decay", "lr weight_decay = 1/2", 3, 0.5, 0, {0.9, 0.95, 1e-8, 1}},
      {"no_decay", "weight_decay = 0", 3, 0.125, 1, {0.9, 0.95, 1e-8, 0}},
      {"no_momentum", "beta1 = 0", 2, 0.125, 1, {0, 0.95, 1e-8, 0.5}},
  };
  return settings;
}

Case MakeStepCase(const StepSetting& s) {
  Case c{s.name, s.meaning, {}, {}, 0};
  PhiloxStream random = StreamOf("step", s.name);
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors = {
      {"up", {4, 3}}, {"down", {3, 4}}, {"bias", {4}}, {"norm", {3}}};
  for (const auto& [name, shape] : tensors) {
    c.inputs["w." + name] = RandomNormal(random, shape, s.weights);
    Value& g = c.inputs["g." + name] = RandomNormal(random, shape, s.gradients);
    Value& m = c.inputs["m." + name] = RandomNormal(random, shape, s.gradients / 2);
    Value& v = c.inputs["v." + name] = RandomNormal(random, shape, s.gradients * s.gradients);
    for (double& x : v.data) x = std::abs(x);
    if (s.t == 1 || s.lone) m = v = Zeros(shape);
    if (s.lone) g = Zeros(shape);
    c.longest_sum += static_cast<int>(g.data.size());  // of the norm
  }
  if (s.lone) c.inputs.at("g.up").data[5] = s.gradients;
  c.parameters = {{"t", s.t},
                  {"lr", s.lr},
                  {"beta1", s.adamw.beta1},
                  {"beta2", s.adamw.beta2},
                  {"eps", s.adamw.eps},
                  {"weight_decay", s.adamw.weight_decay},
                  {"max_grad_norm", s.max_grad_norm}};
  return c;
}

Family StepFamily() {
  Family f;
  f.name = "adamw";
  f.semantics = {
      "grad_norm is the root of the sum of squares of all gradients of all tensors, before clipping.",
      "Where max_grad_norm > 0 and grad_norm > max_grad_norm, all gradients are multiplied by max_grad_norm / "
      "grad_norm; else they stay. Nothing is added to the norm (torch.nn.utils.clip_grad_norm_ adds 1e-6).",
      "m' = beta1 m + (1 - beta1) g, v' = beta2 v + (1 - beta2) g^2 with the clipped g.",
      "w' = w - lr (m' / (1 - beta1^t) / (sqrt(v' / (1 - beta2^t)) + eps) + weight_decay w), t = 1 at the first step.",
      "weight_decay is that of matrices; for tensors of rank 1 (biases, norms) it is 0.",
      "f16 can't hold some of the second moments: compute the step in another dtype.",
  };
  const auto add = [](std::vector<TensorInfo>& infos, const char* which, const char* meaning) {
    for (const auto& [name, shape] :
         {std::pair{"up", "[4, 3]"}, {"down", "[3, 4]"}, {"bias", "[4]"}, {"norm", "[3]"}}) {
      infos.push_back({Concat(which, ".", name), shape, Concat(meaning, " of ", name), false});
    }
  };
  add(f.inputs, "w", "weights");
  add(f.inputs, "g", "gradients");
  add(f.inputs, "m", "first moments before the step");
  add(f.inputs, "v", "second moments before the step");
  f.outputs = {{"grad_norm", "[1]", "norm of all gradients before clipping", false}};
  add(f.outputs, "w", "new weights");
  add(f.outputs, "m", "new first moments");
  add(f.outputs, "v", "new second moments");
  f.roundings = {{"clipped gradients", "new moments", "m corrected", "v corrected", "its root", "the root plus eps",
                  "their quotient", "the quotient times lr", "the weight less its decay"},
                 {}};
  for (const StepMistake& mistake : kStepMistakes) f.mistakes.emplace_back(mistake.name);
  for (const StepSetting& setting : StepSettings()) f.cases.push_back(MakeStepCase(setting));
  f.evaluate = EvaluateStep;
  return f;
}

// --- the learning rate ---

struct RateRule {
  OptimizerOptions options;
  std::int64_t steps = 0;
};

struct RateMistake {
  const char* name;
  double (*rate)(const RateRule& rule, std::int64_t step);
};

double RateWith(const RateRule& rule, Schedule schedule, std::int64_t step) {
  OptimizerOptions options = rule.options;
  if (options.schedule != Schedule::kConstant) options.schedule = schedule;
  return LearningRate(options, step, rule.steps);
}

constexpr RateMistake kRateMistakes[] = {
    {"a warm-up that starts at 0: lr step / warmup_steps",
     [](const RateRule& r, std::int64_t step) {
       const std::int64_t warmup = r.options.warmup_steps;
       if (step >= warmup) return LearningRate(r.options, step, r.steps);
       return r.options.lr * static_cast<double>(step) / static_cast<double>(warmup);
     }},
    {"no warm-up: the decay from the first step on",
     [](const RateRule& r, std::int64_t step) {
       OptimizerOptions options = r.options;
       options.warmup_steps = 0;
       return LearningRate(options, step, r.steps);
     }},
    {"the decay counted over all steps, those of the warm-up included",
     [](const RateRule& r, std::int64_t step) {
       if (step < r.options.warmup_steps) return LearningRate(r.options, step, r.steps);
       OptimizerOptions options = r.options;
       options.warmup_steps = 0;
       return LearningRate(options, step, r.steps);
     }},
    {"a decay that is over at the last step, not after it",
     [](const RateRule& r, std::int64_t step) { return LearningRate(r.options, step, r.steps - 1); }},
    {"steps counted from 1",
     [](const RateRule& r, std::int64_t step) { return LearningRate(r.options, step + 1, r.steps); }},
    {"a decay to 0, min_lr_ratio ignored",
     [](const RateRule& r, std::int64_t step) {
       OptimizerOptions options = r.options;
       options.min_lr_ratio = 0;
       return LearningRate(options, step, r.steps);
     }},
    {"min_lr_ratio as a floor of a decay to 0",
     [](const RateRule& r, std::int64_t step) {
       OptimizerOptions options = r.options;
       options.min_lr_ratio = 0;
       const double rate = LearningRate(options, step, r.steps);
       return step < options.warmup_steps ? rate : std::max(rate, options.lr * r.options.min_lr_ratio);
     }},
    {"linear for cosine", [](const RateRule& r, std::int64_t step) { return RateWith(r, Schedule::kLinear, step); }},
    {"cosine for linear", [](const RateRule& r, std::int64_t step) { return RateWith(r, Schedule::kCosine, step); }},
    {"no decay", [](const RateRule& r, std::int64_t step) { return RateWith(r, Schedule::kConstant, step); }},
};

Values EvaluateRate(const Context&, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  RateRule rule;
  rule.options.lr = c.parameters.at("lr");
  rule.options.schedule = ParseSchedule(c.parameters.at("schedule"));
  rule.options.warmup_steps = c.parameters.at("warmup_steps");
  rule.options.min_lr_ratio = c.parameters.at("min_lr_ratio");
  rule.steps = c.parameters.at("steps");
  const auto named = std::find_if(std::begin(kRateMistakes), std::end(kRateMistakes),
                                  [&](const RateMistake& m) { return mistake == m.name; });
  Value rates = Zeros(inputs.at("step").shape);
  for (std::size_t i = 0; i < rates.data.size(); ++i) {
    const auto step = static_cast<std::int64_t>(inputs.at("step").data[i]);
    const double rate =
        named == std::end(kRateMistakes) ? LearningRate(rule.options, step, rule.steps) : named->rate(rule, step);
    rates.data[i] = noise.Disturbed(rate);
  }
  return {{"rate", rates}};
}

Case MakeRateCase(const char* name, const char* meaning, const char* schedule, int warmup, int steps, double ratio) {
  Case c{name, meaning, {}, {}, 1};
  std::vector<std::int32_t> all;
  for (int step = 0; step < steps; ++step) all.push_back(step);
  c.inputs["step"] = Integers(all);
  c.parameters = {
      {"lr", 0.5}, {"schedule", schedule}, {"warmup_steps", warmup}, {"steps", steps}, {"min_lr_ratio", ratio}};
  return c;
}

Family RateFamily() {
  Family f;
  f.name = "schedule";
  f.semantics = {
      "Of step s = 0, 1, ..., steps - 1. While s < warmup_steps: rate = lr (s + 1) / warmup_steps.",
      "Then rate = lr (r + (1 - r) f(u)) with r = min_lr_ratio and u = (s - warmup_steps) / (steps - warmup_steps): 0 "
      "at the first step after the warm-up, 1 after the last of all.",
      "f = 1 - u (linear) or (1 + cos(pi u)) / 2 (cosine). A constant schedule stays at lr and has no r.",
  };
  f.inputs = {{"step", "[N]", "steps, from 0", false}};
  f.outputs = {{"rate", "[N]", "learning rate of each step", false}};
  f.roundings = {{"u", "pi u", "its cosine", "1 + the cosine", "(1 - r) f", "r + (1 - r) f"}, {}};
  for (const RateMistake& mistake : kRateMistakes) f.mistakes.emplace_back(mistake.name);
  f.cases = {MakeRateCase("rate_constant", "a warm-up, then constant", "constant", 3, 8, 0.125),
             MakeRateCase("rate_linear", "linear after a warm-up", "linear", 3, 11, 0.25),
             MakeRateCase("rate_linear_alone", "linear from the first step on", "linear", 0, 8, 0),
             MakeRateCase("rate_cosine", "cosine after a warm-up", "cosine", 4, 12, 0.125),
             MakeRateCase("rate_cosine_to_0", "cosine to 0", "cosine", 2, 10, 0),
             MakeRateCase("rate_warmup_alone", "a warm-up over all steps", "cosine", 6, 6, 0.125),
             MakeRateCase("rate_one_step", "one step", "cosine", 0, 1, 0.125)};
  f.evaluate = EvaluateRate;
  return f;
}

}  // namespace

Suite StepSuite() {
  return {"step",
          "A training step's end: clipping and AdamW, from gradients to new weights; and the learning rate of a step.",
          {StepFamily(), RateFamily()}};
}

}  // namespace swarr::oracle
