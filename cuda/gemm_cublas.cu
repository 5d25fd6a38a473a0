// SPDX-License-Identifier: Apache-2.0
// cuBLAS's product, the twin of src/tensor/gemm_eigen.cc: the speed of gemm.cu and gemm_mma.cu is measured against it
// (`--gemm cublas`). cuBLAS chooses its kernels by the number of rows, on which its bits depend. So it is never used
// where exactness is promised. f32 is multiplied in f32, not in TF32.
//
// cuBLAS stores matrices column after column, and takes a row-major matrix for its transpose. So it is asked for
// c^T = b a^T.
#include <cublas_v2.h>

#include "base/check.h"
#include "cuda/gemm.h"
#include "tensor/memory.h"

namespace swarr {
namespace {

void CheckCublas(cublasStatus_t status, const char* what) {
  SWARR_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLAS: ", cublasGetStatusString(status), " (", what, ")");
}

// A handle, and memory for its kernels: while a graph is recorded, cuBLAS must not ask for memory.
class Library {
 public:
  explicit Library(cudaStream_t stream) : workspace_(kWorkspaceBytes, MemoryKind::kDevice) {
    CheckCublas(cublasCreate(&handle_), "cublasCreate");
    CheckCublas(cublasSetStream(handle_, stream), "cublasSetStream");
    CheckCublas(cublasSetWorkspace(handle_, workspace_.data(), workspace_.bytes()), "cublasSetWorkspace");
  }
  ~Library() { cublasDestroy(handle_); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  cublasHandle_t handle() const { return handle_; }

 private:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;  // what NVIDIA recommends for sm_90
  Buffer workspace_;
  cublasHandle_t handle_ = nullptr;
};

// The stream's handle, which its first product makes.
cublasHandle_t HandleOf(CudaStream& stream) {
  if (!stream.library) stream.library = std::make_shared<Library>(stream.handle);
  return static_cast<const Library*>(stream.library.get())->handle();
}

template <class T>
constexpr cudaDataType_t kTypeOf = std::is_same_v<T, double>  ? CUDA_R_64F
                                   : std::is_same_v<T, float> ? CUDA_R_32F
                                                              : CUDA_R_16BF;

}  // namespace

template <class T, class Out>
void MultiplyByCublas(const Context& ctx, const Product<T, Out>& p) {
  using Sum = Accumulator<T>;
  if (p.addend && p.addend != p.c) {
    EnqueueCopy(*ctx.stream, p.c, p.addend, static_cast<std::size_t>(p.rows * p.columns) * sizeof(Out));
  }
  const Sum one = 1, kept = p.addend ? 1 : 0;
  const auto sums = std::is_same_v<Sum, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  CheckCublas(cublasGemmEx_64(HandleOf(*ctx.stream), p.b.transposed ? CUBLAS_OP_N : CUBLAS_OP_T,
                              p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, p.columns, p.rows, p.depth, &one, p.b.data,
                              kTypeOf<T>, p.b.stride, p.a.data, kTypeOf<T>, p.a.stride, &kept, p.c, kTypeOf<Out>,
                              p.columns, sums, CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx");
}

template void MultiplyByCublas(const Context&, const Product<double, double>&);
template void MultiplyByCublas(const Context&, const Product<float, float>&);
template void MultiplyByCublas(const Context&, const Product<BFloat16, BFloat16>&);
template void MultiplyByCublas(const Context&, const Product<BFloat16, float>&);

}  // namespace swarr
