// SPDX-License-Identifier: Apache-2.0
// A library to preload into the program: it counts the file operations within a directory, and at one of them ends the
// process or makes the disk full. Used by torture.py.
//   SWARR_FAULT_DIR     the directory (absolute)
//   SWARR_FAULT         count | kill:N | full:N: the process is killed before operation N, or operations from N on
//                       find no space
//   SWARR_FAULT_COUNT   where `count` writes the number of operations
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

template <class F>
F* Next(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

struct Faults {
  Faults() {
    const char* given = std::getenv("SWARR_FAULT");
    const char* where = std::getenv("SWARR_FAULT_DIR");
    if (given == nullptr || where == nullptr) return;
    dir = where;
    mode = given;
    if (const auto colon = mode.find(':'); colon != std::string::npos) {
      at = std::stol(mode.substr(colon + 1));
      mode.resize(colon);
    }
  }
  ~Faults() {
    const char* path = std::getenv("SWARR_FAULT_COUNT");
    if (mode != "count" || path == nullptr) return;
    std::FILE* out = Next<std::FILE*(const char*, const char*)>("fopen")(path, "w");
    std::fprintf(out, "%ld\n", count.load());
    std::fclose(out);
  }
  std::string mode, dir;
  long at = 0;
  std::atomic<long> count{0};
};

Faults& State() {
  static Faults faults;
  return faults;
}

bool Within(const char* path) {
  return path != nullptr && std::strncmp(path, State().dir.c_str(), State().dir.size()) == 0;
}

bool Within(int fd) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = ::readlink(link, path, sizeof path - 1);
  if (n < 0) return false;
  path[n] = '\0';
  return Within(path);
}

// Counts an operation; returns whether it must fail.
bool Fails(bool within, bool needs_space) {
  Faults& faults = State();
  if (faults.mode.empty() || !within) return false;
  const long n = ++faults.count;
  if (faults.mode == "kill" && n == faults.at) ::kill(::getpid(), SIGKILL);
  if (faults.mode != "full" || n < faults.at || !needs_space) return false;
  errno = ENOSPC;
  return true;
}

bool Writes(const char* mode) { return std::strpbrk(mode, "wa+") != nullptr; }

}  // namespace

extern "C" {

std::FILE* fopen(const char* path, const char* mode) {
  if (Writes(mode) && Fails(Within(path), true)) return nullptr;
  return Next<std::FILE*(const char*, const char*)>("fopen")(path, mode);
}

// A disk that gets full takes a part.
std::size_t fwrite(const void* data, std::size_t size, std::size_t n, std::FILE* file) {
  const bool fails = Fails(Within(::fileno(file)), true);
  const std::size_t written = Next<std::size_t(const void*, std::size_t, std::size_t, std::FILE*)>("fwrite")(
      data, size, fails ? n / 2 : n, file);
  if (fails) errno = ENOSPC;
  return written;
}

int fflush(std::FILE* file) {
  const bool fails = file != nullptr && Fails(Within(::fileno(file)), true);
  const int result = Next<int(std::FILE*)>("fflush")(file);
  if (fails) errno = ENOSPC;
  return fails ? EOF : result;
}

int fclose(std::FILE* file) {
  const bool fails = Fails(Within(::fileno(file)), true);
  const int result = Next<int(std::FILE*)>("fclose")(file);
  if (fails) errno = ENOSPC;
  return fails ? EOF : result;
}

int fsync(int fd) {
  if (Fails(Within(fd), true)) return -1;
  return Next<int(int)>("fsync")(fd);
}

int mkdir(const char* path, mode_t mode) {
  if (Fails(Within(path), true)) return -1;
  return Next<int(const char*, mode_t)>("mkdir")(path, mode);
}

int rename(const char* from, const char* to) {
  Fails(Within(from), false);
  return Next<int(const char*, const char*)>("rename")(from, to);
}

int remove(const char* path) {
  Fails(Within(path), false);
  return Next<int(const char*)>("remove")(path);
}

int unlink(const char* path) {
  Fails(Within(path), false);
  return Next<int(const char*)>("unlink")(path);
}

int unlinkat(int fd, const char* path, int flags) {
  Fails(Within(fd) || Within(path), false);
  return Next<int(int, const char*, int)>("unlinkat")(fd, path, flags);
}

int rmdir(const char* path) {
  Fails(Within(path), false);
  return Next<int(const char*)>("rmdir")(path);
}

}  // extern "C"
