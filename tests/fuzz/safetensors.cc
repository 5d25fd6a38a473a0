// SPDX-License-Identifier: Apache-2.0
#include "tensor/safetensors.h"

#include <algorithm>
#include <stdexcept>

#include "fuzz/harnesses.h"
#include "tensor/memory.h"

namespace swarr::fuzz {

void FuzzSafetensors(std::string_view input) {
  const SafetensorsFile file(Write("f.safetensors", input));
  constexpr std::int64_t kMost = 1 << 12;
  for (const std::string& name : file.names()) {
    std::int64_t size = 1;
    for (const std::int64_t n : file.shape(name)) size *= n;
    if (size < 0) throw std::logic_error("a shape of negative size was accepted");
    if (!file.IsFloating(name) || size == 0) continue;
    const OwnedTensor some(DType::kF32, {std::min(size, kMost)});
    file.ReadAs(name, size - some.view().size(), some.view());
  }
}

}  // namespace swarr::fuzz
