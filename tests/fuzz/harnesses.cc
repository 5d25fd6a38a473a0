// SPDX-License-Identifier: Apache-2.0
#include "fuzz/harnesses.h"

#include <cstdio>
#include <stdexcept>

#include "base/files.h"
#include "base/utf8.h"
#include "temp_directory.h"

namespace swarr::fuzz {

const std::filesystem::path& Scratch() {
  static const TempDirectory directory;
  return directory.path();
}

std::filesystem::path Write(const std::string& name, std::string_view content) {
  std::filesystem::path path = Scratch() / name;
  const FileHandle file(std::fopen(path.c_str(), "wb"));  // quicker than a file that survives a crash
  const bool written = file && std::fwrite(content.data(), 1, content.size(), file.get()) == content.size();
  if (!written) throw std::runtime_error("can't write " + path.string());
  return path;
}

void Run(Harness* harness, std::string_view input) {
  try {
    harness(input);
  } catch (const Error& e) {
    const std::string sentence = e.what();
    constexpr std::size_t kMost = 300, kPaths = 200;
    if (sentence.size() > kMost + kPaths || Printable(sentence) != sentence) {
      throw std::logic_error("an error is no short line of UTF-8: " + sentence);
    }
  }
}

}  // namespace swarr::fuzz
