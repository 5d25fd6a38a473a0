// SPDX-License-Identifier: Apache-2.0
#include "tensor/cpu.h"

#include <algorithm>

#ifdef SWARR_X86_KERNELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace swarr {
namespace {

#ifdef SWARR_X86_KERNELS
// CPUID leaf 7: AMX-TILE and AMX-BF16, and the VBMI and VBMI2 that short panels take (Intel SDM vol. 2A, CPUID). The
// compiler's own test knows the first two only from gcc 13 on.
bool HasAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kVbmi = 1u << 1, kVbmi2 = 1u << 6;
  if ((d & kBf16) == 0 || (d & kTile) == 0 || (c & kVbmi) == 0 || (c & kVbmi2) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<Cpu> Detect() {
  std::vector<Cpu> found = {Cpu::kPortable};
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return found;
  found.push_back(Cpu::kAvx2);
  // The parts that x86-64-v4 stands for.
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl")) {
    return found;
  }
  found.push_back(Cpu::kAvx512);
  if (__builtin_cpu_supports("avx512bf16")) found.push_back(Cpu::kAvx512Bf16);
  if (HasAmx()) found.push_back(Cpu::kAmx);
  return found;
}
#else
std::vector<Cpu> Detect() { return {Cpu::kPortable}; }
#endif

}  // namespace

const std::vector<Cpu>& SupportedCpus() {
  static const std::vector<Cpu> found = Detect();
  return found;
}

Cpu BestCpu() { return SupportedCpus().back(); }

Cpu ResolveCpu(const std::string& name) {
  if (name == "auto") return BestCpu();
  const std::optional<Cpu> cpu = FindName<Cpu>(name);
  if (!cpu) throw UsageError(Concat("unknown --cpu '", name, "'; use auto, ", Listed(kNames<Cpu>)));
  const std::vector<Cpu>& can = SupportedCpus();
  SWARR_CHECK(std::find(can.begin(), can.end(), *cpu) != can.end(), "this machine or build can't run --cpu ", name,
              "; the best that it can is ", Name(BestCpu()));
  return *cpu;
}

}  // namespace swarr
