// SPDX-License-Identifier: Apache-2.0
// What libFuzzer (make fuzz) and fuzz_corpus_test.cc give to the program's readers. Each harness takes one input, which
// may be anything. An Error is a right answer to it; any other exception, and a crash, is a finding.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace swarr::fuzz {

using Harness = void(std::string_view input);

Harness FuzzSafetensors;  // a file of tensors
Harness FuzzConfig;       // config.json, and what is written of it
Harness FuzzTokenizer;    // tokenizer.json, a zero byte, a text to encode and decode
Harness FuzzRows;         // a byte that chooses what rows must have, then a JSON Lines file
Harness FuzzVerifier;     // a gold answer in the first line, then a completion
Harness FuzzCandidate;    // the file of a candidate that the oracle judges
Harness FuzzCheckpoint;   // a byte that chooses a file of a checkpoint, then its content

// Runs a harness on an input. Throws std::logic_error if an Error says more than one short line of UTF-8.
void Run(Harness* harness, std::string_view input);

// A directory for files, of this process.
const std::filesystem::path& Scratch();
// Writes a file into it and returns its path.
std::filesystem::path Write(const std::string& name, std::string_view content);

}  // namespace swarr::fuzz
