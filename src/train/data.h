// SPDX-License-Identifier: Apache-2.0
// From a task's problems to the batches that training reads, and the order in which problems come.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/transformer.h"
#include "task/task.h"

namespace swarr {

// A tokenized prompt with its completion.
struct Document {
  std::vector<std::int32_t> tokens;  // prompt, completion, and usually end of text
  int prompt_length = 0;

  // The row of the document that predicts the completion's first token.
  std::int64_t first_predicting_row() const { return std::max(0, prompt_length - 1); }
};

// Prompt and completion tokenized apart, so that their boundary is exact, with `eos_id` appended. The prompt may be
// empty: the document is then plain text, whose first token nothing predicts.
Document EncodeDocument(const Tokenizer& tokenizer, const Example& example, std::int32_t eos_id);

// Where tokens begin, in bytes of `problem` + completion, of a model that reads `prompt` and goes on with the tokens
// `completion`. Tokens of the prompt around the problem, as a chat template's, begin where the problem does or ends.
std::vector<std::size_t> TokenStarts(const Tokenizer& tokenizer, std::string_view prompt, std::string_view problem,
                                     std::span<const std::int32_t> completion);

// What the rule counts in a completion of the task's problem, by the model's tokens; `text` is what `completion` says.
std::optional<TraceCounts> CountTrace(const TraceRule& rule, const Task& task, const Tokenizer& tokenizer,
                                      std::int64_t problem, std::string_view text,
                                      std::span<const std::int32_t> completion, int window, std::int64_t reach);

// Tokens of the task's longest and shortest prompt.
int LongestPrompt(const Task& task, const Tokenizer& tokenizer);
int ShortestPrompt(const Task& task, const Tokenizer& tokenizer);

// Documents packed into one batch for next-token prediction: a row has seen the tokens up to its own of its document
// and predicts the one after. The last token of a document predicts nothing and is left out.
struct PackedBatch {
  Batch batch;
  Tensor targets;      // [M] i32: what the scored rows predict
  Tensor scored = {};  // [M] i32: the rows whose log p is asked for, ascending; empty: all N
  Tensor places = {};  // [N] i32: which of the scored rows a row is, or M; empty with them

  // Where document d begins; N for the one after the last.
  std::int64_t first_row(std::size_t d) const { return batch.documents.data<std::int32_t>()[d]; }
  std::int64_t rows() const { return batch.ids.dim(0); }
};
PackedBatch Pack(Arena& arena, std::span<const Document> documents);
// The same where the rows that predict completions are scored alone. The head then costs nothing for prompts.
PackedBatch PackCompletions(Arena& arena, std::span<const Document> documents);

// A forward pass over packed documents: hidden state, log p and entropy of every scored row, recorded if a tape is
// live. A device is not waited for.
struct PackedPass {
  PackedBatch packed;
  Var hidden{};  // [M, C] (Transformer::Forward), on the device
  LogprobResult result{};
};
PackedPass ForwardPacked(Context& ctx, const Transformer& model, const PackedBatch& packed, bool checkpoint_blocks);
// The same for documents, which it packs.
PackedPass ForwardPacked(Context& ctx, const Transformer& model, std::span<const Document> documents,
                         bool checkpoint_blocks);

// The problem that comes k-th, and how often it has come before: every epoch is a fresh shuffle of all problems, a pure
// function of the seed and k, so that a resume needs nothing but k.
class ProblemOrder {
 public:
  ProblemOrder(std::int64_t problems, std::uint64_t seed);
  struct Item {
    std::int64_t problem;
    std::uint64_t epoch;
  };
  Item At(std::int64_t k);

 private:
  std::uint64_t seed_;
  std::int64_t epoch_ = -1;
  std::vector<std::int64_t> shuffled_;  // of epoch_
};

}  // namespace swarr
