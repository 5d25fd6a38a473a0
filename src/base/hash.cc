// SPDX-License-Identifier: Apache-2.0
#include "base/hash.h"

#define XXH_INLINE_ALL  // the library is one header
#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/files.h"

namespace swarr {
namespace {

std::string Hexadecimal(XXH128_hash_t hash) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  std::string text;
  for (const unsigned char byte : bytes.digest) {
    for (const int digit : {byte / 16, byte % 16}) text += "0123456789abcdef"[digit];
  }
  return text;
}

struct StateDeleter {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

}  // namespace

std::string HashOf(std::string_view bytes) { return Hexadecimal(XXH3_128bits(bytes.data(), bytes.size())); }

std::string HashOfFile(const std::filesystem::path& path) {
  const InputFile file(path);
  const std::unique_ptr<XXH3_state_t, StateDeleter> state(XXH3_createState());
  XXH3_128bits_reset(state.get());
  std::vector<char> block(1 << 20);
  for (std::uint64_t at = 0; at < file.size(); at += block.size()) {
    const std::size_t bytes = std::min<std::uint64_t>(block.size(), file.size() - at);
    file.ReadAt(at, block.data(), bytes);
    XXH3_128bits_update(state.get(), block.data(), bytes);
  }
  return Hexadecimal(XXH3_128bits_digest(state.get()));
}

}  // namespace swarr
