// SPDX-License-Identifier: Apache-2.0
// What a study reads beside its settings, the base models and files of problems, and the hashes that bind its records
// to them: what was measured on other problems, or from other weights, is not put beside what is measured now.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/tokenizer.h"

namespace swarr {

struct StudyOptions;
struct StudySettings;

struct StudyInput {
  std::string name;  // the same wherever the study lies: "base model chain-base", "eval.jsonl"
  std::filesystem::path path;
  std::string hash;  // HashOfInput
};

// Reads all of them: each base model (configuration, tokenizer and weights) and, of a study on files, each file of
// problems. Throws Error for one that can't be read.
std::vector<StudyInput> InputsOf(const StudyOptions& options, const StudySettings& settings);

// Throws Error, opening with file:line, for a row of any file of problems that is not for this tokenizer or context.
void CheckProblemFiles(const StudySettings& settings, const Tokenizer& tokenizer, int context);

// An object of the hashes by name.
nlohmann::ordered_json HashesOf(const std::vector<StudyInput>& inputs);

// The sentence that refuses what `where` was made of, if one of its recorded hashes is not that of the input now; empty
// if none is. What was not recorded, as earlier versions did not, is not compared.
std::string WhyOtherInputs(const std::filesystem::path& where, const nlohmann::ordered_json& recorded,
                           const std::vector<StudyInput>& inputs);

}  // namespace swarr
