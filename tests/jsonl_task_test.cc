// SPDX-License-Identifier: Apache-2.0
#include "task/jsonl_task.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "model/tokenizer.h"
#include "task/chain.h"
#include "task/registry.h"
#include "temp_directory.h"

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
  CHECK(task.Row(0, 0)["more"] == 7);
  CHECK(task.Get(1, 0).completion.empty());
  CHECK(task.Where(1).ends_with("rows.jsonl:3"));
  CHECK_THROWS_AS(task.Get(2, 0), Error);
}

TEST_CASE("a needed field that is missing or no text stops the reading") {
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\"}", {.completion = true}),
                    doctest::Contains(":1: the field \"completion\" is missing"));
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\"}", {.answer = true}),
                    doctest::Contains("the field \"answer\" is missing"));
  CHECK_THROWS_WITH(Read("{\"prompt\": [1]}", {}), doctest::Contains("the field \"prompt\" holds 1 where a message"));
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

TEST_CASE("rows that can't be used are dropped and counted by reason, with the first of each") {
  const JsonlTask task = Read(R"({"prompt": "p", "answer": "C"}
{"prompt": "q", "answer": "12"}
{"prompt": "r", "answer": null}
{"prompt": "s", "answer": " "}
{"prompt": "t", "answer": "B"})",
                              {.answer = true});
  REQUIRE(task.size() == 2);
  CHECK(task.Get(1, 0).prompt == "t");
  CHECK(task.Where(1).ends_with("rows.jsonl:5"));
  REQUIRE(task.dropped().size() == 2);
  CHECK(task.dropped()[0].reason == "answers that the reward chain can't compare with");
  CHECK(task.dropped()[0].count == 1);
  CHECK(task.dropped()[0].first.find("rows.jsonl:2: ") != std::string::npos);
  CHECK(task.dropped()[1].reason == "no answer");
  CHECK(task.dropped()[1].count == 2);
  CHECK(task.dropped()[1].first.ends_with("rows.jsonl:3: there is no gold answer to compare with"));
}

TEST_CASE("a file of which no row can be used is refused with the reason of the first") {
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\", \"answer\": \"12\"}", {.answer = true}),
                    doctest::Contains("none of the 1 problems of the file can be used"));
  CHECK_THROWS_WITH(Read("{\"prompt\": \"p\", \"completion\": \"\"}", {.completion = true}),
                    doctest::Contains("rows.jsonl:1: there is no completion to imitate; none of the 1 problems"));
}

TEST_CASE("conversations become prompts of the template; with an answer, the last turn's alone") {
  const std::string chat = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
 {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}], "answer": "7"})";
  std::string line = chat;
  std::erase(line, '\n');
  const File file(line + "\n" + R"({"messages": [{"role": "user", "content": "<|im_end|>"}], "answer": "7"})");
  const PromptFormat format{{ChatFormat::kChatml, "s"}, Instruction::kNone};
  const JsonlTask imitated(file.path(), {.completion = true}, RewardByName("chain"), {}, format);
  REQUIRE(imitated.size() == 2);
  CHECK(imitated.Where(0) == imitated.Where(1));
  CHECK(imitated.Get(0, 0).prompt ==
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  CHECK(imitated.Get(1, 0).completion == "d");
  const JsonlTask judged(file.path(), {.answer = true}, RewardByName("chain"), {}, format);
  REQUIRE(judged.size() == 1);
  CHECK(judged.Get(0, 0).completion == "d");
  REQUIRE(judged.dropped().size() == 1);
  CHECK(judged.dropped()[0].first.find(":2: the text holds <|im_end|>") != std::string::npos);
}

TEST_CASE("plain text has no prompt, and an empty prompt is refused") {
  const JsonlTask task = Read("{\"text\": \"once <|im_end|>\"}", {.completion = true});
  CHECK(task.Get(0, 0).prompt.empty());
  CHECK(task.Get(0, 0).completion == "once <|im_end|>");
  CHECK_THROWS_WITH(Read("{\"prompt\": \"\", \"completion\": \"c\"}", {.completion = true}),
                    doctest::Contains(":1: the prompt is empty"));
}

TEST_CASE("a document of as many tokens as allowed stays, one more is dropped by its line, and none left is refused") {
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer("abc", "<end>"), "tokenizer");
  JsonlTask task = Read("{\"prompt\": \"a\"}\n{\"prompt\": \"ab\", \"completion\": \"c\"}\n", {});
  task.DropLongDocuments(tokenizer, 4);  // a, b, c and the end of text
  CHECK(task.size() == 2);
  task.DropLongPrompts(tokenizer, 2);
  CHECK(task.size() == 2);
  task.DropLongDocuments(tokenizer, 3);
  REQUIRE(task.size() == 1);
  CHECK(task.Get(0, 0).prompt == "a");
  REQUIRE(task.dropped().size() == 1);
  CHECK(task.dropped()[0].reason == "more than 3 tokens");
  CHECK(task.dropped()[0].first.find("rows.jsonl:2: prompt and completion with end of text have 4 tokens") !=
        std::string::npos);
  CHECK_THROWS_WITH(task.DropLongPrompts(tokenizer, 0), doctest::Contains("none of the 2 problems"));
  JsonlTask foreign = Read("{\"prompt\": \"a\"}\n{\"prompt\": \"z\"}\n", {});
  CHECK_THROWS_WITH(foreign.DropLongDocuments(tokenizer, 9), doctest::Contains("rows.jsonl:2: "));
}

TEST_CASE("plain text needs no token in front of it, and a text of one token is long enough") {
  const Tokenizer tokenizer(Tokenizer::MakeCharacterTokenizer("abc", "<end>"), "tokenizer");
  JsonlTask task = Read("{\"text\": \"abc\"}\n{\"text\": \"a\"}\n{\"text\": \"abca\"}\n", {.completion = true});
  task.DropLongDocuments(tokenizer, 4);  // a, b, c and the end of text
  REQUIRE(task.size() == 2);
  CHECK(task.Get(1, 0).completion == "a");
  CHECK(task.dropped()[0].first.find("rows.jsonl:3: ") != std::string::npos);
  CHECK_THROWS_WITH(task.DropLongPrompts(tokenizer, 4), doctest::Contains("rows.jsonl:1: the prompt is empty"));
}

TEST_CASE("rows of the chain task read back as the problems they state, draw by draw") {
  const ChainOptions options{.n_min = 3, .n_max = 3, .restate_probability = 0.5, .seed = 1};
  const ChainTask chain(Split::kEval, options);
  const std::int64_t twice = 2 * chain.size();
  const File file(DataRows(chain, twice));
  const JsonlTask task(file.path(), {.completion = true, .answer = true}, RewardByName("chain"));
  REQUIRE(task.size() == twice);
  int redrawn = 0;
  for (std::int64_t i = 0; i < twice; ++i) {
    const std::int64_t index = i % chain.size();
    CHECK(ChainProblemOf(task.Row(i, 0)) == chain.problem(index));
    CHECK(task.Get(i, 0).completion == chain.Get(index, static_cast<std::uint64_t>(i / chain.size())).completion);
    redrawn += task.Get(i, 0).completion != task.Get(index, 0).completion;
  }
  CHECK(redrawn > 0);
  CHECK(JsonlTask(File(DataRows(chain, 0)).path(), {}, RewardByName("chain")).size() == chain.size());
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
  CHECK_THROWS_AS(RewardByName("maths"), UsageError);
  CHECK_THROWS_AS(ParseName<Split>("split", "test"), UsageError);
  CHECK(ParseName<Split>("split", "rl") == Split::kRl);
}
