// SPDX-License-Identifier: Apache-2.0
// RMSNorm, of rows and of heads.
#include <algorithm>
#include <cmath>

#include "oracle/suites/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace rmsnorm_op {

enum class Eps : std::uint8_t { kInRoot, kOutside, kMissing };
enum class RowSum : std::uint8_t { kSum, kMean, kLast };

struct Rule {
  Eps eps = Eps::kInRoot;
  double fixed_eps = 0;  // in place of the case's, if not 0
  bool mean_subtracted = false;
  bool root_of_sum = false;  // not of the mean
  bool across_heads = false;
  double weight_offset = 0;
  bool through_r = true;  // the gradient through r
  bool dw_of_normalised = true;
  RowSum dw = RowSum::kSum;
};

constexpr Mistake<Rule> kMistakes[] = {
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

// Row n of x normalised, with its gradients; w repeats where it is shorter than the row. dw gets `share` of the row's.
struct Rows {
  Value x, dy, w, y = x, dx = x, dw = Zeros(w.shape);
};

void Normalise(Rows& a, std::int64_t n, double eps, double share, const Rule& rule) {
  const std::int64_t size = a.x.dim(1), C = a.w.size();
  double mean = 0, squares = 0;
  for (const double x : a.x.Row(n)) mean += rule.mean_subtracted ? x / static_cast<double>(size) : 0;
  for (const double x : a.x.Row(n)) squares += (x - mean) * (x - mean);
  const double terms = rule.root_of_sum ? 1 : static_cast<double>(size);
  const double root = std::sqrt(squares / terms + (rule.eps == Eps::kInRoot ? eps : 0));
  const double r = 1 / (root + (rule.eps == Eps::kOutside ? eps : 0));
  double through = 0, mean_dx = 0;  // through: sum_j d_y_j w_j x_j
  const auto weight = [&](std::int64_t i) { return a.w(i % C) + rule.weight_offset; };
  for (std::int64_t i = 0; i < size; ++i) {
    const double x = a.x(n, i) - mean, dy = a.dy(n, i);
    a.y(n, i) = x * r * weight(i);
    through += dy * weight(i) * x;
    a.dw(i % C) += share * dy * x * (rule.dw_of_normalised ? r : 1);
  }
  for (std::int64_t i = 0; i < size; ++i) {  // dr/dx_i = -r^2 x_i / (terms root)
    const double through_r = rule.through_r ? r * r * (a.x(n, i) - mean) / (terms * root) * through : 0;
    a.dx(n, i) = r * a.dy(n, i) * weight(i) - through_r;
    mean_dx += a.dx(n, i) / static_cast<double>(size);
  }
  for (double& dx : a.dx.Row(n)) dx -= rule.mean_subtracted ? mean_dx : 0;
}

Values Plain(const Values& inputs, double eps, const Rule& rule) {
  Value x = inputs.at("x"), dy = inputs.at("d_y");
  const std::vector<std::int64_t> shape = x.shape;
  const std::int64_t width = rule.across_heads ? x.size() / x.dim(0) : shape.back(), rows = x.size() / width;
  x.shape = dy.shape = {rows, width};
  Rows a{x, dy, inputs.at("w")};
  const std::int64_t summed = x.size() / a.w.size();  // rows of dw's sum
  for (std::int64_t n = 0; n < rows; ++n) {
    double share = rule.dw == RowSum::kMean ? 1 / static_cast<double>(summed) : 1;
    if (rule.dw == RowSum::kLast && n + 1 < rows) share = 0;
    Normalise(a, n, rule.fixed_eps > 0 ? rule.fixed_eps : eps, share, rule);
  }
  a.y.shape = a.dx.shape = shape;
  return {{"y", a.y}, {"dx", a.dx}, {"dw", a.dw}};
}

Values Kernel(const Context& ctx, const Values& inputs, double eps, Noise& noise) {
  const TensorsOf in{ctx, inputs};
  const Tensor x = in("x"), w = in("w"), dy = in("d_y");
  const Tensor y = ZerosLike(ctx, x), dx = ZerosLike(ctx, x), dw = ZerosLike(ctx, w);
  const Tensor rstd = ctx.arena->New(DType::kF64, {x.size() / w.size()});
  RmsNormForward(ctx, y, rstd, x, w, eps);
  noise.Disturb(rstd);  // it is stored for the backward, which subtracts two nearly equal terms where C is small
  RmsNormBackward(ctx, dx, dw, dy, x, w, rstd);
  return {{"y", ValueOf(y)}, {"dx", ValueOf(dx)}, {"dw", ValueOf(dw)}};
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  const double eps = c.Number("eps");
  if (mistake.empty()) return Kernel(ctx, inputs, eps, noise);
  return Plain(inputs, eps, WithMistake(Rule(), kMistakes, mistake));
}

Case MakeCase(const std::string& name, const std::string& meaning, const std::vector<std::int64_t>& shape, double eps,
              double scale) {
  const std::int64_t C = shape.back();
  PhiloxStream random = StreamOf("ops", name);
  return {name,
          meaning,
          {{"rows", shape[0]}, {"heads", shape.size() == 3 ? shape[1] : 1}, {"channels", C}, {"eps", eps}},
          {{"x", RandomNormal(random, shape, scale)},
           {"w", RandomNormal(random, {C}, 0.5)},
           {"d_y", RandomNormal(random, shape)}},
          std::max(C, SizeOf(shape) / C)};
}

// The row in the middle is 0: only eps keeps it finite.
Case WithZeroRow(Case c) {
  Value& x = c.inputs.at("x");
  for (double& element : x.Row(x.dim(0) / 2)) element = 0;
  return c;
}

}  // namespace rmsnorm_op

Family RmsNormFamily() {
  using namespace rmsnorm_op;
  return {.name = "rmsnorm",
          .semantics = {"y = x w / sqrt(mean(x^2) + eps); the mean is over the last dimension: of a row, or, where x "
                        "has three dimensions, of each head by itself (q/k norm), with one w for all heads.",
                        "dx and dw are the gradients of sum(y * d_y); dw is summed over rows and heads."},
          .inputs = {{"x", "[N, C] or [N, H, D]", "rows, or rows of heads"},
                     {"w", "[C] or [D]", "weights"},
                     {"d_y", "as x", "gradient of the loss with respect to y"}},
          .outputs = {{"y", "as x", "result"},
                      {"dx", "as x", "gradient of x", true},
                      {"dw", "as w", "gradient of w", true}},
          .roundings = {{"squares", "1/rms", "x/rms"},
                        {"d_y w", "sum of d_y w x", "its product with x", "difference of the two terms"}},
          .mistakes = NamesOf(kMistakes),
          .cases = {MakeCase("rmsnorm_one", "one number: y = w x / |x|, nearly", {1, 1}, 1e-5, 1),
                    MakeCase("rmsnorm_row", "a single row", {1, 16}, 1e-6, 1),
                    MakeCase("rmsnorm_primes", "sizes that are no multiple of anything", {7, 13}, 1e-5, 1),
                    MakeCase("rmsnorm_small", "numbers so small that eps counts", {5, 12}, 1e-5, 0x1p-8),
                    MakeCase("rmsnorm_tiny", "numbers below the root of eps", {5, 8}, 1e-6, 0x1p-12),
                    MakeCase("rmsnorm_large", "numbers of some hundreds", {4, 16}, 1e-5, 256),
                    WithZeroRow(MakeCase("rmsnorm_zero_row", "a row of zeros among others", {5, 8}, 1e-5, 1)),
                    MakeCase("rmsnorm_heads", "q/k norm: each head by itself", {5, 3, 8}, 1e-6, 1),
                    MakeCase("rmsnorm_heads_small", "q/k norm of small numbers", {3, 2, 16}, 1e-5, 0x1p-8)},
          .evaluate = Evaluate};
}

}  // namespace swarr::oracle
