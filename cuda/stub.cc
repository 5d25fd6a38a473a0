// SPDX-License-Identifier: Apache-2.0
// Stands in for what runtime.cu, gemm.cu, head_wgmma.cu, rmsnorm_heads.cu, adamw.cu, attention/attention_backward.cu,
// decode/few_rows_fused.cu and decode/drawn.cu define for the rest of the program, in a build without CUDA.
#include "attn/kernels/attention_kernels.h"
#include "base/check.h"
#include "model/decode_step.h"
#include "model/fused.h"
#include "tensor/device.h"
#include "tensor/device_event.h"
#include "tensor/device_memory.h"
#include "tensor/fused/adamw.h"
#include "tensor/fused/head.h"
#include "tensor/fused/norm.h"
#include "tensor/linears.h"

namespace swarr {
namespace {

[[noreturn]] void ThrowNoCuda() { throw Error("this build has no CUDA; use --device cpu, or build with `make cuda`"); }

}  // namespace

struct CudaStream {};

std::string CudaDeviceName() { return {}; }
std::shared_ptr<CudaStream> OpenCudaStream() { ThrowNoCuda(); }
void* AllocateCuda(std::size_t, MemoryKind) { ThrowNoCuda(); }
void FreeCuda(void*, MemoryKind) noexcept {}
std::int64_t FreeCudaBytes() { ThrowNoCuda(); }
void EnqueueCopy(CudaStream&, void*, const void*, std::size_t) { ThrowNoCuda(); }
void EnqueueZero(CudaStream&, void*, std::size_t) { ThrowNoCuda(); }
void WaitFor(CudaStream&) { ThrowNoCuda(); }
void CopyAndWait(void*, const void*, std::size_t) { ThrowNoCuda(); }
CudaGraph::CudaGraph(CudaStream&, const std::function<void()>&) { ThrowNoCuda(); }
void CudaGraph::Launch(CudaStream&) const { ThrowNoCuda(); }

CudaEvent::CudaEvent() { ThrowNoCuda(); }
void CudaEvent::Record(CudaStream&) const { ThrowNoCuda(); }
void CudaEvent::Wait() const { ThrowNoCuda(); }
void TakeRows(const Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&) { ThrowNoCuda(); }
void GiveDrawn(const Context&, const Drawn&, const Drawn&) { ThrowNoCuda(); }

bool FusedHeadTakes(const Context&, const LogprobInputs&) { return false; }
void FusedTokenLogprob(const Context&, const Tensor&, const Tensor&, const Tensor&, const LogprobInputs&) {
  ThrowNoCuda();
}
void FusedLogitGradients(const Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                         const LogprobInputs&) {
  ThrowNoCuda();
}
bool FusedLinears(const Context&, const Tensor&, std::span<const LinearResult>, const RowPositions&) { return false; }
bool FusedInputGradient(const Context&, const Tensor&, std::span<const InputGradientTerm>) { return false; }
bool FusedWeightGradients(const Context&, const Tensor&, std::span<const WeightGradient>) { return false; }
bool FusedNormAndTurn(const Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, double,
                      const RowPositions&) {
  return false;
}
bool FusedAdamW(const Context&, const FlatParameters&, std::span<const DecayRun>, const AdamWUpdate&) { return false; }
bool AttentionTurnsBack(const Context&, const Tensor&) { return false; }
Tensor FusedGated(const Context&, const NormedRows&, const Tensor&, const Tensor&) { return {}; }
Tensor FusedRest(const Context&, const NormedRows&, const Tensor&, const RestWeights&) { return {}; }
Tensor FusedQkv(const Context&, const KeyCache&, std::int64_t, const NormedRows&, const QkvWeights&, const QkvRows&) {
  return {};
}

}  // namespace swarr
