// SPDX-License-Identifier: Apache-2.0
#include "op_cases.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "autograd/ops.h"
#include "plain_ops.h"
#include "tensor/rope_table.h"
#include "tensors.h"

namespace swarr {
namespace {

using In = std::span<const Var>;
using plain::Rounding;

constexpr std::int64_t kPositions = 64;  // rows of the rope tables
constexpr double kTheta = 10000;

std::string ShapeName(const std::vector<std::int64_t>& shape) {
  std::string s;
  for (std::int64_t n : shape) s += (s.empty() ? "" : "x") + std::to_string(n);
  return s;
}

// logp + 2 H: both results of the op, told apart, in one. On the host, where they are.
Var LogprobAndEntropy(Context& ctx, const LogprobResult& r) {
  const auto add_twice = [](const Tensor& to, const Tensor& a, const Tensor& b) {
    DispatchSum(to.dtype(), [&]<class T>() {
      for (std::int64_t n = 0; n < to.size(); ++n) to.data<T>()[n] = a.data<T>()[n] + 2 * b.data<T>()[n];
    });
  };
  Arena& host = ctx.HostArena();
  const Var y{host.NewLike(r.logp.value), ctx.tape ? host.NewLike(r.logp.value) : Tensor{}};
  Wait(ctx);
  add_twice(y.value, r.logp.value, r.entropy.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      Wait(c);
      add_twice(r.logp.grad, y.grad, r.logp.grad);  // which holds zeros
      const Tensor dentropy = r.entropy.ClaimGrad();
      FillZero(dentropy);
      add_twice(dentropy, dentropy, y.grad);
    });
  }
  return y;
}

// Builds the cases with one stream of random numbers.
class Table {
 public:
  std::vector<OpCase> Take() { return std::move(cases_); }

  void AddEmbedding(std::int64_t N, std::int64_t V, std::int64_t C, bool large = false) {
    OpCase& c = New("embedding", {N, V, C}, {Parameter(Reals("w", {V, C})), PerRow(Ids("ids", N, V))}, large);
    c.longest_sum = static_cast<int>(N);
    c.run = [](Context& ctx, In in) { return OpResult{Embedding(ctx, in[0], in[1].value)}; };
    c.run_plain = [](Context& ctx, In in, Rounding) { return OpResult{plain::Embedding(ctx, in[0], in[1].value)}; };
  }

  void AddLinear(std::int64_t N, std::int64_t I, std::int64_t O, bool bias, bool large = false) {
    std::vector<OpInput> inputs = {PerRow(Reals("x", {N, I})), Parameter(Reals("w", {O, I}))};
    if (bias) inputs.push_back(Parameter(Reals("b", {O})));
    OpCase& c = New(bias ? "linear+bias" : "linear", {N, I, O}, std::move(inputs), large);
    c.longest_sum = static_cast<int>(std::max({N, I, O}));
    c.run = [](Context& ctx, In in) { return OpResult{Linear(ctx, in[0], in[1], in.size() > 2 ? in[2] : Var{})}; };
    c.run_plain = [](Context& ctx, In in, Rounding) {
      return OpResult{plain::Linear(ctx, in[0], in[1], in.size() > 2 ? in[2] : Var{})};
    };
  }

  void AddRmsNorm(const std::vector<std::int64_t>& shape, double eps, bool large = false) {
    const std::int64_t C = shape.back();
    OpCase& c = New("rmsnorm", shape, {PerRow(Reals("x", shape)), Parameter(Reals("w", {C}))}, large);
    const std::int64_t size = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    c.longest_sum = static_cast<int>(std::max(C, size / C));
    c.run = [eps](Context& ctx, In in) { return OpResult{RmsNorm(ctx, in[0], in[1], eps)}; };
    c.run_plain = [eps](Context& ctx, In in, Rounding) { return OpResult{plain::RmsNorm(ctx, in[0], in[1], eps)}; };
  }

  void AddRope(std::int64_t N, std::int64_t H, std::int64_t D, bool large = false) {
    OpCase& c = New("rope", {N, H, D}, {PerRow(Reals("x", {N, H, D})), PerRow(Ids("positions", N, kPositions))}, large);
    c.longest_sum = 2;
    c.run = [D](Context& ctx, In in) {
      const Tensor table = ctx.HostArena().New(AccumulatorOf(in[0].value.dtype()), {kPositions, D});
      FillRopeTable(table, kTheta);
      return OpResult{Rope(ctx, in[0], in[1].value, ToDevice(ctx, table))};
    };
    c.run_plain = [](Context& ctx, In in, Rounding) { return OpResult{plain::Rope(ctx, in[0], in[1].value, kTheta)}; };
  }

  void AddSwiGlu(std::int64_t N, std::int64_t F, double scale, bool large = false) {
    OpCase& c = New("swiglu", {N, F}, {PerRow(Reals("gate", {N, F}, scale)), PerRow(Reals("up", {N, F}))}, large);
    c.run = [](Context& ctx, In in) { return OpResult{SwiGlu(ctx, in[0], in[1])}; };
    c.run_plain = [](Context& ctx, In in, Rounding) { return OpResult{plain::SwiGlu(ctx, in[0], in[1])}; };
  }

  void AddAdd(std::int64_t N, std::int64_t C, bool large = false) {
    OpCase& c = New("add", {N, C}, {PerRow(Reals("a", {N, C})), PerRow(Reals("b", {N, C}))}, large);
    c.run = [](Context& ctx, In in) { return OpResult{Add(ctx, in[0], in[1])}; };
    c.run_plain = [](Context& ctx, In in, Rounding) { return OpResult{plain::Add(ctx, in[0], in[1])}; };
  }

  // As the model uses it: between a projection and the norm of each head.
  void AddReshape(std::int64_t N, std::int64_t I, std::int64_t H, std::int64_t D, bool large = false) {
    OpCase& c =
        New("linear, reshape, rmsnorm", {N, I, H, D},
            {PerRow(Reals("x", {N, I})), Parameter(Reals("w", {H * D, I})), Parameter(Reals("norm", {D}))}, large);
    c.longest_sum = static_cast<int>(std::max(N * H, H * D) + I);
    c.run = [=](Context& ctx, In in) {
      const Var heads = Reshape(Linear(ctx, in[0], in[1]), {in[0].value.dim(0), H, D});
      return OpResult{RmsNorm(ctx, heads, in[2], 1e-2)};
    };
    c.stores = true;
    c.run_plain = [=](Context& ctx, In in, Rounding stored) {
      const Var rows = plain::Stored(ctx, plain::Linear(ctx, in[0], in[1], {}), stored);
      return OpResult{plain::RmsNorm(ctx, Reshape(rows, {in[0].value.dim(0), H, D}), in[2], 1e-2)};
    };
  }

  struct AttentionShape {
    std::vector<int> documents;  // lengths
    AttentionSpec spec;
    std::int64_t H, G, D;
    std::vector<int> blind = {};  // rows that see nothing: position -1
    bool learned_sinks = false;
  };
  void AddAttention(const AttentionShape& s, bool large = false) {
    std::vector<std::int32_t> position, first = {0};
    for (int length : s.documents) {
      for (int t = 0; t < length; ++t) position.push_back(t);
      first.push_back(first.back() + length);
    }
    for (int n : s.blind) position[static_cast<std::size_t>(n)] = -1;
    const std::int64_t N = first.back();
    const std::string kind = "attention W=" + std::to_string(s.spec.window) + " S=" + std::to_string(s.spec.sinks) +
                             " documents=" + std::to_string(s.documents.size()) +
                             " blind=" + std::to_string(s.blind.size()) + (s.learned_sinks ? " learned sinks" : "");
    OpCase& c = New(kind, {N, s.H, s.G, s.D},
                    {Reals("q", {N, s.H, s.D}),
                     Reals("k", {N, s.G, s.D}),
                     Reals("v", {N, s.G, s.D}),
                     {"q_pos", {N}, {}, std::move(position)},
                     {"documents", {static_cast<std::int64_t>(first.size())}, {}, first}},
                    large);
    if (s.learned_sinks) c.inputs.push_back(Parameter(Reals("sink_logits", {s.H}, 2)));
    c.longest_sum = static_cast<int>(N * s.H / s.G + 2 * s.D);
    const auto sinks = [](In in) { return in.size() > 5 ? in[5] : Var{}; };
    c.run = [=, spec = s.spec](Context& ctx, In in) {
      return OpResult{Attention(ctx, in[0], in[1], in[2], in[3].value, in[4].value, spec, sinks(in))};
    };
    c.stores = true;
    c.run_plain = [=, spec = s.spec](Context& ctx, In in, Rounding stored) {
      return OpResult{plain::Attention(ctx, {in[0], in[1], in[2]}, in[3].value, in[4].value, spec, sinks(in), stored)};
    };
  }

  // With `entropy` that of each row is part of what is differentiated.
  void AddTokenLogprob(std::int64_t N, std::int64_t C, std::int64_t V, bool large = false, bool entropy = false) {
    OpCase& c = New(entropy ? "token_logprob, entropy" : "token_logprob", {N, C, V},
                    {PerRow(Reals("x", {N, C})), Parameter(Reals("w", {V, C})), PerRow(Ids("targets", N, V))}, large);
    c.longest_sum = static_cast<int>(std::max(N, V) + C);
    const auto result = [entropy](Context& ctx, const LogprobResult& r) {
      return entropy ? OpResult{LogprobAndEntropy(ctx, r)} : OpResult{r.logp, {r.entropy.value}};
    };
    c.run = [=](Context& ctx, In in) { return result(ctx, TokenLogprob(ctx, in[0], in[1], in[2].value)); };
    c.stores = true;
    c.run_plain = [=](Context& ctx, In in, Rounding stored) {
      return result(ctx, plain::TokenLogprob(ctx, in[0], in[1], in[2].value, stored));
    };
  }
  void AddEntropy(std::int64_t N, std::int64_t C, std::int64_t V, bool large = false) {
    AddTokenLogprob(N, C, V, large, true);
  }

  // One draw per row; "draw" numbers the stream of each row, and every third row is greedy.
  void AddSample(std::int64_t N, std::int64_t C, std::int64_t V, bool large = false) {
    OpCase& c = New("sample", {N, C, V},
                    {PerRow(Reals("x", {N, C})), Parameter(Reals("w", {V, C})), PerRow(Ids("positions", N, kPositions)),
                     PerRow(Ids("draw", N, 1 << 20))},
                    large);
    c.differentiable = false;
    c.longest_sum = static_cast<int>(V + C);
    const auto run = [](Context& ctx, In in, bool plain) {
      const std::int64_t rows = in[0].value.dim(0);
      const Tensor draws = OnHost(ctx, in[3].value);
      std::vector<SampleRow> how;
      for (std::int64_t n = 0; n < rows; ++n) {
        const std::int32_t draw = draws.data<std::int32_t>()[n];
        how.push_back({StreamKey(7, Purpose::kSample, static_cast<std::uint32_t>(draw)), draw % 3 == 0 ? 0.0 : 1.0});
      }
      const Tensor tokens = ctx.arena->New(DType::kI32, {rows});
      const Tensor logp = ctx.arena->New(AccumulatorOf(in[0].value.dtype()), {rows});
      if (plain) {
        plain::Sample(tokens, logp, in[0].value, in[1].value, in[2].value, how.data());
      } else {
        SampleForward(ctx, tokens, logp, in[0].value, in[1].value, in[2].value, how.data());
      }
      return OpResult{{logp, {}}, {tokens}};
    };
    c.run = [=](Context& ctx, In in) { return run(ctx, in, false); };
    c.run_plain = [=](Context& ctx, In in, Rounding) { return run(ctx, in, true); };
  }

  // Step t = 3 on copies of the inputs, and the norm of the gradient by which it is scaled.
  void AddAdamW(std::int64_t n, bool large = false) {
    OpCase& c = New("adamw", {n}, {Reals("w", {n}), Reals("m", {n}), Reals("v", {n}), Reals("g", {n})}, large);
    for (double& v : c.inputs[2].reals) v = std::abs(v);
    c.differentiable = c.bf16 = false;
    const auto run = [](Context& ctx, In in, bool plain) {
      const auto copy = [&](std::size_t i) {
        const Tensor t = ctx.arena->NewLike(in[i].value);
        Copy(ctx, t, in[i].value);
        return t;
      };
      const Tensor w = copy(0), m = copy(1), v = copy(2), norm = ctx.HostArena().New(DType::kF64, {1});
      double& g_norm = norm.data<double>()[0];
      if (plain) {
        g_norm = plain::GlobalNorm(in[3].value);
        plain::AdamWStep(w, m, v, in[3].value, {1e-2, 3, 1 / g_norm});
      } else {
        g_norm = GlobalNorm(ctx, in[3].value);
        AdamWStep(ctx, w, m, v, in[3].value, {1e-2, 3, 1 / g_norm});
      }
      return OpResult{{w, {}}, {m, v, norm}};
    };
    c.run = [=](Context& ctx, In in) { return run(ctx, in, false); };
    c.run_plain = [=](Context& ctx, In in, Rounding) { return run(ctx, in, true); };
  }

 private:
  OpCase& New(const std::string& op, const std::vector<std::int64_t>& shape, std::vector<OpInput> inputs, bool large) {
    OpCase& c = cases_.emplace_back();
    c.name = op + " " + ShapeName(shape);
    c.inputs = std::move(inputs);
    c.large = large;
    return c;
  }

  // Numbers of magnitude scale/4 to 5/4 scale: none so near to 0 that 1/|x| bends within a step of the differences.
  OpInput Reals(std::string name, std::vector<std::int64_t> shape, double scale = 1) {
    const auto size = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    OpInput input{std::move(name), std::move(shape), {}, {}};
    for (std::int64_t i = 0; i < size; ++i) {
      const double x = RandomReal(random_);
      input.reals.push_back(static_cast<double>(static_cast<float>(scale * (x < 0 ? x - 0.25 : x + 0.25))));
    }
    return input;
  }

  OpInput Ids(std::string name, std::int64_t n, std::int64_t below) {
    OpInput input{std::move(name), {n}, {}, {}};
    for (std::int64_t i = 0; i < n; ++i) {
      input.ints.push_back(static_cast<std::int32_t>(random_.NextBelow(static_cast<std::uint32_t>(below))));
    }
    return input;
  }

  static OpInput PerRow(OpInput input) {
    input.per_row = true;
    return input;
  }

  static OpInput Parameter(OpInput input) {
    input.parameter = true;
    return input;
  }

  PhiloxStream random_{StreamKey(1, Purpose::kData, 0x0b)};
  std::vector<OpCase> cases_;
};

void AddSmallAttention(Table& table) {
  table.AddAttention({{1}, {0, 0}, 1, 1, 1});                 // one token that sees itself
  table.AddAttention({{1}, {1, 4}, 7, 1, 3});                 // fewer tokens than sinks
  table.AddAttention({{5}, {1, 0}, 2, 2, 3});                 // W = 1: only itself
  table.AddAttention({{5}, {1, 1}, 2, 1, 3});                 // itself and the first
  table.AddAttention({{13}, {0, 0}, 4, 2, 5});                // full
  table.AddAttention({{11}, {3, 0}, 7, 1, 3});                // 7 query heads share one key head
  table.AddAttention({{5}, {3, 1}, 40, 1, 2});                // more query heads for a key head than a block has rows
  table.AddAttention({{11}, {2, 4}, 2, 2, 17});               // S > W; a head longer than a vector
  table.AddAttention({{3}, {7, 4}, 4, 2, 2});                 // T < W
  table.AddAttention({{7}, {7, 1}, 1, 1, 2});                 // T = W
  table.AddAttention({{1, 5, 7}, {0, 4}, 2, 1, 3});           // packed documents, full (sinks mean nothing)
  table.AddAttention({{4, 1, 6, 2}, {3, 1}, 4, 2, 3});        // packed, window and sink
  table.AddAttention({{6, 5}, {2, 4}, 7, 1, 2, {0, 3, 10}});  // some rows see nothing
  table.AddAttention({{3}, {2, 1}, 2, 1, 2, {0, 1, 2}});      // no row sees anything
  table.AddAttention({{4, 1, 6, 2}, {3, 1}, 4, 2, 8});        // heads that matrix instructions take
}

void AddSmall(Table& table) {
  table.AddEmbedding(1, 1, 1);
  table.AddEmbedding(13, 7, 5);  // ids repeat: their gradients add up
  table.AddLinear(1, 1, 1, false);
  table.AddLinear(1, 1, 1, true);
  table.AddLinear(7, 129, 3, true);   // one more than a block of the product's k
  table.AddLinear(131, 2, 1, false);  // and, in dw, over rows
  table.AddLinear(3, 5, 37, true);    // one full panel of columns and a part
  table.AddLinear(0, 3, 2, true);     // no rows
  table.AddRmsNorm({1, 1}, 1e-1);
  table.AddRmsNorm({5, 7}, 1e-6);
  table.AddRmsNorm({3, 2, 17}, 1e-5);
  table.AddRope(1, 1, 2);
  table.AddRope(7, 3, 6);
  table.AddSwiGlu(1, 1, 1);
  table.AddSwiGlu(5, 17, 4);
  table.AddAdd(1, 1);
  table.AddAdd(3, 5);
  table.AddReshape(3, 5, 2, 7);
  AddSmallAttention(table);
  table.AddTokenLogprob(1, 1, 1);  // a vocabulary of one: log p = 0, no gradient
  table.AddTokenLogprob(5, 3, 7);
  table.AddTokenLogprob(2, 5, 131);
  table.AddTokenLogprob(1025, 1, 2);  // one row more than the chunk that holds logits
  table.AddSample(1, 1, 1);
  table.AddSample(7, 5, 131);
  table.AddAdamW(1);
  table.AddAdamW(37);
  table.AddEntropy(1, 1, 1);  // a vocabulary of one: H = 0, no gradient
  table.AddEntropy(5, 3, 7);
  table.AddEntropy(2, 5, 131);
  table.AddEntropy(1025, 1, 2);
}

void AddLarge(Table& table) {
  table.AddEmbedding(120, 31, 200, true);
  table.AddEmbedding(1100, 31, 12, true);
  table.AddLinear(200, 150, 101, true, true);
  table.AddLinear(150, 192, 264, true, true);  // rows of whole vectors, and several blocks of k
  table.AddLinear(2100, 24, 16, false, true);  // a sum over rows that is long enough to be cut
  table.AddRmsNorm({97, 200}, 1e-6, true);
  table.AddRmsNorm({33, 1100}, 1e-6, true);
  table.AddRmsNorm({60, 10, 40}, 1e-6, true);
  table.AddRope(150, 4, 32, true);
  table.AddSwiGlu(130, 150, 4, true);
  table.AddAdd(150, 130, true);
  table.AddAttention({{70, 50, 33}, {0, 0}, 4, 2, 16}, true);
  table.AddAttention({{70, 1, 51, 33}, {20, 4}, 7, 7, 19}, true);
  table.AddAttention({{70, 1, 60}, {20, 4}, 4, 2, 64}, true);
  table.AddAttention({{40, 33}, {20, 4}, 4, 2, 40}, true);  // a second panel of columns that is not full
  table.AddAttention({{130, 33}, {0, 0}, 2, 1, 128}, true);
  table.AddTokenLogprob(1100, 20, 50, true);
  table.AddTokenLogprob(40, 6, 700, true);  // vocabularies by which a device chooses its threads
  table.AddTokenLogprob(30, 6, 9001, true);
  table.AddSample(80, 20, 51, true);
  table.AddSample(30, 6, 9001, true);
  table.AddAdamW(20011, true);
  table.AddEntropy(1100, 20, 50, true);
  table.AddEntropy(30, 6, 9001, true);
}

void AddLearnedSinks(Table& table) {
  table.AddAttention({{1}, {0, 0}, 1, 1, 2, {}, true});             // one token beside the sink
  table.AddAttention({{11}, {0, 0}, 4, 2, 3, {}, true});            // full
  table.AddAttention({{11}, {3, 0}, 7, 1, 3, {}, true});            // window
  table.AddAttention({{4, 1, 6, 2}, {3, 1}, 4, 2, 8, {}, true});    // packed, sinks that are keys beside them
  table.AddAttention({{6, 5}, {2, 4}, 7, 1, 2, {0, 3, 10}, true});  // some rows see nothing but the sink
  table.AddAttention({{3}, {2, 1}, 2, 1, 2, {0, 1, 2}, true});      // no row sees a key
  table.AddAttention({{70, 1, 51, 33}, {20, 4}, 7, 7, 19, {}, true}, true);
  table.AddAttention({{170, 1, 60}, {20, 4}, 4, 2, 64, {5}, true}, true);  // more rows than a partial sum of a device
}

}  // namespace

std::vector<OpCase> OpCases() {
  Table table;
  AddSmall(table);
  AddLarge(table);
  AddLearnedSinks(table);
  return table.Take();
}

std::vector<OpCase> RowCases() {
  Table table;
  table.AddEmbedding(kBatchRows, 31, 37);
  table.AddLinear(kBatchRows, 70, 45, true);
  table.AddRmsNorm({kBatchRows, 37}, 1e-6);
  table.AddRmsNorm({kBatchRows, 3, 17}, 1e-6);
  table.AddRope(kBatchRows, 3, 6);
  table.AddSwiGlu(kBatchRows, 37, 4);
  table.AddAdd(kBatchRows, 33);
  table.AddReshape(kBatchRows, 33, 2, 7);
  table.AddTokenLogprob(kBatchRows, 20, 51);
  table.AddSample(kBatchRows, 20, 51);
  table.AddEntropy(kBatchRows, 20, 51);
  return table.Take();
}

}  // namespace swarr
