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

#include "task/registry.h"

namespace swarr {

constexpr std::string_view kRowsTask = "rows";

// The file of such a task for a split; `carry` names that of sft.
std::filesystem::path RowsFile(const std::filesystem::path& directory, Split split, double carry);

// A task for a study alone. Its parameters hold the defaults; `directory` is taken from `json`, which loses it.
// Throws Error, opening with `where`.
BuiltInTask RowsOf(const std::string& where, nlohmann::ordered_json& json);

}  // namespace swarr
