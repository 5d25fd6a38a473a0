// SPDX-License-Identifier: Apache-2.0
#include "base/directories.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/paths.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStaged = "files";  // the NAME of staged files

std::vector<fs::path> EntriesOf(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator i(directory, error), end; !error && i != end; i.increment(error)) {
    entries.push_back(i->path());
  }
  if (error) throw SystemError("read", directory, error.value());
  return entries;
}

void RemoveAll(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw SystemError("remove", path, error.value());
}

// Moves staged files, complete ones, to their names.
void MoveStaged(const fs::path& ready, const fs::path& directory) {
  for (const fs::path& file : EntriesOf(ready)) Rename(file, directory / file.filename());
  SyncDirectory(directory);
  RemoveAll(ready);
}

// What can't be created is told of when the path is written to.
fs::path ResolveWithParents(const fs::path& path) {
  const fs::path resolved = Resolve(path);
  std::error_code ignored;
  fs::create_directories(resolved.parent_path(), ignored);
  return resolved;
}

// Throws unless `destination` does not exist or is a directory that holds nothing but entries named in `names`.
void CheckReplaceable(const fs::path& destination, const std::vector<std::string>& names) {
  if (!Exists(destination)) return;
  std::error_code error;
  SWARR_CHECK(fs::is_directory(destination, error), "can't create the directory ", destination.string(),
              ": a file has this name; choose another");
  fs::directory_iterator entries(destination, error);
  if (error) throw SystemError("read", destination, error.value());
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    SWARR_CHECK(std::find(names.begin(), names.end(), name) != names.end(), "won't replace ", destination.string(),
                ": it holds ", name, ", which would be lost; choose another directory or move it away");
  }
}

}  // namespace

AtomicDirectory::AtomicDirectory(const fs::path& destination, std::vector<std::string> names, Existing existing)
    : destination_(ResolveWithParents(destination)),
      lock_(destination_),
      partial_(Sibling(destination_, "partial")),
      names_(existing == Existing::kReplaced ? std::move(names) : std::vector<std::string>{}),
      existing_(existing) {
  RecoverDirectory(destination_);
  CheckReplaceable(destination_, names_);
  std::error_code error;
  for (const char* leftover : {"partial", "old"}) {
    if (!error) fs::remove_all(Sibling(destination_, leftover), error);
  }
  if (!error) fs::create_directories(partial_, error);
  if (error) throw SystemError("create", destination_, error.value());
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

void AtomicDirectory::Commit() {
  CheckReplaceable(destination_, names_);
  SyncDirectory(partial_);
  const fs::path old = Sibling(destination_, "old");
  // Where nothing may be replaced the system sees to it: it gives no directory the name of one that holds anything.
  if (existing_ == Existing::kReplaced && Exists(destination_)) Rename(destination_, old);
  try {
    Rename(partial_, destination_);
  } catch (...) {
    RecoverDirectory(destination_);
    throw;
  }
  SyncDirectory(destination_.parent_path());
  std::error_code ignored;
  fs::remove_all(old, ignored);
  lock_.reset();
}

void RecoverDirectory(const fs::path& destination) {
  const fs::path resolved = Resolve(destination);
  const fs::path old = Sibling(resolved, "old");
  if (!Exists(resolved) && Exists(old)) Rename(old, resolved);
}

void RemoveDirectory(const fs::path& directory) {
  const fs::path resolved = Resolve(directory), removed = Sibling(resolved, "removed");
  RemoveAll(removed);
  Rename(resolved, removed);
  RemoveAll(removed);
}

StagedFiles::StagedFiles(const fs::path& directory)
    : directory_(Resolve(directory)), partial_(Sibling(directory_ / kStaged, "partial")) {
  RemoveAll(partial_);
  std::error_code error;
  fs::create_directories(partial_, error);
  if (error) throw SystemError("create", partial_, error.value());
}

StagedFiles::~StagedFiles() {
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

void StagedFiles::Commit() {
  SyncDirectory(partial_);
  const fs::path ready = Sibling(directory_ / kStaged, "ready");
  Rename(partial_, ready);
  SyncDirectory(directory_);
  MoveStaged(ready, directory_);
}

void RecoverEntries(const fs::path& directory) {
  constexpr std::string_view kMark = ".swarr-";
  if (!Exists(directory)) return;
  for (const fs::path& entry : EntriesOf(directory)) {
    const std::string name = entry.filename().string();
    const std::size_t mark = name.rfind(kMark);
    if (!name.starts_with('.') || mark == std::string::npos) continue;
    const std::string suffix = name.substr(mark + kMark.size());
    const fs::path named = directory / name.substr(1, mark - 1);
    if (suffix == "ready") {
      MoveStaged(entry, directory);
    } else if (suffix == "old" && !Exists(named)) {
      Rename(entry, named);
    } else if (suffix == "partial" || suffix == "removed" || suffix == "old" || suffix == "lock") {
      std::error_code ignored;  // what can't be removed is in nobody's way
      fs::remove_all(entry, ignored);
    }
  }
}

void RequireRecovered(const fs::path& directory) {
  SWARR_CHECK(!Exists(Sibling(directory / kStaged, "ready")), directory.string(),
              " holds files of two models, since a run was stopped while it wrote the last one; start that run again "
              "with --resume auto");
}

DirectoryLock::DirectoryLock(const fs::path& directory)
    : fd_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ < 0) throw SystemError("use", directory, errno);
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(fd_);
  throw Error(Concat("another process is writing to ", directory.string(),
                     "; wait until it has ended, or choose another directory"));
}

DirectoryLock::~DirectoryLock() { ::close(fd_); }

}  // namespace swarr
