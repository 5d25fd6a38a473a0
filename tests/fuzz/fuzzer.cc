// SPDX-License-Identifier: Apache-2.0
// The entry of libFuzzer, which brings its own main. SWARR_HARNESS is the harness of this program.
#include <cstddef>
#include <cstdint>

#include "fuzz/harnesses.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  swarr::fuzz::Run(swarr::fuzz::SWARR_HARNESS, {reinterpret_cast<const char*>(data), size});
  return 0;
}
