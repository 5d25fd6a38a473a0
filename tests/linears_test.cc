// SPDX-License-Identifier: Apache-2.0
// Linear layers of one input, computed together on the processor, beside each alone.
#include "tensor/linears.h"

#include <doctest/doctest.h>

#include <vector>

#include "tensor/packed_weights.h"
#include "tensors.h"

using namespace swarr;

namespace {

constexpr std::int64_t kDepth = 96;
const std::vector<std::int64_t> kColumns = {96, 40, 33};  // of the layers

// The layers' weights and gradients of their results, for so many rows.
struct Layers {
  Tensor x;
  std::vector<Tensor> w, b, dy;

  Layers(Arena& arena, DType dtype, std::int64_t rows) : x(Random(arena, dtype, {rows, kDepth}, 1)) {
    for (std::uint32_t i = 0; i < kColumns.size(); ++i) {
      w.push_back(Random(arena, dtype, {kColumns[i], kDepth}, 10 + i));
      b.push_back(Random(arena, dtype, {kColumns[i]}, 20 + i));
      dy.push_back(Random(arena, dtype, {rows, kColumns[i]}, 30 + i));
    }
  }
};

// Calls f(t, dtype, rows) for every set of kernels, dtype, and number of threads.
template <class F>
void ForSettings(F&& f) {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      for (int threads : {1, 2, 3, 7}) {
        for (std::int64_t rows : {1, 16, 70, 260}) {
          TestContext t(threads, cpu);
          INFO(Name(cpu) << " " << Name(dtype) << ", " << threads << " threads, " << rows << " rows");
          f(t, dtype, rows);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("results of linear layers together have the bits of each alone (P8)") {
  ForSettings([](TestContext& t, DType dtype, std::int64_t rows) {
    const Layers layers(t.arena, dtype, rows);
    PackedWeights packed;
    packed.Pack(t.ctx, layers.w[1], /*far=*/rows == 1);  // one kept packed among others
    Context ctx = t.ctx;
    ctx.packed = &packed;
    std::vector<LinearResult> results;
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      results.push_back({t.arena.New(dtype, {rows, kColumns[i]}), layers.w[i], i == 2 ? layers.b[i] : Tensor{}});
    }
    LinearsForward(ctx, layers.x, results);
    for (const LinearResult& result : results) {
      const Tensor alone = t.arena.New(dtype, {rows, result.w.dim(0)});
      LinearForward(t.ctx, alone, layers.x, result.w, result.b);
      CHECK(SameBits(result.y, alone));
    }
  });
}

TEST_CASE("the gradient of their input has the bits of one term after the other (P8)") {
  ForSettings([](TestContext& t, DType dtype, std::int64_t rows) {
    const Layers layers(t.arena, dtype, rows);
    const Tensor together = t.arena.New(dtype, {rows, kDepth}), alone = t.arena.New(dtype, {rows, kDepth});
    std::vector<InputGradientTerm> terms;
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      terms.push_back({layers.dy[i], layers.w[i]});
      MatMulNN(t.ctx, alone, layers.dy[i], layers.w[i], /*accumulate=*/i > 0);
    }
    LinearsInputGradient(t.ctx, together, terms);
    CHECK(SameBits(together, alone));
  });
}

TEST_CASE("gradients of their weights have the bits of each alone, written or added") {
  ForSettings([](TestContext& t, DType dtype, std::int64_t rows) {
    const Layers layers(t.arena, dtype, rows);
    const DType sums = AccumulatorOf(dtype);
    std::vector<WeightGradient> gradients;
    std::vector<Tensor> alone;
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      const Tensor dw = Random(t.arena, sums, {kColumns[i], kDepth}, 40);
      alone.push_back(CopyOf(t.arena, dw));
      gradients.push_back({i == 1 ? dw.Fresh() : dw, layers.dy[i]});
      MatMulTN(t.ctx, alone.back(), layers.dy[i], layers.x, /*accumulate=*/i != 1);
    }
    LinearsWeightGradients(t.ctx, layers.x, gradients);
    for (std::size_t i = 0; i < kColumns.size(); ++i) CHECK(SameBits(gradients[i].dw, alone[i]));
  });
}
