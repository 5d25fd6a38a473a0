// SPDX-License-Identifier: Apache-2.0
// Directories that are whole or not there, whatever stops the process that writes them. What it leaves behind has a
// hidden name, .NAME.swarr-SUFFIX, that says what is to be done with it:
//   partial   it was not complete: remove it
//   old       the predecessor of NAME while that is replaced: move it back if there is no NAME, else remove it
//   removed   NAME is being removed: remove it
//   ready     complete files of the directory, to be moved to their names
//   lock      of NAME, and empty (paths.h): remove it
// Errors are those of files.h.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/paths.h"

namespace swarr {

// What becomes of what has the name of a directory that is to be written.
enum class Existing { kReplaced, kKept };

// A directory that appears under its name when it is complete (a model, a checkpoint):
//   AtomicDirectory dir(destination, {"config.json", "model.safetensors"});
//   WriteFileAtomically(dir.path() / "config.json", ...); ...
//   dir.Commit();
// Without Commit, the destructor removes what was written. A new AtomicDirectory removes what a killed run left beside
// the destination, or puts it back if the run was killed while it replaced the destination. It waits while another
// process writes the same destination.
class AtomicDirectory {
 public:
  // `names`: what the directory may hold. An existing destination is replaced only if it holds nothing else, so that no
  // files get lost, and with kKept only if it is empty. Missing parents are created.
  AtomicDirectory(const std::filesystem::path& destination, std::vector<std::string> names,
                  Existing existing = Existing::kReplaced);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // Where to write until Commit.
  const std::filesystem::path& path() const { return partial_; }
  void Commit();

 private:
  std::filesystem::path destination_;
  std::optional<NameLock> lock_;  // until Commit
  std::filesystem::path partial_;
  std::vector<std::string> names_;
  Existing existing_;
};

// Puts the old directory back if a run was killed between moving it away and moving the new one in. Call it before
// reading a directory that an AtomicDirectory may have been replacing.
void RecoverDirectory(const std::filesystem::path& destination);

// Removes a directory and all that it holds. It loses its name first, so that it is never there in part.
void RemoveDirectory(const std::filesystem::path& directory);

// Files of a directory that are replaced together (a model among other files):
//   StagedFiles files(directory);
//   WriteFileAtomically(files.path() / "config.json", ...); ...
//   files.Commit();
// Without Commit, the destructor removes what was written and all stays as it was. A process that is killed within
// Commit has either changed nothing, or RecoverEntries moves the rest of the files.
class StagedFiles {
 public:
  explicit StagedFiles(const std::filesystem::path& directory);
  ~StagedFiles();
  StagedFiles(const StagedFiles&) = delete;
  StagedFiles& operator=(const StagedFiles&) = delete;

  // Where to write until Commit.
  const std::filesystem::path& path() const { return partial_; }
  void Commit();

 private:
  std::filesystem::path directory_, partial_;
};

// Finishes or undoes what killed processes left in a directory, by the rules above. No other process may be writing
// there. A directory that does not exist is left alone.
void RecoverEntries(const std::filesystem::path& directory);

// Throws if files of the directory still wait to be moved to their names.
void RequireRecovered(const std::filesystem::path& directory);

// Holds a directory for one process, as long as the object lives: flock(2). Throws if another process holds it. Where
// the file system has no such locks, it does nothing.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int fd_;
};

}  // namespace swarr
