// SPDX-License-Identifier: Apache-2.0
// What every op is handed first: where memory comes from, how many threads, which kernels, and whether a tape is live.
#pragma once

#include <cstdint>

#include "tensor/cpu.h"
#include "tensor/device.h"
#include "tensor/memory.h"

namespace swarr {

class Tape;           // autograd/tape.h
class PackedWeights;  // tensor/packed_weights.h
class MemoryReport;   // tensor/memory_report.h

// kOwn: our fixed-order product, the only exact one (gemm.h). The others are libraries', measured, never exact:
// kEigen's on the processor, kCublas's on a CUDA device.
enum class GemmKind : std::uint8_t { kOwn, kEigen, kCublas };
template <>
inline constexpr std::array kNames<GemmKind> = {"own", "eigen", "cublas"};

struct Context {
  Arena* arena = nullptr;  // step memory on the device: activations, gradients of activations, scratch
  Arena* host = nullptr;   // step memory that the processor and the device reach, if that is another; see HostArena()
  Tape* tape = nullptr;    // null means inference: nothing is recorded and nothing is kept for a backward
  int threads = 1;         // OpenMP threads; results do not depend on it
  GemmKind gemm = GemmKind::kOwn;
  Cpu cpu = BestCpu();
  CudaStream* stream = nullptr;           // where ops run on a CUDA device, in order; null: on the processor
  const PackedWeights* packed = nullptr;  // weights that are kept in the layout of products; a matter of speed alone
  MemoryReport* memory = nullptr;         // owners of memory that a call makes note it here, if anyone asks

  Device device() const { return stream ? Device::kCuda : Device::kCpu; }
  // Step memory for what the processor reads and writes: a tape's closures, a batch, results.
  Arena& HostArena() const { return host ? *host : *arena; }
};

// Calls f.template operator()<Set>() with the set of kernels of the context's device.
template <class F>
decltype(auto) OnDevice(const Context& ctx, F&& f) {
#ifdef SWARR_CUDA
  if (ctx.stream) return f.template operator()<Cuda>();
#endif
  return OnCpu(ctx.cpu, f);
}

// Called by every op that has no backward: under a live tape it throws rather than cut a gradient silently (P1).
inline void RequireNoTape(const Context& ctx, const char* op) {
  SWARR_CHECK(ctx.tape == nullptr, op, " has no backward and can't be part of a recorded computation");
}

}  // namespace swarr
