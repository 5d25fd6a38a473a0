// SPDX-License-Identifier: Apache-2.0
// Stands in for nccl.cu in a build without NCCL.
#include "base/check.h"
#include "dist/device_exchange.h"

namespace swarr {

std::unique_ptr<DeviceExchange> MakeDeviceExchange(Communicator&) {
  throw Error(
      "this build has no NCCL, so ranks can't exchange what CUDA devices hold; build with -D SWARR_CUDA=ON -D "
      "SWARR_NCCL=ON "
      "where NCCL is installed");
}

}  // namespace swarr
