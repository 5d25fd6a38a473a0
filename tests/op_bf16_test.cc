// SPDX-License-Identifier: Apache-2.0
// Every op in bf16 against f64.
#include "op_checks.h"

using namespace swarr;

TEST_CASE("bf16 is as near to f64 on every processor as rounding what is stored allows (P4)") {
  for (const OpCase& c : OpCases()) {
    if (!c.bf16) continue;
    for (Cpu cpu : SupportedCpus()) {
      INFO(c.name << " " << Name(cpu));
      TestContext t(1, cpu);
      for (const Judged& j : JudgeBF16(t.ctx, c)) {
        INFO(j.what);
        CHECK(j.error <= j.bound);
      }
    }
  }
}

TEST_CASE("results of bf16 are bf16; sums, log-probabilities and gradients of parameters are f32") {
  TestContext t;
  for (const OpCase& c : RowCases()) {
    INFO(c.name);
    const Run run = RunOn(t.ctx, c, DType::kBF16);
    const bool of_logits =
        c.name.starts_with("token_logprob") || c.name.starts_with("distill") || c.name.starts_with("sample");
    CHECK(run.result.out.value.dtype() == (of_logits ? DType::kF32 : DType::kBF16));
    for (std::size_t i = 0; i < run.inputs.size(); ++i) {
      if (c.inputs[i].ints.empty()) {
        CHECK(run.inputs[i].value.dtype() == DType::kBF16);
        if (c.inputs[i].frozen) continue;
        CHECK(run.inputs[i].grad.dtype() == (c.inputs[i].parameter ? DType::kF32 : DType::kBF16));
      }
    }
  }
}
