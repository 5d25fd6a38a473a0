// SPDX-License-Identifier: Apache-2.0
#include "base/paths.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace swarr {
namespace {

namespace fs = std::filesystem;

const char* Advice(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "; free some space or choose another place";
    case ENOENT:
    case ENOTDIR:
      return "; check the path";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; check the permissions or choose another place";
    default:
      return "";
  }
}

}  // namespace

Error SystemError(const char* doing, const fs::path& path, int error) {
  return Error(
      Concat("can't ", doing, " ", path.string(), ": ", std::generic_category().message(error), Advice(error)));
}

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

fs::path Sibling(const fs::path& path, const char* suffix) {
  return path.parent_path() / Concat(".", path.filename().string(), ".swarr-", suffix);
}

void SyncDirectory(const fs::path& directory) {
  const int fd = ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

NameLock::NameLock(const fs::path& path) : file_(Sibling(path, "lock")) {
  for (;;) {
    fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct flock whole {};
    whole.l_type = F_WRLCK;
    if (fd_ < 0 || ::fcntl(fd_, F_SETLKW, &whole) != 0) return;
    // Whoever held it has removed it: then it locks nothing any more.
    struct stat mine {};
    struct stat there {};
    if (::fstat(fd_, &mine) != 0 || (::stat(file_.c_str(), &there) == 0 && mine.st_ino == there.st_ino)) return;
    ::close(fd_);
  }
}

NameLock::~NameLock() {
  if (fd_ < 0) return;
  ::unlink(file_.c_str());
  ::close(fd_);
}

void Rename(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw SystemError("write", to, errno);
}

bool RenameToFree(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno == EINVAL) {  // a file system that can't, such as NFS; a second name can't replace anything either
    if (::link(from.c_str(), to.c_str()) == 0) {
      ::unlink(from.c_str());
      return true;
    }
  }
  if (errno == EEXIST) return false;
  throw SystemError("write", to, errno);
}

fs::path Resolve(const fs::path& path) {
  std::error_code error;
  fs::path resolved = fs::absolute(path, error);
  if (!error) resolved = fs::weakly_canonical(resolved, error);
  if (error) throw SystemError("use", path, error.value());
  if (!resolved.has_filename()) resolved = resolved.parent_path();
  SWARR_CHECK(resolved.has_filename(), "can't write ", path.string(), ": it is no name for a file or directory");
  return resolved;
}

}  // namespace swarr
