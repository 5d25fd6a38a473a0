// SPDX-License-Identifier: Apache-2.0
// How far back lies what the lines of a word problem's solution need.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "small_words.h"
#include "task/ceiling.h"
#include "task/words.h"
#include "tensor/philox.h"
#include "trace_ratios.h"

using namespace swarr;

namespace {

// The needs as "placed" or "placed/right" where these differ, '*' at those of statements.
std::string Needs(const WordMeasures& measures) {
  std::string text;
  for (const WordNeed& need : measures.needs) {
    text += Concat(text.empty() ? "" : " ", need.statement ? "*" : "", need.placed);
    if (need.right != need.placed) text += Concat('/', need.right);
  }
  return text;
}
std::string NeedsOf(std::string_view completion) { return Needs(MeasureWords(Small(), completion)); }

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

const std::string kHens = " next, we work out the number of hens, which is 8.";
const std::string kBees = " next, we work out the number of bees, which is 32. #### 32";

// Another way to the same distances: it knows how traces are written, and reads one token after the other, keeping
// where each value and statement was seen last, right or not. For traces in the task's own forms, whatever their
// numbers.
class OneByOne {
 public:
  OneByOne(const WordProblem& problem, const std::string& completion) : solution_(Solve(problem)) {
    const std::string prompt = PromptOf(problem);
    for (const Lexeme& lexeme : Lexemes(prompt)) words_.emplace_back(lexeme.text);
    const std::size_t begin = words_.size();
    for (const Lexeme& lexeme : Lexemes(completion)) words_.emplace_back(lexeme.text);
    for (at_ = 1; words_[at_] != "how"; ++at_) Tell();
    for (at_ = begin; words_[at_] != "####";) {
      words_[at_] == "[" ? Bracket() : Line();
    }
  }
  std::vector<WordNeed> needs;

 private:
  struct Seen {
    int any = -1, right = -1;
  };
  void See(Seen& seen, std::size_t at, bool right) {
    seen.any = static_cast<int>(at);
    if (right) seen.right = seen.any;
  }
  void SeeValue(const std::string& name, std::size_t at) {
    See(values_[name], at, solution_.values[static_cast<std::size_t>(Noun(name))] == std::stoi(words_[at]));
  }
  const Statement& Of(const std::string& name) const {
    return *solution_.statements[static_cast<std::size_t>(Noun(name))];
  }
  void Need(const Seen& seen, std::size_t query, bool statement) {
    const int q = static_cast<int>(query);
    needs.push_back({statement, q - seen.any, seen.right < 0 ? -1 : q - seen.right});
  }

  // "NAME are ... ;" of the prompt, which is right.
  void Tell() {
    const std::string name = words_[at_];
    const std::size_t content = at_ + 2;
    words_[content + 1] == ";" ? SeeValue(name, content) : See(statements_[name], content, true);
    while (words_[at_] != ";") ++at_;
  }
  void Bracket() {
    for (++at_; words_[at_ - 1] != "]";) {
      const std::string name = words_[at_];
      const std::size_t content = at_ + 1;
      std::string text = name;
      for (++at_; words_[at_] != ";" && words_[at_] != "]"; ++at_) text += ' ' + words_[at_];
      words_[content + 1] == ";" || words_[content + 1] == "]"
          ? SeeValue(name, content)
          : See(statements_[name], content, text == TerseOf(Of(name)));
      ++at_;
    }
  }
  void Line() {
    at_ += 8;  // next , we work out the number of
    const std::string name = words_[at_++];
    const Statement& s = Of(name);
    std::vector<std::string> operands;
    for (const int operand : {s.first, s.second}) {
      if (operand >= 0) operands.emplace_back(kNouns[static_cast<std::size_t>(operand)]);
    }
    const bool local = words_[at_] == ":";
    Need(statements_[name], local ? at_ : at_ + 2, true);
    if (local) {
      See(statements_[name], at_ + 1,
          name + ' ' + words_[at_ + 1] + ' ' + words_[at_ + 2] + ' ' + words_[at_ + 3] == TerseOf(s));
      at_ += 6;  // : foxes plus 5 , where
      for (const std::string& operand : operands) {
        Need(values_[operand], at_ + 1, false);
        SeeValue(operand, at_ + 2);
        at_ += 4;  // foxes are 3 and
      }
    } else {
      for (const std::string& operand : operands) Need(values_[operand], at_ + 2, false);
    }
    while (words_[at_] != "is") ++at_;
    SeeValue(name, at_ + 1);
    at_ += 3;
  }

  const WordSolution solution_;
  std::vector<std::string> words_;
  std::map<std::string, Seen> values_, statements_;
  std::size_t at_ = 0;
};

}  // namespace

TEST_CASE("the measures of a word problem's trace count from the query of each part to its last mention") {
  // In the prompt foxes' 3 is token 3, the bees' statement begins at 7, that of hens at 13; the completion at 26.
  const WordMeasures remote = MeasureWords(Small(), TraceOf(Small(), {0, 0}, 1));
  CHECK(remote.length == 30);
  CHECK(remote.lines == 2);
  CHECK(remote.local == 0);
  CHECK(remote.brackets == 0);
  CHECK(Needs(remote) == "*24 34 *44 13");  // queries 37 and 51, the tokens before the results
  // ':' at 35, the first "are" at 42; ':' at 63, "are" at 70, the hens' 8 at 52.
  const WordMeasures local = MeasureWords(Small(), TraceOf(Small(), {1, 0}, 1));
  CHECK(local.local == 2);
  CHECK(Needs(local) == "*22 39 *56 18");
  // '[' is 26, foxes' 3 at 28, the hens' statement at 31; results at 52 and 75, and between them 8 at 56, the bees'
  // at 59.
  const WordMeasures carried = MeasureWords(Small(), TraceOf(Small(), {0, 1}, 1));
  CHECK(carried.brackets == 2);
  CHECK(carried.carried == 5);
  CHECK(Needs(carried) == "*20 23 *15 18");
}

TEST_CASE("a wrong value or statement is a placed mention and no right one") {
  const std::string carried = TraceOf(Small(), {0, 1}, 1);
  CHECK(NeedsOf(Replaced(carried, "foxes 3", "foxes 4")) == "*20 23/48 *15 18");
  CHECK(NeedsOf(Replaced(carried, "foxes plus 5", "foxes plus 6")) == "*20/38 23 *15 18");
  CHECK(NeedsOf(Replaced(carried, "foxes plus 5", "foxes minus 5")) == "*20/38 23 *15 18");
  CHECK(NeedsOf(Replaced(carried, "[ hens 8", "[ hens 9")) == "*20 23 *15 18/22");
  CHECK(NeedsOf(Replaced(carried, "is 8", "is 9")) == "*20 23 *15 18");
  // If hens are 9 in the line, and nowhere 8, there is no right mention.
  CHECK(NeedsOf(Replaced(kHens, "8", "9") + kBees) == "*24 34 *44 13/-1");
}

TEST_CASE("a sum's operands are right in either order") {
  const WordProblem sum = {
      .statements = {{0, Relation::kSum, 0, 1, 2}, {1, Relation::kNumber, 9}, {2, Relation::kNumber, 2}}, .asked = 0};
  const std::string trace = " [ ants bees plus bats ] next, we work out the number of ants, which is 11. #### 11";
  CHECK(Needs(MeasureWords(sum, trace)).starts_with("*15 "));
}

TEST_CASE("what no line has computed is needed in its parts, by a later line or by the answer") {
  // Query 37, before the result: the bees' statement, and for the hens theirs and the foxes'.
  CHECK(NeedsOf(kBees) == "*30 *24 34");
  // '####' is the query at 26.
  CHECK(NeedsOf(" #### 32") == "*19 *13 23");
  CHECK(NeedsOf(kHens + " #### 32") == "*24 34 *33 2");
  CHECK(NeedsOf(kHens + kBees) == "*24 34 *44 13");
  CHECK(NeedsOf("") == "");
  CHECK(NeedsOf(" ####") == "");
  CHECK(NeedsOf(" #### 1 #### 32") == "*21 *15 25");  // the last one counts
}

TEST_CASE(
    "a line that is cut or has no result needs nothing, one of a number needs that, one of nothing known nothing") {
  for (const char* text : {" next, we work out the number of hens", " next, we work out the number of hens, which is",
                           " next, we work out the number of hens: foxes plus 5, where foxes are 3",
                           " the number of hens. which is 8", " the number of hens [ hens 8 ] which is 8",
                           " the number of hens #### which is 8", " the number of zebras, which is 8"}) {
    CAPTURE(text);
    CHECK(NeedsOf(text) == "");
    CHECK(MeasureWords(Small(), text).lines == 0);
  }
  CHECK(NeedsOf(" the number of foxes, which is 3.") == "29");
  CHECK(NeedsOf(" the number of owls, which is 3.") == "");
  CHECK(NeedsOf(" the number of the number of hens, which is 8.") == "*22 32");
}

TEST_CASE("the measures of traces in the task's own forms are those of another reader, also where numbers are wrong") {
  PhiloxStream stream(5);
  for (int i = 0; i < 400; ++i) {
    const WordProblem problem = WordProblemAt(Split::kEval, i, {.lines_min = 2, .lines_max = 9, .distractors = 2});
    std::string trace = TraceOf(problem, {0.5, 0.5}, static_cast<std::uint64_t>(i));
    for (std::uint32_t wrong = stream.NextBelow(4); wrong > 0; --wrong) {
      const std::size_t at =
          trace.find_first_of("0123456789", stream.NextBelow(static_cast<std::uint32_t>(trace.size() - 3)));
      trace[at] = static_cast<char>('1' + stream.NextBelow(9));
    }
    CAPTURE(trace);
    const WordMeasures measures = MeasureWords(problem, trace);
    const OneByOne other(problem, trace);
    REQUIRE(measures.needs.size() == other.needs.size());
    for (std::size_t n = 0; n < other.needs.size(); ++n) {
      REQUIRE(measures.needs[n].statement == other.needs[n].statement);
      REQUIRE(measures.needs[n].placed == other.needs[n].placed);
      REQUIRE(measures.needs[n].right == other.needs[n].right);
    }
  }
}

TEST_CASE(
    "distances count another tokenizer's tokens by where they begin, and its template's between prompt and text") {
  const std::string prompt = PromptOf(Small()), text = prompt + kHens;
  std::vector<std::size_t> characters(text.size());
  std::iota(characters.begin(), characters.end(), 0);
  const WordMeasures by_character = MeasureWords(Small(), kHens, characters);
  const int query = static_cast<int>(text.find("8.")) - 1;
  CHECK(by_character.length == static_cast<int>(kHens.size()) - 1);
  CHECK(Needs(by_character) ==
        Concat('*', query - static_cast<int>(prompt.find("5 more")), ' ', query - static_cast<int>(prompt.find('3'))));
  std::vector<std::size_t> with_template = characters;
  with_template.insert(with_template.begin() + static_cast<std::ptrdiff_t>(prompt.size()), 6, prompt.size());
  const WordMeasures templated = MeasureWords(Small(), kHens, with_template);
  CHECK(templated.length == by_character.length);
  CHECK(templated.needs[0].placed == by_character.needs[0].placed + 6);
  // A number of two digits is mentioned with its last one, and predicted from the character before its first.
  WordProblem larger = Small();
  larger.statements[0].k = 30;
  larger.statements[1].k = 2;
  const std::string both = Replaced(kHens, "8", "35") + Replaced(kBees, "32.", "70."), all = PromptOf(larger) + both;
  std::vector<std::size_t> starts(all.size());
  std::iota(starts.begin(), starts.end(), 0);
  CHECK(MeasureWords(larger, both, starts).needs[3].right ==
        static_cast<int>(all.find("70.")) - 1 - static_cast<int>(all.find("35.") + 1));
}

TEST_CASE("the measures are defined for any text, and no right mention is nearer than the last one") {
  const std::vector<std::string> pieces = WordPieces();
  PhiloxStream stream(11);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (std::uint32_t k = stream.NextBelow(60); k > 0; --k) {
      const std::uint32_t at = stream.NextBelow(static_cast<std::uint32_t>(pieces.size()) + 6);
      const std::vector<std::string> others = {"\xff", std::string(1, '\0'),           kHens,
                                               kBees,  " [ hens 8; bees hens times 4", " number of"};
      text += at < pieces.size() ? pieces[at] : others[at - pieces.size()];
    }
    const WordMeasures measures = MeasureWords(Small(), text);
    REQUIRE(measures.length == static_cast<int>(Lexemes(text).size()));
    REQUIRE(measures.brackets == std::count(text.begin(), text.end(), '['));
    REQUIRE(measures.local <= measures.lines);
    for (const WordNeed& need : measures.needs) {
      REQUIRE(need.placed >= 0);
      REQUIRE((need.right == -1 || need.right >= need.placed));
    }
  }
}

TEST_CASE("in traces that carry before every line nothing that is needed is older than a bracket and a line") {
  for (int i = 0; i < 300; ++i) {
    const WordProblem problem = WordProblemAt(Split::kSft, i, {});
    const WordMeasures measures = MeasureWords(problem, TraceOf(problem, {0.5, 1}, static_cast<std::uint64_t>(i)));
    const auto lines = static_cast<std::int64_t>(Solve(problem).lines.size());
    CHECK(InReach(measures, 8 * lines + 4 + 24));
    CHECK(measures.brackets == lines);
  }
}

TEST_CASE("a trace is in reach if its farthest need is, mentioned rightly or not") {
  const WordMeasures measures = MeasureWords(Small(), Replaced(kHens, "8", "9") + kBees);
  CHECK(InReach(measures, 44));
  CHECK_FALSE(InReach(measures, 43));
  CHECK(InReach(MeasureWords(Small(), ""), 0));
  CHECK(InReach(measures, ReachOf(3, 16)));  // 45
}

TEST_CASE("the measures of word problems pool lines and needs over traces") {
  const std::vector<std::string> texts = {TraceOf(Small(), {0, 0}, 1), TraceOf(Small(), {1, 1}, 1),
                                          Replaced(kHens, "8", "9") + kBees};
  nlohmann::json row = {{"prompt", PromptOf(Small())}, {"asked", "bees"}};
  for (const Statement& s : Small().statements) row["statements"].push_back(TerseOf(s));
  const std::map<std::string, double> ratios = RatiosOf("words", row, texts, 25);
  CHECK(ratios.at("local_share") == 2.0 / 6);
  CHECK(ratios.at("carry_rate") == 2.0 / 6);
  CHECK(ratios.at("carried_per_line") == 5.0 / 6);
  double distance = 0, mentioned = 0, near = 0;
  for (const std::string& text : texts) {
    for (const WordNeed& need : MeasureWords(Small(), text).needs) {
      if (need.right < 0) continue;
      ++mentioned, distance += need.right, near += need.right < 25;
    }
  }
  CHECK(mentioned == 11);
  CHECK(ratios.at("dependency_distance_mean") == distance / mentioned);
  CHECK(ratios.at("needs_in_window") == near / 12);
  CHECK(RatiosOf("words", row, texts, 0).at("needs_in_window") == 11.0 / 12);
  CHECK(RatiosOf("words", row, {}, 5).at("carry_rate") == 0);
  const TraceRule rule = RewardByName("words").traces;
  CHECK(rule.count(row, texts[0], 25, 44, {})->in_reach);
  CHECK_FALSE(rule.count(row, texts[0], 25, 43, {})->in_reach);
  CHECK(rule.count(row, texts[0], 25, 43, {})->size == 2);
  CHECK_FALSE(rule.count({{"prompt", PromptOf(Small())}}, texts[0], 25, 43, {}));
}
