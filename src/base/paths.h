// SPDX-License-Identifier: Apache-2.0
// What files.cc and directories.cc do with paths.
#pragma once

#include <filesystem>

#include "base/check.h"

namespace swarr {

// "can't <doing> <path>: <the system's reason>", with advice where there is some. `error` is an errno.
Error SystemError(const char* doing, const std::filesystem::path& path, int error);

// Whether a path is known to exist. If it can't be seen, the operation that follows says why.
bool Exists(const std::filesystem::path& path);

// A hidden name beside `path`. It is the same in every run, so that a killed run's leftovers are found by the next.
std::filesystem::path Sibling(const std::filesystem::path& path, const char* suffix);

// Makes names in a directory durable. Not every file system can, and the content is safe anyway.
void SyncDirectory(const std::filesystem::path& directory);

// Keeps other processes from writing what has this name as well, as long as the object lives: an fcntl(2) lock of a
// hidden file beside it. Where another process has it, the constructor waits. Of one process, whose locks never wait
// for each other, the first that goes gives it up. Where there are no such locks, or the file can't be created, it does
// nothing.
class NameLock {
 public:
  explicit NameLock(const std::filesystem::path& path);
  ~NameLock();
  NameLock(const NameLock&) = delete;
  NameLock& operator=(const NameLock&) = delete;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
};

// Throws SystemError if it fails.
void Rename(const std::filesystem::path& from, const std::filesystem::path& to);

// Gives `from` the name `to` unless something has it: then it returns false, and both stay. Nothing can come between.
// Throws SystemError if it fails.
bool RenameToFree(const std::filesystem::path& from, const std::filesystem::path& to);

// The absolute path behind links, "." and trailing slashes.
std::filesystem::path Resolve(const std::filesystem::path& path);

}  // namespace swarr
