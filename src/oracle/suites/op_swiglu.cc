// SPDX-License-Identifier: Apache-2.0
// SwiGLU.
#include <cmath>
#include <numbers>

#include "oracle/suites/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace swiglu_op {

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

constexpr Activation kSigmoid = {Sigmoid, SigmoidSlope};
constexpr Activation kRelu = {[](double z) { return z > 0 ? z : 0; }, [](double z) { return z > 0 ? 1.0 : 0.0; }};
constexpr Activation kIdentity = {[](double z) { return z; }, [](double) { return 1.0; }};

struct Rule {
  Activation activation = kGated<Sigmoid, SigmoidSlope>;
  bool swapped = false;
  bool gradients_swapped = false;
};

constexpr Mistake<Rule> kMistakes[] = {
    {"gate and up swapped", [](Rule& r) { r.swapped = true; }},
    {"dgate and dup swapped", [](Rule& r) { r.gradients_swapped = true; }},
    {"gelu instead of silu", [](Rule& r) { r.activation = kGated<Normal, NormalSlope>; }},
    {"gelu's tanh approximation instead of silu", [](Rule& r) { r.activation = kGated<TanhGate, TanhSlope>; }},
    {"z sigmoid(1.702 z) instead of silu", [](Rule& r) { r.activation = kGated<QuickGate, QuickSlope>; }},
    {"sigmoid instead of silu", [](Rule& r) { r.activation = kSigmoid; }},
    {"relu instead of silu", [](Rule& r) { r.activation = kRelu; }},
    {"no activation", [](Rule& r) { r.activation = kIdentity; }},
    {"silu's derivative taken as sigmoid(z)", [](Rule& r) { r.activation.slope = Sigmoid; }},
};

Values Plain(const Values& inputs, const Rule& rule) {
  const std::vector<double>&gate = inputs.at(rule.swapped ? "up" : "gate").data,
        &up = inputs.at(rule.swapped ? "gate" : "up").data, &dy = inputs.at("d_y").data;
  Value y = inputs.at("d_y"), dgate = y, dup = y;
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const double value = rule.activation.value(gate[i]);
    y.data[i] = value * up[i];
    dgate.data[i] = dy[i] * up[i] * rule.activation.slope(gate[i]);
    dup.data[i] = dy[i] * value;
  }
  if (rule.swapped != rule.gradients_swapped) std::swap(dgate, dup);
  return {{"y", y}, {"dgate", dgate}, {"dup", dup}};
}

Values Kernel(const Context& ctx, const Values& inputs) {
  const TensorsOf in{ctx, inputs};
  const Tensor gate = in("gate"), up = in("up"), dy = in("d_y");
  const Tensor y = ZerosLike(ctx, dy), dgate = ZerosLike(ctx, dy), dup = ZerosLike(ctx, dy);
  SwiGluForward(ctx, y, gate, up);
  SwiGluBackward(ctx, dgate, dup, dy, gate, up);
  return {{"y", ValueOf(y)}, {"dgate", ValueOf(dgate)}, {"dup", ValueOf(dup)}};
}

Values Evaluate(const Context& ctx, const Case&, const Values& inputs, const std::string& mistake, Noise&) {
  return mistake.empty() ? Kernel(ctx, inputs) : Plain(inputs, WithMistake(Rule(), kMistakes, mistake));
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t N, std::int64_t F, double scale) {
  PhiloxStream random = StreamOf("ops", name);
  return {name,
          meaning,
          {{"rows", N}, {"ffn", F}, {"gate_scale", scale}},
          {{"gate", RandomNormal(random, {N, F}, scale)},
           {"up", RandomNormal(random, {N, F})},
           {"d_y", RandomNormal(random, {N, F})}}};
}

}  // namespace swiglu_op

Family SwiGluFamily() {
  using namespace swiglu_op;
  return {
      .name = "swiglu",
      .semantics = {"y = silu(gate) up, silu(z) = z sigmoid(z).", "dgate and dup are the gradients of sum(y * d_y)."},
      .inputs = {{"gate", "[N, F]", "goes through silu"},
                 {"up", "[N, F]", "multiplied with it"},
                 {"d_y", "[N, F]", "gradient of the loss with respect to y"}},
      .outputs = {{"y", "[N, F]", "result"},
                  {"dgate", "[N, F]", "gradient of gate", true},
                  {"dup", "[N, F]", "gradient of up", true}},
      .roundings = {{"sigmoid(gate)", "silu(gate)"}, {"1 - sigmoid", "silu's derivative", "d_y up"}},
      .mistakes = NamesOf(kMistakes),
      .cases = {MakeCase("swiglu_one", "one number", 1, 1, 1), MakeCase("swiglu_primes", "odd sizes", 7, 13, 1),
                MakeCase("swiglu_large", "gates of some tens, where sigmoid is 0 or 1", 5, 16, 16)},
      .evaluate = Evaluate};
}

}  // namespace swarr::oracle
