// SPDX-License-Identifier: Apache-2.0
// Where tensors are and ops run: on the processor, or on one CUDA device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/names.h"

namespace swarr {

enum class Device : std::uint8_t { kCpu, kCuda };

template <>
inline constexpr std::array kNames<Device> = {"cpu", "cuda"};

// Tag of the set of CUDA kernels, beside those of cpu.h.
struct Cuda {};

struct CudaStream;  // cuda/cuda.h: a queue of work for a device

// Who reaches memory. kHost: the processor alone. kPinned: the processor, and a CUDA device, slowly; it is page-locked.
// kDevice: the CUDA device alone.
enum class MemoryKind : std::uint8_t { kHost, kPinned, kDevice };

// Where a device keeps what it computes with.
constexpr MemoryKind MemoryOf(Device device) {
  return device == Device::kCuda ? MemoryKind::kDevice : MemoryKind::kHost;
}

// The rest is defined in cuda/runtime.cu or, in a build without CUDA, in cuda/stub.cc, which throws Error.

// The name of the first CUDA device; empty if this build or this machine has none.
std::string CudaDeviceName();

// A stream on the first CUDA device. Throws Error if the build or the machine has none.
std::shared_ptr<CudaStream> OpenCudaStream();

// Zeroed pinned or device memory. FreeCuda gives it back, when the device has finished its work with it.
void* AllocateCuda(std::size_t bytes, MemoryKind kind);
void FreeCuda(void* memory, MemoryKind kind) noexcept;

// The first two put work into the stream's queue: a copy between memories of any kind, or zeros. WaitFor waits until
// the queue is empty.
void EnqueueCopy(CudaStream& stream, void* to, const void* from, std::size_t bytes);
void EnqueueZero(CudaStream& stream, void* to, std::size_t bytes);
void WaitFor(CudaStream& stream);

// Copies when the device has done all its work, and returns when the copy is done.
void CopyAndWait(void* to, const void* from, std::size_t bytes);

// Work of a stream that is recorded once and then launched as a whole, again and again. A launch costs the processor a
// fraction of what launching the kernels one by one costs.
class CudaGraph {
 public:
  // Records what `enqueue` puts into the stream, without doing it. `enqueue` must neither allocate memory nor wait, and
  // the memory that it uses must still be there at every launch.
  CudaGraph(CudaStream& stream, const std::function<void()>& enqueue);
  void Launch(CudaStream& stream) const;

 private:
  std::shared_ptr<void> graph_;
};

}  // namespace swarr
