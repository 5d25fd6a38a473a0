// SPDX-License-Identifier: Apache-2.0
// The inputs that are kept for the fuzzers, those that once crashed a reader among them, go through the same harnesses.
#include <doctest/doctest.h>

#include "base/files.h"
#include "fuzz/harnesses.h"
#include "temp_directory.h"
#include "text/unicode.h"

namespace swarr::fuzz {
namespace {

namespace fs = std::filesystem;

void CheckCorpus(const std::string& name, Harness* harness) {
  std::size_t count = 0;
  for (const fs::directory_entry& input : fs::directory_iterator(fs::path(SWARR_TEST_DATA) / "../fuzz/corpus" / name)) {
    INFO(input.path().string());
    const std::string content = ReadFile(input.path());
    CHECK_NOTHROW(Run(harness, content));
    CHECK_NOTHROW(Run(harness, content.substr(0, content.size() / 2)));
    ++count;
  }
  CHECK(count >= 3);
  CHECK_NOTHROW(Run(harness, ""));
}

TEST_CASE("no kept input of the fuzzers brings a reader down") {
  CheckCorpus("safetensors", FuzzSafetensors);
  CheckCorpus("config", FuzzConfig);
  CheckCorpus("rows", FuzzRows);
  CheckCorpus("verifier", FuzzVerifier);
  CheckCorpus("candidate", FuzzCandidate);
  CheckCorpus("checkpoint", FuzzCheckpoint);
  CheckCorpus("tokenizer", FuzzTokenizer);
}

TEST_CASE("a harness takes an Error for an answer, and reports all else") {
  CHECK_NOTHROW(Run([](std::string_view) { throw Error("no"); }, "x"));
  CHECK_THROWS_AS(Run([](std::string_view) { throw std::out_of_range("no"); }, "x"), std::out_of_range);
}

}  // namespace
}  // namespace swarr::fuzz
