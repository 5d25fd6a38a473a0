// SPDX-License-Identifier: Apache-2.0
// How the cases of op_cases.cc are made: one function for each op, which names the inputs, the op and its definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "autograd/ops.h"
#include "op_cases.h"
#include "plain_ops.h"
#include "tensor/rope_table.h"
#include "tensors.h"

namespace swarr {

inline std::string ShapeName(const std::vector<std::int64_t>& shape) {
  std::string s;
  for (std::int64_t n : shape) s += (s.empty() ? "" : "x") + std::to_string(n);
  return s;
}

// logp + 2 H: both results of the op, told apart, in one. On the host, where they are.
inline Var LogprobAndEntropy(Context& ctx, const LogprobResult& r) {
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
  using In = std::span<const Var>;
  using Rounding = plain::Rounding;

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

  // Every third row and the last one: rows that nobody selects get a gradient of zero.
  void AddSelectRows(std::int64_t N, std::int64_t C, bool large = false) {
    OpInput rows{"rows", {0}, {}, {}}, places{"places", {N}, {}, {}};
    for (std::int64_t n = 0; n < N; ++n) {
      const bool selected = n % 3 == 1 || n == N - 1;
      places.ints.push_back(selected ? static_cast<std::int32_t>(rows.ints.size()) : -1);
      if (selected) rows.ints.push_back(static_cast<std::int32_t>(n));
    }
    rows.shape = {static_cast<std::int64_t>(rows.ints.size())};
    std::ranges::replace(places.ints, -1, static_cast<std::int32_t>(rows.ints.size()));
    OpCase& c = New("select rows", {N, C}, {Reals("x", {N, C}), std::move(rows), std::move(places)}, large);
    c.run = [](Context& ctx, In in) { return OpResult{SelectRows(ctx, in[0], in[1].value, in[2].value)}; };
    c.run_plain = [](Context& ctx, In in, Rounding) { return OpResult{plain::Embedding(ctx, in[0], in[1].value)}; };
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
      return OpResult{Attention(ctx, {in[0], in[1], in[2], sinks(in)}, in[3].value, in[4].value, spec)};
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

  // The teacher's width is another than the student's.
  void AddDistill(std::int64_t N, std::int64_t C, std::int64_t V, const DistillOptions& options, bool large = false) {
    const std::int64_t E = C + 2;
    OpCase& c = New("distill " + Name(options.direction), {N, C, V},
                    {PerRow(Reals("x", {N, C})), Parameter(Reals("w", {V, C})), PerRow(Reals("teacher_x", {N, E})),
                     Parameter(Reals("teacher_w", {V, E}))},
                    large);
    c.longest_sum = static_cast<int>(std::max(N, V) + E);
    c.inputs[2].frozen = c.inputs[3].frozen = true;
    c.run = [=](Context& ctx, In in) {
      return OpResult{DistillKl(ctx, in[0], in[1], in[2].value, in[3].value, options)};
    };
    c.stores = true;
    c.run_plain = [=](Context& ctx, In in, Rounding stored) {
      return OpResult{plain::DistillKl(ctx, in[0], in[1], in[2].value, in[3].value, options, stored)};
    };
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

  static constexpr std::int64_t kPositions = 64;  // rows of the rope tables
  static constexpr double kTheta = 10000;

  PhiloxStream random_{StreamKey(1, Purpose::kData, 0x0b)};
  std::vector<OpCase> cases_;
};

}  // namespace swarr
