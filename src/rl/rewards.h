// SPDX-License-Identifier: Apache-2.0
// The reward rules by name, and the chain task's problems as rows of a JSON Lines file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "rl/chain.h"
#include "train/jsonl_task.h"

namespace swarr {

// "chain": VerifyChain, worth 1 or 0. Throws UsageError for any other name, and names what exists.
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
