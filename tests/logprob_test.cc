// SPDX-License-Identifier: Apache-2.0
// token_logprob and sample: the pair on which exact on-policy training rests (P8, P9).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tensor/kernels/formulas.h"
#include "tensor/ops.h"
#include "tensor/philox.h"
#include "tensors.h"

using namespace swarr;

namespace {

struct Logprobs {
  Tensor logp, lse, entropy;
};
Logprobs TokenLogprobs(const Context& ctx, const Tensor& x, const Tensor& w, const Tensor& targets) {
  const auto column = [&] { return ctx.arena->New(AccumulatorOf(x.dtype()), {x.dim(0)}); };
  const Logprobs r{column(), column(), column()};
  TokenLogprobForward(ctx, r.logp, r.lse, r.entropy, {x, w, targets});
  return r;
}

struct Draws {
  Tensor tokens, logp;
};
Draws Sample(const Context& ctx, const Tensor& x, const Tensor& w, const std::vector<std::int32_t>& positions,
             const std::vector<SampleRow>& rows) {
  const Draws d{ctx.arena->New(DType::kI32, {x.dim(0)}), ctx.arena->New(AccumulatorOf(x.dtype()), {x.dim(0)})};
  SampleForward(ctx, d.tokens, d.logp, x, w, Ints(*ctx.arena, positions), rows.data());
  return d;
}

std::vector<std::int32_t> Iota(std::int64_t n) {
  std::vector<std::int32_t> v(static_cast<std::size_t>(n));
  std::iota(v.begin(), v.end(), 0);
  return v;
}

// logits z = w x with C = 1 and x = 1: the weights are the logits.
Tensor Logits(Arena& arena, const std::vector<double>& z) {
  const Tensor w = arena.New(DType::kF64, {static_cast<std::int64_t>(z.size()), 1});
  std::copy(z.begin(), z.end(), w.data<double>());
  return w;
}
Tensor Ones(Arena& arena, std::int64_t n) {
  const Tensor x = arena.New(DType::kF64, {n, 1});
  std::fill_n(x.data<double>(), n, 1.0);
  return x;
}

}  // namespace

TEST_CASE("token_logprob is log-softmax, and its entropy is the softmax's") {
  TestContext t;
  for (std::int64_t V : {1, 2, 7, 131}) {
    const std::int64_t N = 5, C = 3;
    const Tensor x = Random(t.arena, DType::kF64, {N, C}, 1, 3), w = Random(t.arena, DType::kF64, {V, C}, 2, 3);
    std::vector<std::int32_t> targets;
    for (std::int64_t n = 0; n < N; ++n) targets.push_back(static_cast<std::int32_t>((n * 37 + 1) % V));
    const Logprobs r = TokenLogprobs(t.ctx, x, w, Ints(t.arena, targets));
    for (std::int64_t n = 0; n < N; ++n) {
      std::vector<double> z(static_cast<std::size_t>(V)), p(z.size());
      for (std::int64_t v = 0; v < V; ++v) {
        double& logit = z[static_cast<std::size_t>(v)];
        for (std::int64_t c = 0; c < C; ++c) logit += ValueAt(x, n * C + c) * ValueAt(w, v * C + c);
      }
      std::transform(z.begin(), z.end(), p.begin(), [](double s) { return std::exp(s); });  // |z| <= 27: no overflow
      const double sum = std::accumulate(p.begin(), p.end(), 0.0);
      double entropy = 0;
      for (double q : p) entropy -= q / sum * std::log(q / sum);
      const double expected = z[static_cast<std::size_t>(targets[static_cast<std::size_t>(n)])] - std::log(sum);
      // Logits up to 27 round by 27 * 2^-53 and up to 131 terms are summed: some 1e-14 each, some 1e-13 with margin.
      CHECK(std::fabs(ValueAt(r.logp, n) - expected) <= 1e-13);
      CHECK(std::fabs(ValueAt(r.lse, n) - std::log(sum)) <= 1e-13);
      CHECK(std::fabs(ValueAt(r.entropy, n) - entropy) <= 1e-13);
    }
  }
}

TEST_CASE("logits of any size give a finite log-probability") {
  TestContext t;
  const Logprobs r = TokenLogprobs(t.ctx, Ones(t.arena, 2), Logits(t.arena, {1e6, -1e6, 0}), Ints(t.arena, {0, 1}));
  CHECK(ValueAt(r.logp, 0) == 0);
  CHECK(ValueAt(r.logp, 1) == -2e6);
  CHECK(ValueAt(r.entropy, 0) == 0);
}

TEST_CASE("the sampler's log-probability is training's, bit for bit, whatever the batch (P8)") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
      INFO(Name(cpu) << " " << Name(dtype));
      TestContext t(2, cpu);
      const std::int64_t N = 61, C = 40, V = 77;
      const Tensor x = Random(t.arena, dtype, {N, C}, 1, 2), w = Random(t.arena, dtype, {V, C}, 2);
      std::vector<SampleRow> rows;
      for (int n = 0; n < N; ++n) rows.push_back({static_cast<std::uint64_t>(n), 0.5 * (n % 3)});  // greedy among them
      const Draws d = Sample(t.ctx, x, w, Iota(N), rows);
      CHECK(SameBits(TokenLogprobs(t.ctx, x, w, d.tokens).logp, d.logp));
      for (std::int64_t n = 0; n < N; ++n) {
        const Logprobs alone = TokenLogprobs(t.ctx, x.Rows(n, n + 1), w, d.tokens.Rows(n, n + 1));
        CHECK(SameBits(alone.logp, d.logp.Rows(n, n + 1)));
      }
    }
  }
}

TEST_CASE("a drawn token depends on its row, key and position alone, not on the batch (P9)") {
  TestContext t(2);
  const std::int64_t N = 37, C = 8, V = 130;
  const Tensor x = Random(t.arena, DType::kF32, {N, C}, 1), w = Random(t.arena, DType::kF32, {V, C}, 2);
  std::vector<SampleRow> rows;
  std::vector<std::int32_t> positions;
  for (std::int64_t n = 0; n < N; ++n) {
    rows.push_back({StreamKey(1, Purpose::kSample, static_cast<std::uint32_t>(n)), 1.0});
    positions.push_back(static_cast<std::int32_t>((n * 11) % 29));
  }
  const Draws batch = Sample(t.ctx, x, w, positions, rows);
  const auto token = [](const Draws& d, std::int64_t n) { return d.tokens.data<std::int32_t>()[n]; };
  int moved_key = 0, moved_position = 0;
  for (std::int64_t n = 0; n < N; ++n) {
    const auto i = static_cast<std::size_t>(n);
    const Tensor row = x.Rows(n, n + 1);
    CHECK(token(Sample(t.ctx, row, w, {positions[i]}, {rows[i]}), 0) == token(batch, n));
    moved_key += token(Sample(t.ctx, row, w, {positions[i]}, {{rows[i].key + 1, 1.0}}), 0) != token(batch, n);
    moved_position += token(Sample(t.ctx, row, w, {positions[i] + 1}, {rows[i]}), 0) != token(batch, n);
  }
  // Nearly uniform over 130 tokens, another draw is nearly always another token.
  CHECK(moved_key > N / 2);
  CHECK(moved_position > N / 2);
  const Tensor reversed = t.arena.New(DType::kF32, {N, C});
  for (std::int64_t n = 0; n < N; ++n) Copy(reversed.Rows(n, n + 1), x.Rows(N - 1 - n, N - n));
  std::reverse(rows.begin(), rows.end());
  std::reverse(positions.begin(), positions.end());
  const Draws other = Sample(t.ctx, reversed, w, positions, rows);
  for (std::int64_t n = 0; n < N; ++n) CHECK(token(other, n) == token(batch, N - 1 - n));
}

TEST_CASE("sampling follows the rule of its contract, entry by entry") {
  TestContext t;
  const std::vector<double> z = {0.3, -1, 0.8, 0.1, 0.75, -0.2, 0.5};
  const double temperature = 0.7;
  for (std::int32_t position = 0; position < 50; ++position) {
    const std::uint64_t key = StreamKey(3, Purpose::kSample, 8);
    std::vector<double> score;
    for (std::uint32_t v = 0; v < z.size(); ++v) {
      const std::uint32_t word = Philox(key, {v / 4, static_cast<std::uint32_t>(position), 0, 0})[v % 4];
      score.push_back(z[v] / temperature - std::log(-std::log(UniformFrom(word))));
    }
    const auto expected = std::max_element(score.begin(), score.end()) - score.begin();
    const Draws d = Sample(t.ctx, Ones(t.arena, 1), Logits(t.arena, z), {position}, {{key, temperature}});
    CHECK(d.tokens.data<std::int32_t>()[0] == expected);
  }
}

// -log(-log u) of vocabulary entry v, by the definition.
double GumbelOf(std::uint64_t key, std::uint32_t v, std::uint32_t position) {
  const std::uint32_t word = Philox(key, {v / 4, position, 0, 0})[v % 4];
  return -std::log(-std::log(UniformFrom(word)));
}

TEST_CASE("the noise of every entry is that of the definition, on every processor") {
  // Entry v and one other are level but for a margin; the rest are out of the question. The margin is some hundred
  // units in the last place of the noise, of which each side rounds by a few.
  constexpr double kMargin = 1e-13;
  constexpr std::uint32_t kVocab = 150;  // blocks of 64 draws, the last one not full
  const std::uint64_t key = StreamKey(3, Purpose::kSample, 9);
  for (Cpu cpu : SupportedCpus()) {
    for (std::uint32_t position : {0u, 1u, 70'000u}) {
      int wrong = 0;
      for (std::uint32_t v = 0; v < kVocab; ++v) {
        const std::uint32_t other = (v + 77) % kVocab;
        const double level = GumbelOf(key, other, position) - GumbelOf(key, v, position);
        for (double margin : {-kMargin, kMargin}) {
          TestContext t(1, cpu);
          std::vector<double> z(kVocab, -1e6);
          z[v] = level + margin;
          z[other] = 0;
          const Draws d =
              Sample(t.ctx, Ones(t.arena, 1), Logits(t.arena, z), {static_cast<std::int32_t>(position)}, {{key, 1.0}});
          wrong += static_cast<std::uint32_t>(d.tokens.data<std::int32_t>()[0]) != (margin > 0 ? v : other);
        }
      }
      INFO(Name(cpu) << " position " << position);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the bounds of Gumbel noise hold for words with any number of leading ones") {
  const auto check = [](std::uint32_t word) {
    const double noise = -std::log(-std::log(UniformFrom(word)));
    CHECK(noise < static_cast<double>(MostGumbel(word)));
    if (word >> 31) CHECK(static_cast<double>(LeastGumbel(word)) < noise);
    CHECK(WordOfMostGumbel(MostGumbel(word)) <= word);
    CHECK(~WordOfMostGumbel(MostGumbel(word)) - ~word <= (~word >> 12) + 1);
  };
  for (int ones = 0; ones <= 32; ++ones) {
    const auto least = static_cast<std::uint32_t>(~(0xffffffffull >> ones)), most = least | (0x7fffffffu >> ones % 32);
    for (const std::uint32_t word : {least, most, least / 2 + most / 2}) check(word);
  }
  PhiloxStream stream(5);
  for (int i = 0; i < 10'000; ++i) check(stream.NextWord());
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  for (const float noise : {-kInfinite, -100.0f, std::nanf("")}) CHECK(WordOfMostGumbel(noise) == 0);
  CHECK(WordOfMostGumbel(kInfinite) == ~0u);
}

TEST_CASE("sampled frequencies are the softmax at the temperature (P9)") {
  const std::vector<double> z = {0.5, -1, 1.5, 0, 0.25, -2, 1};
  const std::int64_t N = 40'000;
  for (double temperature : {0.5, 1.0, 2.0}) {
    TestContext t(2);
    const std::vector<SampleRow> rows(static_cast<std::size_t>(N), {StreamKey(11, Purpose::kSample), temperature});
    const Draws d = Sample(t.ctx, Ones(t.arena, N), Logits(t.arena, z), Iota(N), rows);
    std::vector<double> count(z.size()), p;
    for (std::int64_t n = 0; n < N; ++n) ++count[static_cast<std::size_t>(d.tokens.data<std::int32_t>()[n])];
    for (double s : z) p.push_back(std::exp(s / temperature));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    double chi_square = 0;
    for (std::size_t v = 0; v < z.size(); ++v) {
      const double expected = p[v] / sum * static_cast<double>(N);
      chi_square += (count[v] - expected) * (count[v] - expected) / expected;
    }
    // The 99.9 % point of chi-square at 6 degrees of freedom; the draws are fixed, so this holds always or never.
    CHECK(chi_square <= 22.46);
  }
}

TEST_CASE("temperature 0 takes the first of the largest logits, and records the log-probability at temperature 1") {
  TestContext t;
  const Draws d = Sample(t.ctx, Ones(t.arena, 1), Logits(t.arena, {0.5, 2, 1, 2, 2}), {0}, {{1, 0.0}});
  CHECK(d.tokens.data<std::int32_t>()[0] == 1);
  const double expected = 2 - std::log(std::exp(0.5) + std::exp(1.0) + 3 * std::exp(2.0));
  CHECK(std::fabs(ValueAt(d.logp, 0) - expected) <= 1e-14);  // five exponentials, one logarithm, in f64
}

TEST_CASE("logits that are all NaN give the first token and no log-probability, from a vocabulary of one as well") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::vector<double>& z : {std::vector<double>{nan}, {nan, nan, nan}}) {
    for (double temperature : {0.0, 1.0}) {
      TestContext t;
      const Draws d = Sample(t.ctx, Ones(t.arena, 1), Logits(t.arena, z), {0}, {{1, temperature}});
      CHECK(d.tokens.data<std::int32_t>()[0] == 0);
      CHECK(std::isnan(ValueAt(d.logp, 0)));
    }
  }
}

TEST_CASE("the chunks that hold logits leave no trace in the bits") {
  TestContext t;
  const std::int64_t N = 1027, C = 2, V = 3, split = 500;  // a chunk is 1024 rows
  const Tensor x = Random(t.arena, DType::kF32, {N, C}, 1), w = Random(t.arena, DType::kF32, {V, C}, 2);
  std::vector<std::int32_t> ids;
  for (std::int64_t n = 0; n < N; ++n) ids.push_back(static_cast<std::int32_t>(n % V));
  const Tensor targets = Ints(t.arena, ids), dlogp = Random(t.arena, DType::kF32, {N}, 3);
  struct Result {
    Tensor logp, dx, dw;
  };
  const auto run = [&](std::initializer_list<std::int64_t> ends) {
    const auto zero = [&](std::initializer_list<std::int64_t> shape) { return t.arena.NewZero(DType::kF32, shape); };
    const Result r{zero({N}), zero({N, C}), zero({V, C})};
    std::int64_t begin = 0;
    for (std::int64_t end : ends) {
      const auto part = [&](const Tensor& all) { return all.Rows(begin, end); };
      const Logprobs p = TokenLogprobs(t.ctx, part(x), w, part(targets));
      Copy(part(r.logp), p.logp);
      TokenLogprobBackward(t.ctx, part(r.dx), r.dw, part(dlogp), {}, p.lse, p.entropy, {part(x), w, part(targets)});
      begin = end;
    }
    return r;
  };
  const Result whole = run({N}), parts = run({split, N});
  CHECK(SameBits(whole.logp, parts.logp));
  CHECK(SameBits(whole.dx, parts.dx));
  CHECK(SameBits(whole.dw, parts.dw));
}
