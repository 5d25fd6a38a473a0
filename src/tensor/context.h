// SPDX-License-Identifier: Apache-2.0
// What every op is handed first: where memory comes from, how many threads, which kernels, and whether a tape is live.
#pragma once

#include <cstdint>

#include "tensor/cpu.h"
#include "tensor/memory.h"

namespace swarr {

class Tape;           // autograd/tape.h
class PackedWeights;  // tensor/packed_weights.h
class MemoryReport;   // tensor/memory_report.h

// kOwn: our fixed-order product, the only exact one (gemm.h). kEigen: the library's, measured, never exact.
enum class GemmKind : std::uint8_t { kOwn, kEigen };

struct Context {
  Arena* arena = nullptr;  // step memory: activations, gradients of activations, scratch
  Tape* tape = nullptr;    // null means inference: nothing is recorded and nothing is kept for a backward
  int threads = 1;         // OpenMP threads; results do not depend on it
  GemmKind gemm = GemmKind::kOwn;
  Cpu cpu = BestCpu();
  const PackedWeights* packed = nullptr;  // weights that are kept in the layout of products; a matter of speed alone
  MemoryReport* memory = nullptr;         // owners of memory that a call makes note it here, if anyone asks
};

// Called by every op that has no backward: under a live tape it throws rather than cut a gradient silently (P1).
inline void RequireNoTape(const Context& ctx, const char* op) {
  SWARR_CHECK(ctx.tape == nullptr, op, " has no backward and can't be part of a recorded computation");
}

}  // namespace swarr
