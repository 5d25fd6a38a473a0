// SPDX-License-Identifier: Apache-2.0
#include "train/jsonl_task.h"

#include <doctest/doctest.h>

#include "model/tokenizer.h"
#include "rl/rewards.h"
#include "temp_directory.h"
#include "tensor/files.h"

using namespace swarr;

namespace {

struct File {
  explicit File(const std::string& text) { WriteFileAtomically(path(), text); }
  std::filesystem::path path() const { return directory / "rows.jsonl"; }
  TempDirectory directory;
};

JsonlTask Read(const std::string& text, JsonlFields needed) {
  const File file(text);
  return JsonlTask(file.path(), needed, RewardByName("chain"));
}

}  // namespace

TEST_CASE("rows become examples, and fields that are not needed may be absent") {
  const JsonlTask task =
      Read("{\"prompt\": \"p\", \"completion\": \"c\", \"answer\": \"1\", \"more\": 7}\n\n{\"prompt\": \"q\"}\n", {});
  REQUIRE(task.size() == 2);
  CHECK(task.Get(0, 0).prompt == "p");
  CHECK(task.Get(0, 5).completion == "c");
  CHECK(task.Get(0, 0).answer == "1");
  CHECK(task.row(0)["more"] == 7);
  CHECK(task.Get(1, 0).completion.empty());
  CHECK(task.Where(1).ends_with("rows.jsonl:3"));
  CHECK_THROWS_AS(task.Get(2, 0), Error);
}

TEST_CASE("a needed field that is missing or no text stops the reading") {
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\"}", {.completion = true}),
                    doctest::Contains(":1: the field \"completion\" is missing"));
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\"}", {.answer = true}),
                    doctest::Contains("the field \"answer\" is missing"));
  CHECK_THROWS_WITH(Read("{\"prompt\": [1]}", {}), doctest::Contains("the field \"prompt\" is [1]"));
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\", \"answer\": \"12\"}", {.answer = true}), doctest::Contains("\"12\""));
  CHECK_NOTHROW(Read("{\"prompt\": \"p\", \"answer\": \"12\"}", {}));
}

TEST_CASE("the reward is the rule's: only a finished text with the gold answer is worth anything") {
  const JsonlTask task = Read("{\"prompt\": \"p\", \"answer\": \"C\"}", {.answer = true});
  const Example example = task.Get(0, 0);
  CHECK(task.Reward(example, "01:C,#C", true) == 1.0);
  CHECK(task.Reward(example, "01:C,#C", false) == 0.0);
  CHECK(task.Reward(example, "#B", true) == 0.0);
  CHECK(task.Extract("#B") == "B");
}

TEST_CASE("a document of as many tokens as allowed passes, one more is refused by its line") {
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer("abc", "<end>"), "tokenizer");
  const JsonlTask task = Read("{\"prompt\": \"a\"}\n{\"prompt\": \"ab\", \"completion\": \"c\"}\n", {});
  CHECK_NOTHROW(task.CheckDocuments(tokenizer, 4));  // a, b, c and the end of text
  CHECK_THROWS_WITH(task.CheckDocuments(tokenizer, 3),
                    doctest::Contains("rows.jsonl:2: prompt and completion have 4 tokens"));
  const JsonlTask foreign = Read("{\"prompt\": \"a\"}\n{\"prompt\": \"z\"}\n", {});
  CHECK_THROWS_WITH(foreign.CheckDocuments(tokenizer, 9), doctest::Contains("rows.jsonl:2: "));
}

TEST_CASE("rows of the chain task read back as the problems they state, draw by draw") {
  const ChainOptions options{.n_min = 3, .n_max = 3, .restate_probability = 0.5, .seed = 1};
  const ChainTask chain(Split::kEval, options);
  const std::int64_t twice = 2 * chain.size();
  const File file(ChainRowsText(Split::kEval, options, twice));
  const JsonlTask task(file.path(), {.completion = true, .answer = true}, RewardByName("chain"));
  REQUIRE(task.size() == twice);
  int redrawn = 0;
  for (std::int64_t i = 0; i < twice; ++i) {
    const std::int64_t index = i % chain.size();
    CHECK(ChainProblemOf(task.row(i)) == chain.problem(index));
    CHECK(task.Get(i, 0).completion == chain.Get(index, static_cast<std::uint64_t>(i / chain.size())).completion);
    redrawn += task.Get(i, 0).completion != task.Get(index, 0).completion;
  }
  CHECK(redrawn > 0);
  CHECK(JsonlTask(File(ChainRowsText(Split::kEval, options, 0)).path(), {}, RewardByName("chain")).size() ==
        chain.size());
}

TEST_CASE("chain facts that are incomplete or contradict the prompt are refused; none at all are none") {
  const nlohmann::json row = {{"prompt", "a7b3n20x5?"}, {"a", 7}, {"b", 3}, {"n", 20}, {"x0", 5}};
  CHECK(ChainProblemOf(row) == ChainProblem{7, 3, 5, 20});
  CHECK(ChainProblemOf({{"prompt", "a7b3n20x5?"}}) == std::nullopt);
  nlohmann::json other = row;
  other["b"] = 4;
  CHECK_THROWS_AS(ChainProblemOf(other), Error);
  other["b"] = "3";
  CHECK_THROWS_AS(ChainProblemOf(other), Error);
  other.erase("b");
  CHECK_THROWS_WITH(ChainProblemOf(other), doctest::Contains("\"b\" is missing"));
}

TEST_CASE("rewards and splits have names; others are wrong usage") {
  CHECK_THROWS_AS(RewardByName("math"), UsageError);
  CHECK_THROWS_AS(ParseSplit("test"), UsageError);
  CHECK(ParseSplit("rl") == Split::kRl);
}
