// SPDX-License-Identifier: Apache-2.0
// Linear layers.
#include <algorithm>

#include "oracle/suites/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace linear_op {

// What is done to the inputs and to the outputs of the kernels.
struct Tampering {
  bool w_transposed = false, dx_transposed = false, dw_transposed = false;  // where w is square
  double bias = 1, residual = 1;                                            // how often they are added
  bool mean_dw = false, mean_db = false, last_db = false;
};

constexpr Mistake<Tampering> kMistakes[] = {
    {"y = x w instead of x w^T (square weights)", [](Tampering& t) { t.w_transposed = true; }},
    {"dx = dy w^T instead of dy w (square weights)", [](Tampering& t) { t.dx_transposed = true; }},
    {"dw transposed (square weights)", [](Tampering& t) { t.dw_transposed = true; }},
    {"dw averaged over rows instead of summed", [](Tampering& t) { t.mean_dw = true; }},
    {"the bias missing", [](Tampering& t) { t.bias = 0; }},
    {"the bias's gradient averaged over rows instead of summed", [](Tampering& t) { t.mean_db = true; }},
    {"the bias's gradient of the last row alone", [](Tampering& t) { t.last_db = true; }},
    {"the residual missing", [](Tampering& t) { t.residual = 0; }},
    {"the residual added twice", [](Tampering& t) { t.residual = 2; }},
};

Values Evaluate(const Context& ctx, const Case&, const Values& given, const std::string& mistake, Noise&) {
  const Tampering t = WithMistake(Tampering(), kMistakes, mistake);
  const Value& w_given = given.at("w");
  const bool square = w_given.dim(0) == w_given.dim(1);
  const auto turned = [&](const Value& w, bool turn) { return turn && square ? Transposed(w) : w; };
  Values inputs = given;
  inputs["w"] = turned(w_given, t.w_transposed);
  if (given.contains("b")) inputs["b"] = Scaled(given.at("b"), t.bias);
  if (given.contains("residual")) inputs["residual"] = Scaled(given.at("residual"), t.residual);
  const TensorsOf in{ctx, inputs};
  const Tensor x = in("x"), w = in("w"), b = in("b"), dy = in("d_y");
  const Tensor y = ZerosLike(ctx, dy), dx = ZerosLike(ctx, x), dw = ZerosLike(ctx, w);
  const Tensor db = b.empty() ? b : ZerosLike(ctx, b);
  LinearForward(ctx, y, x, w, b, in("residual"));
  LinearBackward(ctx, {}, dw, db, dy, x, w);
  LinearBackward(ctx, dx, {}, {}, dy, x, InArena(ctx, turned(inputs["w"], t.dx_transposed)));

  const double mean = 1 / static_cast<double>(x.dim(0));
  Values outputs = {{"y", ValueOf(y)},
                    {"dx", ValueOf(dx)},
                    {"dw", turned(Scaled(ValueOf(dw), t.mean_dw ? mean : 1), t.w_transposed != t.dw_transposed)}};
  if (!db.empty()) outputs["db"] = Scaled(ValueOf(db), t.mean_db ? mean : 1);
  if (!db.empty() && t.last_db) {
    const std::span<const double> last = given.at("d_y").Row(x.dim(0) - 1);
    outputs["db"].data.assign(last.begin(), last.end());
  }
  return outputs;
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t N, std::int64_t I, std::int64_t O,
              bool bias, bool residual) {
  PhiloxStream random = StreamOf("ops", name);
  Case c{name,
         meaning,
         {{"rows", N}, {"in", I}, {"out", O}, {"bias", bias ? 1 : 0}, {"residual", residual ? 1 : 0}},
         {{"x", RandomNormal(random, {N, I})},
          {"w", RandomNormal(random, {O, I}, 0.5)},
          {"d_y", RandomNormal(random, {N, O})}},
         std::max({N, I, O})};
  if (bias) c.inputs["b"] = RandomNormal(random, {O});
  if (residual) c.inputs["residual"] = RandomNormal(random, {N, O});
  return c;
}

}  // namespace linear_op

Family LinearFamily() {
  using namespace linear_op;
  return {
      .name = "linear",
      .semantics = {"y = x w^T + b + residual; b and residual only where the case has them. w is [out, in].",
                    "dx, dw, db are the gradients of sum(y * d_y): dx = d_y w, dw = d_y^T x, db = the sum of d_y over "
                    "rows; the residual's is d_y itself."},
      .inputs = {{"x", "[N, I]", "rows"},
                 {"w", "[O, I]", "weights"},
                 {"b", "[O]", "bias"},
                 {"residual", "[N, O]", "added to the result"},
                 {"d_y", "[N, O]", "gradient of the loss with respect to y"}},
      .outputs = {{"y", "[N, O]", "result"},
                  {"dx", "[N, I]", "gradient of x", true},
                  {"dw", "[O, I]", "gradient of w, summed over rows", true},
                  {"db", "[O]", "gradient of b, summed over rows", true}},
      .roundings = {{"product x w^T", "product plus bias"}, {}},
      .mistakes = NamesOf(kMistakes),
      .cases = {MakeCase("linear_one", "one row, one number", 1, 1, 1, true, true),
                MakeCase("linear_row", "a single row", 1, 8, 5, true, false),
                MakeCase("linear_plain", "no bias, no residual", 7, 12, 10, false, false),
                MakeCase("linear_primes", "sizes that are no multiple of anything", 13, 17, 11, true, false),
                MakeCase("linear_square", "square weights, where a transposition shows in no shape", 6, 9, 9, false,
                         false),
                MakeCase("linear_residual", "a residual, as after attention", 5, 7, 12, false, true),
                MakeCase("linear_all", "bias, residual and square weights", 5, 8, 8, true, true),
                MakeCase("linear_wide", "sums over 67 terms", 3, 67, 4, true, false)},
      .evaluate = Evaluate};
}

}  // namespace swarr::oracle
