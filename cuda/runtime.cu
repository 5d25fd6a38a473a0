// SPDX-License-Identifier: Apache-2.0
// What the rest of the program needs of the CUDA runtime (tensor/device.h): one device, one stream.
#include <cstring>

#include "base/check.h"
#include "cuda/cuda.h"
#include "tensor/device_event.h"
#include "tensor/device_memory.h"

namespace swarr {
namespace {

// For what device the kernels were compiled.
__global__ void CompiledKernel() {}

// The error that says why there is no device; cudaSuccess if there is one.
cudaError_t FindDevice() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return error;
  return count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

}  // namespace

void ThrowCuda(cudaError_t error, const char* what, const char* file, int line) {
  cudaGetLastError();  // forgets the error, for which the next launch would be blamed; one of the device stays
  SWARR_CHECK(error != cudaErrorMemoryAllocation,
              "not enough memory on the CUDA device; try a smaller model, batch or length");
  throw Error(Concat("CUDA: ", cudaGetErrorString(error), " (", what, ", ", file, ":", line, ")"));
}

std::string CudaDeviceName() {
  if (FindDevice() != cudaSuccess) return {};
  cudaDeviceProp properties{};
  SWARR_CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  return properties.name;
}

std::shared_ptr<CudaStream> OpenCudaStream() {
  const cudaError_t found = FindDevice();
  SWARR_CHECK(found == cudaSuccess, "this machine has no CUDA device that works (", cudaGetErrorString(found),
              "); use --device cpu");
  SWARR_CUDA_CHECK(cudaSetDevice(0));
  auto stream = std::make_unique<CudaStream>();
  SWARR_CUDA_CHECK(cudaDeviceGetAttribute(&stream->multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  SWARR_CUDA_CHECK(cudaDeviceGetAttribute(&stream->shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  int major = 0;
  SWARR_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  stream->has_warpgroups = major == 9;
  // Code for an older device, which the driver has translated for this one, doesn't wait.
  cudaFuncAttributes compiled{};
  SWARR_CUDA_CHECK(cudaFuncGetAttributes(&compiled, CompiledKernel));
  stream->begins_early = major >= 9 && compiled.ptxVersion >= 90;
  SWARR_CUDA_CHECK(cudaStreamCreateWithFlags(&stream->handle, cudaStreamNonBlocking));
  return {stream.release(), [](CudaStream* s) {
            s->library.reset();  // while it has its stream
            cudaStreamDestroy(s->handle);
            delete s;
          }};
}

void* AllocateCuda(std::size_t bytes, MemoryKind kind) {
  void* memory = nullptr;
  if (kind == MemoryKind::kPinned) {
    SWARR_CUDA_CHECK(cudaMallocHost(&memory, bytes));
    std::memset(memory, 0, bytes);
    return memory;
  }
  SWARR_CUDA_CHECK(cudaMalloc(&memory, bytes));
  // The default stream zeroes it. The streams of contexts don't wait for that stream, so the processor does.
  SWARR_CUDA_CHECK(cudaMemset(memory, 0, bytes));
  SWARR_CUDA_CHECK(cudaStreamSynchronize(nullptr));
  return memory;
}

// cudaFree waits for the device by itself. An error here comes from earlier work; whoever waits for that work reports
// it.
void FreeCuda(void* memory, MemoryKind kind) noexcept {
  if (kind == MemoryKind::kPinned) {
    cudaDeviceSynchronize();
    cudaFreeHost(memory);
  } else {
    cudaFree(memory);
  }
}

std::int64_t FreeCudaBytes() {
  std::size_t free = 0, total = 0;
  SWARR_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(free);
}

void EnqueueCopy(CudaStream& stream, void* to, const void* from, std::size_t bytes) {
  SWARR_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.handle));
}

void EnqueueZero(CudaStream& stream, void* to, std::size_t bytes) {
  SWARR_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, stream.handle));
}

void WaitFor(CudaStream& stream) { SWARR_CUDA_CHECK(cudaStreamSynchronize(stream.handle)); }

void CopyAndWait(void* to, const void* from, std::size_t bytes) {
  SWARR_CUDA_CHECK(cudaDeviceSynchronize());
  if (bytes > 0) SWARR_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
  SWARR_CUDA_CHECK(cudaStreamSynchronize(nullptr));
}

CudaGraph::CudaGraph(CudaStream& stream, const std::function<void()>& enqueue) {
  SWARR_CUDA_CHECK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    enqueue();
  } catch (...) {
    cudaStreamEndCapture(stream.handle, &graph);  // the stream is to be usable again
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // as in ThrowCuda
    throw;
  }
  SWARR_CUDA_CHECK(cudaStreamEndCapture(stream.handle, &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  SWARR_CUDA_CHECK(error);
  graph_ = std::shared_ptr<void>(executable, [](void* g) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(g)); });
}

CudaEvent::CudaEvent() {
  cudaEvent_t event = nullptr;
  SWARR_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  event_ = std::shared_ptr<void>(event, [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
}

void CudaEvent::Record(CudaStream& stream) const {
  SWARR_CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(event_.get()), stream.handle));
}

void CudaEvent::Wait() const { SWARR_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(event_.get()))); }

void CudaGraph::Launch(CudaStream& stream) const {
  SWARR_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_.get()), stream.handle));
}

}  // namespace swarr
