// SPDX-License-Identifier: Apache-2.0
// Matrix products and the LM head on a CUDA device: against cuBLAS, and one kernel against the other.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "cuda_report.h"
#include "gemm_problems.h"
#include "tensor/linears.h"

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

// Columns [begin, end) of a matrix.
Tensor Columns(Arena& arena, const Tensor& x, std::int64_t begin, std::int64_t end) {
  const Tensor y = arena.New(x.dtype(), {x.dim(0), end - begin});
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    Copy(y.Rows(n, n + 1).Reshape({end - begin}), x.Rows(n, n + 1).Reshape({x.dim(1)}).Rows(begin, end));
  }
  return y;
}

// dy[rows, depth] and w[depth, columns] with the depth cut into three.
struct Terms {
  Tensor dy, w;
  std::vector<InputGradientTerm> of_three;

  Terms(TestContext& t, DType dtype, std::int64_t rows, std::int64_t columns, const std::int64_t (&depths)[3]) {
    Arena& host = *t.ctx.host;
    const std::int64_t depth = depths[0] + depths[1] + depths[2];
    dy = Random(host, dtype, {rows, depth}, 1);
    w = ToDevice(t.ctx, Random(host, dtype, {depth, columns}, 2));
    std::int64_t begin = 0;
    for (const std::int64_t d : depths) {
      of_three.push_back({ToDevice(t.ctx, Columns(host, dy, begin, begin + d)), w.Rows(begin, begin + d)});
      begin += d;
    }
    dy = ToDevice(t.ctx, dy);
  }
  void Add(const Context& ctx, const Tensor& dx, std::int64_t begin, std::int64_t end) const {
    const auto term = [&](int i) {
      const InputGradientTerm& whole = of_three[static_cast<std::size_t>(i)];
      return InputGradientTerm{whole.dy.Rows(begin, end), whole.w};
    };
    const InputGradientTerm all[] = {term(0), term(1), term(2)};
    LinearsInputGradient(ctx, dx.Rows(begin, end), all);
  }
};

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

TEST_CASE("CUDA: products that are added in one kernel have the bits of one product of all their depths") {
  if (SkippedWithoutCuda()) return;
  for (const DType dtype : kGemmDTypes) {
    for (const std::int64_t rows : {40, 4000}) {
      INFO(Name(dtype) << " " << rows);
      constexpr std::int64_t kColumns = 328;
      TestContext t(Device::kCuda);
      const Terms terms(t, dtype, rows, kColumns, {192, 64, 320});
      const Tensor added = t.arena.New(dtype, {rows, kColumns}), whole = t.arena.NewLike(added);
      terms.Add(t.ctx, added, 0, rows);
      MatMulNN(t.ctx, whole, terms.dy, terms.w);
      CHECK(SameBits(OnHost(t.ctx, added), OnHost(t.ctx, whole)));
    }
  }
}

TEST_CASE("CUDA: added products in bf16 have the bits of their rows few at a time, at any depths (P8)") {
  if (SkippedWithoutCuda()) return;
  constexpr std::int64_t kRows = 4000, kColumns = 328, kFew = 48;
  TestContext t(Device::kCuda);
  const Terms terms(t, DType::kBF16, kRows, kColumns, {72, 200, 8});
  const Tensor many = t.arena.New(DType::kBF16, {kRows, kColumns}), few = t.arena.NewLike(many);
  terms.Add(t.ctx, many, 0, kRows);
  for (std::int64_t begin = 0; begin < kRows; begin += kFew) {
    terms.Add(t.ctx, few, begin, std::min(kRows, begin + kFew));
  }
  CHECK(SameBits(OnHost(t.ctx, many), OnHost(t.ctx, few)));
  const Tensor whole = t.arena.New(DType::kF32, {kRows, kColumns});
  MatMulNN(t.ctx, whole, terms.dy, terms.w);
  CHECK(RelativeError(OnHost(t.ctx, many), OnHost(t.ctx, whole)) <= OrderBound(DType::kBF16, 280) + 0x1p-8);
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

TEST_CASE(
    "CUDA: gradients of weights that are cut into parts agree with cuBLAS's, add to what is there, and have the same "
    "bits twice") {
  if (SkippedWithoutCuda()) return;
  constexpr std::int64_t kRows = 9000, kWidth = 576;
  TestContext t(Device::kCuda);
  const auto random = [&](DType dtype, std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
    return ToDevice(t.ctx, Random(t.ctx.HostArena(), dtype, {rows, columns}, seed));
  };
  const Tensor x = random(DType::kBF16, kRows, kWidth, 1);
  // Parts of several products, equal and with a short last one; many parts of narrow tiles; one part; and more tiles
  // than multiprocessors.
  for (const std::vector<std::int64_t>& widths :
       {std::vector<std::int64_t>{576, 192, 200}, {2048, 1024, 1024}, {1536, 1536}, {104}, {5504}, {9000}}) {
    std::vector<Tensor> theirs, ours[2];
    std::vector<WeightGradient> gradients[2];
    for (const std::int64_t width : widths) {
      INFO(width << " of " << widths.size());
      const Tensor dy = random(DType::kBF16, kRows, width, 2), start = random(DType::kF32, width, kWidth, 3);
      for (int run = 0; run < 2; ++run) {
        ours[run].push_back(t.ctx.arena->NewLike(start));
        Copy(t.ctx, ours[run].back(), start);
        gradients[run].push_back({ours[run].back(), dy});
      }
      theirs.push_back(start);
      Context library = t.ctx;
      library.gemm = GemmKind::kCublas;
      MatMulTN(library, theirs.back(), dy, x, /*accumulate=*/true);
    }
    for (const auto& run : gradients) LinearsWeightGradients(t.ctx, x, run);
    for (std::size_t i = 0; i < widths.size(); ++i) {
      CHECK(RelativeError(OnHost(t.ctx, ours[0][i]), OnHost(t.ctx, theirs[i])) <= OrderBound(DType::kBF16, kRows));
      CHECK(SameBits(OnHost(t.ctx, ours[0][i]), OnHost(t.ctx, ours[1][i])));
      const Tensor fresh = t.ctx.arena->NewLike(theirs[i]), sum = t.ctx.arena->NewLike(theirs[i]);
      LinearsWeightGradients(t.ctx, x, std::vector<WeightGradient>{{fresh.Fresh(), gradients[0][i].dy}});
      FillZero(t.ctx, sum);
      LinearsWeightGradients(t.ctx, x, std::vector<WeightGradient>{{sum, gradients[0][i].dy}});
      CHECK(SameBits(OnHost(t.ctx, fresh), OnHost(t.ctx, sum)));
    }
  }
}

TEST_CASE("CUDA: a product in bf16 has the bits of its rows few at a time, whichever kernel multiplies (P8)") {
  if (SkippedWithoutCuda()) return;
  // On a device of 132 multiprocessors the last three have both tiles by warpgroups, all over the edges of c; 16760
  // rows are an odd number of tiles, so that one of a pair lies below c. Gradients of weights are cut into parts by
  // their shape, so for few rows differently; with so few k there is one part. They have seven kinds of tiles
  // (gemm_parts.h): of 192 x 64 and of 128 x 256 in pairs here, and the others in the second list.
  const std::int64_t shapes[][3] = {
      {257, 328, 200}, {1000, 968, 504}, {16888, 120, 328}, {16760, 184, 136}, {16888, 248, 72}};
  for (const auto& [rows, columns, depth] : shapes) {
    for (const GemmProduct& p : kProducts) {
      for (const DType out : {DType::kBF16, DType::kF32}) {
        CheckFewRowsAtATime(p, out, /*biased=*/false, rows, columns, depth);
      }
    }
    CheckFewRowsAtATime(kProducts[0], DType::kBF16, /*biased=*/true, rows, columns, depth);
  }
  const std::int64_t of_weights[][3] = {
      {4176, 808, 480}, {6272, 584, 72}, {12736, 72, 400}, {15272, 280, 64}, {16928, 152, 64}};
  for (const auto& [rows, columns, depth] : of_weights) {
    CheckFewRowsAtATime(kProducts[2], DType::kF32, /*biased=*/false, rows, columns, depth);
  }
}

// On the processor: one accumulator that begins with the addend, over ascending k, and then the bias.
float ElementOf(const Tensor& x, const Tensor& w, float addend, float bias, std::int64_t n, std::int64_t o) {
  float sum = addend;
  for (std::int64_t k = 0; k < x.dim(1); ++k) {
    sum = std::fma(x.data<float>()[n * x.dim(1) + k], w.data<float>()[o * x.dim(1) + k], sum);
  }
  return sum + bias;
}

TEST_CASE("CUDA: a product in f32 is one accumulator over ascending k, whether k lies in shared memory whole or not") {
  if (SkippedWithoutCuda()) return;
  for (const auto& [rows, columns, depth] : {std::array<std::int64_t, 3>{1, 24, 128},
                                             {5, 33, 7},
                                             {130, 336, 128},
                                             {77, 128, 336},
                                             {50, 40, 600},
                                             {50, 40, 1001},
                                             {3000, 1500, 20}}) {
    INFO(rows << "x" << columns << "x" << depth);
    TestContext t(Device::kCuda);
    Arena& host = *t.ctx.host;
    const Tensor x = Random(host, DType::kF32, {rows, depth}, 1), w = Random(host, DType::kF32, {columns, depth}, 2),
                 bias = Random(host, DType::kF32, {columns}, 3), start = Random(host, DType::kF32, {rows, columns}, 4);
    const Tensor y = ToDevice(t.ctx, start);
    LinearForward(t.ctx, y, ToDevice(t.ctx, x), ToDevice(t.ctx, w), ToDevice(t.ctx, bias), y);
    const Tensor got = OnHost(t.ctx, y);
    std::int64_t different = 0;
    for (std::int64_t i = 0; i<rows * columns; i += rows> 1000 ? 101 : 1) {
      const std::int64_t o = i % columns;
      different +=
          got.data<float>()[i] != ElementOf(x, w, start.data<float>()[i], bias.data<float>()[o], i / columns, o);
    }
    CHECK(different == 0);
  }
}
