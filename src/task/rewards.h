// SPDX-License-Identifier: Apache-2.0
// The reward rules by name, and the chain task's problems as rows of a JSON Lines file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "task/chain.h"
#include "task/jsonl_task.h"

namespace swarr {

// All names of RewardByName, for texts of help and errors.
constexpr const char* kRewardNames = "chain, math, math-lenient, gsm8k-strict-match or gsm8k-flexible-extract";

// A rule worth 1 or 0. "chain": VerifyChain. "math": VerifyMath with an answer that is marked, the rule to train with;
// "math-lenient" also takes the last number. "gsm8k-strict-match", "gsm8k-flexible-extract": VerifyGsm8k, as others
// report GSM8K; these two judge unfinished texts too. Throws UsageError for any other name, and names what exists.
RewardRule RewardByName(const std::string& name);

// "sft", "rl" or "eval"; throws UsageError for anything else.
Split ParseSplit(const std::string& name);

// `count` rows {"prompt", "completion", "answer", "a", "b", "n", "x0"}, one a line: the first problems of the split.
// Where `count` exceeds the split (0: stops there), its problems come again in the same order, with restatements drawn
// afresh.
std::string ChainRowsText(Split split, const ChainOptions& options, std::int64_t count);

// The problem that a row of this kind states in a, b, n and x0; nothing if it has none of these fields. Throws Error if
// it has some but not all, if they are no problem of the task, or if the row's prompt states another one.
std::optional<ChainProblem> ChainProblemOf(const nlohmann::json& row);

}  // namespace swarr
