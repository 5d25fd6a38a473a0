// SPDX-License-Identifier: Apache-2.0
// What every op gets first: where memory comes from, how many threads, which kernels, and whether a tape is live.
#pragma once

#include <cstdint>

#include "tensor/cpu.h"
#include "tensor/device.h"
#include "tensor/memory.h"

namespace swarr {

class Tape;           // autograd/tape.h
class PackedWeights;  // tensor/packed_weights.h
class MemoryReport;   // tensor/memory_report.h

// Who computes matrix products. kOwn: our own fixed order, the only exact one (ops.h). The others are libraries, for
// measurements: kEigen on the processor, kCublas on a CUDA device.
enum class GemmKind : std::uint8_t { kOwn, kEigen, kCublas };
template <>
inline constexpr std::array kNames<GemmKind> = {"own", "eigen", "cublas"};

struct Context {
  Arena* arena = nullptr;  // step memory on the device: activations, gradients of activations, scratch
  Arena* host = nullptr;   // step memory that processor and device both reach; null: that is `arena`
  Tape* tape = nullptr;    // null means inference: nothing is recorded and nothing is kept for a backward
  int threads = 1;         // that share out an op's work; results do not depend on it
  GemmKind gemm = GemmKind::kOwn;
  Cpu cpu = BestCpu();
  CudaStream* stream = nullptr;           // ops run here, in order, on a CUDA device; null: on the processor
  const PackedWeights* packed = nullptr;  // weights kept in the layout of products, for speed alone
  MemoryReport* memory = nullptr;         // if not null, owners of memory note here what they hold
  // No op writes a weight that a later one reads, nor keys but those of its own rows, which stand slot by slot,
  // ascending: a launch may fetch weights and older keys early.
  bool steady_weights = false;
  bool trace_non_finite = false;  // recorded ops throw at the first value that is NaN or infinite, and are slow

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

// Every op of a model that has no backward calls this. Under a live tape it throws rather than cut a gradient silently
// (P1).
inline void RequireNoTape(const Context& ctx, const char* op) {
  SWARR_CHECK(ctx.tape == nullptr, op, " has no backward and can't be part of a recorded computation");
}

}  // namespace swarr
