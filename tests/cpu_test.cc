// SPDX-License-Identifier: Apache-2.0
#include "tensor/cpu.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <type_traits>

#include "tensor/context.h"

using namespace swarr;

namespace {

constexpr Cpu kAll[] = {Cpu::kPortable, Cpu::kAvx2, Cpu::kAvx512, Cpu::kAvx512Bf16, Cpu::kAmx};

}  // namespace

TEST_CASE("every processor has a name by which it is asked for, and no other name is taken") {
  for (Cpu cpu : kAll) CHECK(FindName<Cpu>(Name(cpu)) == cpu);
  CHECK(!FindName<Cpu>("auto"));
  for (const char* name : {"", "AVX2", "avx", "sse", "avx512 "}) CHECK_THROWS_AS(ResolveCpu(name), UsageError);
}

TEST_CASE("portable kernels run everywhere, and the best of those that run here are chosen") {
  const std::vector<Cpu>& supported = SupportedCpus();
  REQUIRE(!supported.empty());
  CHECK(supported.front() == Cpu::kPortable);
  CHECK(std::is_sorted(supported.begin(), supported.end()));
  CHECK(std::adjacent_find(supported.begin(), supported.end()) == supported.end());
  CHECK(BestCpu() == supported.back());
  CHECK(ResolveCpu("auto") == BestCpu());
  CHECK(Context{}.cpu == BestCpu());
  for (Cpu cpu : kAll) {
    if (std::find(supported.begin(), supported.end(), cpu) != supported.end()) {
      CHECK(ResolveCpu(Name(cpu)) == cpu);
    } else {
      MESSAGE("not supported here: " << Name(cpu));
      CHECK_THROWS_WITH_AS(ResolveCpu(Name(cpu)), doctest::Contains("can't run --cpu"), Error);
    }
  }
}

TEST_CASE("each processor runs the set of kernels that it is listed with") {
  const auto set_of = [](Cpu cpu) {
    return OnCpu(cpu,
                 []<class Set>() { return std::is_same_v<Set, Portable> ? 0 : (std::is_same_v<Set, Avx2> ? 1 : 2); });
  };
  CHECK(set_of(Cpu::kPortable) == 0);
#ifdef SWARR_X86_KERNELS
  CHECK(set_of(Cpu::kAvx2) == 1);
  for (Cpu cpu : {Cpu::kAvx512, Cpu::kAvx512Bf16, Cpu::kAmx}) CHECK(set_of(cpu) == 2);
#else
  CHECK_THROWS_WITH_AS(set_of(Cpu::kAvx2), doctest::Contains("use --cpu portable"), Error);
#endif
}
