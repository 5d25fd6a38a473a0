// SPDX-License-Identifier: Apache-2.0
// Checksums of files: XXH3 with 128 bits (the library xxHash), as 32 hexadecimal digits. They find what accidents do to
// a file. They are no protection from somebody who forges one.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace swarr {

std::string HashOf(std::string_view bytes);

// The hash of a file's content. Throws Error if it can't be read.
std::string HashOfFile(const std::filesystem::path& path);

}  // namespace swarr
