// SPDX-License-Identifier: Apache-2.0
#include "task/words.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "model/tokenizer.h"
#include "small_words.h"
#include "task/registry.h"
#include "tensor/philox.h"

using namespace swarr;

namespace {

// What a prompt says, read and computed with nothing of the library: every quantity whose operands are known is
// computed, until no more come.
struct Told {
  std::map<std::string, std::vector<std::string>> relations;  // the words after "are"
  std::map<std::string, int> values;
  std::string asked;
};

int Compute(const std::vector<std::string>& words, const std::map<std::string, int>& values) {
  const auto value = [&](const std::string& word) { return values.contains(word) ? values.at(word) : -1; };
  if (words.size() == 1) return std::stoi(words[0]);
  if (words[1] == "plus") return value(words[0]) < 0 || value(words[2]) < 0 ? -1 : value(words[0]) + value(words[2]);
  const int other = value(words.back()), k = std::stoi(words[0]);
  if (other < 0) return -1;
  return words[1] == "times" ? k * other : words[1] == "more" ? other + k : other - k;
}

Told ReadPrompt(const std::string& prompt) {
  Told told;
  std::string text = prompt.substr(std::string("Given ").size());
  for (std::size_t end; (end = text.find("; ")) != std::string::npos; text = text.substr(end + 2)) {
    std::istringstream statement(text.substr(0, end));
    std::string name, word;
    statement >> name >> word;
    REQUIRE(word == "are");
    REQUIRE_FALSE(told.relations.contains(name));
    while (statement >> word) told.relations[name].push_back(word);
  }
  REQUIRE(text.starts_with("how many "));
  told.asked = text.substr(9, text.size() - 10);
  for (std::size_t known = 0; known < told.relations.size();) {
    const std::size_t before = known;
    for (const auto& [name, words] : told.relations) {
      const int value = told.values.contains(name) ? -1 : Compute(words, told.values);
      if (value >= 0) told.values[name] = value;
    }
    known = told.values.size();
    REQUIRE(known > before);
  }
  return told;
}

// The names and results of a trace's lines, in order.
std::vector<std::pair<std::string, int>> LinesOf(const std::string& trace) {
  std::vector<std::pair<std::string, int>> lines;
  const std::string opening = "number of ", result = "which is ";
  for (std::size_t at = trace.find(opening); at != std::string::npos; at = trace.find(opening, at + 1)) {
    const std::size_t name = at + opening.size(), number = trace.find(result, at) + result.size();
    lines.emplace_back(trace.substr(name, trace.find_first_of(",:", name) - name), std::stoi(trace.substr(number)));
  }
  return lines;
}

WordProblem WithOtherNames(WordProblem problem) {
  const auto next = [](int& name) { name = name < 0 ? name : (name + 7) % static_cast<int>(kNouns.size()); };
  next(problem.asked);
  for (Statement& s : problem.statements) {
    next(s.name);
    next(s.first);
    next(s.second);
  }
  return problem;
}

}  // namespace

TEST_CASE("the texts of a word problem read as the task defines them") {
  const WordProblem problem = Small();
  CHECK(PromptOf(problem) ==
        "Given foxes are 3; bees are 4 times hens; hens are 5 more than foxes; cats are 7; how many bees?");
  CHECK(AnswerOf(problem) == "32");
  CHECK(
      TraceOf(problem, {0, 0}, 1) ==
      " next, we work out the number of hens, which is 8. next, we work out the number of bees, which is 32. #### 32");
  CHECK(TraceOf(problem, {1, 0}, 1) ==
        " next, we work out the number of hens: foxes plus 5, where foxes are 3, so 3 plus 5, which is 8."
        " next, we work out the number of bees: hens times 4, where hens are 8, so 8 times 4, which is 32. #### 32");
  CHECK(TraceOf(problem, {0, 1}, 1) ==
        " [ foxes 3; hens foxes plus 5; bees hens times 4 ] next, we work out the number of hens, which is 8."
        " [ hens 8; bees hens times 4 ] next, we work out the number of bees, which is 32. #### 32");
  const WordProblem sum = {
      .statements = {{0, Relation::kSum, 0, 1, 2}, {1, Relation::kNumber, 9}, {2, Relation::kFewer, 2, 1}}, .asked = 0};
  CHECK(PromptOf(sum) == "Given ants are bats plus bees; bats are 9; bees are 2 fewer than bats; how many ants?");
  CHECK(TraceOf(sum, {1, 0}, 1) ==
        " next, we work out the number of bees: bats minus 2, where bats are 9, so 9 minus 2, which is 7."
        " next, we work out the number of ants: bats plus bees, where bats are 9 and bees are 7, so 9 plus 7, which is "
        "16."
        " #### 16");
}

TEST_CASE(
    "a solution has a line for what the question needs, operands first and in the order in which they are named") {
  // ants = bats + bees, bats = 2 cats, bees = cats + dogs, dogs = 3 more than cats; owls = 2 ants are not needed.
  const WordProblem problem = {.statements = {{19, Relation::kTimes, 2, 0},
                                              {0, Relation::kSum, 0, 1, 2},
                                              {7, Relation::kMore, 3, 3},
                                              {2, Relation::kSum, 0, 3, 7},
                                              {3, Relation::kNumber, 4},
                                              {1, Relation::kTimes, 2, 3}},
                               .asked = 0};
  const WordSolution solution = Solve(problem);
  CHECK(solution.lines == std::vector<int>{1, 7, 2, 0});
  CHECK(solution.values[0] == 19);
  CHECK(solution.values[19] == 38);
}

TEST_CASE("what is no word problem is refused") {
  const auto refused = [](auto&& change) {
    WordProblem problem = Small();
    change(problem);
    CHECK_THROWS_AS(Solve(problem), Error);
  };
  refused([](WordProblem& p) { p.statements.pop_back(), p.statements.pop_back(); });  // nothing of hens
  refused([](WordProblem& p) { p.statements[3].name = p.statements[0].name; });       // twice
  refused([](WordProblem& p) { p.statements[2].first = p.statements[1].name; });      // a circle
  refused([](WordProblem& p) { p.statements[1].k = 40; });                            // 320
  refused([](WordProblem& p) { p.statements[2] = {p.statements[2].name, Relation::kFewer, 3, p.statements[0].name}; });
  refused([](WordProblem& p) { p.statements[3].k = 100; });  // of a distractor
  refused([](WordProblem& p) { p.statements[2] = {p.statements[2].name, Relation::kSum, 0, 10, 10}; });
  refused([](WordProblem& p) { p.statements[0].first = p.statements[3].name; });  // a number of something
  refused([](WordProblem& p) { p.statements[3].name = 26; });
  refused([](WordProblem& p) { p.asked = p.statements[0].name; });  // is stated
  refused([](WordProblem& p) { p.asked = -1; });
}

TEST_CASE("drawn problems are sound: an evaluator of its own finds the values of all lines, and no line too many") {
  for (const WordOptions& options : {WordOptions{}, WordOptions{.lines_min = 1, .lines_max = 3, .distractors = 0},
                                     WordOptions{.lines_min = 9, .lines_max = 12, .distractors = 6}}) {
    for (int i = 0; i < 200; ++i) {
      const WordProblem problem = WordProblemAt(Split::kRl, i, options);
      const Told told = ReadPrompt(PromptOf(problem));
      for (const auto& [name, value] : told.values) REQUIRE((value >= 1 && value <= kMostValue));
      REQUIRE(std::to_string(told.values.at(told.asked)) == AnswerOf(problem));
      std::set<std::string> needed = {told.asked}, known;
      const auto lines = LinesOf(TraceOf(problem, {0.5, 0.5}, static_cast<std::uint64_t>(i)));
      for (const auto& [name, value] : lines) {
        REQUIRE(value == told.values.at(name));
        for (const std::string& word : told.relations.at(name)) {
          if (!told.relations.contains(word)) continue;
          REQUIRE((known.contains(word) || told.relations.at(word).size() == 1));
          needed.insert(word);
        }
        REQUIRE(known.insert(name).second);
      }
      for (const auto& [name, value] : lines) REQUIRE(needed.contains(name));
      REQUIRE(
          (static_cast<int>(lines.size()) >= options.lines_min && static_cast<int>(lines.size()) <= options.lines_max));
      REQUIRE(told.values.size() == needed.size() + static_cast<std::size_t>(options.distractors));
    }
  }
}

TEST_CASE("problems that share what is needed are in one split, whatever their names, order and distractors") {
  for (int i = 0; i < 300; ++i) {
    const auto split = static_cast<Split>(i % 3);
    const WordProblem problem = WordProblemAt(split, i, {});
    REQUIRE(SplitOf(problem) == split);
    REQUIRE(SplitOf(WithOtherNames(problem)) == split);
    WordProblem other = problem;
    std::ranges::reverse(other.statements);
    REQUIRE(SplitOf(other) == split);
    const std::vector<int> lines = Solve(problem).lines;
    std::erase_if(other.statements, [&](const Statement& s) {
      return std::ranges::none_of(problem.statements, [&](const Statement& t) {
        return s.name == problem.asked ||
               ((t.first == s.name || t.second == s.name) && std::ranges::count(lines, t.name));
      });
    });
    REQUIRE(other.statements.size() + 1 == problem.statements.size());
    REQUIRE(SplitOf(other) == split);
  }
}

TEST_CASE("a split of word problems is the same in every build and for every seed, and no prompt is in two of them") {
  // Frozen: a change here would let a trained model meet its evaluation problems in training.
  CHECK(PromptOf(WordProblemAt(Split::kEval, 0, {})) ==
        "Given ants are 4 times ducks; frogs are 15 fewer than ants; pigs are frogs plus cows; cows are 7; owls are 13 "
        "more than frogs; goats are pigs plus hares; hares are 3; ducks are 16; how many goats?");
  std::set<std::string> prompts;
  for (const Split split : {Split::kSft, Split::kRl, Split::kEval}) {
    const WordTask task(split, {.seed = 5});
    for (int i = 0; i < 500; ++i) {
      const std::string prompt = task.Get(i, 0).prompt;
      prompts.insert(prompt);
      REQUIRE(prompt == PromptOf(WordProblemAt(split, i, {})));
    }
  }
  CHECK(prompts.size() == 1500);
}

TEST_CASE("no answer is a good guess") {
  std::map<std::string, int> answers;
  for (int i = 0; i < 2000; ++i) ++answers[AnswerOf(WordProblemAt(Split::kEval, i, {}))];
  for (const auto& [answer, count] : answers) CHECK(count <= 60);  // 3%
}

TEST_CASE("statements read back from both forms, and nothing else is one") {
  for (int i = 0; i < 200; ++i) {
    for (const Statement& s : WordProblemAt(Split::kSft, i, {}).statements) {
      if (s.relation == Relation::kNumber) continue;
      const std::string terse = TerseOf(s), prompt = PromptOf({.statements = {s}, .asked = s.name});
      const std::vector<Lexeme> in_terse = Lexemes(terse), in_prompt = Lexemes(prompt);
      CHECK(ReadTerse(s.name, std::span(in_terse).subspan(1)) == s);
      CHECK(ReadTold(s.name, std::span(in_prompt).subspan(3)) == s);
    }
  }
  for (const char* text : {"", "foxes", "foxes plus", "foxes plus ;", "3 plus 5", "foxes times hens",
                           "foxes minus hens", "foxes more 5", "plus foxes 5"}) {
    CAPTURE(text);
    CHECK_FALSE(ReadTerse(0, Lexemes(text)));
  }
  for (const char* text :
       {"", "3", "3 more than", "3 more foxes hens", "3 times 5", "foxes plus 5", "hens times foxes"}) {
    CAPTURE(text);
    CHECK_FALSE(ReadTold(0, Lexemes(text)));
  }
}

TEST_CASE("each word, number and sign of the task's texts is one token, and any tokens decode to as many lexemes") {
  const Tokenizer tokenizer(Tokenizer::MakeWordTokenizer(WordPieces(), kEndOfText), "words");
  const WordOptions options{.lines_min = 1, .lines_max = 12, .distractors = 3};
  std::set<std::int32_t> used;
  for (int i = 0; i < 1000; ++i) {
    const WordProblem problem = WordProblemAt(Split::kSft, i, options);
    for (const std::string& text : {PromptOf(problem), TraceOf(problem, {0.5, 0.5}, 1)}) {
      const std::vector<std::int32_t> ids = tokenizer.Encode(text);
      REQUIRE(ids.size() == Lexemes(text).size());
      REQUIRE(tokenizer.Decode(ids, false) == text);
      used.insert(ids.begin(), ids.end());
    }
  }
  CHECK(static_cast<int>(used.size()) == tokenizer.vocab_size() - 1);  // all but the end of text
  PhiloxStream stream(3);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::int32_t> ids(1 + stream.NextBelow(40));
    for (std::int32_t& id : ids)
      id = 1 + static_cast<std::int32_t>(stream.NextBelow(static_cast<std::uint32_t>(tokenizer.vocab_size() - 1)));
    REQUIRE(Lexemes(tokenizer.Decode(ids, false)).size() == ids.size());
  }
}

TEST_CASE("no trace exceeds the token limit, end of text included") {
  for (const int lines : {1, 2, 6, 12}) {
    for (int i = 0; i < 100; ++i) {
      const WordProblem problem = WordProblemAt(Split::kSft, i, {.lines_min = lines, .lines_max = lines});
      CHECK(static_cast<int>(Lexemes(TraceOf(problem, {1, 1}, 1)).size()) + 1 < WordTokenLimit(lines));
    }
  }
}

TEST_CASE("lines are local and carried at the planted shares, drawn afresh for each draw, problem and seed") {
  const WordOptions options{.shares = {.local = 0.3, .carry = 0.1}, .seed = 7};
  const WordTask task(Split::kSft, options);
  double lines = 0, local = 0, brackets = 0;
  for (int i = 0; i < 1000; ++i) {
    const WordMeasures trace = MeasureWords(task.problem(i), task.Get(i, 3).completion);
    lines += trace.lines, local += trace.local, brackets += trace.brackets;
    REQUIRE(trace.lines == static_cast<int>(Solve(task.problem(i)).lines.size()));
  }
  CHECK(std::abs(local / lines - 0.3) < 4 * std::sqrt(0.3 * 0.7 / lines));  // four standard deviations
  CHECK(std::abs(brackets / lines - 0.1) < 4 * std::sqrt(0.1 * 0.9 / lines));
  WordOptions reseeded = options;
  reseeded.seed = 8;
  const WordTask other(Split::kSft, reseeded);
  int by_draw = 0, by_seed = 0;
  for (int i = 0; i < 50; ++i) {
    by_draw += task.Get(i, 0).completion != task.Get(i, std::uint64_t{1} << 32).completion;
    by_seed += task.Get(i, 0).completion != other.Get(i, 0).completion;
    CHECK(task.Get(i, 2).completion == WordTask(Split::kSft, options).Get(i, 2).completion);
  }
  CHECK(by_draw > 40);
  CHECK(by_seed > 40);
}

TEST_CASE("the verdict on a word problem names the rule that decided") {
  const auto rule = [](std::string_view text, bool finished = true) { return VerifyWords("32", text, finished).rule; };
  CHECK(VerifyWords("32", " so. #### 32", true).reward == 1);
  for (const char* text : {"#### 32", "####32", "#### 7 #### 32 \n"}) CHECK(rule(text) == "correct");
  CHECK(rule("#### 32", false) == "truncated");
  for (const char* text : {"", "32", "### 32"}) CHECK(rule(text) == "no '####'");
  for (const char* text : {"####", "#### 3 2", "#### 32.", "#### 032", "#### -32", "#### 32 bees", "#### 32 ####"}) {
    CAPTURE(text);
    CHECK(rule(text) == "not one number after the last '####'");
    CHECK(VerifyWords("32", text, true).reward == 0);
  }
  for (const char* text : {"#### 3", "#### 32 #### 33", "#### 320"}) CHECK(rule(text) == "wrong number");
  for (const char* gold : {"", "0", "100", "x", "07", "3 "}) CHECK_THROWS_AS(VerifyWords(gold, "#### 3", true), Error);
  CHECK(ExtractWordsAnswer("x #### 7 #### 32 bees ") == "32 bees");
  CHECK(ExtractWordsAnswer("32").empty());
}

TEST_CASE("the task of word problems rewards its own traces, and nothing truncated or wrong") {
  const WordTask task(Split::kRl, {});
  CHECK(task.size() == 20000);
  for (int i = 0; i < 100; ++i) {
    const Example example = task.Get(i, 0);
    CHECK(task.Reward(example, example.completion, true) == 1.0);
    CHECK(task.Reward(example, example.completion, false) == 0.0);
    CHECK(task.Reward(example, example.completion + " 1", true) == 0.0);
    CHECK(task.Extract(example.completion) == example.answer);
  }
  CHECK_THROWS_AS(task.Get(-1, 0), Error);
  CHECK_THROWS_AS(task.Get(task.size(), 0), Error);
}

TEST_CASE("options that make no sense are wrong usage") {
  for (const WordOptions& bad :
       {WordOptions{.lines_min = 0}, WordOptions{.lines_min = 7}, WordOptions{.lines_max = 13},
        WordOptions{.distractors = -1}, WordOptions{.distractors = 7}, WordOptions{.shares = {.local = 1.1}},
        WordOptions{.shares = {.carry = std::nan("")}}}) {
    CHECK_THROWS_AS(WordTask(Split::kSft, bad), UsageError);
  }
}

TEST_CASE("rows of word problems state them, and rows that contradict themselves are refused") {
  const WordTask task(Split::kEval, {});
  for (int i = 0; i < 100; ++i) CHECK(WordProblemOf(task.Row(i, 0)) == task.problem(i));
  CHECK(WordProblemOf({{"prompt", "x"}}) == std::nullopt);
  const nlohmann::json row = {{"prompt", PromptOf(Small())},
                              {"statements", {"foxes 3", "bees hens times 4", "hens foxes plus 5", "cats 7"}},
                              {"asked", "bees"}};
  CHECK(WordProblemOf(row) == Small());
  const auto refused = [&](const char* field, const nlohmann::json& value) {
    nlohmann::json other = row;
    other[field] = value;
    CHECK_THROWS_AS(WordProblemOf(other), Error);
    other.erase(field);
    CHECK_THROWS_AS(WordProblemOf(other), Error);
  };
  refused("prompt", "Given foxes are 3; how many bees?");
  for (const char* asked : {"hens", "foxes", "zebras", "bees hens", ""}) refused("asked", asked);
  refused("statements", "foxes 3");
  for (const nlohmann::json& last : nlohmann::json{"cats 8", "cats", "cats are 7", "cats 7 8", 7}) {
    refused("statements", {"foxes 3", "bees hens times 4", "hens foxes plus 5", last});
  }
}
