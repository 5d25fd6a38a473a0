// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "gemm_problems.h"
#include "tensor/packed_weights.h"

using namespace swarr;

namespace {

// The definition. `fused`: one fused multiply-add for each k, or a rounded product and a rounded sum. Where the result
// is rounded, what it held is added to the whole sum; else the sum goes on from there.
template <class T, class Out>
Tensor TripleLoop(Arena& arena, const GemmProduct& p, const GemmProblem& q, const Tensor& start, bool fused) {
  using Sum = Accumulator<T>;
  constexpr bool kRounds = !std::is_same_v<Out, Sum>;
  const Tensor c = CopyOf(arena, start);
  const T *a = q.a.data<T>(), *b = q.b.data<T>();
  for (std::int64_t i = 0; i < q.rows; ++i) {
    for (std::int64_t j = 0; j < q.columns; ++j) {
      Out& to = c.data<Out>()[i * q.columns + j];
      Sum sum = kRounds ? Sum(0) : static_cast<Sum>(to);
      for (std::int64_t k = 0; k < q.depth; ++k) {
        const Sum x = p.a_transposed ? a[k * q.rows + i] : a[i * q.depth + k];
        const Sum y = p.b_transposed ? b[j * q.depth + k] : b[k * q.columns + j];
        sum = fused ? std::fma(x, y, sum) : sum + x * y;
      }
      to = static_cast<Out>(kRounds ? sum + static_cast<Sum>(to) : sum);
    }
  }
  return c;
}

template <class T, class Out>
void CheckAgainstDefinition(Cpu cpu, const GemmProduct& p, std::int64_t rows, std::int64_t columns,
                            std::int64_t depth) {
  TestContext t(1, cpu);
  const GemmProblem q = MakeProblem(t.arena, p, kDTypeOf<T>, rows, columns, depth);
  for (bool accumulate : {false, true}) {
    INFO(Name(cpu) << " " << p.name << " " << rows << "x" << columns << "x" << depth << " " << Name(kDTypeOf<T>)
                   << " to " << Name(kDTypeOf<Out>) << " " << accumulate);
    const Tensor c = Random(t.arena, kDTypeOf<Out>, {rows, columns}, 3);
    // Without accumulate, what the output held must not matter, were it not a number.
    if (!accumulate) Fill(c, std::numeric_limits<double>::quiet_NaN());
    const Tensor start = accumulate ? CopyOf(t.arena, c) : t.arena.NewZero(kDTypeOf<Out>, {rows, columns});
    p.run(t.ctx, c, q.a, q.b, accumulate);
    const bool same = SameBits(c, TripleLoop<T, Out>(t.arena, p, q, start, /*fused=*/true)) ||
                      SameBits(c, TripleLoop<T, Out>(t.arena, p, q, start, /*fused=*/false));
    CHECK(same);
  }
}

// The product for these rows alone.
Tensor RowsAlone(Context& ctx, const GemmProduct& p, const GemmProblem& q, std::int64_t begin, std::int64_t end) {
  const Tensor c = ctx.arena->New(q.a.dtype(), {end - begin, q.columns});
  p.run(ctx, c, RowsOfA(*ctx.arena, p, q, begin, end), q.b, false);
  return c;
}

}  // namespace

TEST_CASE("every product is, bit for bit, one accumulator over ascending k (P8)") {
  // Sizes around the tile (6 or 8 rows, 32 columns), the row block (128) and the block of k (a few hundred at most).
  for (Cpu cpu : SupportedCpus()) {
    // Instructions for products of bf16 have an order of their own within a pair of k: tile_kernel_test.cc.
    const bool widens = cpu < Cpu::kAvx512Bf16;
    for (const GemmProduct& p : kProducts) {
      for (std::int64_t depth : {0, 1, 2, 127, 128, 129, 385}) {
        for (auto [rows, columns] : {std::pair{1, 1}, {1, 33}, {3, 7}, {9, 32}, {130, 17}, {70, 65}}) {
          CheckAgainstDefinition<float, float>(cpu, p, rows, columns, depth);
          CheckAgainstDefinition<double, double>(cpu, p, rows, columns, depth);
          if (!widens) continue;
          CheckAgainstDefinition<BFloat16, BFloat16>(cpu, p, rows, columns, depth);
          CheckAgainstDefinition<BFloat16, float>(cpu, p, rows, columns, depth);
        }
      }
    }
  }
}

TEST_CASE("our products agree with Eigen's") {
  for (const GemmProduct& p : kProducts) {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      TestContext t;
      const std::int64_t rows = 67, columns = 45, depth = 300;
      const GemmProblem q = MakeProblem(t.arena, p, dtype, rows, columns, depth);
      const Tensor ours = Random(t.arena, dtype, {rows, columns}, 3), theirs = CopyOf(t.arena, ours);
      const Tensor plain = CopyOf(t.arena, ours);
      p.run(t.ctx, ours, q.a, q.b, true);
      t.ctx.gemm = GemmKind::kEigen;
      p.run(t.ctx, theirs, q.a, q.b, true);
      DispatchSum(dtype, [&]<class T>() {
        using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
        const auto stored = [](const Tensor& m) { return Eigen::Map<const Matrix>(m.data<T>(), m.dim(0), m.dim(1)); };
        const Matrix a = p.a_transposed ? Matrix(stored(q.a).transpose()) : Matrix(stored(q.a));
        const Matrix b = p.b_transposed ? Matrix(stored(q.b).transpose()) : Matrix(stored(q.b));
        Eigen::Map<Matrix>(plain.data<T>(), rows, columns) += a.lazyProduct(b);
      });
      // Three orders of one sum of 300 terms: each rounds by at most 2^-24 (2^-53) of a partial sum per term.
      const double bound = 300 * (dtype == DType::kF32 ? 0x1p-24 : 0x1p-53);
      CHECK(RelativeError(ours, plain) <= bound);
      CHECK(RelativeError(theirs, plain) <= bound);
    }
  }
}

TEST_CASE("a library's product is refused on the device that it is not made for") {
  for (const Device device : {Device::kCpu, Device::kCuda}) CHECK(ParseGemm("own", device) == GemmKind::kOwn);
  CHECK(ParseGemm("eigen", Device::kCpu) == GemmKind::kEigen);
  CHECK(ParseGemm("cublas", Device::kCuda) == GemmKind::kCublas);
  CHECK_THROWS_WITH_AS(ParseGemm("cublas", Device::kCpu), "--gemm cublas is for --device cuda; use own or eigen here",
                       UsageError);
  CHECK_THROWS_WITH_AS(ParseGemm("eigen", Device::kCuda), "--gemm eigen is for --device cpu; use own or cublas here",
                       UsageError);
}

TEST_CASE("a row of a product has the same bits alone and in any batch (P8)") {
  PhiloxStream random(StreamKey(3, Purpose::kData));
  constexpr std::int64_t kRows = 257;
  for (Cpu cpu : SupportedCpus()) {
    for (const GemmProduct& p : kProducts) {
      for (DType dtype : kGemmDTypes) {
        TestContext t(2, cpu);
        const GemmProblem q = MakeProblem(t.arena, p, dtype, kRows, 45, 131);
        const Tensor all = RowsAlone(t.ctx, p, q, 0, kRows);
        for (std::int64_t M = 1; M <= kRows; ++M) {
          ArenaScope scope(t.arena);
          const std::int64_t begin = random.NextBelow(static_cast<std::uint32_t>(kRows - M + 1));
          INFO(Name(cpu) << " " << p.name << " " << Name(dtype) << ", rows " << begin << " to " << begin + M);
          CHECK(SameBits(RowsAlone(t.ctx, p, q, begin, begin + M), all.Rows(begin, begin + M)));
        }
      }
    }
  }
}

TEST_CASE("a product has the same bits with 1, 2 and 3 threads (P8)") {
  for (Cpu cpu : SupportedCpus()) {
    for (const GemmProduct& p : kProducts) {
      for (DType dtype : kGemmDTypes) {
        std::vector<Tensor> results;
        TestContext t(1, cpu);
        // 3 row blocks, at least 5 panels, several blocks of k.
        const GemmProblem q = MakeProblem(t.arena, p, dtype, 300, 150, 900);
        for (int threads : {1, 2, 3}) {
          t.ctx.threads = threads;
          results.push_back(Random(t.arena, dtype, {300, 150}, 3));
          p.run(t.ctx, results.back(), q.a, q.b, true);
          CHECK(SameBits(results.back(), results.front()));
        }
      }
    }
  }
}

TEST_CASE("a bias is added once to the whole sum, and a product of no depth is the bias") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : kGemmDTypes) {
      for (std::int64_t depth : {0, 1, 128, 900}) {
        for (bool accumulate : {false, true}) {
          INFO(Name(cpu) << " " << Name(dtype) << " depth " << depth << " " << accumulate);
          TestContext t(2, cpu);
          const std::int64_t rows = 131, columns = 75;
          const GemmProblem q = MakeProblem(t.arena, kProducts[0], dtype, rows, columns, depth);
          const Tensor bias = Random(t.arena, dtype, {columns}, 4);
          // In the sum dtype, where nothing is rounded between the sum and the bias.
          const Tensor with = Random(t.arena, AccumulatorOf(dtype), {rows, columns}, 3),
                       expected = CopyOf(t.arena, with);
          LinearForward(t.ctx, with, q.a, q.b, bias, accumulate ? with : Tensor{});
          LinearForward(t.ctx, expected, q.a, q.b, {}, accumulate ? expected : Tensor{});
          DispatchSum(expected.dtype(), [&]<class T>() {
            for (std::int64_t i = 0; i < expected.size(); ++i) {
              expected.data<T>()[i] += static_cast<T>(ValueAt(bias, i % columns));
            }
          });
          CHECK(SameBits(with, expected));
        }
      }
    }
  }
}

TEST_CASE("bf16 is rounded once, when the whole sum is stored") {
  for (Cpu cpu : SupportedCpus()) {
    for (const GemmProduct& p : kProducts) {
      TestContext t(1, cpu);
      const GemmProblem q = MakeProblem(t.arena, p, DType::kBF16, 70, 45, 1300);  // deeper than a block
      const Tensor rounded = t.arena.New(DType::kBF16, {70, 45}), sums = t.arena.New(DType::kF32, {70, 45});
      p.run(t.ctx, rounded, q.a, q.b, false);
      p.run(t.ctx, sums, q.a, q.b, false);
      for (std::int64_t i = 0; i < sums.size(); ++i) {
        CHECK(rounded.data<BFloat16>()[i].bits == BFloat16(sums.data<float>()[i]).bits);
      }
    }
  }
}

TEST_CASE("packed weights give the same bits, until they are packed again those of when they were packed") {
  for (Cpu cpu : SupportedCpus()) {
    for (const auto& [dtype, result, far] : {std::tuple{DType::kF32, DType::kF32, false},
                                             {DType::kF64, DType::kF64, true},
                                             {DType::kBF16, DType::kBF16, false},
                                             {DType::kBF16, DType::kBF16, true},
                                             {DType::kBF16, DType::kF32, true}}) {
      TestContext t(2, cpu);
      for (const auto& size : {std::array{1, 1, 1}, {1, 33, 1100}, {3, 45, 33}, {140, 65, 900}}) {
        const std::int64_t rows = size[0], columns = size[1], depth = size[2];
        INFO(Name(cpu) << " " << Name(dtype) << " to " << Name(result) << (far ? ", far " : " ") << rows << "x"
                       << columns << "x" << depth);
        const GemmProblem q = MakeProblem(t.arena, kProducts[0], dtype, rows, columns, depth);
        const auto product = [&, to = result](const PackedWeights* packed) {
          const Tensor y = t.arena.New(to, {rows, columns});
          t.ctx.packed = packed;
          LinearForward(t.ctx, y, q.a, q.b);
          t.ctx.packed = nullptr;
          return y;
        };
        const Tensor plain = product(nullptr);
        PackedWeights packed;
        CHECK(SameBits(product(&packed), plain));  // of other weights
        packed.Pack(t.ctx, q.b, far);
        const PackedWeight* copy = packed.Find(q.b);
        REQUIRE(copy != nullptr);
        CHECK(packed.bytes() >= q.b.bytes());
        const bool shortens = far && dtype == DType::kBF16 && cpu == Cpu::kAmx;
        CHECK(copy->notes.empty() == !shortens);
        CHECK(SameBits(product(&packed), plain));
        Fill(q.b, 0.5);
        CHECK(SameBits(product(&packed), plain));
        packed.Pack(t.ctx, q.b, far);
        CHECK(SameBits(product(&packed), product(nullptr)));
        CHECK(!SameBits(product(&packed), plain));
        Fill(q.b.Rows(0, 1), 0x1p-60);  // too small for a panel with the others, if there are others
        packed.Pack(t.ctx, q.b, far);
        CHECK(copy->notes.empty() == !(shortens && columns == 1));
        CHECK(SameBits(product(&packed), product(nullptr)));
      }
    }
  }
}

TEST_CASE("products of small integers are exact") {
  for (const GemmProduct& p : kProducts) {
    TestContext t(2);
    const std::int64_t rows = 66, columns = 47, depth = 300;
    GemmProblem single = MakeProblem(t.arena, p, DType::kF32, rows, columns, depth);
    GemmProblem wide = MakeProblem(t.arena, p, DType::kF64, rows, columns, depth);
    for (GemmProblem* q : {&single, &wide}) {
      for (const Tensor& m : {q->a, q->b}) {  // -8 .. 8: every partial sum is an integer below 300 * 64 < 2^24
        DispatchSum(m.dtype(), [&]<class T>() {
          for (std::int64_t i = 0; i < m.size(); ++i) m.data<T>()[i] = std::round(m.data<T>()[i] * 8);
        });
      }
    }
    const Tensor c32 = t.arena.New(DType::kF32, {rows, columns}), c64 = t.arena.New(DType::kF64, {rows, columns});
    p.run(t.ctx, c32, single.a, single.b, false);
    p.run(t.ctx, c64, wide.a, wide.b, false);
    CHECK(RelativeError(c32, c64) == 0);
    const std::int64_t i = 65, j = 46;
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += std::llround(ValueAt(wide.a, p.a_transposed ? k * rows + i : i * depth + k)) *
             std::llround(ValueAt(wide.b, p.b_transposed ? j * depth + k : k * columns + j));
    }
    CHECK(ValueAt(c64, i * columns + j) == static_cast<double>(sum));
  }
}

TEST_CASE("products of mismatched shapes are refused") {
  TestContext t;
  const auto real = [&](std::initializer_list<std::int64_t> shape) { return Random(t.arena, DType::kF32, shape, 1); };
  CHECK_THROWS_AS(LinearForward(t.ctx, real({2, 4}), real({2, 3}), real({4, 2})), Error);
  CHECK_THROWS_AS(LinearForward(t.ctx, real({4, 2}), real({2, 3}), real({4, 3})), Error);
  CHECK_THROWS_AS(LinearForward(t.ctx, real({2, 4}), real({2, 3, 5}), real({4, 3})), Error);
  CHECK_THROWS_AS(MatMulNN(t.ctx, real({2, 3}), real({2, 4}), real({3, 4})), Error);
  CHECK_THROWS_AS(MatMulNN(t.ctx, real({2, 3}), real({2, 4, 1}), real({4, 3})), Error);
  CHECK_THROWS_AS(MatMulTN(t.ctx, real({4, 3}), real({2, 4}), real({3, 3})), Error);
  CHECK_THROWS_AS(LinearForward(t.ctx, real({2, 4}), real({2, 3}), real({4, 3}), real({3})), Error);  // the bias
  CHECK_THROWS_AS(LinearForward(t.ctx, Random(t.arena, DType::kBF16, {2, 4}, 1), real({2, 3}), real({4, 3})), Error);
  CHECK_THROWS_AS(MatMulTN(t.ctx, Random(t.arena, DType::kF64, {4, 3}, 1), real({2, 4}), real({2, 3})), Error);
}

TEST_CASE("an addend is what accumulating onto a copy of it gives, bit for bit") {
  for (DType dtype : kGemmDTypes) {
    for (Cpu cpu : SupportedCpus()) {
      TestContext t(2);
      t.ctx.cpu = cpu;
      for (std::int64_t depth : {31, 300}) {  // one block of k, and several
        const Tensor x = Random(t.arena, dtype, {130, depth}, 1), w = Random(t.arena, dtype, {45, depth}, 2);
        const Tensor addend = Random(t.arena, dtype, {130, 45}, 3), bias = Random(t.arena, dtype, {45}, 4);
        const Tensor y = t.arena.New(dtype, {130, 45}), accumulated = t.arena.New(dtype, {130, 45});
        for (const Tensor& b : {Tensor{}, bias}) {
          Copy(accumulated, addend);
          LinearForward(t.ctx, y, x, w, b, addend);
          LinearForward(t.ctx, accumulated, x, w, b, accumulated);
          INFO(Name(dtype) << " " << Name(cpu) << " depth " << depth << (b.empty() ? "" : " with a bias"));
          CHECK(SameBits(y, accumulated));
        }
      }
    }
  }
}
