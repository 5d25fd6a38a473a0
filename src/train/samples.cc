// SPDX-License-Identifier: Apache-2.0
#include "train/samples.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "train/data.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// The row of completion `index`.
std::string LineOf(const EvaluatedCompletion& c, std::size_t index, const SampleSource& source) {
  // What the format itself puts before a completion is no part of the row.
  const std::string before = source.format.Completion("");
  const std::string text = c.text.starts_with(before) ? c.text.substr(before.size()) : c.text;
  const ordered_json from = {{"model", source.model},
                             {"seed", source.seed},
                             {"problem", c.problem},
                             {"sample", index % static_cast<std::size_t>(source.samples)}};
  const ordered_json row = {{"prompt", source.task.Prompt(c.problem)},
                            {"completion", text},
                            {"answer", source.task.Get(c.problem, 0).answer},
                            {"reward", c.reward},
                            {"logp", std::accumulate(c.drawn.logp.begin(), c.drawn.logp.end(), 0.0)},
                            {"tokens", c.tokens()},
                            {"source", from}};
  return row.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// Whether SFT on the row learns the tokens that were drawn, after the prompt that they were drawn for.
bool LearnsWhatWasDrawn(const std::string& line, const EvaluatedCompletion& c, const SampleSource& source) {
  if (!c.drawn.finished || c.text.empty()) return false;  // SFT takes no empty completion
  const auto row = nlohmann::json::parse(line);
  const DataRow read = RowSchema(row, {}).Read(row, line, {.completion = true}).front();
  const Example example = {source.format.Prompt(read.prompt), source.format.Completion(read.completion), {}};
  std::vector<std::int32_t> sampled = source.tokenizer.EncodePrompt(source.task.Get(c.problem, 0).prompt);
  sampled.insert(sampled.end(), c.drawn.tokens.begin(), c.drawn.tokens.end());
  try {
    return EncodeDocument(source.tokenizer, example, source.eos_id).tokens == sampled;
  } catch (const Error&) {  // bytes that are no UTF-8 became a character that the vocabulary may lack
    return false;
  }
}

}  // namespace

SampledRows RowsToLearn(const std::vector<EvaluatedCompletion>& completions, const SampleSource& source, Keep keep) {
  SampledRows result;
  std::vector<std::size_t> kept;
  std::vector<std::string> lines(completions.size());
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const EvaluatedCompletion& c = completions[i];
    if (keep != Keep::kAll && c.reward != 1.0) continue;
    lines[i] = LineOf(c, i, source);
    if (!LearnsWhatWasDrawn(lines[i], c, source)) {
      ++result.not_read_back;
      continue;
    }
    const bool rival = keep == Keep::kShortest && !kept.empty() && completions[kept.back()].problem == c.problem;
    if (!rival) {
      kept.push_back(i);
    } else if (c.tokens() < completions[kept.back()].tokens()) {
      kept.back() = i;
    }
  }
  result.rows = static_cast<std::int64_t>(kept.size());
  for (const std::size_t i : kept) {
    result.lines += lines[i] + '\n';
    result.tokens += completions[i].tokens();
  }
  return result;
}

}  // namespace swarr
