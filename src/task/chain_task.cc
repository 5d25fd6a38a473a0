// SPDX-License-Identifier: Apache-2.0
// The chain task as a Task, as a reward rule and in the registry.
#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "base/check.h"
#include "model/tokenizer.h"
#include "task/ceiling.h"
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

// Numbers of steps are guessed among those of the options.
std::optional<TraceCounts> CountChain(const ChainOptions& options, const nlohmann::json& row, std::string_view text,
                                      int window, std::int64_t reach) {
  const std::optional<ChainProblem> problem = ChainProblemOf(row);
  if (!problem) return std::nullopt;
  const TraceMeasures trace = MeasureTrace(*problem, text);
  const std::vector<int>& distances = trace.distances;
  const std::optional<int> lost = LosesAfter(trace.runs, reach);
  return TraceCounts{
      .size = problem->n,
      .in_reach = !lost,
      .best_chance = lost ? GuessAfter(*lost, options.n_min, options.n_max) : 1,
      .counts = {trace.steps, trace.restatements, static_cast<std::int64_t>(distances.size()),
                 FactsInWindow(trace, window), std::accumulate(distances.begin(), distances.end(), std::int64_t{0})},
      .runs = trace.runs};
}

TraceRule ChainTraces(const std::shared_ptr<const ChainOptions>& options) {
  enum : std::size_t { kSteps, kRestatements, kFacts, kVisible, kDistances };
  return {.counts = {"steps_written", "restatements", "facts", "facts_in_window", "distance_sum"},
          .measures = {{"restatement_rate", "restatements per step", kRestatements, kSteps},
                       {"dependency_distance_mean", "distance", kDistances, kFacts, 1},
                       {"facts_in_window", "facts in window", kVisible, kFacts}},
          .guess = kChainGuess,
          .count = [options](const nlohmann::json& row, std::string_view text, int window, std::int64_t reach) {
            return CountChain(*options, row, text, window, reach);
          }};
}

std::string DescribeChain(const ChainOptions& options, int window) {
  return Concat("The task: iterate x = (a x + b) mod 13 for ", options.n_min, " to ", options.n_max,
                " steps, writing every step. The facts a, b and the number of steps stand at the start and slide out "
                "of the window of ",
                window,
                " tokens; a trace may restate them before a step. Successive values give a and b away, nothing gives "
                "away when to stop: a guess at that is right once in ",
                kOrbitLength, " times, and more often where fewer steps are left.");
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
                          /*of_completions=*/true, "restate_probability"}},
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
                     .traces = ChainTraces(options)},
          .view = {.title = "Chain task",
                   .step = "step",
                   .describe = [options](int window) { return DescribeChain(*options, window); },
                   .sizes = [options] { return std::pair(options->n_min, options->n_max); },
                   .repeat_rate = [options] { return options->restate_probability; },
                   .memoryless = MemorylessCeilingBySteps}};
}

}  // namespace swarr
