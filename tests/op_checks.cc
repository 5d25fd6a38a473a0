// SPDX-License-Identifier: Apache-2.0
#include "op_checks.h"

#include "plain_ops.h"

namespace swarr {
namespace {

// The values of `from`, as f64.
void Widen(const Tensor& to, const Tensor& from) {
  for (std::int64_t i = 0; i < to.size(); ++i) to.data<double>()[i] = ValueAt(from, i);
}

void RoundWhereStoredAsBF16(const Tensor& t, const Tensor& stored) {
  if (stored.dtype() == DType::kBF16) RoundToBF16(t);
}

double ErrorOfResult(const Tensor& value, const Tensor& reference) {
  if (value.dtype() != DType::kI32) return RelativeError(value, reference);
  return SameBits(value, reference) ? 0 : std::numeric_limits<double>::infinity();
}

// Which gradients hold something: all but number `fresh`, if there is one of that number.
void CheckAddsToGradients(const Context& ctx, const OpCase& c, std::size_t fresh) {
  const StepScope scope(ctx);
  bool holds_nothing = true;
  Arena& host = ctx.HostArena();
  const Run alone = OnHost(ctx, RunOn(ctx, c, DType::kF64));
  std::vector<Var> inputs = MakeInputs(ctx, c, DType::kF64, true);
  std::vector<Tensor> expected(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor grad = inputs[i].grad;
    if (grad.empty()) continue;
    const Tensor there = Random(host, DType::kF64, {grad.size()}, 5);
    Copy(ctx, grad.Reshape({grad.size()}), there);
    expected[i] = i == fresh ? NewTensor(host, DType::kF64, {grad.size()}) : CopyOf(host, there);
    if (i == fresh) inputs[i].fresh = &holds_nothing;
    for (std::int64_t e = 0; e < grad.size(); ++e) expected[i].data<double>()[e] += ValueAt(alone.inputs[i].grad, e);
  }
  const Run run = OnHost(ctx, RunOn(ctx, c, inputs));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (expected[i].empty()) continue;
    INFO(Describe(c, i) << (i == fresh ? ", fresh" : ""));
    // The same terms in another order: each of at most longest_sum additions rounds by 2^-53 of a partial sum.
    CHECK(RelativeError(run.inputs[i].grad, expected[i]) <= 0x1p-53 * (8 + 4 * c.longest_sum));
  }
}

}  // namespace

double LargestGradientError(const Context& ctx, const OpCase& c) {
  const std::vector<Var> inputs = MakeInputs(ctx, c, DType::kF64, true);
  const std::vector<double> errors = GradientErrors(ctx, inputs, [&](Context& run) { return c.run(run, inputs).out; });
  for (std::size_t i = 0; i < errors.size(); ++i) {
    INFO(Describe(c, i));
    CHECK(errors[i] <= kDerivativeTolerance);
  }
  return *std::max_element(errors.begin(), errors.end());
}

RunErrors ErrorsOf(const Run& run, const Run& exact) {
  RunErrors errors;
  errors.forward = ErrorOfResult(run.result.out.value, exact.result.out.value);
  for (std::size_t i = 0; i < exact.result.also.size(); ++i) {
    errors.forward = std::max(errors.forward, ErrorOfResult(run.result.also[i], exact.result.also[i]));
  }
  for (std::size_t i = 0; i < exact.inputs.size(); ++i) {
    if (!exact.inputs[i].grad.empty()) errors.gradients = std::max(errors.gradients, ErrorOfGradient(run, exact, i));
  }
  return errors;
}

bool CheckRows(const Context& ctx, const OpCase& c, const Run& batch, const Run& on_host, std::int64_t begin,
               std::int64_t end) {
  const StepScope scope(ctx);
  std::vector<Var> some = batch.inputs;
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (c.inputs[i].per_row) some[i].value = some[i].value.Rows(begin, end);
    if (!some[i].grad.empty()) some[i].grad = ZeroLike(ctx, some[i].grad.dtype(), some[i].value);
  }
  const Run part = OnHost(
      ctx, RunOn(ctx, c, some, [&](const Tensor& dout) { Copy(ctx, dout, batch.result.out.grad.Rows(begin, end)); }));
  bool all = true;
  const auto check = [&](const Tensor& alone, const Tensor& in_batch) {
    const bool same = SameBits(alone, in_batch.Rows(begin, end));
    CHECK(same);
    all = all && same;
  };
  check(part.result.out.value, on_host.result.out.value);
  for (std::size_t i = 0; i < part.result.also.size(); ++i) check(part.result.also[i], on_host.result.also[i]);
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (!c.inputs[i].per_row || some[i].grad.empty()) continue;
    INFO(Describe(c, i));
    check(part.inputs[i].grad, on_host.inputs[i].grad);
  }
  return all;
}

void CheckAddsToGradients(const Context& ctx, const OpCase& c) {
  const std::size_t count = c.inputs.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (c.inputs[i].ints.empty()) CheckAddsToGradients(ctx, c, i);
  }
  CheckAddsToGradients(ctx, c, count);
}

void CheckFrozenInputs(const Context& ctx, const OpCase& c) {
  const StepScope scope(ctx);
  const Run all = OnHost(ctx, RunOn(ctx, c, DType::kF64));
  for (std::size_t frozen = 0; frozen < c.inputs.size(); ++frozen) {
    INFO(Describe(c, frozen) << " is not wanted");
    std::vector<Var> inputs = MakeInputs(ctx, c, DType::kF64, true);
    inputs[frozen].grad = {};
    CheckSameBits(OnHost(ctx, RunOn(ctx, c, inputs)), all);
  }
}

// The yardstick is the plain definition in f64, rounded where the kernels store bf16: inputs, activations, gradients of
// activations, and what the op stores on the way. Where nothing but the result is rounded, ours can't be worse by more
// than twice the error d of f32: either both round to the same number, or a boundary of rounding lies between the two
// values, so that both errors are half a unit but for d. Where numbers are rounded on the way, the two evaluations
// round the same numbers to within d: now and then to different neighbours, as likely to our disadvantage as to the
// other's. Twice (forward) and three times (backward: longer chains) the yardstick's error leaves room for that.
std::vector<Judged> JudgeBF16(const Context& ctx, const OpCase& c) {
  const double single = 0x1p-24 * (16 + 2 * c.longest_sum);  // of f32, as in ops_test.cc
  const double forward = c.stores ? 2 : 1, backward = c.stores ? 3 : 1;
  const Run ours = OnHost(ctx, RunOn(ctx, c, DType::kBF16));
  TestContext f64(1, ctx.cpu);
  const auto in_f64 = [&](plain::Rounding stored) {
    return RunOn(
        f64.ctx, c, MakeInputs(f64.arena, c, DType::kF64, true, DType::kBF16),
        [&](const Tensor& dout) { Widen(dout, ours.result.out.grad); }, stored);
  };
  const Run exact = in_f64(nullptr), plain = in_f64(RoundToBF16);
  RoundWhereStoredAsBF16(plain.result.out.value, ours.result.out.value);
  const auto bound = [&](double factor, double error) { return factor * error + 2 * single; };
  const auto error = [&](const Run& run) { return RelativeError(run.result.out.value, exact.result.out.value); };
  std::vector<Judged> judged = {{"forward", error(ours), bound(forward, error(plain))}};
  for (std::size_t i = 0; i < exact.result.also.size(); ++i) {
    CHECK(ErrorOfResult(ours.result.also[i], exact.result.also[i]) <= single);
  }
  for (std::size_t i = 0; i < exact.inputs.size(); ++i) {
    if (exact.inputs[i].grad.empty()) continue;
    RoundWhereStoredAsBF16(plain.inputs[i].grad, ours.inputs[i].grad);
    judged.push_back(
        {Describe(c, i), ErrorOfGradient(ours, exact, i), bound(backward, ErrorOfGradient(plain, exact, i))});
  }
  return judged;
}

}  // namespace swarr
