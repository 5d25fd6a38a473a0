// SPDX-License-Identifier: Apache-2.0
// Vectors of 64 bytes in the compiler's own notation: lane by lane, the same arithmetic as scalars. Compilers split
// them where registers are narrower.
#pragma once

#include <cstdint>
#include <cstring>

namespace swarr {

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(64)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr std::int64_t kVectorLanes = 64 / static_cast<std::int64_t>(sizeof(T));

template <class T>
inline void Load(Vector<T>& v, const T* from) {
  std::memcpy(&v, from, sizeof v);
}
template <class T>
inline void Store(T* to, const Vector<T>& v) {
  std::memcpy(to, &v, sizeof v);
}

}  // namespace swarr
