// SPDX-License-Identifier: Apache-2.0
// Files: read whole or in parts, written completely or not at all, and JSON. Every failure is an Error that names the
// path, the system's reason and, where there is one, the remedy.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace swarr {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

// The whole content of a file or pipe. Throws if there are more than `most_bytes`.
std::string ReadFile(const std::filesystem::path& path,
                     std::uint64_t most_bytes = std::numeric_limits<std::uint64_t>::max());

// The largest JSON file of a model that is read: ten times the size of the largest tokenizer.
constexpr std::uint64_t kMostJsonBytes = 1 << 28;

// A regular file from which any part can be read.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  std::uint64_t size() const { return size_; }
  // Reads bytes [offset, offset + bytes) of the file into `to`. Throws if the file ends before.
  void ReadAt(std::uint64_t offset, void* to, std::size_t bytes) const;

 private:
  std::string path_;
  FileHandle file_;
  std::uint64_t size_ = 0;
};

// Makes `path` a file with exactly this content, or throws and leaves what was there: the bytes go to a hidden file
// beside it, to the disk, and only then under its name. A symbolic link is followed; devices and pipes are refused.
// Two processes must not write one path at the same time.
void WriteFileAtomically(const std::filesystem::path& path, std::string_view bytes);
// The same for content that lies in several places: the parts, one after another.
void WriteFileAtomically(const std::filesystem::path& path, const std::vector<std::string_view>& parts);

// Waits until what was written to the file is on the disk.
void SyncFile(const std::filesystem::path& path);

// Makes `to` a file with the content of `from`, and waits until it is on the disk. It is not atomic: use it within an
// AtomicDirectory.
void CopyFile(const std::filesystem::path& from, const std::filesystem::path& to);

// The JSON value of `text`; `where` (a path, or path:line) opens the sentence of every error. Stricter than the parser
// of the library: a key that occurs twice in one object is refused, not silently taken once. Json is nlohmann::json or,
// where the order of fields matters, nlohmann::ordered_json (whose objects take quadratic time: for small ones).
template <class Json>
Json ParseJson(std::string_view text, const std::string& where);

// Calls visit(line number from 1, value) for every line of a JSON Lines file. A byte order mark, CRLF and blank lines
// are tolerated. Errors, those thrown by `visit` too, open with "path:line: ".
void ForEachJsonLine(const std::filesystem::path& path, const std::function<void(int, const nlohmann::json&)>& visit);
// The same with the text of the line.
void ForEachJsonLine(const std::filesystem::path& path,
                     const std::function<void(int, const nlohmann::json&, std::string_view)>& visit);
// The same for a file that may be being written: a last line without its end is passed over if it is no JSON.
void ForEachWholeJsonLine(const std::filesystem::path& path,
                          const std::function<void(int, const nlohmann::json&)>& visit);

}  // namespace swarr
