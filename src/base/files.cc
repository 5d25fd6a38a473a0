// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/paths.h"
#include "base/watched_copy.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

FileHandle Open(const fs::path& path, const char* mode, const char* doing) {
  FileHandle file(std::fopen(path.c_str(), mode));
  if (!file) throw SystemError(doing, path, errno);
  return file;
}

void WriteAndSync(const fs::path& path, const fs::path& named, const std::vector<std::string_view>& parts) {
  FileHandle file(std::fopen(path.c_str(), "wbx"));
  bool ok = file != nullptr;
  for (std::string_view part : parts) {
    ok = ok && (part.empty() || std::fwrite(part.data(), 1, part.size(), file.get()) == part.size());
  }
  ok = ok && std::fflush(file.get()) == 0 && ::fsync(::fileno(file.get())) == 0;
  ok = ok && std::fclose(file.release()) == 0;
  if (!ok) throw SystemError("write", named, errno);
}

// The library's message without its exception code, without the input it quotes, and without a line number where that
// can only be 1 and would be taken for the line of the file.
std::string Reason(const std::exception& e) {
  constexpr std::string_view kFirstLine = "line 1, ";
  std::string reason = e.what();
  reason.erase(0, reason.find("] ") + 2);
  if (const auto at = reason.find(kFirstLine); at != std::string::npos) reason.erase(at, kFirstLine.size());
  return reason.substr(0, reason.find("; last read"));
}

}  // namespace

std::string ReadFile(const fs::path& path, std::uint64_t most_bytes) {
  const FileHandle file = Open(path, "rb", "read");
  const auto check = [&](std::uint64_t bytes) {
    SWARR_CHECK(bytes <= most_bytes, "can't read ", path.string(), ": it has more than ", most_bytes,
                " bytes, the most that such a file may have; is it damaged?");
  };
  struct stat status {};  // a file's size is known before it is read, a pipe's is not
  if (::fstat(::fileno(file.get()), &status) == 0 && S_ISREG(status.st_mode)) {
    check(static_cast<std::uint64_t>(status.st_size));
  }
  std::string content;
  std::array<char, 1 << 16> block{};
  for (std::size_t n; (n = std::fread(block.data(), 1, block.size(), file.get())) > 0;) {
    content.append(block.data(), n);
    check(content.size());
  }
  if (std::ferror(file.get()) != 0) throw SystemError("read", path, errno);
  return content;
}

InputFile::InputFile(const fs::path& path) : path_(path.string()) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw SystemError("read", path, errno);
  SWARR_CHECK(S_ISREG(status.st_mode), "can't read ", path_, ": it is no regular file");  // opening a pipe would wait
  file_ = Open(path, "rb", "read");
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void InputFile::ReadAt(std::uint64_t offset, void* to, std::size_t bytes) const {
  auto* next = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = ::pread(::fileno(file_.get()), next, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw SystemError("read", path_, errno);
    SWARR_CHECK(n > 0, "can't read ", path_, ": it became shorter while it was read");
    next += n;
    offset += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
}

void WriteFileAtomically(const fs::path& path, std::string_view bytes) {
  WriteFileAtomically(path, std::vector<std::string_view>{bytes});
}

void WriteFileAtomically(const fs::path& path, const std::vector<std::string_view>& parts) {
  const fs::path target = Resolve(path);
  SWARR_CHECK(!Exists(target) || fs::is_regular_file(target), "can't write ", path.string(),
              ": something else than a file has this name; choose another");
  const fs::path partial = Sibling(target, "partial");
  std::error_code ignored;
  fs::remove(partial, ignored);
  try {
    WriteAndSync(partial, path, parts);
    Rename(partial, target);
  } catch (...) {
    fs::remove(partial, ignored);
    throw;
  }
  SyncDirectory(target.parent_path());
}

void SyncFile(const fs::path& path) {
  const FileHandle file = Open(path, "ab", "write");
  if (::fsync(::fileno(file.get())) != 0) throw SystemError("write", path, errno);
}

void CopyFile(const fs::path& from, const fs::path& to) { CopyFile(from, to, {}); }

void CopyFile(const fs::path& from, const fs::path& to, const std::function<void(std::uint64_t)>& copied) {
  const InputFile input(from);
  FileHandle output = Open(to, "wb", "write");
  std::vector<char> block(1 << 20);
  for (std::uint64_t at = 0; at < input.size(); at += block.size()) {
    const std::size_t bytes = std::min<std::uint64_t>(block.size(), input.size() - at);
    input.ReadAt(at, block.data(), bytes);
    if (std::fwrite(block.data(), 1, bytes, output.get()) != bytes) throw SystemError("write", to, errno);
    if (copied) copied(bytes);
  }
  bool ok = std::fflush(output.get()) == 0 && ::fsync(::fileno(output.get())) == 0;
  ok = std::fclose(output.release()) == 0 && ok;
  if (!ok) throw SystemError("write", to, errno);
}

template <class Json>
Json ParseJson(std::string_view text, const std::string& where) {
  // Bounds the recursion of whoever walks the value, and the memory that a hostile file can ask for.
  constexpr int kMaxDepth = 64;
  constexpr std::int64_t kMaxValues = 1 << 24;  // several times what the largest vocabularies have
  using Event = typename Json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::int64_t values = 0;
  const auto check = [&](int depth, Event event, Json& parsed) {
    SWARR_CHECK(depth <= kMaxDepth, where, ": this JSON is nested deeper than ", kMaxDepth, " levels");
    SWARR_CHECK(++values <= kMaxValues, where, ": this JSON holds more than ", kMaxValues, " keys and values");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.template get_ref<const std::string&>();
      SWARR_CHECK(keys.back().insert(key).second, where, ": the key '", key, "' occurs twice; remove one");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const typename Json::exception& e) {
    throw Error(Concat(where, ": no valid JSON: ", Reason(e)));
  }
}

template nlohmann::json ParseJson(std::string_view text, const std::string& where);
template nlohmann::ordered_json ParseJson(std::string_view text, const std::string& where);

namespace {

using VisitLine = std::function<void(int, const nlohmann::json&, std::string_view)>;

// `path` names the lines' file in errors.
void VisitJsonLines(const fs::path& path, std::string_view rest, const VisitLine& visit) {
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  for (int number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = Concat(path.string(), ":", number);
    const auto value = ParseJson<nlohmann::json>(line, where);
    try {
      visit(number, value, line);
    } catch (const nlohmann::json::exception& e) {
      throw Error(Concat(where, ": ", Reason(e)));
    } catch (const Error& e) {
      throw Error(Concat(where, ": ", e.what()));
    }
  }
}

}  // namespace

void ForEachJsonLine(const fs::path& path, const VisitLine& visit) { VisitJsonLines(path, ReadFile(path), visit); }

void ForEachJsonLine(const fs::path& path, const std::function<void(int, const nlohmann::json&)>& visit) {
  ForEachJsonLine(path, [&](int number, const nlohmann::json& value, std::string_view) { visit(number, value); });
}

void ForEachWholeJsonLine(const fs::path& path, const std::function<void(int, const nlohmann::json&)>& visit) {
  const std::string content = ReadFile(path);
  std::string_view whole = content;
  const std::size_t last = content.rfind('\n') + 1;  // 0 where there is no end of a line
  if (!nlohmann::json::accept(whole.substr(last))) whole = whole.substr(0, last);
  VisitJsonLines(path, whole, [&](int number, const nlohmann::json& value, std::string_view) { visit(number, value); });
}

}  // namespace swarr
