// SPDX-License-Identifier: Apache-2.0
// RMSNorm, of rows and of heads.
#include <algorithm>
#include <cmath>

#include "oracle/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

enum class Eps : std::uint8_t { kInRoot, kOutside, kMissing };
enum class RowSum : std::uint8_t { kSum, kMean, kLast };

struct Rule {
  Eps eps = Eps::kInRoot;
  double fixed_eps = 0;  // instead of the case's, if not 0
  bool mean_subtracted = false;
  bool root_of_sum = false;  // not of the mean
  bool across_heads = false;
  double weight_offset = 0;
  bool through_r = true;  // the gradient through r
  bool dw_of_normalised = true;
  RowSum dw = RowSum::kSum;
};

constexpr Switch<Rule> kMistakes[] = {
    {"eps added outside the root", [](Rule& r) { r.eps = Eps::kOutside; }},
    {"eps missing", [](Rule& r) { r.eps = Eps::kMissing; }},
    {"eps of 1e-6 whatever the case says", [](Rule& r) { r.fixed_eps = 1e-6; }},
    {"the mean subtracted (LayerNorm)", [](Rule& r) { r.mean_subtracted = true; }},
    {"the root of the sum of squares instead of their mean", [](Rule& r) { r.root_of_sum = true; }},
    {"the norm over the whole row instead of each head", [](Rule& r) { r.across_heads = true; }},
    {"weights of 1 + w, as Gemma has", [](Rule& r) { r.weight_offset = 1; }},
    {"no gradient through 1/rms: dx = d_y w / rms", [](Rule& r) { r.through_r = false; }},
    {"dw = d_y x, without 1/rms", [](Rule& r) { r.dw_of_normalised = false; }},
    {"dw averaged over rows instead of summed", [](Rule& r) { r.dw = RowSum::kMean; }},
    {"dw of the last row alone", [](Rule& r) { r.dw = RowSum::kLast; }},
};

// One group of numbers that is normalised together, read and written in place.
struct Group {
  const double *x, *dy;
  double *y, *dx;
  std::int64_t size, C;  // C: length of w, which repeats
};

void Normalise(const Group& g, const Value& w, double eps, const Rule& rule, Value& dw, double share) {
  const auto size = static_cast<double>(g.size);
  double mean = 0, squares = 0;
  for (std::int64_t i = 0; i < g.size && rule.mean_subtracted; ++i) mean += g.x[i] / size;
  for (std::int64_t i = 0; i < g.size; ++i) squares += (g.x[i] - mean) * (g.x[i] - mean);
  const double terms = rule.root_of_sum ? 1 : size;
  const bool inside = rule.eps == Eps::kInRoot;
  const double root = std::sqrt(squares / terms + (inside ? eps : 0));
  const double r = 1 / (root + (rule.eps == Eps::kOutside ? eps : 0));
  double through = 0, mean_dx = 0;  // sum_j d_y_j w_j x_j
  const auto weight = [&](std::int64_t i) { return w.data[static_cast<std::size_t>(i % g.C)] + rule.weight_offset; };
  for (std::int64_t i = 0; i < g.size; ++i) {
    const double x = g.x[i] - mean;
    g.y[i] = x * r * weight(i);
    through += g.dy[i] * weight(i) * x;
    dw.data[static_cast<std::size_t>(i % g.C)] += share * g.dy[i] * x * (rule.dw_of_normalised ? r : 1);
  }
  for (std::int64_t i = 0; i < g.size; ++i) {  // dr/dx_i = -r^2 x_i / (terms root)
    g.dx[i] = r * g.dy[i] * weight(i);
    if (rule.through_r) g.dx[i] -= r * r * (g.x[i] - mean) / (terms * root) * through;
    mean_dx += g.dx[i] / size;
  }
  for (std::int64_t i = 0; i < g.size && rule.mean_subtracted; ++i) g.dx[i] -= mean_dx;
}

Values Plain(const Values& inputs, double eps, const Rule& rule) {
  const Value &x = inputs.at("x"), &w = inputs.at("w"), &dy = inputs.at("d_y");
  Values outputs = {{"y", Zeros(x.shape)}, {"dx", Zeros(x.shape)}, {"dw", Zeros(w.shape)}};
  const std::int64_t C = w.dim(0), all = static_cast<std::int64_t>(x.data.size());
  const std::int64_t size = rule.across_heads && x.shape.size() == 3 ? x.dim(1) * C : C;
  for (std::int64_t at = 0; at < all; at += size) {
    double share = rule.dw == RowSum::kMean ? static_cast<double>(C) / static_cast<double>(all) : 1;
    if (rule.dw == RowSum::kLast && at + size < all) share = 0;
    const Group group = {x.data.data() + at,
                         dy.data.data() + at,
                         outputs.at("y").data.data() + at,
                         outputs.at("dx").data.data() + at,
                         size,
                         C};
    Normalise(group, w, rule.fixed_eps > 0 ? rule.fixed_eps : eps, rule, outputs.at("dw"), share);
  }
  return outputs;
}

Values Kernel(const Context& ctx, const Values& inputs, double eps, Noise& noise) {
  const Tensor x = InArena(ctx, inputs.at("x")), w = InArena(ctx, inputs.at("w")), dy = InArena(ctx, inputs.at("d_y"));
  const Tensor y = ctx.arena->NewLike(x), dx = ctx.arena->NewLike(x), dw = ctx.arena->NewLike(w);
  const Tensor rstd = ctx.arena->New(DType::kF64, {x.size() / w.size()});
  RmsNormForward(ctx, y, rstd, x, w, eps);
  noise.Disturb(rstd);  // it is stored for the backward, which subtracts two nearly equal terms where C is small
  FillZero(dx);
  FillZero(dw);
  RmsNormBackward(ctx, dx, dw, dy, x, w, rstd);
  return {{"y", ValueOf(y)}, {"dx", ValueOf(dx)}, {"dw", ValueOf(dw)}};
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const double eps = c.parameters.at("eps").get<double>();
  if (mistake.empty()) return Kernel(ctx, inputs, eps, noise);
  return Plain(inputs, eps, WithMistake(Rule(), kMistakes, mistake));
}

Case MakeCase(const std::string& name, const std::string& meaning, std::vector<std::int64_t> shape, double eps,
              double scale) {
  const std::int64_t C = shape.back(), all = SizeOf(shape);
  Case c{name, meaning, {}, {}, static_cast<int>(std::max(C, all / C))};
  c.parameters = {{"rows", shape[0]}, {"heads", shape.size() == 3 ? shape[1] : 1}, {"channels", C}, {"eps", eps}};
  PhiloxStream random = StreamOf("ops", name);
  c.inputs = {{"x", RandomNormal(random, shape, scale)},
              {"w", RandomNormal(random, {C}, 0.5)},
              {"d_y", RandomNormal(random, shape)}};
  return c;
}

// The row in the middle is 0: only eps keeps it finite.
Case WithZeroRow(Case c) {
  Value& x = c.inputs.at("x");
  const std::int64_t C = x.shape.back(), row = x.dim(0) / 2;
  std::fill_n(x.data.begin() + row * C, C, 0.0);
  return c;
}

}  // namespace

Family RmsNormFamily() {
  Family f;
  f.name = "rmsnorm";
  f.semantics = {
      "y = x w / sqrt(mean(x^2) + eps); the mean is over the last dimension: of a row, or, where x has three "
      "dimensions, of each head by itself (q/k norm), with one w for all heads.",
      "dx and dw are the gradients of sum(y * d_y); dw is summed over rows and heads."};
  f.inputs = {{"x", "[N, C] or [N, H, D]", "rows, or rows of heads", false},
              {"w", "[C] or [D]", "weights", false},
              {"d_y", "as x", "gradient of the loss with respect to y", false}};
  f.outputs = {
      {"y", "as x", "result", false}, {"dx", "as x", "gradient of x", true}, {"dw", "as w", "gradient of w", true}};
  f.roundings = {{"squares", "1/rms", "x/rms"},
                 {"d_y w", "sum of d_y w x", "its product with x", "difference of the two terms"}};
  f.mistakes = NamesOf(kMistakes);
  f.cases = {MakeCase("rmsnorm_one", "one number: y = w x / |x|, nearly", {1, 1}, 1e-5, 1),
             MakeCase("rmsnorm_row", "a single row", {1, 16}, 1e-6, 1),
             MakeCase("rmsnorm_primes", "sizes that are no multiple of anything", {7, 13}, 1e-5, 1),
             MakeCase("rmsnorm_small", "numbers so small that eps counts", {5, 12}, 1e-5, 0x1p-8),
             MakeCase("rmsnorm_tiny", "numbers below the root of eps", {5, 8}, 1e-6, 0x1p-12),
             MakeCase("rmsnorm_large", "numbers of some hundreds", {4, 16}, 1e-5, 256),
             WithZeroRow(MakeCase("rmsnorm_zero_row", "a row of zeros among others", {5, 8}, 1e-5, 1)),
             MakeCase("rmsnorm_heads", "q/k norm: each head by itself", {5, 3, 8}, 1e-6, 1),
             MakeCase("rmsnorm_heads_small", "q/k norm of small numbers", {3, 2, 16}, 1e-5, 0x1p-8)};
  f.evaluate = Evaluate;
  return f;
}

}  // namespace swarr::oracle
