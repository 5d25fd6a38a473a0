// SPDX-License-Identifier: Apache-2.0
// Linear layers.
#include <algorithm>

#include "oracle/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

// What is done to the inputs and to the outputs of the kernels.
struct Tampering {
  bool w_transposed = false;  // square layers alone
  bool dx_transposed = false, dw_transposed = false;
  double bias = 1, residual = 1;  // how often they are added
  bool mean_dw = false, mean_db = false, last_db = false;
};

constexpr Switch<Tampering> kMistakes[] = {
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

Value Transposed(const Value& w) {
  Value t = Zeros({w.dim(1), w.dim(0)});
  for (std::int64_t i = 0; i < w.dim(0); ++i) {
    for (std::int64_t j = 0; j < w.dim(1); ++j) {
      t.data[static_cast<std::size_t>(j * w.dim(0) + i)] = w.data[static_cast<std::size_t>(i * w.dim(1) + j)];
    }
  }
  return t;
}

Value Scaled(Value value, double factor) {
  for (double& x : value.data) x *= factor;
  return value;
}

Tensor Optional(const Context& ctx, const Values& inputs, const char* name, double factor) {
  const auto found = inputs.find(name);
  return found == inputs.end() ? Tensor() : InArena(ctx, Scaled(found->second, factor));
}

Value DxOf(const Context& ctx, const Tensor& dy, const Tensor& x, const Value& w) {
  const Tensor dx = ctx.arena->NewLike(x);
  FillZero(dx);
  LinearBackward(ctx, dx, {}, {}, dy, x, InArena(ctx, w));
  return ValueOf(dx);
}

Values Evaluate(const Context& ctx, const Case&, const Values& inputs, const std::string& mistake, Noise&) {
  const Tampering t = WithMistake(Tampering(), kMistakes, mistake);
  const Value &x_in = inputs.at("x"), &w_in = inputs.at("w");
  const std::int64_t N = x_in.dim(0), I = x_in.dim(1), O = w_in.dim(0);
  const bool square = I == O;
  const Value w_used = t.w_transposed && square ? Transposed(w_in) : w_in;
  const Tensor x = InArena(ctx, x_in), w = InArena(ctx, w_used), dy = InArena(ctx, inputs.at("d_y"));
  const Tensor y = ctx.arena->NewLike(dy), dw = ctx.arena->NewZero(DType::kF64, {O, I});
  const Tensor db = inputs.contains("b") ? ctx.arena->NewZero(DType::kF64, {O}) : Tensor();
  LinearForward(ctx, y, x, w, Optional(ctx, inputs, "b", t.bias), Optional(ctx, inputs, "residual", t.residual));
  LinearBackward(ctx, {}, dw, db, dy, x, w);

  Values outputs = {{"y", ValueOf(y)},
                    {"dx", DxOf(ctx, dy, x, t.dx_transposed && square ? Transposed(w_used) : w_used)},
                    {"dw", Scaled(ValueOf(dw), t.mean_dw ? 1 / static_cast<double>(N) : 1)}};
  if (square && t.w_transposed != t.dw_transposed) outputs["dw"] = Transposed(outputs["dw"]);
  if (db.empty()) return outputs;
  outputs["db"] = Scaled(ValueOf(db), t.mean_db ? 1 / static_cast<double>(N) : 1);
  if (t.last_db) std::copy_n(dy.data<double>() + (N - 1) * O, O, outputs["db"].data.begin());
  return outputs;
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t N, std::int64_t I, std::int64_t O,
              bool bias, bool residual) {
  Case c{name, meaning, {}, {}, static_cast<int>(std::max({N, I, O}))};
  c.parameters = {{"rows", N}, {"in", I}, {"out", O}, {"bias", bias ? 1 : 0}, {"residual", residual ? 1 : 0}};
  PhiloxStream random = StreamOf("ops", name);
  c.inputs = {{"x", RandomNormal(random, {N, I})},
              {"w", RandomNormal(random, {O, I}, 0.5)},
              {"d_y", RandomNormal(random, {N, O})}};
  if (bias) c.inputs["b"] = RandomNormal(random, {O});
  if (residual) c.inputs["residual"] = RandomNormal(random, {N, O});
  return c;
}

}  // namespace

Family LinearFamily() {
  Family f;
  f.name = "linear";
  f.semantics = {
      "y = x w^T + b + residual; b and residual only where the case has them. w is [out, in].",
      "dx, dw, db are the gradients of sum(y * d_y): dx = d_y w, dw = d_y^T x, db = the sum of d_y over rows; "
      "the residual's is d_y itself."};
  f.inputs = {{"x", "[N, I]", "rows", false},
              {"w", "[O, I]", "weights", false},
              {"b", "[O]", "bias", false},
              {"residual", "[N, O]", "added to the result", false},
              {"d_y", "[N, O]", "gradient of the loss with respect to y", false}};
  f.outputs = {{"y", "[N, O]", "result", false},
               {"dx", "[N, I]", "gradient of x", true},
               {"dw", "[O, I]", "gradient of w, summed over rows", true},
               {"db", "[O]", "gradient of b, summed over rows", true}};
  f.roundings = {{"product x w^T", "product plus bias"}, {}};
  f.mistakes = NamesOf(kMistakes);
  f.cases = {
      MakeCase("linear_one", "one row, one number", 1, 1, 1, true, true),
      MakeCase("linear_row", "a single row", 1, 8, 5, true, false),
      MakeCase("linear_plain", "no bias, no residual", 7, 12, 10, false, false),
      MakeCase("linear_primes", "sizes that are no multiple of anything", 13, 17, 11, true, false),
      MakeCase("linear_square", "square weights, where a transposition shows in no shape", 6, 9, 9, false, false),
      MakeCase("linear_residual", "a residual, as after attention", 5, 7, 12, false, true),
      MakeCase("linear_all", "bias, residual and square weights", 5, 8, 8, true, true),
      MakeCase("linear_wide", "sums over 67 terms", 3, 67, 4, true, false)};
  f.evaluate = Evaluate;
  return f;
}

}  // namespace swarr::oracle
