// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding.
#include <cmath>
#include <numbers>
#include <optional>

#include "oracle/suites/op_families.h"
#include "tensor/ops.h"
#include "tensor/rope_table.h"

namespace swarr::oracle {
namespace rope_op {

enum class Scaling : std::uint8_t { kLlama3, kNone, kAll, kWithoutBlend };

struct Rule {
  bool interleaved = false;
  double forward_sign = 1, backward_sign = -1;
  double first_position = 0;
  double exponent = 1;     // times that of theta
  double fixed_theta = 0;  // instead of the case's, if not 0
  Scaling scaling = Scaling::kLlama3;
  bool positions_in_bf16 = false;
};

constexpr Mistake<Rule> kMistakes[] = {
    {"neighbours paired (interleaved) instead of halves", [](Rule& r) { r.interleaved = true; }},
    {"rotation the other way", [](Rule& r) { r.forward_sign = -1, r.backward_sign = 1; }},
    {"dx rotated forward instead of back", [](Rule& r) { r.backward_sign = 1; }},
    {"dx not rotated", [](Rule& r) { r.backward_sign = 0; }},
    {"positions counted from 1", [](Rule& r) { r.first_position = 1; }},
    {"frequencies theta^(-i/D) instead of theta^(-2i/D)", [](Rule& r) { r.exponent = 0.5; }},
    {"frequencies theta^(-4i/D) instead of theta^(-2i/D)", [](Rule& r) { r.exponent = 2; }},
    {"theta of 10000 whatever the case says", [](Rule& r) { r.fixed_theta = 10000; }},
    {"llama3 scaling ignored", [](Rule& r) { r.scaling = Scaling::kNone; }},
    {"all frequencies divided by the factor instead of llama3 scaling", [](Rule& r) { r.scaling = Scaling::kAll; }},
    {"llama3 scaling without the blend between the two bands", [](Rule& r) { r.scaling = Scaling::kWithoutBlend; }},
    {"positions rounded to bf16, which counts to 256", [](Rule& r) { r.positions_in_bf16 = true; }},
};

struct Settings {
  double theta = 1e4;
  std::optional<Llama3Scaling> scaling;
};

double Frequency(std::int64_t i, std::int64_t D, Settings s, const Rule& rule) {
  if (rule.fixed_theta > 0) s.theta = rule.fixed_theta;
  s.theta = std::pow(s.theta, rule.exponent);
  if (!s.scaling || rule.scaling == Scaling::kLlama3) return RopeFrequency(i, D, s.theta, s.scaling);
  const double plain = RopeFrequency(i, D, s.theta, {});
  if (rule.scaling == Scaling::kNone) return plain;
  const double turns = s.scaling->original_positions * plain / (2 * std::numbers::pi);
  const bool kept = rule.scaling == Scaling::kWithoutBlend && turns > s.scaling->low_freq_factor;
  return kept ? plain : plain / s.scaling->factor;
}

// Row n holds the cosines and sines of positions[n], as FillRopeTable's row of that position does.
Value TableOf(const Value& positions, std::int64_t D, const Settings& s, const Rule& rule, Noise& noise) {
  constexpr double kF32 = 0x1p-24;  // nobody takes angles in less
  Value table = Zeros({positions.dim(0), D});
  for (std::int64_t n = 0; n < positions.dim(0); ++n) {
    double position = positions(n) + rule.first_position;
    if (rule.positions_in_bf16) position = static_cast<double>(static_cast<float>(BFloat16(position)));
    for (std::int64_t i = 0; i < D / 2; ++i) {
      const double angle = noise.Disturbed(position * Frequency(i, D, s, rule), kF32);
      table(n, i) = noise.Disturbed(std::cos(angle));
      table(n, i + D / 2) = noise.Disturbed(std::sin(angle));
    }
  }
  return table;
}

Values Kernel(const Context& ctx, const Values& inputs, const Value& table_values) {
  const TensorsOf in{ctx, inputs};
  const Tensor x = in("x"), dy = in("d_y"), table = InArena(ctx, table_values);
  const Tensor rows = InArena(ctx, Integers(Counting(x.dim(0))));
  const Tensor y = ZerosLike(ctx, x), dx = ZerosLike(ctx, x);
  RopeForward(ctx, y, x, rows, table);
  RopeBackward(ctx, dx, dy, rows, table);
  return {{"y", ValueOf(y)}, {"dx", ValueOf(dx)}};
}

// x turned by `sign` times the angles.
Value Turned(const Value& x, const Value& table, bool interleaved, double sign) {
  Value y = Zeros(x.shape);
  const std::int64_t half = x.dim(2) / 2;
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    for (std::int64_t h = 0; h < x.dim(1); ++h) {
      for (std::int64_t i = 0; i < half; ++i) {
        const std::int64_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half;
        const double cos = sign == 0 ? 1 : table(n, i), sin = sign * table(n, i + half);
        y(n, h, a) = x(n, h, a) * cos - x(n, h, b) * sin;
        y(n, h, b) = x(n, h, b) * cos + x(n, h, a) * sin;
      }
    }
  }
  return y;
}

Settings SettingsOf(const Case& c) {
  if (!c.parameters.contains("factor")) return {c.Number("theta"), {}};
  return {c.Number("theta"), Llama3Scaling{c.Number("factor"), c.Number("low_freq_factor"),
                                           c.Number("high_freq_factor"), c.Integer("original_positions")}};
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const Rule rule = WithMistake(Rule(), kMistakes, mistake);
  const Value table = TableOf(inputs.at("positions"), inputs.at("x").dim(2), SettingsOf(c), rule, noise);
  if (mistake.empty()) return Kernel(ctx, inputs, table);
  return {{"y", Turned(inputs.at("x"), table, rule.interleaved, rule.forward_sign)},
          {"dx", Turned(inputs.at("d_y"), table, rule.interleaved, rule.backward_sign)}};
}

Case MakeCase(const std::string& name, const std::string& meaning, const std::vector<std::int32_t>& positions,
              std::int64_t H, std::int64_t D, const Settings& s) {
  const auto N = static_cast<std::int64_t>(positions.size());
  PhiloxStream random = StreamOf("ops", name);
  Case c{name,
         meaning,
         {{"rows", N}, {"heads", H}, {"head_dim", D}, {"theta", s.theta}},
         {{"x", RandomNormal(random, {N, H, D})},
          {"d_y", RandomNormal(random, {N, H, D})},
          {"positions", Integers(positions)}},
         2};
  if (s.scaling) {
    c.parameters.update({{"factor", s.scaling->factor},
                         {"low_freq_factor", s.scaling->low_freq_factor},
                         {"high_freq_factor", s.scaling->high_freq_factor},
                         {"original_positions", s.scaling->original_positions}});
  }
  return c;
}

}  // namespace rope_op

Family RopeFamily() {
  using namespace rope_op;
  const Settings plain, qwen{1e6, {}}, llama{5e5, Llama3Scaling{8, 1, 4, 64}};
  return {
      .name = "rope",
      .semantics =
          {"Element i of a head is paired with element i + D/2 (half-split, as in transformers), for i < D/2, and the "
           "pair is turned by a = positions[n] f_i: y_i = x_i cos a - x_(i+D/2) sin a, y_(i+D/2) = x_(i+D/2) cos a + "
           "x_i sin a.",
           "f_i = theta^(-2i/D). Where the case has a factor, frequencies are scaled as rope_type llama3 of "
           "transformers: with n = original_positions f_i / (2 pi), those with n > high_freq_factor stay, those with n "
           "< low_freq_factor are divided by factor, those between are blended linearly in n.",
           "Positions count from 0. dx is the gradient of sum(y * d_y): d_y turned back."},
      .inputs = {{"x", "[N, H, D]", "rows of heads"},
                 {"positions", "[N]", "position of each row"},
                 {"d_y", "[N, H, D]", "gradient of the loss with respect to y"}},
      .outputs = {{"y", "[N, H, D]", "result"}, {"dx", "[N, H, D]", "gradient of x", true}},
      .roundings = {{"frequencies", "angles", "cosines and sines", "two products"}, {}},
      .mistakes = NamesOf(kMistakes),
      .cases = {MakeCase("rope_one", "position 0: nothing turns", {0}, 1, 2, plain),
                MakeCase("rope_pair", "heads of a single pair", Counting(7), 2, 2, plain),
                MakeCase("rope_text", "the first positions of a text", Counting(11), 3, 8, plain),
                MakeCase("rope_packed", "two documents: positions start again", {0, 1, 2, 3, 4, 0, 1, 2}, 2, 16, plain),
                MakeCase("rope_theta_1e6", "a larger theta", Counting(9), 2, 16, qwen),
                MakeCase("rope_far", "positions of some hundreds and thousands", {255, 257, 1023, 2049, 4095}, 2, 64,
                         qwen),
                MakeCase("rope_llama3", "frequencies kept, blended and divided", {0, 1, 5, 63, 64, 200}, 2, 16, llama),
                MakeCase("rope_llama3_64", "the same with heads of 64", {3, 100, 511}, 1, 64, llama)},
      .evaluate = Evaluate};
}

}  // namespace swarr::oracle
