// SPDX-License-Identifier: Apache-2.0
// Every op in bf16 against f64.
#include "op_runs.h"
#include "rounded_ops.h"

using namespace swarr;

namespace {

// The values of `from`, as f64.
void Widen(const Tensor& to, const Tensor& from) {
  for (std::int64_t i = 0; i < to.size(); ++i) to.data<double>()[i] = ValueAt(from, i);
}

void RoundWhereStoredAsBF16(const Tensor& t, const Tensor& stored) {
  if (stored.dtype() == DType::kBF16) RoundToBF16(t);
}

}  // namespace

// The yardstick is a plain evaluation in f64 that rounds where the kernels store bf16: inputs, activations, gradients
// of activations, and what run_rounded names. Where nothing but the result is rounded, ours can't be worse by more than
// twice the error d of f32: either both round to the same number, or a boundary of rounding lies between the two
// values, so that both errors are half a unit but for d. Where numbers are rounded on the way, the two evaluations
// round the same numbers to within d: now and then to different neighbours, as likely to our disadvantage as to the
// other's. Twice (forward) and three times (backward: longer chains) the yardstick's error leaves room for that.
TEST_CASE("bf16 is as near to f64 on every processor as rounding what is stored allows (P4)") {
  for (const OpCase& c : OpCases()) {
    if (!c.bf16) continue;
    const double single = 0x1p-24 * (16 + 2 * c.longest_sum);  // of f32, as in ops_test.cc
    const double forward = c.run_rounded ? 2 : 1, backward = c.run_rounded ? 3 : 1;
    for (Cpu cpu : SupportedCpus()) {
      INFO(c.name << " " << Name(cpu));
      TestContext t(1, cpu);
      const Run ours = RunOn(t.ctx, c, DType::kBF16);
      const auto in_f64 = [&](bool rounded) {
        return RunOn(
            t.ctx, c, MakeInputs(t.arena, c, DType::kF64, true, DType::kBF16),
            [&](const Tensor& dout) { Widen(dout, ours.result.out.grad); }, rounded);
      };
      const Run exact = in_f64(false), plain = in_f64(true);
      RoundWhereStoredAsBF16(plain.result.out.value, ours.result.out.value);
      const auto bound = [&](double factor, double error) { return factor * error + 2 * single; };
      const auto error = [&](const Run& run) { return RelativeError(run.result.out.value, exact.result.out.value); };
      CHECK(error(ours) <= bound(forward, error(plain)));
      for (std::size_t i = 0; i < exact.result.also.size(); ++i) {
        const Tensor &a = ours.result.also[i], &b = exact.result.also[i];
        CHECK((a.dtype() == DType::kI32 ? SameBits(a, b) : RelativeError(a, b) <= single));
      }
      for (std::size_t i = 0; i < exact.inputs.size(); ++i) {
        if (exact.inputs[i].grad.empty()) continue;
        INFO(Describe(c, i));
        RoundWhereStoredAsBF16(plain.inputs[i].grad, ours.inputs[i].grad);
        CHECK(ErrorOfGradient(ours, exact, i) <= bound(backward, ErrorOfGradient(plain, exact, i)));
      }
    }
  }
}

TEST_CASE("results of bf16 are bf16; sums, log-probabilities and gradients of parameters are f32") {
  TestContext t;
  for (const OpCase& c : RowCases()) {
    INFO(c.name);
    const Run run = RunOn(t.ctx, c, DType::kBF16);
    const bool logp = c.name.starts_with("token_logprob") || c.name.starts_with("sample");
    CHECK(run.result.out.value.dtype() == (logp ? DType::kF32 : DType::kBF16));
    for (std::size_t i = 0; i < run.inputs.size(); ++i) {
      if (c.inputs[i].ints.empty()) {
        CHECK(run.inputs[i].value.dtype() == DType::kBF16);
        CHECK(run.inputs[i].grad.dtype() == (c.inputs[i].parameter ? DType::kF32 : DType::kBF16));
      }
    }
  }
}
