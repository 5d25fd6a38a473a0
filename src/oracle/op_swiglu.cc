// SPDX-License-Identifier: Apache-2.0
// SwiGLU.
#include <cmath>
#include <numbers>

#include "oracle/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

// An activation and its derivative.
struct Activation {
  double (*value)(double z);
  double (*slope)(double z);
};

double Sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
double SigmoidSlope(double z) { return Sigmoid(z) * (1 - Sigmoid(z)); }
double Normal(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }
double NormalSlope(double z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi); }

// z g(z), as silu and gelu are.
template <double (*g)(double), double (*slope)(double)>
constexpr Activation kGated = {[](double z) { return z * g(z); }, [](double z) { return g(z) + z * slope(z); }};

constexpr double kQuick = 1.702;
double QuickGate(double z) { return Sigmoid(kQuick * z); }
double QuickSlope(double z) { return kQuick * SigmoidSlope(kQuick * z); }

constexpr double kTanhScale = 0.7978845608028654, kTanhCube = 0.044715;  // sqrt(2/pi)
double TanhGate(double z) { return (1 + std::tanh(kTanhScale * (z + kTanhCube * z * z * z))) / 2; }
double TanhSlope(double z) {
  const double t = std::tanh(kTanhScale * (z + kTanhCube * z * z * z));
  return (1 - t * t) / 2 * kTanhScale * (1 + 3 * kTanhCube * z * z);
}

struct Rule {
  Activation activation = kGated<Sigmoid, SigmoidSlope>;
  bool swapped = false;
  bool gradients_swapped = false;
};

constexpr Switch<Rule> kMistakes[] = {
    {"gate and up swapped", [](Rule& r) { r.swapped = true; }},
    {"dgate and dup swapped", [](Rule& r) { r.gradients_swapped = true; }},
    {"gelu instead of silu", [](Rule& r) { r.activation = kGated<Normal, NormalSlope>; }},
    {"gelu's tanh approximation instead of silu", [](Rule& r) { r.activation = kGated<TanhGate, TanhSlope>; }},
    {"z sigmoid(1.702 z) instead of silu", [](Rule& r) { r.activation = kGated<QuickGate, QuickSlope>; }},
    {"sigmoid instead of silu",
     [](Rule& r) {
       r.activation = {Sigmoid, SigmoidSlope};
     }},
    {"relu instead of silu",
     [](Rule& r) {
       r.activation = {[](double z) { return z > 0 ? z : 0; }, [](double z) { return z > 0 ? 1.0 : 0.0; }};
     }},
    {"no activation",
     [](Rule& r) {
       r.activation = {[](double z) { return z; }, [](double) { return 1.0; }};
     }},
    {"silu's derivative taken as sigmoid(z)", [](Rule& r) { r.activation.slope = Sigmoid; }},
};

Values Plain(const Values& inputs, const Rule& rule) {
  const Value &gate = inputs.at(rule.swapped ? "up" : "gate"), &up = inputs.at(rule.swapped ? "gate" : "up");
  const Value& dy = inputs.at("d_y");
  Values outputs = {{"y", Zeros(dy.shape)}, {"dgate", Zeros(dy.shape)}, {"dup", Zeros(dy.shape)}};
  const bool crossed = rule.swapped != rule.gradients_swapped;
  Value &dgate = outputs.at(crossed ? "dup" : "dgate"), &dup = outputs.at(crossed ? "dgate" : "dup");
  for (std::size_t i = 0; i < dy.data.size(); ++i) {
    const double value = rule.activation.value(gate.data[i]);
    outputs.at("y").data[i] = value * up.data[i];
    dgate.data[i] = dy.data[i] * up.data[i] * rule.activation.slope(gate.data[i]);
    dup.data[i] = dy.data[i] * value;
  }
  return outputs;
}

Values Kernel(const Context& ctx, const Values& inputs) {
  const Tensor gate = InArena(ctx, inputs.at("gate")), up = InArena(ctx, inputs.at("up")),
               dy = InArena(ctx, inputs.at("d_y"));
  const Tensor y = ctx.arena->NewLike(dy), dgate = ctx.arena->NewLike(dy), dup = ctx.arena->NewLike(dy);
  FillZero(dgate);
  FillZero(dup);
  SwiGluForward(ctx, y, gate, up);
  SwiGluBackward(ctx, dgate, dup, dy, gate, up);
  return {{"y", ValueOf(y)}, {"dgate", ValueOf(dgate)}, {"dup", ValueOf(dup)}};
}

Values Evaluate(const Context& ctx, const Case&, const Values& inputs, const std::string& mistake, Noise&) {
  if (mistake.empty()) return Kernel(ctx, inputs);
  return Plain(inputs, WithMistake(Rule(), kMistakes, mistake));
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t N, std::int64_t F, double scale) {
  Case c{name, meaning, {{"rows", N}, {"ffn", F}, {"gate_scale", scale}}, {}, 1};
  PhiloxStream random = StreamOf("ops", name);
  c.inputs = {{"gate", RandomNormal(random, {N, F}, scale)},
              {"up", RandomNormal(random, {N, F})},
              {"d_y", RandomNormal(random, {N, F})}};
  return c;
}

}  // namespace

Family SwiGluFamily() {
  Family f;
  f.name = "swiglu";
  f.semantics = {"y = silu(gate) up, silu(z) = z sigmoid(z).", "dgate and dup are the gradients of sum(y * d_y)."};
  f.inputs = {{"gate", "[N, F]", "goes through silu", false},
              {"up", "[N, F]", "multiplied with it", false},
              {"d_y", "[N, F]", "gradient of the loss with respect to y", false}};
  f.outputs = {{"y", "[N, F]", "result", false},
               {"dgate", "[N, F]", "gradient of gate", true},
               {"dup", "[N, F]", "gradient of up", true}};
  f.roundings = {{"sigmoid(gate)", "silu(gate)"}, {"1 - sigmoid", "silu's derivative", "d_y up"}};
  f.mistakes = NamesOf(kMistakes);
  f.cases = {MakeCase("swiglu_one", "one number", 1, 1, 1), MakeCase("swiglu_primes", "odd sizes", 7, 13, 1),
             MakeCase("swiglu_large", "gates of some tens, where sigmoid is 0 or 1", 5, 16, 16)};
  f.evaluate = Evaluate;
  return f;
}

}  // namespace swarr::oracle
