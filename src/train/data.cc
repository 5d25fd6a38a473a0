// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tensor/philox.h"

namespace swarr {

Document EncodeDocument(const Tokenizer& tokenizer, const Example& example, std::int32_t eos_id) {
  Document document{.tokens = tokenizer.EncodePrompt(example.prompt)};
  document.prompt_length = static_cast<int>(document.tokens.size());
  const std::vector<std::int32_t> completion = tokenizer.Encode(example.completion);
  document.tokens.insert(document.tokens.end(), completion.begin(), completion.end());
  document.tokens.push_back(eos_id);
  return document;
}

// In the text that the ids make.
static std::vector<std::size_t> StartsOf(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                         bool skip_special) {
  TextStream stream(tokenizer, skip_special);
  std::vector<std::size_t> starts;
  std::size_t shown = 0;
  for (const std::int32_t id : ids) {
    starts.push_back(shown);
    shown += stream.Add(id).size();
  }
  return starts;
}

std::vector<std::size_t> TokenStarts(const Tokenizer& tokenizer, std::string_view prompt, std::string_view problem,
                                     std::span<const std::int32_t> completion) {
  const std::vector<std::int32_t> ids = tokenizer.EncodePrompt(prompt);
  const std::size_t found = tokenizer.Decode(ids, /*skip_special=*/false).rfind(problem);
  const std::size_t begin = found == std::string::npos ? 0 : found;  // a template may have trimmed it
  std::vector<std::size_t> starts = StartsOf(tokenizer, ids, /*skip_special=*/false);
  for (std::size_t& start : starts) start = std::clamp(start, begin, begin + problem.size()) - begin;
  for (const std::size_t start : StartsOf(tokenizer, completion, /*skip_special=*/true)) {
    starts.push_back(problem.size() + start);
  }
  return starts;
}

std::optional<TraceCounts> CountTrace(const TraceRule& rule, const Task& task, const Tokenizer& tokenizer,
                                      std::int64_t problem, std::string_view text,
                                      std::span<const std::int32_t> completion, int window, std::int64_t reach) {
  const nlohmann::json row = task.Row(problem, 0);
  const std::string prompt = task.Get(problem, 0).prompt;
  const auto told = row.find("prompt");
  const bool is_text = told != row.end() && told->is_string();
  return rule.count(row, text, window, reach,
                    TokenStarts(tokenizer, prompt, is_text ? told->get<std::string>() : prompt, completion));
}

static std::vector<int> PromptLengths(const Task& task, const Tokenizer& tokenizer) {
  std::vector<int> lengths;
  for (std::int64_t i = 0; i < task.size(); ++i) {
    lengths.push_back(static_cast<int>(tokenizer.EncodePrompt(task.Get(i, 0).prompt).size()));
  }
  return lengths;
}

int LongestPrompt(const Task& task, const Tokenizer& tokenizer) {
  const std::vector<int> lengths = PromptLengths(task, tokenizer);
  return lengths.empty() ? 0 : std::ranges::max(lengths);
}

int ShortestPrompt(const Task& task, const Tokenizer& tokenizer) {
  const std::vector<int> lengths = PromptLengths(task, tokenizer);
  return lengths.empty() ? 0 : std::ranges::min(lengths);
}

PackedBatch Pack(Arena& arena, std::span<const Document> documents) {
  std::vector<std::vector<std::int32_t>> inputs;
  std::vector<int> prompts;
  PackedBatch packed;
  for (const Document& d : documents) {
    SWARR_CHECK(d.tokens.size() >= 2, "a document of ", d.tokens.size(), " tokens has nothing to predict");
    inputs.emplace_back(d.tokens.begin(), d.tokens.end() - 1);
    prompts.push_back(d.prompt_length);
  }
  packed.batch = PackDocuments(arena, inputs, prompts);
  packed.targets = arena.NewLike(packed.batch.ids);
  std::int32_t* target = packed.targets.data<std::int32_t>();
  for (const Document& d : documents) target = std::copy(d.tokens.begin() + 1, d.tokens.end(), target);
  return packed;
}

PackedBatch PackCompletions(Arena& arena, std::span<const Document> documents) {
  PackedBatch packed = Pack(arena, documents);
  const Tensor all = packed.targets;
  std::int64_t count = 0;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    count += packed.first_row(d + 1) - packed.first_row(d) - documents[d].first_predicting_row();
  }
  packed.targets = arena.New(DType::kI32, {count});
  packed.scored = arena.New(DType::kI32, {count});
  packed.places = arena.NewLike(all);
  std::fill_n(packed.places.data<std::int32_t>(), packed.rows(), static_cast<std::int32_t>(count));
  std::int32_t at = 0;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    for (std::int64_t n = packed.first_row(d) + documents[d].first_predicting_row(); n < packed.first_row(d + 1); ++n) {
      packed.targets.data<std::int32_t>()[at] = all.data<std::int32_t>()[n];
      packed.scored.data<std::int32_t>()[at] = static_cast<std::int32_t>(n);
      packed.places.data<std::int32_t>()[n] = at++;
    }
  }
  return packed;
}

PackedPass ForwardPacked(Context& ctx, const Transformer& model, const PackedBatch& packed, bool checkpoint_blocks) {
  Var hidden = model.Forward(ctx, packed.batch, checkpoint_blocks);
  if (!packed.scored.empty()) {
    hidden = SelectRows(ctx, hidden, ToDevice(ctx, packed.scored), ToDevice(ctx, packed.places));
  }
  return {.packed = packed, .hidden = hidden, .result = model.Logprob(ctx, hidden, packed.targets)};
}

PackedPass ForwardPacked(Context& ctx, const Transformer& model, std::span<const Document> documents,
                         bool checkpoint_blocks) {
  return ForwardPacked(ctx, model, Pack(ctx.HostArena(), documents), checkpoint_blocks);
}

ProblemOrder::ProblemOrder(std::int64_t problems, std::uint64_t seed)
    : seed_(seed), shuffled_(static_cast<std::size_t>(problems)) {
  SWARR_CHECK(problems > 0, "there is no problem to train on; the data set is empty");
}

ProblemOrder::Item ProblemOrder::At(std::int64_t k) {
  const auto size = static_cast<std::int64_t>(shuffled_.size());
  if (k / size != epoch_) {
    epoch_ = k / size;
    std::iota(shuffled_.begin(), shuffled_.end(), 0);
    PhiloxStream stream(StreamKey(seed_, Purpose::kOrder, static_cast<std::uint32_t>(epoch_)));
    for (std::size_t i = shuffled_.size() - 1; i > 0; --i) {  // Fisher and Yates
      std::swap(shuffled_[i], shuffled_[stream.NextBelow(static_cast<std::uint32_t>(i + 1))]);
    }
  }
  return {shuffled_[static_cast<std::size_t>(k % size)], static_cast<std::uint64_t>(epoch_)};
}

}  // namespace swarr
