// SPDX-License-Identifier: Apache-2.0
// The chain task as a Task, as a reward rule and in the registry.
#include <algorithm>
#include <limits>
#include <memory>

#include "base/check.h"
#include "model/tokenizer.h"
#include "task/chain.h"
#include "task/registry.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

int FactField(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  SWARR_CHECK(found != row.end(), "the field \"", key,
              "\" is missing; a chain row has a, b, n and x0, or none of them");
  const bool fits = found->is_number_integer() && *found >= 0 && *found <= std::numeric_limits<int>::max();
  SWARR_CHECK(fits, "the field \"", key, "\" is ", found->dump(), " where an integer from 0 is needed");
  return found->get<int>();
}

std::vector<std::pair<std::string, double>> MeasureRows(std::span<const nlohmann::json> rows,
                                                        std::span<const std::string> texts, int window) {
  std::vector<TraceMeasures> traces;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::optional<ChainProblem> problem = ChainProblemOf(rows[i]);
    if (!problem) return {};
    traces.push_back(MeasureTrace(*problem, texts[i]));
  }
  const MechanismSummary mechanism = SummarizeMechanism(traces, window);
  return {{"restatement_rate", mechanism.restatement_rate},
          {"dependency_distance_mean", mechanism.dependency_distance_mean},
          {"facts_in_window", mechanism.facts_in_window}};
}

}  // namespace

ChainTask::ChainTask(Split split, const ChainOptions& options)
    : options_(options), problems_(ProblemsOf(split, options.n_min, options.n_max)) {
  if (!(options.restate_probability >= 0 && options.restate_probability <= 1)) {
    throw UsageError(
        Concat("chain: the restatement probability is ", options.restate_probability, "; give one between 0 and 1."));
  }
}

const ChainProblem& ChainTask::problem(std::int64_t index) const {
  SWARR_CHECK(index >= 0 && index < size(), "chain: problem ", index, " was asked for, and this split has ", size(),
              "; use an index below that.");
  return problems_[static_cast<std::size_t>(index)];
}

Example ChainTask::Get(std::int64_t index, std::uint64_t draw) const {
  const ChainProblem& p = problem(index);
  const std::uint64_t key = StreamKey(options_.seed, Purpose::kData, static_cast<std::uint32_t>(index),
                                      static_cast<std::uint32_t>(draw), static_cast<std::uint32_t>(draw >> 32));
  return {PromptOf(p), TraceOf(p, options_.restate_probability, key), AnswerOf(p)};
}

nlohmann::ordered_json ChainTask::Row(std::int64_t index, std::uint64_t draw) const {
  const ChainProblem& p = problem(index);
  nlohmann::ordered_json row = Task::Row(index, draw);
  row.update({{"a", p.a}, {"b", p.b}, {"n", p.n}, {"x0", p.x0}});
  return row;
}

std::optional<ChainProblem> ChainProblemOf(const nlohmann::json& row) {
  const auto keys = {"a", "b", "n", "x0"};
  if (std::none_of(keys.begin(), keys.end(), [&](const char* key) { return row.contains(key); })) return std::nullopt;
  const ChainProblem problem{
      .a = FactField(row, "a"), .b = FactField(row, "b"), .x0 = FactField(row, "x0"), .n = FactField(row, "n")};
  SWARR_CHECK(Valid(problem) && row.contains("prompt") && row["prompt"] == PromptOf(problem),
              "the fields a, b, n and x0 do not state the problem of the row's prompt");
  return problem;
}

BuiltInTask ChainBuiltIn() {
  const auto options = std::make_shared<ChainOptions>();
  return {.name = "chain",
          .tokenizer = [] { return Tokenizer::MakeCharacterTokenizer(kChainAlphabet, kEndOfText); },
          .parameters = {{"n-min", &options->n_min, "fewest steps of a problem"},
                         {"n-max", &options->n_max, "most steps of a problem"},
                         {"restate", &options->restate_probability, "probability of restating the facts before a step",
                          /*of_completions=*/true}},
          .make =
              [options](Split split, std::uint64_t seed) {
                ChainOptions seeded = *options;
                seeded.seed = seed;
                return std::make_unique<ChainTask>(split, seeded);
              },
          .reward = {.name = "chain",
                     .check_gold = [](std::string_view gold) { VerifyChain(gold, "", true); },
                     .verify = VerifyChain,
                     .extract = ExtractChainAnswer,
                     .check_row = [](const nlohmann::json& row) { ChainProblemOf(row); },
                     .measure = MeasureRows}};
}

}  // namespace swarr
