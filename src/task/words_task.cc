// SPDX-License-Identifier: Apache-2.0
// Word problems as a Task, as a reward rule and in the registry.
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

std::vector<std::pair<std::string, double>> MeasureWordRows(std::span<const nlohmann::json> rows,
                                                            std::span<const std::string> texts, int window) {
  std::vector<WordMeasures> traces;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::optional<WordProblem> problem = WordProblemOf(rows[i]);
    if (!problem) return {};
    traces.push_back(MeasureWords(*problem, texts[i]));
  }
  const WordMechanism mechanism = SummarizeWords(traces, window);
  return {{"local_share", mechanism.local_share},
          {"carry_rate", mechanism.carry_rate},
          {"carried_per_line", mechanism.carried_per_line},
          {"dependency_distance_mean", mechanism.dependency_distance_mean},
          {"needs_in_window", mechanism.needs_in_window}};
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
                     .measure = MeasureWordRows}};
}

}  // namespace swarr
