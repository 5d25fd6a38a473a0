// SPDX-License-Identifier: Apache-2.0
// Memory in which the element after the last, or before the first, is a crash.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tensor/tensor.h"

namespace swarr {

// Copies of tensors, each between two pages that can't be touched: against the second (at_end) or against the first.
class Fences {
 public:
  explicit Fences(bool at_end) : at_end_(at_end) {}
  ~Fences() {
    for (const auto& [base, bytes] : mapped_) ::munmap(base, bytes);
  }
  Fences(const Fences&) = delete;
  Fences& operator=(const Fences&) = delete;

  Tensor Copy(const Tensor& t) {
    if (t.bytes() == 0) return t;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t inner = (t.bytes() + page - 1) / page * page, bytes = inner + 2 * page;
    void* base = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SWARR_CHECK(base != MAP_FAILED, "can't map ", bytes, " bytes");
    mapped_.emplace_back(base, bytes);
    std::byte* begin = static_cast<std::byte*>(base) + page;
    SWARR_CHECK(::mprotect(begin, inner, PROT_READ | PROT_WRITE) == 0, "can't open the pages between the fences");
    const Tensor copy = t.Over(begin + (at_end_ ? inner - t.bytes() : 0));
    swarr::Copy(copy, t);
    return copy;
  }

 private:
  bool at_end_;
  std::vector<std::pair<void*, std::size_t>> mapped_;
};

}  // namespace swarr
