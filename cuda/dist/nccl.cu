// SPDX-License-Identifier: Apache-2.0
// Exchange between devices: a send to every rank and a receive from every rank in one group of NCCL, in the stream that
// computes. Only bytes move; sums are ours (dist/ranks.h), so their order is too.
#include <nccl.h>

#include <cstring>
#include <utility>
#include <vector>

#include "cuda/cuda.h"
#include "dist/device_exchange.h"

namespace swarr {
namespace {

void CheckNccl(ncclResult_t result, const char* what) {
  SWARR_CHECK(result == ncclSuccess, "NCCL can't ", what, ": ", ncclGetErrorString(result), " (",
              ncclGetLastError(nullptr), "); NCCL_DEBUG=INFO tells more");
}

class NcclExchange : public DeviceExchange {
 public:
  explicit NcclExchange(Communicator& ranks) {
    ncclUniqueId id;
    if (ranks.rank() == 0) CheckNccl(ncclGetUniqueId(&id), "make an id");
    const std::string text = ranks.Gather(ranks.rank() == 0 ? std::string(id.internal, sizeof id.internal) : "")[0];
    std::memcpy(id.internal, text.data(), sizeof id.internal);
    CheckNccl(ncclCommInitRank(&communicator_, ranks.size(), id, ranks.rank()), "join the ranks' devices");
  }
  ~NcclExchange() override {
    ncclCommAbort(communicator_);  // never waits for a rank that may be gone
    for (const std::vector<Span>* spans : {&running_, &idle_}) {
      for (const Span& span : *spans) {
        cudaEventDestroy(span.begin);
        cudaEventDestroy(span.end);
      }
    }
  }

  void Exchange(const Context& ctx, std::span<const Tensor> send, std::span<const Tensor> receive) override {
    CountEnded();
    const Span span = NewSpan();
    SWARR_CUDA_CHECK(cudaEventRecord(span.begin, ctx.stream->handle));
    CheckNccl(ncclGroupStart(), "begin an exchange");
    for (std::size_t r = 0; r < send.size(); ++r) {
      const int peer = static_cast<int>(r);
      if (!send[r].empty() && send[r].size() > 0) {
        CheckNccl(ncclSend(send[r].raw(), send[r].bytes(), ncclUint8, peer, communicator_, ctx.stream->handle), "send");
      }
      if (!receive[r].empty() && receive[r].size() > 0) {
        CheckNccl(ncclRecv(receive[r].raw(), receive[r].bytes(), ncclUint8, peer, communicator_, ctx.stream->handle),
                  "receive");
      }
    }
    CheckNccl(ncclGroupEnd(), "exchange");
    SWARR_CUDA_CHECK(cudaEventRecord(span.end, ctx.stream->handle));
    running_.push_back(span);
  }

  double TakeSeconds() override {
    CountEnded();
    return std::exchange(seconds_, 0);
  }

 private:
  // What stands in the stream before and after an exchange.
  struct Span {
    cudaEvent_t begin = nullptr, end = nullptr;
  };

  Span NewSpan() {
    Span span;
    if (!idle_.empty()) {
      span = idle_.back();
      idle_.pop_back();
    } else {
      SWARR_CUDA_CHECK(cudaEventCreate(&span.begin));
      SWARR_CUDA_CHECK(cudaEventCreate(&span.end));
    }
    return span;
  }

  void CountEnded() {
    std::erase_if(running_, [&](const Span& span) {
      const cudaError_t state = cudaEventQuery(span.end);
      if (state == cudaErrorNotReady) {
        cudaGetLastError();  // or the next check of a launch would find it
        return false;
      }
      SWARR_CUDA_CHECK(state);
      float milliseconds = 0;
      SWARR_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, span.begin, span.end));
      seconds_ += 1e-3 * static_cast<double>(milliseconds);
      idle_.push_back(span);
      return true;
    });
  }

  ncclComm_t communicator_ = nullptr;
  std::vector<Span> running_, idle_;
  double seconds_ = 0;
};

}  // namespace

std::unique_ptr<DeviceExchange> MakeDeviceExchange(Communicator& ranks) {
  return std::make_unique<NcclExchange>(ranks);
}

}  // namespace swarr
