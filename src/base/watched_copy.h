// SPDX-License-Identifier: Apache-2.0
// CopyFile (base/files.h) for whoever wants to show how far it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace swarr {

// Calls copied(bytes) after each part that is written, with the part's bytes.
void CopyFile(const std::filesystem::path& from, const std::filesystem::path& to,
              const std::function<void(std::uint64_t)>& copied);

}  // namespace swarr
