// SPDX-License-Identifier: Apache-2.0
// Word problems as a Task, as a reward rule and in the registry.
#include <algorithm>
#include <memory>

#include "base/check.h"
#include "base/utf8.h"
#include "model/tokenizer.h"
#include "task/registry.h"
#include "task/words.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

Statement ReadStatement(const nlohmann::json& field) {
  const std::string text = field.is_string() ? field.get<std::string>() : std::string();
  const std::vector<Lexeme> lexemes = Lexemes(text);
  if (lexemes.size() == 2 && lexemes[0].noun >= 0 && lexemes[1].number >= 0) {
    return {.name = lexemes[0].noun, .k = lexemes[1].number};
  }
  const auto read = lexemes.size() == 4 && lexemes[0].noun >= 0
                        ? ReadTerse(lexemes[0].noun, std::span(lexemes).subspan(1))
                        : std::nullopt;
  SWARR_CHECK(read, "the field \"statements\" holds ", Excerpt(field.dump()),
              "; write a statement like \"foxes 3\" or \"hens foxes plus 5\"");
  return *read;
}

WordProblem ReadProblem(const nlohmann::json& row) {
  SWARR_CHECK(
      row.contains("statements") && row["statements"].is_array() && row.contains("asked") && row["asked"].is_string(),
      "a row of a word problem has the list \"statements\" and the name \"asked\", or neither");
  WordProblem problem;
  for (const nlohmann::json& statement : row["statements"]) problem.statements.push_back(ReadStatement(statement));
  const auto asked = row["asked"].get<std::string>();
  const std::vector<Lexeme> lexemes = Lexemes(asked);
  problem.asked = lexemes.size() == 1 ? lexemes[0].noun : -1;
  Solve(problem);
  return problem;
}

// What is never mentioned rightly is not in the window, and has no distance.
std::optional<TraceCounts> CountWords(const nlohmann::json& row, std::string_view text, int window, std::int64_t reach,
                                      std::span<const std::size_t> starts) {
  const std::optional<WordProblem> problem = WordProblemOf(row);
  if (!problem) return std::nullopt;
  const WordMeasures trace = starts.empty() ? MeasureWords(*problem, text) : MeasureWords(*problem, text, starts);
  const bool in_reach = InReach(trace, reach);
  std::int64_t mentioned = 0, visible = 0, distance = 0, farthest = 0;
  for (const WordNeed& need : trace.needs) {
    farthest = std::max<std::int64_t>(farthest, need.placed);
    if (need.right < 0) continue;
    ++mentioned;
    visible += window == 0 || need.right < window;
    distance += need.right;
  }
  return TraceCounts{.size = static_cast<int>(Solve(*problem).lines.size()),
                     .in_reach = in_reach,
                     .best_chance = in_reach ? 1 : kWordsGuess,
                     .counts = {trace.lines, trace.local, trace.brackets, trace.carried,
                                static_cast<std::int64_t>(trace.needs.size()), mentioned, visible, distance, farthest}};
}

TraceRule WordTraces() {
  enum : std::size_t { kLines, kLocal, kBrackets, kCarried, kNeeds, kMentioned, kVisible, kDistances };
  return {.counts = {"lines", "local", "brackets", "carried", "needs", "needs_mentioned", "needs_in_window",
                     "distance_sum", "farthest"},
          .measures = {{"carry_rate", "brackets per line", kBrackets, kLines},
                       {"dependency_distance_mean", "distance", kDistances, kMentioned, 1},
                       {"needs_in_window", "needs in window", kVisible, kNeeds},
                       {"local_share", "local lines", kLocal, kLines},
                       {"carried_per_line", "carried per line", kCarried, kLines}},
          .guess = kWordsGuess,
          .count = CountWords};
}

std::string DescribeWords(const WordOptions& options, int window) {
  return Concat("The task: word problems, in which a question about one quantity needs ", options.lines_min, " to ",
                options.lines_max,
                " others worked out, a line each. Statements and values stand in the problem or in an earlier line and "
                "slide out of the window of ",
                window,
                " tokens; a trace may write a bracket before a line, of all that it and later lines still need. Who "
                "lacks the last statement is right for at most ",
                kWordsGuess, " of the answers.");
}

}  // namespace

WordTask::WordTask(Split split, const WordOptions& options) : split_(split), options_(options) {
  CheckWordOptions(options);
}

WordProblem WordTask::problem(std::int64_t index) const {
  SWARR_CHECK(index >= 0 && index < size(), "words: problem ", index, " was asked for, and this split has ", size(),
              "; use an index below that.");
  return WordProblemAt(split_, index, options_);
}

Example WordTask::Get(std::int64_t index, std::uint64_t draw) const {
  const WordProblem p = problem(index);
  const std::uint64_t key = StreamKey(options_.seed, Purpose::kData, static_cast<std::uint32_t>(index),
                                      static_cast<std::uint32_t>(draw), static_cast<std::uint32_t>(draw >> 32));
  return {PromptOf(p), TraceOf(p, options_.shares, key), AnswerOf(p)};
}

nlohmann::ordered_json WordTask::Row(std::int64_t index, std::uint64_t draw) const {
  const WordProblem p = problem(index);
  nlohmann::ordered_json row = Task::Row(index, draw);
  nlohmann::ordered_json& statements = row["statements"] = nlohmann::ordered_json::array();
  for (const Statement& s : p.statements) statements.push_back(TerseOf(s));
  row["asked"] = kNouns[static_cast<std::size_t>(p.asked)];
  return row;
}

std::optional<WordProblem> WordProblemOf(const nlohmann::json& row) {
  if (!row.contains("statements") && !row.contains("asked")) return std::nullopt;
  const WordProblem problem = ReadProblem(row);
  SWARR_CHECK(row.contains("prompt") && row["prompt"] == PromptOf(problem),
              "the fields \"statements\" and \"asked\" do not state the problem of the row's prompt");
  return problem;
}

BuiltInTask WordsBuiltIn() {
  const auto options = std::make_shared<WordOptions>();
  return {.name = "words",
          .tokenizer = [] { return Tokenizer::MakeWordTokenizer(WordPieces(), kEndOfText); },
          .parameters = {{"lines-min", &options->lines_min, "fewest lines of a solution"},
                         {"lines-max", &options->lines_max, "most lines of a solution"},
                         {"distractors", &options->distractors, "quantities that the question does not need"},
                         {"local", &options->shares.local, "share of lines that write their operands with their values",
                          /*of_completions=*/true},
                         {"carry", &options->shares.carry, "share of lines after a bracket of what is still needed",
                          /*of_completions=*/true}},
          .make =
              [options](Split split, std::uint64_t seed) {
                WordOptions seeded = *options;
                seeded.seed = seed;
                return std::make_unique<WordTask>(split, seeded);
              },
          .reward = {.name = "words",
                     .check_gold = [](std::string_view gold) { VerifyWords(gold, "", true); },
                     .verify = VerifyWords,
                     .extract = ExtractWordsAnswer,
                     .check_row = [](const nlohmann::json& row) { WordProblemOf(row); },
                     .traces = WordTraces()},
          .view = {.title = "Word problems",
                   .step = "line",
                   .describe = [options](int window) { return DescribeWords(*options, window); },
                   .sizes = [options] { return std::pair(options->lines_min, options->lines_max); },
                   .repeat_rate = [options] { return options->shares.carry; }}};
}

}  // namespace swarr
