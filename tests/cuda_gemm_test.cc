// SPDX-License-Identifier: Apache-2.0
// Matrix products and the LM head on a CUDA device: against cuBLAS, and one kernel against the other.
#include <doctest/doctest.h>

#include <algorithm>

#include "cuda_report.h"
#include "gemm_problems.h"

using namespace swarr;

namespace {

// Checks on a device that a product of many rows has the bits of those rows few at a time, which another kernel
// multiplies. `biased`: a linear layer with bias and residual.
void CheckFewRowsAtATime(const GemmProduct& p, DType out, bool biased, std::int64_t rows, std::int64_t columns,
                         std::int64_t depth, std::int64_t few_rows = 64) {
  INFO(p.name << " " << rows << "x" << columns << "x" << depth << " to " << Name(out) << " " << biased << ", "
              << few_rows << " at a time");
  TestContext t(Device::kCuda);
  Arena& host = *t.ctx.host;
  const GemmProblem q = MakeProblem(host, p, DType::kBF16, rows, columns, depth);
  const Tensor a = ToDevice(t.ctx, q.a), b = ToDevice(t.ctx, q.b), start = Random(host, out, {rows, columns}, 3);
  const Tensor bias = biased ? ToDevice(t.ctx, Random(host, DType::kBF16, {columns}, 4)) : Tensor{};
  const auto run = [&](const Tensor& c, const Tensor& left) {
    if (biased) return LinearForward(t.ctx, c, left, b, bias, c);
    p.run(t.ctx, c, left, b, true);
  };
  const Tensor many = ToDevice(t.ctx, start), few = ToDevice(t.ctx, start);
  run(many, a);
  for (std::int64_t begin = 0; begin < rows; begin += few_rows) {
    const std::int64_t end = std::min(rows, begin + few_rows);
    run(few.Rows(begin, end), p.a_transposed ? ToDevice(t.ctx, RowsOfA(host, p, q, begin, end)) : a.Rows(begin, end));
  }
  CHECK(SameBits(OnHost(t.ctx, many), OnHost(t.ctx, few)));
}

// What the LM head gives for rows of x: forward results and dx.
struct HeadResults {
  Tensor logp, lse, entropy, dx;
  HeadResults Rows(std::int64_t begin, std::int64_t end) const {
    return {logp.Rows(begin, end), lse.Rows(begin, end), entropy.Rows(begin, end), dx.Rows(begin, end)};
  }
};
struct HeadInputs {
  Tensor x, w, targets, dlogp, dentropy;
  void Run(const Context& ctx, const HeadResults& r, std::int64_t begin, std::int64_t end) const {
    const LogprobInputs in{x.Rows(begin, end), w, targets.Rows(begin, end)};
    const HeadResults to = r.Rows(begin, end);
    TokenLogprobForward(ctx, to.logp, to.lse, to.entropy, in);
    const Tensor dh = dentropy.empty() ? dentropy : dentropy.Rows(begin, end);
    const Tensor dw = ZeroLike(ctx, DType::kF32, w);
    TokenLogprobBackward(ctx, to.dx.Fresh(), dw, dlogp.Rows(begin, end), dh, to.lse, to.entropy, in);
  }
};

}  // namespace

TEST_CASE("CUDA: a linear layer in bf16 has the same bits for any number of rows, narrow, deep or wide (P8)") {
  if (SkippedWithoutCuda()) return;
  // Weights of the second pass through shared memory in turns; the third has too many columns for many blocks.
  const std::int64_t shapes[][2] = {{576, 576}, {136, 3080}, {8200, 72}};
  for (const auto& [columns, depth] : shapes) {
    for (const std::int64_t few : {1, 8, 9, 16, 17, 32, 33, 64, 65, 256, 384, 512}) {
      for (const DType out : {DType::kBF16, DType::kF32}) {
        CheckFewRowsAtATime(kProducts[0], out, /*biased=*/false, 600, columns, depth, few);
      }
      CheckFewRowsAtATime(kProducts[0], DType::kBF16, /*biased=*/true, 600, columns, depth, few);
    }
  }
}

TEST_CASE("CUDA: the LM head in bf16 has the bits of its rows few at a time, where logits are held (P8)") {
  if (SkippedWithoutCuda()) return;
  constexpr std::int64_t kRows = 300, kVocab = 5000, kWidth = 136, kFew = 50;
  for (const bool entropy : {false, true}) {
    INFO(entropy);
    TestContext t(Device::kCuda);
    Arena& host = *t.ctx.host;
    std::vector<std::int32_t> targets;
    for (int n = 0; n < kRows; ++n) targets.push_back(n * 997 % static_cast<int>(kVocab));
    targets[1] = 0;
    targets[2] = static_cast<std::int32_t>(kVocab) - 1;
    const auto random = [&](DType dtype, std::initializer_list<std::int64_t> shape, int seed) {
      return ToDevice(t.ctx, Random(host, dtype, shape, seed));
    };
    const HeadInputs in{random(DType::kBF16, {kRows, kWidth}, 1), random(DType::kBF16, {kVocab, kWidth}, 2),
                        ToDevice(t.ctx, Ints(host, targets)), random(DType::kF32, {kRows}, 3),
                        entropy ? random(DType::kF32, {kRows}, 4) : Tensor{}};
    const auto results = [&] {
      const auto column = [&] { return t.arena.New(DType::kF32, {kRows}); };
      return HeadResults{column(), column(), column(), t.arena.NewLike(in.x)};
    };
    const HeadResults many = results(), few = results();
    in.Run(t.ctx, many, 0, kRows);
    for (std::int64_t begin = 0; begin < kRows; begin += kFew) in.Run(t.ctx, few, begin, begin + kFew);
    CHECK(SameBits(OnHost(t.ctx, many.logp), OnHost(t.ctx, few.logp)));
    CHECK(SameBits(OnHost(t.ctx, many.lse), OnHost(t.ctx, few.lse)));
    CHECK(SameBits(OnHost(t.ctx, many.entropy), OnHost(t.ctx, few.entropy)));
    CHECK(SameBits(OnHost(t.ctx, many.dx), OnHost(t.ctx, few.dx)));
  }
}

TEST_CASE("CUDA: our products agree with cuBLAS's, with bias and residual too") {
  if (SkippedWithoutCuda()) return;
  for (const GemmProduct& p : kProducts) {
    for (const DType dtype : kGemmDTypes) {
      for (const bool accumulate : {false, true}) {
        INFO(p.name << " " << Name(dtype) << " " << accumulate);
        TestContext t(Device::kCuda);
        // Deeper than a part of the gradients of weights, and no multiple of any tile.
        const std::int64_t rows = 67, columns = 45, depth = 2500;
        const GemmProblem q = MakeProblem(*t.ctx.host, p, dtype, rows, columns, depth);
        const Tensor a = ToDevice(t.ctx, q.a), b = ToDevice(t.ctx, q.b);
        const Tensor start = Random(*t.ctx.host, AccumulatorOf(dtype), {rows, columns}, 3);
        const Tensor ours = ToDevice(t.ctx, start), theirs = ToDevice(t.ctx, start);
        p.run(t.ctx, ours, a, b, accumulate);
        t.ctx.gemm = GemmKind::kCublas;
        p.run(t.ctx, theirs, a, b, accumulate);
        CHECK(RelativeError(OnHost(t.ctx, theirs), OnHost(t.ctx, ours)) <= OrderBound(dtype, depth));
      }
    }
  }
  for (const DType dtype : kGemmDTypes) {
    for (const bool biased : {false, true}) {
      INFO(Name(dtype) << " " << biased);
      TestContext t(Device::kCuda);
      Arena& host = *t.ctx.host;
      const GemmProblem q = MakeProblem(host, kProducts[0], dtype, 67, 45, 300);
      const Tensor x = ToDevice(t.ctx, q.a), w = ToDevice(t.ctx, q.b);
      const Tensor residual = ToDevice(t.ctx, Random(host, dtype, {67, 45}, 3));
      const Tensor bias = biased ? ToDevice(t.ctx, Random(host, dtype, {45}, 4)) : Tensor{};
      const Tensor ours = t.arena.NewLike(residual), theirs = t.arena.NewLike(residual);
      LinearForward(t.ctx, ours, x, w, bias, residual);
      t.ctx.gemm = GemmKind::kCublas;
      LinearForward(t.ctx, theirs, x, w, bias, residual);
      // In bf16 sums that differ by as little may be rounded to neighbours.
      const double bound = OrderBound(dtype, 300) + (dtype == DType::kBF16 ? 0x1p-7 : 0);
      CHECK(RelativeError(OnHost(t.ctx, theirs), OnHost(t.ctx, ours)) <= bound);
    }
  }
}

TEST_CASE("CUDA: a product in bf16 has the bits of its rows few at a time, whichever kernel multiplies (P8)") {
  if (SkippedWithoutCuda()) return;
  // On a device of 132 multiprocessors the last three have narrow, middle and wide tiles by warpgroups, all over the
  // edges of c. Gradients of weights are cut into parts by their shape, so for few rows differently; with so few k
  // there is one part.
  const std::int64_t shapes[][3] = {
      {257, 328, 200}, {1000, 968, 504}, {16888, 120, 328}, {16888, 184, 136}, {16888, 248, 72}};
  for (const auto& [rows, columns, depth] : shapes) {
    for (const GemmProduct& p : kProducts) {
      for (const DType out : {DType::kBF16, DType::kF32}) {
        CheckFewRowsAtATime(p, out, /*biased=*/false, rows, columns, depth);
      }
    }
    CheckFewRowsAtATime(kProducts[0], DType::kBF16, /*biased=*/true, rows, columns, depth);
  }
}
