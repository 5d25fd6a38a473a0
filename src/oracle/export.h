// SPDX-License-Identifier: Apache-2.0
// A suite as files: <directory>/<suite>/ with
//   manifest.json         what is computed, in words; every case and tensor; tolerances and their reason
//   inputs.safetensors    "<case>.<tensor>", f64 and i32
//   expected.safetensors  the same of the truth
// The same bytes on every run and for any number of threads.
#pragma once

#include <filesystem>

#include "base/directories.h"
#include "oracle/expectations.h"

namespace swarr::oracle {

inline constexpr int kManifestVersion = 1;

// Replaces the directory of an earlier export, unless `existing` says otherwise; throws where it holds other files.
void Export(Expectations& expectations, const std::filesystem::path& directory,
            Existing existing = Existing::kReplaced);

nlohmann::ordered_json Manifest(Expectations& expectations);

// Writes "<case>.<tensor>" of many cases, f64 and i32.
void WriteValues(const std::filesystem::path& path, const std::map<std::string, const Value*>& values);

}  // namespace swarr::oracle
