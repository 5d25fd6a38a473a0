// SPDX-License-Identifier: Apache-2.0
// Which instructions the kernels use. The program holds the kernel sources compiled several times (cmake/kernels.cmake)
// and chooses one set when it starts; `--cpu` forces another. Bits differ between sets, because only some of them fuse
// a product with its sum. Within one set they depend on the operands alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/names.h"

namespace swarr {

//                 f64, f32                             products of bf16
//   kPortable     whatever the compiler's baseline is  widened to f32
//   kAvx2         AVX2, FMA                            widened to f32
//   kAvx512       AVX-512                              widened to f32
//   kAvx512Bf16   AVX-512                              VDPBF16PS: pairs of products
//   kAmx          AVX-512                              AMX tiles: blocks of 16 x 16 x 32
enum class Cpu : std::uint8_t { kPortable, kAvx2, kAvx512, kAvx512Bf16, kAmx };

template <>
inline constexpr std::array kNames<Cpu> = {"portable", "avx2", "avx512", "avx512bf16", "amx"};

// What this processor, system and build can run, slowest first; the program chooses the last. This asks the system for
// the registers of AMX, which it grants to a process on request.
const std::vector<Cpu>& SupportedCpus();
Cpu BestCpu();
// `name`, or BestCpu() for "auto". Throws UsageError for an unknown name, Error for what this machine or build can't
// run.
Cpu ResolveCpu(const std::string& name);

// Tags of the sets that differ in how their sources are compiled.
struct Portable {};
struct Avx2 {};
struct Avx512 {};

// Calls f.template operator()<Set>() with the set that `cpu` names.
template <class F>
decltype(auto) OnCpu(Cpu cpu, F&& f) {
#ifdef SWARR_X86_KERNELS
  if (cpu >= Cpu::kAvx512) return f.template operator()<Avx512>();
  if (cpu == Cpu::kAvx2) return f.template operator()<Avx2>();
#endif
  SWARR_CHECK(cpu == Cpu::kPortable, "this build has no kernels for ", Name(cpu), "; use --cpu portable");
  return f.template operator()<Portable>();
}

}  // namespace swarr
