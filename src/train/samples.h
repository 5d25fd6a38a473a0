// SPDX-License-Identifier: Apache-2.0
// A model's completions as rows to learn from: rejection sampling is `swarr sample`, then `swarr sft`, and expert
// iteration is both in turns.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/names.h"
#include "task/data_row.h"
#include "train/evaluate.h"

namespace swarr {

// Which completions become rows.
enum class Keep : std::uint8_t {
  kCorrect,   // all whose reward is 1
  kAll,       // all
  kShortest,  // of each problem the correct one with the fewest tokens, of equals the first
};
template <>
inline constexpr std::array kNames<Keep> = {"correct", "all", "shortest"};

// Where completions come from, and how SFT will read them.
struct SampleSource {
  const Task& task;
  const Tokenizer& tokenizer;
  const PromptFormat& format;
  std::int32_t eos_id;  // that SFT appends
  std::string model;    // its name in the rows
  std::uint64_t seed;
  int samples;  // for each problem
};

struct SampledRows {
  std::string lines;               // JSON Lines
  std::int64_t rows = 0;           // how many
  std::int64_t tokens = 0;         // of their completions
  std::int64_t not_read_back = 0;  // completions that were left out because SFT would not learn what was drawn
};

// The completions to keep, as rows {prompt, completion, answer, reward, logp, tokens, source}. logp is the sum over the
// completion's tokens of log p as the sampler recorded it, at temperature 1; source is {model, seed, problem, sample}.
//
// SFT reads texts, so a row is only written if SFT, with the same prompt format, learns exactly the tokens that were
// drawn. Completions that were cut, end by another token than eos_id, or spell a word in other tokens than the
// tokenizer does are left out and counted; the shortest is chosen among the rest.
SampledRows RowsToLearn(const std::vector<EvaluatedCompletion>& completions, const SampleSource& source, Keep keep);

}  // namespace swarr
