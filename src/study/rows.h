// SPDX-License-Identifier: Apache-2.0
// A study on problems from files, in place of a built-in task:
//
//   "task": {"name": "rows", "directory": "out/gsm", "carry": 0.3}
//
// reads sft-0.3.jsonl, rl.jsonl and eval.jsonl of that directory, whose rows have prompt, completion and answer;
// prompts go to the model as they stand, and "math" judges answers (task/registry.h). `carry` says which share of
// sft's solutions writes brackets before its lines; an arm may imitate those of another share.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "model/tokenizer.h"
#include "task/registry.h"

namespace swarr {

constexpr std::string_view kRowsTask = "rows";

// The file of such a task for a split; `carry` names that of sft.
std::filesystem::path RowsFile(const std::filesystem::path& directory, Split split, double carry);

// What a model reads of such rows: so many tokens at most, of which a sampled completion may have `completion_limit`.
struct RowLimits {
  const Tokenizer& tokenizer;
  int context = 0;
  int completion_limit = 0;
};

// Reads the file of a split. Throws Error, opening with file:line, for a row that the study can't use, or that does not
// fit the model: for sft its prompt and completion, else its prompt and any completion that may be sampled.
void CheckRows(const std::filesystem::path& file, Split split, const RowLimits& limits);

// A task for a study alone. Its parameters hold the defaults; `directory` is taken from `json`, which loses it.
// Throws Error, opening with `where`.
BuiltInTask RowsOf(const std::string& where, nlohmann::ordered_json& json);

}  // namespace swarr
