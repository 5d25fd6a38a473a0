// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/directories.h"
#include "base/paths.h"
#include "temp_directory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::json;

std::vector<std::string> NamesIn(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

// Lets no file grow beyond some bytes: writing fails as it does on a full disk, whoever runs the test.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_CASE("a file reads back as it was written, bytes of all values and none at all") {
  const TempDirectory dir;
  std::string bytes(300'000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 % 256);
  WriteFileAtomically(dir / "a", bytes);
  CHECK(ReadFile(dir / "a") == bytes);
  WriteFileAtomically(dir / "a", {"one", "", " two"});
  CHECK(ReadFile(dir / "a") == "one two");
  WriteFileAtomically(dir / "a", "");
  CHECK(ReadFile(dir / "a").empty());
  CHECK(NamesIn(dir.path()) == Names{"a"});
}

TEST_CASE("a write that fails midway leaves the old file and nothing else") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "a", "old");
  {
    const FileSizeLimit limit(1000);
    CHECK_THROWS_WITH_AS(WriteFileAtomically(dir / "a", std::string(100'000, 'x')), Contains("can't write"), Error);
  }
  CHECK(ReadFile(dir / "a") == "old");
  CHECK(NamesIn(dir.path()) == Names{"a"});
}

TEST_CASE("what can't be read or written is named with the system's reason") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "file", "x");
  CHECK_THROWS_WITH_AS(ReadFile(dir / "none"), Contains("/none: No such file or directory"), Error);
  CHECK_THROWS_WITH_AS(ReadFile(dir.path()), Contains("Is a directory"), Error);
  CHECK_THROWS_WITH_AS(InputFile(dir.path()), Contains("no regular file"), Error);
  CHECK_THROWS_WITH_AS(WriteFileAtomically(dir / "none/a", "x"), Contains("/none/a: No such file or directory"), Error);
  CHECK_THROWS_WITH_AS(WriteFileAtomically(dir / "file/a", "x"), Contains("/file/a: Not a directory"), Error);
  CHECK_THROWS_WITH_AS(WriteFileAtomically(dir.path(), "x"), Contains("something else than a file"), Error);
  CHECK_THROWS_WITH_AS(AtomicDirectory(dir / "file/a", {}), Contains("Not a directory"), Error);
}

TEST_CASE("a device or pipe is never replaced by a file, and a link stays a link") {
  const TempDirectory dir;
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(WriteFileAtomically(dir / "pipe", "x"), Contains("something else than a file"), Error);
  CHECK(fs::is_fifo(dir / "pipe"));
  WriteFileAtomically(dir / "target", "old");
  fs::create_symlink("target", dir / "link");
  WriteFileAtomically(dir / "link", "new");
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(ReadFile(dir / "target") == "new");
}

TEST_CASE("a part of a file reads back, and reading past its end is an error") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "a", "0123456789");
  const InputFile file(dir / "a");
  CHECK(file.size() == 10);
  std::string part(4, '?');
  file.ReadAt(3, part.data(), part.size());
  CHECK(part == "3456");
  CHECK_THROWS_WITH_AS(file.ReadAt(8, part.data(), part.size()), Contains("became shorter"), Error);
}

TEST_CASE("a directory appears when it is committed, and not at all without") {
  const TempDirectory dir;
  {
    const AtomicDirectory given_up(dir / "deep/model", {"a"});
    WriteFileAtomically(given_up.path() / "a", "1");
    CHECK_FALSE(fs::exists(dir / "deep/model"));
  }
  CHECK(NamesIn(dir / "deep").empty());
  AtomicDirectory kept((dir / "deep/model").string() + "/", {"a"});
  WriteFileAtomically(kept.path() / "a", "1");
  kept.Commit();
  CHECK(ReadFile(dir / "deep/model/a") == "1");
  CHECK(NamesIn(dir / "deep") == Names{"model"});
}

TEST_CASE("a directory replaces its predecessor whole") {
  const TempDirectory dir;
  for (const std::string version : {"1", "2"}) {
    AtomicDirectory model(dir / "model", {"a", "b"});
    if (version == "2") CHECK(ReadFile(dir / "model/a") == "1");
    WriteFileAtomically(model.path() / (version == "1" ? "a" : "b"), version);
    model.Commit();
  }
  CHECK(NamesIn(dir / "model") == Names{"b"});
  CHECK(NamesIn(dir.path()) == Names{"model"});
}

TEST_CASE("a directory that holds anybody else's file is not replaced") {
  const TempDirectory dir;
  fs::create_directory(dir / "model");
  WriteFileAtomically(dir / "model/thesis.tex", "years of work");
  CHECK_THROWS_WITH_AS(AtomicDirectory(dir / "model", {"a"}), Contains("it holds thesis.tex"), Error);
  fs::remove(dir / "model/thesis.tex");
  AtomicDirectory model(dir / "model", {"a"});
  WriteFileAtomically(dir / "model/thesis.tex", "written meanwhile");
  CHECK_THROWS_WITH_AS(model.Commit(), Contains("it holds thesis.tex"), Error);
  CHECK(ReadFile(dir / "model/thesis.tex") == "written meanwhile");
}

TEST_CASE("a directory that must not replace another is refused, also if the other comes while it is written") {
  const TempDirectory dir;
  fs::create_directory(dir / "model");  // an empty one is in nobody's way
  AtomicDirectory model(dir / "model", {"a"}, Existing::kKept);
  WriteFileAtomically(model.path() / "a", "new");
  WriteFileAtomically(dir / "model/a", "written meanwhile");
  CHECK_THROWS_WITH_AS(model.Commit(), Contains("it holds a"), Error);
  CHECK(ReadFile(dir / "model/a") == "written meanwhile");
  CHECK_THROWS_WITH_AS(AtomicDirectory(dir / "model", {"a"}, Existing::kKept), Contains("it holds a"), Error);
  fs::remove(dir / "model/a");
  model.Commit();
  CHECK(ReadFile(dir / "model/a") == "new");
}

TEST_CASE("a file takes a name only if nothing has it") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "a", "1");
  WriteFileAtomically(dir / "b", "2");
  CHECK_FALSE(RenameToFree(dir / "a", dir / "b"));
  CHECK(ReadFile(dir / "b") == "2");
  CHECK(RenameToFree(dir / "a", dir / "c"));
  CHECK(ReadFile(dir / "c") == "1");
  CHECK(NamesIn(dir.path()) == Names{"b", "c"});
  CHECK_THROWS_WITH_AS(RenameToFree(dir / "a", dir / "d"), Contains("No such file"), Error);
}

TEST_CASE("what a killed run left beside a directory does not get into the next one") {
  const TempDirectory dir;
  fs::create_directories(dir / ".model.swarr-partial");
  WriteFileAtomically(dir / ".model.swarr-partial/stale", "x");
  fs::create_directories(dir / ".model.swarr-old");
  fs::create_directories(dir / "model");
  AtomicDirectory model(dir / "model", {"a"});
  WriteFileAtomically(model.path() / "a", "1");
  model.Commit();
  CHECK(NamesIn(dir / "model") == Names{"a"});
  CHECK(NamesIn(dir.path()) == Names{"model"});
}

TEST_CASE("a directory whose replacement was killed halfway comes back") {
  const TempDirectory dir;
  fs::create_directories(dir / ".model.swarr-old");
  WriteFileAtomically(dir / ".model.swarr-old/a", "1");
  SUBCASE("when it is to be read") { RecoverDirectory(dir / "model"); }
  SUBCASE("when it is to be written again") { const AtomicDirectory next(dir / "model", {"a"}); }
  CHECK(ReadFile(dir / "model/a") == "1");
  CHECK(NamesIn(dir.path()) == Names{"model"});
}

TEST_CASE("JSON is refused with the place, the reason, and no noise") {
  CHECK(ParseJson<json>(R"({"a": [1, {"a": 2}], "b": {"a": 3}})", "f") ==
        json{{"a", {1, {{"a", 2}}}}, {"b", {{"a", 3}}}});
  CHECK_THROWS_WITH_AS(
      ParseJson<json>("{\n\"a\" 1}", "f"),
      "f: no valid JSON: parse error at line 2, column 5: syntax error while parsing object separator - "
      "unexpected number literal; expected ':'",
      Error);
  CHECK_THROWS_WITH_AS(ParseJson<json>(R"({"b": {"a": 1, "a": 1}})", "f"), "f: the key 'a' occurs twice; remove one",
                       Error);
  CHECK_THROWS_WITH_AS(ParseJson<json>("\"\xFF\"", "f"), Contains("ill-formed UTF-8"), Error);
  CHECK_THROWS_WITH_AS(ParseJson<json>("1e999", "f"), Contains("f: no valid JSON: number overflow"), Error);
  CHECK_THROWS_WITH_AS(ParseJson<json>(std::string(100'000, '['), "f"), Contains("nested deeper"), Error);
  CHECK_THROWS_WITH_AS(ParseJson<json>("{} {}", "f"), Contains("expected end of input"), Error);
  CHECK_THROWS_AS(ParseJson<json>("", "f"), Error);
}

TEST_CASE("JSON Lines are read through byte order mark, CRLF, blank lines and a missing last newline") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "a.jsonl", "\xEF\xBB\xBF{\"a\":1}\r\n\r\n  \n{\"a\":2}\n{\"a\":3}");
  std::vector<std::pair<int, int>> seen;
  ForEachJsonLine(dir / "a.jsonl", [&](int line, const json& row) { seen.emplace_back(line, row.at("a").get<int>()); });
  CHECK(seen == std::vector<std::pair<int, int>>{{1, 1}, {4, 2}, {5, 3}});
}

TEST_CASE("errors in JSON Lines name the file and the line, whoever finds them") {
  const TempDirectory dir;
  WriteFileAtomically(dir / "a.jsonl", "{\"a\": 1}\n\nnonsense\n");
  const auto nothing = [](int, const json&) {};
  CHECK_THROWS_WITH_AS(ForEachJsonLine(dir / "a.jsonl", nothing),
                       Contains("a.jsonl:3: no valid JSON: parse error at column"), Error);
  const auto missing = [](int, const json& row) { row.at("b"); };
  CHECK_THROWS_WITH_AS(ForEachJsonLine(dir / "a.jsonl", missing), Contains("a.jsonl:1: key 'b' not found"), Error);
  const auto strict = [](int, const json& row) { SWARR_CHECK(row.at("a") == 2, "a must be 2"); };
  CHECK_THROWS_WITH_AS(ForEachJsonLine(dir / "a.jsonl", strict), Contains("a.jsonl:1: a must be 2"), Error);
}

}  // namespace
}  // namespace swarr
