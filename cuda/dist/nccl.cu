// SPDX-License-Identifier: Apache-2.0
// Exchange between devices: a send to every rank and a receive from every rank in one group of NCCL, in the stream that
// computes. Only bytes move; sums are ours (dist/ranks.h), so their order is too.
#include <nccl.h>

#include <cstring>

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
  ~NcclExchange() override { ncclCommAbort(communicator_); }  // never waits for a rank that may be gone

  void Exchange(const Context& ctx, std::span<const Tensor> send, std::span<const Tensor> receive) override {
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
  }

 private:
  ncclComm_t communicator_ = nullptr;
};

}  // namespace

std::unique_ptr<DeviceExchange> MakeDeviceExchange(Communicator& ranks) {
  return std::make_unique<NcclExchange>(ranks);
}

}  // namespace swarr
