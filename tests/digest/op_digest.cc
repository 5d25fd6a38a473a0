// SPDX-License-Identifier: Apache-2.0
// Prints a digest of what every op computes: a line for each case of op_cases.h, each set of CPU kernels that this
// machine runs (or the CUDA device) and each dtype, with hashes of its results and of its gradients. A change that is
// to leave all values alone is checked by comparing the output before and after it (`make digests`).
//   swarr-op-digest [cpu | cuda]
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "op_cases.h"
#include "op_runs.h"

using namespace swarr;

namespace {

// FNV-1a, 64 bits.
struct Hash {
  std::uint64_t value = 0xcbf29ce484222325;
  void Add(const Tensor& t) {
    const auto* bytes = static_cast<const unsigned char*>(t.raw());
    for (std::size_t i = 0; i < t.bytes(); ++i) value = (value ^ bytes[i]) * 0x100000001b3;
  }
};

void PrintDigests(const Context& ctx, const std::string& kernels, const std::vector<OpCase>& cases) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const OpCase& c : cases) {
      if (dtype == DType::kBF16 && !c.bf16) continue;
      ResetStep(ctx);
      const Run run = OnHost(ctx, RunOn(ctx, c, dtype));
      Hash results, gradients;
      results.Add(run.result.out.value);
      for (const Tensor& t : run.result.also) results.Add(t);
      for (const Var& input : run.inputs) {
        if (!input.grad.empty()) gradients.Add(input.grad);
      }
      std::printf("%s %s | %s | %016llx %016llx\n", kernels.c_str(), Name(dtype).c_str(), c.name.c_str(),
                  static_cast<unsigned long long>(results.value), static_cast<unsigned long long>(gradients.value));
    }
  }
}

int Main(const std::string& device) {
  std::vector<OpCase> cases = OpCases();
  for (OpCase& c : RowCases()) cases.push_back(std::move(c));
  if (device == "cuda") {
    TestContext t(Device::kCuda);
    PrintDigests(t.ctx, "cuda", cases);
    return 0;
  }
  for (Cpu cpu : SupportedCpus()) {
    TestContext t(1, cpu);
    PrintDigests(t.ctx, Name(cpu), cases);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Main(argc > 1 ? argv[1] : "cpu");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "swarr-op-digest: %s\n", e.what());
    return 1;
  }
}
