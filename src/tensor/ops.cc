// SPDX-License-Identifier: Apache-2.0
// The entries of the ops: each checks its arguments, once for all kernels, and runs the kernels of the context's
// device.
#include "tensor/ops.h"

#include <algorithm>

#include "tensor/kernels/kernels.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// The result of a product has the operands' dtype, or the one that they are summed in.
void CheckProduct(const Tensor& c, const Tensor& operand, std::initializer_list<std::int64_t> shape, const char* what) {
  const bool summed = c.dtype() == AccumulatorOf(operand.dtype());
  CheckShape(c, summed ? c.dtype() : operand.dtype(), shape, what);
}

// A gradient for kernels that can only add: zeros instead of nothing.
const Tensor& ZeroIfFresh(const Context& ctx, const Tensor& grad) {
  if (grad.fresh()) FillZero(ctx, grad);
  return grad;
}

// In a loop without a branch: a device waits while a step's rows are checked.
bool AllWithin(const Tensor& ints, std::int64_t end) {
  const std::int32_t* x = ints.data<std::int32_t>();
  const auto limit = static_cast<std::uint32_t>(std::clamp<std::int64_t>(end, 0, std::int64_t{1} << 31));
  bool within = true;
  for (std::int64_t n = 0; n < ints.dim(0); ++n) within &= static_cast<std::uint32_t>(x[n]) < limit;
  return within;
}

}  // namespace

void CheckIds(const Tensor& ids, std::int64_t vocab, const char* what) {
  if (AllWithin(ids, vocab)) return;
  const std::int32_t* id = ids.data<std::int32_t>();
  for (std::int64_t n = 0; n < ids.dim(0); ++n) {
    SWARR_CHECK(id[n] >= 0 && id[n] < vocab, what, " ", id[n], " is outside the vocabulary of ", vocab);
  }
}

void CheckPositions(const Tensor& positions, std::int64_t context) {
  if (AllWithin(positions, context)) return;
  const std::int32_t* position = positions.data<std::int32_t>();
  for (std::int64_t n = 0; n < positions.dim(0); ++n) {
    SWARR_CHECK(position[n] >= 0 && position[n] < context, "position ", position[n],
                " is outside the model's context of ", context, " tokens (max_position_embeddings in config.json)");
  }
}

void LinearForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b,
                   const Tensor& residual) {
  const std::int64_t m = x.dim(0), k = x.dim(1), n = w.dim(0);
  CheckShape(x, x.dtype(), {m, k}, "the input of a product x w^T");
  CheckShape(w, x.dtype(), {n, k}, "the weight of a product x w^T");
  CheckProduct(y, x, {m, n}, "the result of a product x w^T");
  if (!b.empty()) CheckShape(b, x.dtype(), {n}, "the bias of a linear layer");
  if (!residual.empty()) CheckShape(residual, y.dtype(), {m, n}, "the addend of a product x w^T");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::MatMulNT(ctx, y, x, w, b, residual); });
}

void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate) {
  const std::int64_t m = dy.dim(0), n = dy.dim(1), k = w.dim(1);
  CheckShape(dy, dy.dtype(), {m, n}, "the gradient of a product dy w");
  CheckShape(w, dy.dtype(), {n, k}, "the weight of a product dy w");
  CheckProduct(dx, dy, {m, k}, "the result of a product dy w");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::MatMulNN(ctx, dx, dy, w, accumulate); });
}

void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate) {
  const std::int64_t m = dy.dim(0), n = dy.dim(1), k = x.dim(1);
  CheckShape(dy, dy.dtype(), {m, n}, "the gradient of a product dy^T x");
  CheckShape(x, dy.dtype(), {m, k}, "the input of a product dy^T x");
  CheckProduct(dw, dy, {n, k}, "the result of a product dy^T x");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::MatMulTN(ctx, dw, dy, x, accumulate); });
}

GemmKind ParseGemm(const std::string& name, Device device) {
  const auto kind = ParseName<GemmKind>("--gemm", name);
  const GemmKind library = device == Device::kCuda ? GemmKind::kCublas : GemmKind::kEigen;
  if (kind == GemmKind::kOwn || kind == library) return kind;
  const Device other = device == Device::kCuda ? Device::kCpu : Device::kCuda;
  throw UsageError(Concat("--gemm ", name, " is for --device ", Name(other), "; use own or ", Name(library), " here"));
}

void GatherRows(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rows) {
  CheckShape(rows, DType::kI32, {-1}, "the list of rows to gather");
  CheckShape(y, x.dtype(), {rows.dim(0), x.dim(1)}, "the rows gathered");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::GatherRows(ctx, y, x, rows); });
}

void EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids) {
  if (dw.empty()) return;
  CheckShape(dw, AccumulatorOf(dy.dtype()), {-1, dy.dim(1)}, "embedding weight gradient");
  CheckShape(dy, dy.dtype(), {ids.dim(0), dw.dim(1)}, "embedding output gradient");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::EmbeddingBackward(ctx, ZeroIfFresh(ctx, dw), dy, ids); });
}

// dx = dy w, dw = dy^T x, db = sum over rows of dy.
void LinearBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& db, const Tensor& dy,
                    const Tensor& x, const Tensor& w) {
  if (!dx.empty()) MatMulNN(ctx, dx, dy, w, /*accumulate=*/!dx.fresh());
  if (!dw.empty()) MatMulTN(ctx, dw, dy, x, /*accumulate=*/!dw.fresh());
  if (!db.empty()) OnDevice(ctx, [&]<class Set>() { Kernels<Set>::BiasBackward(ctx, ZeroIfFresh(ctx, db), dy); });
}

void RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                    double eps) {
  const std::int64_t C = w.dim(0);
  SWARR_CHECK(y.SameShape(x) && x.dim(x.rank() - 1) == C, "rmsnorm of ", x.ShapeString(), " with weight ",
              w.ShapeString(), " into ", y.ShapeString());
  CheckShape(w, x.dtype(), {C}, "rmsnorm weight");
  CheckShape(rstd, AccumulatorOf(x.dtype()), {x.size() / C}, "rmsnorm rstd");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::RmsNormForward(ctx, y, rstd, x, w, eps); });
}

void RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                     const Tensor& w, const Tensor& rstd, const Tensor& y) {
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::RmsNormBackward(ctx, dx, ZeroIfFresh(ctx, dw), dy, x, w, rstd, y); });
}

void RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions, const Tensor& table) {
  const std::int64_t N = x.dim(0), D = x.dim(2);
  CheckShape(positions, DType::kI32, {N}, "rope positions");
  CheckShape(table, AccumulatorOf(x.dtype()), {-1, D}, "rope table");
  SWARR_CHECK(y.SameShape(x) && D % 2 == 0, "rope of ", x.ShapeString(), " into ", y.ShapeString());
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::RopeForward(ctx, y, x, positions, table); });
}

void RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions,
                  const Tensor& table) {
  if (dx.empty()) return;
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::RopeBackward(ctx, dx, dy, positions, table); });
}

void SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up) {
  SWARR_CHECK(y.SameShape(gate) && y.SameShape(up), "swiglu of ", gate.ShapeString(), " and ", up.ShapeString());
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::SwiGluForward(ctx, y, gate, up); });
}

void SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy, const Tensor& gate,
                    const Tensor& up, const Tensor& y) {
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::SwiGluBackward(ctx, dgate, dup, dy, gate, up, y); });
}

void AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  SWARR_CHECK(y.SameShape(a) && y.SameShape(b), "sum of ", a.ShapeString(), " and ", b.ShapeString());
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::AddForward(ctx, y, a, b); });
}

void AddBackward(const Context& ctx, const Tensor& da, const Tensor& db, const Tensor& dy) {
  AddGradient(ctx, da, dy);
  AddGradient(ctx, db, dy);
}

void AddGradient(const Context& ctx, const Tensor& dx, const Tensor& dy) {
  if (dx.empty()) return;
  if (dx.fresh()) return Copy(ctx, dx, dy);
  AddForward(ctx, dx, dx, dy);
}

void CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  SWARR_CHECK(y.size() == x.size(), "cast of ", x.ShapeString(), " to ", y.ShapeString());
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::CastForward(ctx, y, x); });
}

void AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g,
               const AdamWUpdate& update) {
  SWARR_CHECK(w.SameShape(m) && w.SameShape(v) && w.SameShape(g), "AdamW moments or gradients differ from the weight ",
              w.ShapeString());
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::AdamWStep(ctx, w, m, v, g, update); });
}

void SquaresOfChunks(const Context& ctx, const Tensor& sums, const Tensor& x) {
  CheckShape(sums, DType::kF64, {NormChunks(x.size())}, "the sums of squares");
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::SquaresOfChunks(ctx, sums, x); });
}

double RootOfSum(const Context& ctx, const Tensor& sums) {
  return OnDevice(ctx, [&]<class Set>() { return Kernels<Set>::RootOfSum(ctx, sums); });
}

double GlobalNorm(const Context& ctx, const Tensor& x) {
  ArenaScope scope(*ctx.arena);
  const Tensor sums = ctx.arena->New(DType::kF64, {NormChunks(x.size())});
  SquaresOfChunks(ctx, sums, x);
  return RootOfSum(ctx, sums);
}

}  // namespace swarr
