// SPDX-License-Identifier: Apache-2.0
// A limit on the address space of a program that a test starts.
#pragma once

#include <sys/resource.h>

namespace swarr {

// The shadow memory of AddressSanitizer and ThreadSanitizer alone is larger than a limit. g++ 12 tells of them by
// macros, clang by features.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCanLimitMemory = false;
#elif defined(__clang__)
constexpr bool kCanLimitMemory = !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
constexpr bool kCanLimitMemory = true;
#endif

// For Program: whether the process has the limit, or can have none.
template <rlim_t kBytes>
bool LimitMemory() {
  const rlimit limit{kBytes, kBytes};
  return !kCanLimitMemory || ::setrlimit(RLIMIT_AS, &limit) == 0;
}

}  // namespace swarr
