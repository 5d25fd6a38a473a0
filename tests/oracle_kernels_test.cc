// SPDX-License-Identifier: Apache-2.0
// Right candidates pass: the library's own kernels in f64, f32 and bf16, run on what a suite exports, and those of f32
// on tensors that are stored in f16.
#include <doctest/doctest.h>

#include <span>

#include "attn/attention.h"
#include "base/names.h"
#include "oracle_candidates.h"
#include "tensor/ops.h"
#include "tensor/rope_table.h"
#include "tensors.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

// Kernels in one dtype, from the inputs of a case to tensors of a candidate. The library has no f16: there they compute
// in f32, and every tensor between two kernels is rounded to f16, as kernels do that keep sums in f32.
class KernelRun {
 public:
  KernelRun(const Case& c, const Precision& precision, int threads, Candidate& candidate)
      : t_(threads),
        c_(c),
        precision_(precision),
        dtype_(IsF16() ? DType::kF32 : ParseName<DType>("dtype", std::string(precision.name))),
        candidate_(candidate) {}

  const Context& ctx() const { return t_.ctx; }
  DType sum() const { return AccumulatorOf(dtype_); }
  double Number(const char* name) const { return c_.parameters.at(name).get<double>(); }
  DistillOptions Options() const {
    return {ParseName<KlDirection>("direction", c_.parameters.at("direction").get<std::string>()),
            Number("temperature")};
  }
  const Value& Of(const char* name) const { return c_.inputs.at(name); }
  bool Has(const char* name) const { return c_.inputs.contains(name); }

  Tensor In(const char* name) { return InDType(name, dtype_); }
  Tensor InSum(const char* name) { return InDType(name, sum()); }
  Tensor New(const Tensor& like) { return ZeroLike(t_.arena, dtype_, like); }
  Tensor NewSum(const Tensor& like) { return ZeroLike(t_.arena, sum(), like); }
  // Between two kernels.
  void Store(const Tensor& t) const {
    if (!IsF16()) return;
    for (float& x : std::span(t.data<float>(), static_cast<std::size_t>(t.size()))) {
      x = static_cast<float>(RoundedTo(precision_, static_cast<double>(x)));
    }
  }
  Tensor Ints(const std::vector<std::int32_t>& values) { return swarr::Ints(t_.arena, values); }

  void Give(const std::string& name, const Tensor& t) {
    Store(t);
    CandidateTensor& to = candidate_[c_.name + "." + name];
    for (int i = 0; i < t.rank(); ++i) to.value.shape.push_back(t.dim(i));
    for (std::int64_t i = 0; i < t.size(); ++i) to.value.data.push_back(ValueAt(t, i));
    to.stored = (IsF16() ? precision_ : PrecisionNamed(Name(t.dtype()))).stored;
  }

 private:
  bool IsF16() const { return precision_.name == "f16"; }
  Tensor InDType(const char* name, DType dtype) {
    const Tensor exact = InArena(t_.ctx, Of(name));
    if (Of(name).integer) return exact;
    const Tensor t = ZeroLike(t_.arena, dtype, exact);
    CastForward(t_.ctx, t, exact);
    return t;
  }

  TestContext t_;
  const Case& c_;
  const Precision& precision_;
  DType dtype_;
  Candidate& candidate_;
};

void RunLinear(KernelRun& run) {
  const Tensor x = run.In("x"), w = run.In("w"), dy = run.In("d_y"), b = run.Has("b") ? run.In("b") : Tensor();
  const Tensor y = run.New(dy), dx = run.New(x), dw = run.NewSum(w), db = b.empty() ? b : run.NewSum(b);
  LinearForward(run.ctx(), y, x, w, b, run.Has("residual") ? run.In("residual") : Tensor());
  LinearBackward(run.ctx(), dx, dw, db, dy, x, w);
  run.Give("y", y), run.Give("dx", dx), run.Give("dw", dw);
  if (!b.empty()) run.Give("db", db);
}

void RunEmbedding(KernelRun& run) {
  const Tensor w = run.In("w"), ids = run.In("ids"), dy = run.In("d_y");
  const Tensor y = run.New(dy), dw = run.NewSum(w);
  GatherRows(run.ctx(), y, w, ids);
  EmbeddingBackward(run.ctx(), dw, dy, ids);
  run.Give("y", y), run.Give("dw", dw);
}

void RunRmsNorm(KernelRun& run) {
  const Tensor x = run.In("x"), w = run.In("w"), dy = run.In("d_y");
  const Tensor y = run.New(x), dx = run.New(x), dw = run.NewSum(w);
  const Tensor rstd = run.NewSum(Tensor(x.raw(), x.dtype(), {x.size() / w.size()}));
  RmsNormForward(run.ctx(), y, rstd, x, w, run.Number("eps"));
  RmsNormBackward(run.ctx(), dx, dw, dy, x, w, rstd);
  run.Give("y", y), run.Give("dx", dx), run.Give("dw", dw);
}

// With the library's own table, as models have it.
void RunRope(KernelRun& run, const Case& c) {
  const Tensor x = run.In("x"), dy = run.In("d_y"), positions = run.In("positions");
  std::optional<Llama3Scaling> scaling;
  if (c.parameters.contains("factor")) {
    scaling = Llama3Scaling{run.Number("factor"), run.Number("low_freq_factor"), run.Number("high_freq_factor"),
                            c.parameters.at("original_positions").get<int>()};
  }
  const double last = *std::max_element(run.Of("positions").data.begin(), run.Of("positions").data.end());
  const Tensor table = run.ctx().arena->New(run.sum(), {static_cast<std::int64_t>(last) + 1, x.dim(2)});
  FillRopeTable(table, run.Number("theta"), scaling);
  const Tensor y = run.New(x), dx = run.New(x);
  RopeForward(run.ctx(), y, x, positions, table);
  RopeBackward(run.ctx(), dx, dy, positions, table);
  run.Give("y", y), run.Give("dx", dx);
}

void RunSwiGlu(KernelRun& run) {
  const Tensor gate = run.In("gate"), up = run.In("up"), dy = run.In("d_y");
  const Tensor y = run.New(dy), dgate = run.New(dy), dup = run.New(dy);
  SwiGluForward(run.ctx(), y, gate, up);
  SwiGluBackward(run.ctx(), dgate, dup, dy, gate, up);
  run.Give("y", y), run.Give("dgate", dgate), run.Give("dup", dup);
}

// Logits over a temperature: the hidden states are divided by it, and rounded; so is the gradient.
void RunLogprob(KernelRun& run) {
  const Tensor w = run.In("w"), targets = run.In("targets"), dlogp = run.InSum("d_logp");
  const double temperature = run.Number("temperature");
  const auto over = [&](const Tensor& t) {
    Dispatch(t.dtype(), [&]<class T>() {
      for (std::int64_t i = 0; i < t.size(); ++i) {
        t.data<T>()[i] = static_cast<T>(static_cast<Accumulator<T>>(t.data<T>()[i]) / temperature);
      }
    });
    run.Store(t);
  };
  const Tensor x = run.In("x");
  over(x);
  const Tensor logp = run.NewSum(dlogp), lse = run.NewSum(dlogp), entropy = run.NewSum(dlogp);
  const Tensor dx = run.New(x), dw = run.NewSum(w);
  TokenLogprobForward(run.ctx(), logp, lse, entropy, {x, w, targets});
  const Tensor dentropy = run.Number("entropy_gradient") > 0 ? run.InSum("d_entropy") : Tensor{};
  TokenLogprobBackward(run.ctx(), dx, dw, dlogp, dentropy, lse, entropy, {x, w, targets});
  over(dx);
  run.Give("logp", logp), run.Give("lse", lse), run.Give("entropy", entropy), run.Give("dx", dx), run.Give("dw", dw);
}

// The loss of SFT with a teacher, by the two ops that make it.
void RunDistill(KernelRun& run) {
  const Tensor x = run.In("x"), w = run.In("w"), targets = run.In("targets"), mask = run.In("mask");
  const DistillInputs heads{x, w, run.In("teacher_x"), run.In("teacher_w"), run.Options()};
  const auto column = [&] { return run.NewSum(mask); };
  const Tensor logp = column(), lse = column(), entropy = column(), dlogp = column(), dkl = column();
  const DistillResults results{column(), column(), column()};
  TokenLogprobForward(run.ctx(), logp, lse, entropy, {x, w, targets});
  DistillForward(run.ctx(), results, heads);
  const double A = run.Number("weight"), T = run.Number("temperature");
  const double rows = static_cast<double>(mask.size()) - run.Number("masked_rows");
  const Tensor loss = run.NewSum(Tensor(mask.raw(), mask.dtype(), {1})), dx = run.New(x), dw = run.NewSum(w);
  DispatchSum(run.sum(), [&]<class Sum>() {
    for (std::int64_t n = 0; n < mask.size(); ++n) {
      if (mask.data<std::int32_t>()[n] == 0) continue;
      dlogp.data<Sum>()[n] = static_cast<Sum>(-(1 - A) / rows);
      dkl.data<Sum>()[n] = static_cast<Sum>(A * T * T / rows);
      *loss.data<Sum>() += dlogp.data<Sum>()[n] * logp.data<Sum>()[n] + dkl.data<Sum>()[n] * results.kl.data<Sum>()[n];
    }
  });
  TokenLogprobBackward(run.ctx(), dx, dw, dlogp, {}, lse, entropy, {x, w, targets});
  DistillBackward(run.ctx(), dx, dw, dkl, results, heads);
  run.Give("kl", results.kl), run.Give("loss", loss), run.Give("dx", dx), run.Give("dw", dw);
}

// Windows of `more` keys more than the case says. The queries of a chunk are the last rows; rows before them are at
// position -1.
void RunAttention(KernelRun& run, int more) {
  const Tensor q_given = run.In("q"), dout_given = run.In("d_out"), k = run.In("k"), v = run.In("v");
  const std::int64_t N = k.dim(0), first = N - q_given.dim(0), H = q_given.dim(1), D = q_given.dim(2);
  const Tensor q = run.New(Tensor(q_given.raw(), q_given.dtype(), {N, H, D})), dout = run.New(q);
  Copy(q.Rows(first, N), q_given);
  Copy(dout.Rows(first, N), dout_given);
  std::vector<std::int32_t> positions(static_cast<std::size_t>(first), -1), documents;
  for (const double p : run.Of("q_position").data) positions.push_back(static_cast<std::int32_t>(p));
  for (std::int32_t n = 0; n < N; ++n) {
    if (run.Of("k_position").data[static_cast<std::size_t>(n)] == 0) documents.push_back(n);
  }
  documents.push_back(static_cast<std::int32_t>(N));
  AttentionSpec spec = {static_cast<int>(run.Number("window")), static_cast<int>(run.Number("sinks"))};
  if (spec.window > 0) spec.window += more;
  const Tensor q_pos = run.Ints(positions), docs = run.Ints(documents);
  const Tensor out = run.New(q), lse = run.NewSum(Tensor(q.raw(), q.dtype(), {N, H}));
  const Tensor dq = run.New(q), dk = run.New(k), dv = run.New(v);
  const Tensor sinks = run.Has("sink_logits") ? run.In("sink_logits") : Tensor{};
  const Tensor dsinks = sinks.empty() ? sinks : run.NewSum(sinks);
  AttentionForward(run.ctx(), out, lse, {q, k, v, q_pos, docs, spec, sinks});
  run.Store(out), run.Store(lse);
  AttentionBackward(run.ctx(), {dq, dk, dv, dsinks}, dout, out, lse, {q, k, v, q_pos, docs, spec, sinks});
  if (!sinks.empty()) run.Give("dsink_logits", dsinks);
  run.Give("out", out.Rows(first, N)), run.Give("lse", lse.Rows(first, N)), run.Give("dq", dq.Rows(first, N));
  run.Give("dk", dk), run.Give("dv", dv);
}

// The kernel takes whole documents in order: caches, other orders and padding keys are for others.
JudgeOptions AskedOf(const std::string& suite) {
  if (suite != "attention") return {};
  return {.skip = {"ring*", "cache*", "shuffled*", "*_padding*"}};
}

bool HasWholeDocuments(const Case& c) {
  return c.parameters.at("rows_in_order") == "yes" && std::ranges::min(c.inputs.at("k_position").data) >= 0;
}

Candidate ByKernels(const Suite& suite, const Precision& precision, int threads, int more_keys = 0) {
  Candidate candidate;
  for (const Family& family : suite.families) {
    for (const Case& c : family.cases) {
      KernelRun run(c, precision, threads, candidate);
      if (family.name == "linear") RunLinear(run);
      if (family.name == "embedding") RunEmbedding(run);
      if (family.name == "rmsnorm") RunRmsNorm(run);
      if (family.name == "rope") RunRope(run, c);
      if (family.name == "swiglu") RunSwiGlu(run);
      if (family.name == "logprob") RunLogprob(run);
      if (family.name == "distill") RunDistill(run);
      if (family.name == "attention" && HasWholeDocuments(c)) RunAttention(run, more_keys);
    }
  }
  return candidate;
}

}  // namespace

TEST_CASE("the library's kernels in f64, f32, bf16 and rounded to f16 pass the oracle") {
  std::size_t judged = 0;
  for (const std::string name : {"ops", "attention", "distill"}) {
    const Suite suite = MakeSuite(name);
    Expectations expectations(suite);
    for (std::size_t i = 0; i < 2 * std::size(kPrecisions); ++i) {
      const Precision& precision = kPrecisions[i / 2];
      const int threads = i % 2 == 0 ? 1 : 3;
      const Verdict verdict = Judge(expectations, ByKernels(suite, precision, threads), AskedOf(name));
      CAPTURE(name);
      CAPTURE(precision.name);
      CAPTURE(threads);
      CHECK(!verdict.values_alone);
      for (const CaseVerdict& c : verdict.cases) {
        for (const TensorVerdict& t : c.tensors) {
          CHECK_MESSAGE(t.finding == Finding::kPass, c.c->name << "." << t.tensor << " " << t.problem << " error "
                                                               << t.error << " tolerance " << t.tolerance);
        }
        judged += c.tensors.size();
      }
      if (precision.name != "f64") CHECK(LargestExcess(verdict) > 0.01);  // as far from the truth as the dtype makes it
      CHECK(LargestExcess(verdict) <= 0.5);
    }
  }
  MESSAGE(judged << " right tensors are judged");
}

TEST_CASE("a window of W+1 keys is named where it was computed in f32, bf16 or f16, not only rounded to it") {
  const Suite suite = MakeSuite("attention");
  Expectations expectations(suite);
  for (const char* dtype : {"f32", "bf16", "f16"}) {
    CAPTURE(std::string(dtype));
    const Candidate candidate = ByKernels(suite, PrecisionNamed(dtype), 1, 1);
    const std::vector<Diagnosis> diagnoses =
        Diagnose(expectations, candidate, Judge(expectations, candidate, AskedOf("attention")));
    REQUIRE(diagnoses.size() == 1);
    CHECK(diagnoses[0].complete());
    REQUIRE(diagnoses[0].explanations.size() == 1);
    CHECK(diagnoses[0].explanations[0].mistakes == std::vector<std::string>{"a window of W+1 keys"});
  }
}
