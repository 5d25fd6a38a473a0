// SPDX-License-Identifier: Apache-2.0
// What a set of kernels computes, as hashes that are written down: the same on every processor that has the set
// (exactness.md says within which limits). A change of a hash is a change of the order of a sum, or of a rounding.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gemm_problems.h"
#include "test_models.h"

using namespace swarr;

namespace {

// FNV-1a, 64 bits.
class Digest {
 public:
  void Add(const Tensor& t) {
    const auto* bytes = static_cast<const unsigned char*>(t.raw());
    for (std::size_t i = 0; i < t.bytes(); ++i) value_ = (value_ ^ bytes[i]) * 0x100000001b3;
  }
  std::string Text() const {
    std::string text;
    for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[value_ >> shift & 15];
    return text;
  }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325;
};

// All three products, from one row to several blocks of rows, panels and k; rows that are packed and rows that are read
// where they are.
std::string DigestOfProducts(Cpu cpu, DType dtype) {
  TestContext t(2, cpu);
  Digest digest;
  for (const GemmProduct& p : kProducts) {
    for (const auto& [rows, columns, depth] : {std::array{1, 40, 96}, {300, 150, 900}, {160, 96, 1056}}) {
      const GemmProblem q = MakeProblem(t.arena, p, dtype, rows, columns, depth);
      const Tensor c = Random(t.arena, dtype, {rows, columns}, 3);
      p.run(t.ctx, c, q.a, q.b, /*accumulate=*/true);
      digest.Add(c);
    }
  }
  return digest.Text();
}

// Log-probabilities, gradients and weights of two training steps, under a window and without one.
std::string DigestOfTraining(Cpu cpu, DType dtype) {
  TestContext t(2, cpu);
  ModelConfig config = WideConfig();
  config.attention.back() = {.window = 16};
  const Transformer model(config, dtype, /*with_gradients=*/true);
  Randomize(model);
  Optimizer optimizer(model.parameters(), OptimizerOptions());
  const std::vector<Tokens> documents = RandomDocuments({70, 3, 41}, config.vocab);
  Digest digest;
  for (int step = 0; step < 2; ++step) {
    ResetStep(t.ctx);
    digest.Add(RunForward(t.ctx, model, documents).logp);
    RunBackward(t.ctx, model, documents, Coefficients(documents));
    optimizer.Step(t.ctx, 1e-2, optimizer.GradientNorm(t.ctx));
    digest.Add(model.parameters().master());
  }
  return digest.Text();
}

struct KnownBits {
  DType dtype;
  std::vector<Cpu> cpus;
  std::string products, training;
};

// avx2 and avx512 fuse every product with its sum, and reductions have the same 16 lanes in all sets.
const KnownBits kKnown[] = {
    {DType::kF32, {Cpu::kAvx2, Cpu::kAvx512, Cpu::kAvx512Bf16, Cpu::kAmx}, "7159b31bf275f765", "6eba9420e9efb658"},
    {DType::kBF16, {Cpu::kAvx2, Cpu::kAvx512}, "802bcf3ac9b44e22", "10658d71c49cf0d5"},
    {DType::kBF16, {Cpu::kAvx512Bf16}, "b39b783e15d8b2df", "6b21f48005ed77c3"},
    {DType::kBF16, {Cpu::kAmx}, "2d1068b3beb77d01", "7d8bbadefcf9c3a7"},
};

}  // namespace

TEST_CASE("a set of kernels computes the same bits on every x86-64 processor that has it") {
  const std::vector<Cpu>& supported = SupportedCpus();
  for (const KnownBits& known : kKnown) {
    for (Cpu cpu : known.cpus) {
      INFO(Name(known.dtype) << " on " << Name(cpu));
      if (std::find(supported.begin(), supported.end(), cpu) == supported.end()) {
        MESSAGE("not supported here");
        continue;
      }
      CHECK(DigestOfProducts(cpu, known.dtype) == known.products);
      CHECK(DigestOfTraining(cpu, known.dtype) == known.training);
    }
  }
}
