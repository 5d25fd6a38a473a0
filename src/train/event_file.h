// SPDX-License-Identifier: Apache-2.0
// Metrics as TensorBoard reads them: an event file, which is TFRecords (length, its checksum, bytes, their checksum),
// each of them an Event in the protocol-buffer encoding (tensorflow/core/util/event.proto, framework/summary.proto).
// Names are those of Hugging Face's callback, and so TRL's: train/loss, train/reward, eval/accuracy.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace swarr {

// CRC-32C (Castagnoli, as in RFC 3720).
std::uint32_t Crc32c(std::string_view bytes);

// The event files of a directory, by their names.
bool IsEventFile(const std::string& name);
std::vector<std::filesystem::path> EventFilesOf(const std::filesystem::path& dir);

class EventFile {
 public:
  // A new file in `dir`. What older files there tell of steps from `first_step` on is to be dropped by the reader: a
  // run that went back makes these steps again.
  EventFile(const std::filesystem::path& dir, std::int64_t first_step);

  // The numbers of a row of metrics.jsonl. Appended whole, so that a reader may follow a running process.
  void Add(const nlohmann::ordered_json& row) const;

 private:
  std::filesystem::path path_;
};

}  // namespace swarr
