// SPDX-License-Identifier: Apache-2.0
// The kernels against the plain definitions.
#include "op_checks.h"
#include "plain/ops.h"

using namespace swarr;

TEST_CASE("every op computes what its plain definition says, forward and backward, in f64") {
  TestContext t;
  std::vector<OpCase> cases = OpCases();
  for (OpCase& c : RowCases()) cases.push_back(std::move(c));
  for (const OpCase& c : cases) {
    INFO(c.name);
    const StepScope scope(t.ctx);
    const Run kernels = RunOn(t.ctx, c, DType::kF64);
    const Run plain = RunOn(
        t.ctx, c, MakeInputs(t.ctx, c, DType::kF64, true),
        [&](const Tensor& dout) { Copy(dout, kernels.result.out.grad); }, plain::Exact);
    const RunErrors errors = ErrorsOf(kernels, plain);
    CHECK(errors.forward <= 1e-12);
    CHECK(errors.gradients <= 1e-12);
  }
}
