// SPDX-License-Identifier: Apache-2.0
#include "task/data_row.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace swarr {
namespace {

using doctest::Contains;
using nlohmann::json;

constexpr JsonlFields kBoth{.completion = true, .answer = true};

std::vector<DataRow> ReadAll(const json& row, JsonlFields needed, const FieldNames& named = {}) {
  return RowSchema(row, named).Read(row, row.dump(), needed);
}

std::vector<DataRow> ReadBy(const RowSchema& schema, const json& row, JsonlFields needed) {
  return schema.Read(row, row.dump(), needed);
}

// The gold answer of a row whose JSON is `line`.
std::string GoldOf(const std::string& line, const FieldNames& named = {}) {
  const json row = json::parse(line);
  return RowSchema(row, named).Read(row, line, {.answer = true})[0].answer;
}

DataRow Read(const json& row, JsonlFields needed = kBoth, const FieldNames& named = {}) {
  const std::vector<DataRow> rows = ReadAll(row, needed, named);
  REQUIRE(rows.size() == 1);
  return rows[0];
}

void CheckRow(const DataRow& row, const std::string& prompt, const std::string& completion, const std::string& answer) {
  CHECK(row.prompt == std::vector<Message>{{"user", prompt}});
  CHECK(row.completion == completion);
  CHECK(row.answer == answer);
}

TEST_CASE("prompt, completion and answer are taken as they are") {
  CheckRow(Read({{"prompt", "p"}, {"completion", "c"}, {"answer", " 7 "}}), "p", "c", "7");
  CheckRow(Read({{"prompt", "p"}, {"completion", "c"}, {"ground_truth", 7}}), "p", "c", "7");
  CheckRow(Read({{"prompt", "p"}, {"completion", "c"}, {"answer", {"x+1"}}}), "p", "c", "x+1");
}

TEST_CASE("GSM8K: the answer is imitated whole, and what follows #### is the gold one") {
  CheckRow(Read({{"question", "q"}, {"answer", "1+1=<<1+1=2>>2\n#### 1,002"}}), "q", "1+1=<<1+1=2>>2\n#### 1,002",
           "1,002");
  const RowSchema schema({{"question", "q"}, {"answer", "#### 2"}}, {});
  CHECK(ReadBy(schema, {{"question", "q"}, {"answer", "no mark"}}, kBoth)[0].answer.empty());
}

TEST_CASE("a question with a bare answer has that answer") {
  CheckRow(Read({{"question", "q"}, {"answer", 72}}, {.answer = true}), "q", "", "72");
}

TEST_CASE("MATH: the gold answer is the answer's field, or the solution's last box") {
  CheckRow(Read({{"problem", "p"}, {"solution", "so \\boxed{1}"}, {"answer", "2"}}), "p", "so \\boxed{1}", "2");
  CheckRow(Read({{"problem", "p"}, {"solution", "\\boxed{1} no, \\boxed{\\frac{1}{2}}."}}), "p",
           "\\boxed{1} no, \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}");
  CHECK(Read({{"problem", "p"}, {"solution", "none"}}).answer.empty());
  const json open_r1 = {{"problem", "p"}, {"solution", "s"}, {"answer", "5"}, {"messages", {{{"role", "user"}}}}};
  CheckRow(Read(open_r1), "p", "s", "5");
}

TEST_CASE("verl: the prompt is messages and the gold answer lies in reward_model") {
  const json row = {{"prompt", {{{"role", "system"}, {"content", "s"}}, {{"role", "user"}, {"content", "q"}}}},
                    {"reward_model", {{"ground_truth", "7"}, {"style", "rule"}}}};
  const DataRow read = Read(row, {.answer = true});
  CHECK(read.prompt == std::vector<Message>{{"system", "s"}, {"user", "q"}});
  CHECK(read.answer == "7");
}

TEST_CASE("a conversation gives a row for each turn of the assistant, with the turns before as its prompt") {
  const json row = {{"messages",
                     {{{"role", "user"}, {"content", "a"}},
                      {{"role", "assistant"}, {"content", "b"}},
                      {{"role", "user"}, {"content", "c"}},
                      {{"role", "assistant"}, {"content", "d"}}}}};
  const std::vector<DataRow> rows = ReadAll(row, {.completion = true});
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].prompt == std::vector<Message>{{"user", "a"}});
  CHECK(rows[0].completion == "b");
  CHECK(rows[1].prompt == std::vector<Message>{{"user", "a"}, {"assistant", "b"}, {"user", "c"}});
  CHECK(rows[1].completion == "d");
  CHECK_THROWS_WITH_AS(ReadAll(row, {.answer = true}), Contains("the field \"answer\" is missing"), Error);
}

TEST_CASE("ShareGPT's names of keys and roles are understood") {
  const json row = {{"conversations", {{{"from", "human"}, {"value", "q"}}, {{"from", "gpt"}, {"value", "r"}}}}};
  CheckRow(Read(row, {.completion = true}), "q", "r", "");
}

TEST_CASE("TRL's conversational prompt and completion are understood") {
  const json row = {{"prompt", {{{"role", "user"}, {"content", "q"}}}},
                    {"completion", {{{"role", "assistant"}, {"content", "r"}}}}};
  CheckRow(Read(row, {.completion = true}), "q", "r", "");
  json two = row;
  two["completion"].push_back(row["completion"][0]);
  CHECK_THROWS_WITH_AS(Read(two, {.completion = true}), Contains("must hold one message, of the assistant"), Error);
}

TEST_CASE("text is a completion without a prompt") {
  const DataRow row = Read({{"text", "once"}}, {.completion = true});
  CHECK(row.prompt.empty());
  CHECK(row.completion == "once");
}

TEST_CASE("named fields win over detected ones, also inside objects") {
  const json row = {
      {"prompt", "wrong"}, {"completion", "wrong"}, {"answer", "wrong"}, {"q", "p"}, {"extra", {{"a", 3}, {"s", "c"}}}};
  CheckRow(Read(row, kBoth, {.prompt = "q", .completion = "extra.s", .answer = "extra.a"}), "p", "c", "3");
  CheckRow(Read({{"prompt", "p"}, {"x", "so\n#### 4"}, {"completion", "c"}}, kBoth, {.answer = "x"}), "p", "c", "4");
}

TEST_CASE("what is not needed may be absent or anything; what is needed is named when it is absent or no text") {
  CheckRow(Read({{"prompt", "p"}, {"completion", 7}, {"answer", json::object()}}, {}), "p", "", "");
  const RowSchema schema({{"prompt", "p"}, {"completion", "c"}, {"answer", "1"}}, {});
  CheckRow(ReadBy(schema, {{"prompt", "q"}}, {})[0], "q", "", "");
  CHECK_THROWS_WITH_AS(ReadBy(schema, {{"prompt", "q"}}, {.completion = true}),
                       Contains("the field \"completion\" is missing; if it has another name, say --completion-field"),
                       Error);
  CHECK_THROWS_WITH_AS(ReadBy(schema, {{"completion", "c"}}, {}), Contains("the field \"prompt\" is missing"), Error);
  CHECK_THROWS_WITH_AS(ReadBy(schema, {{"prompt", 7}}, {}), Contains("the field \"prompt\" is 7"), Error);
  CHECK_THROWS_WITH_AS(ReadBy(schema, {{"prompt", "q"}, {"answer", true}}, {.answer = true}), Contains("is true"),
                       Error);
  CHECK_THROWS_WITH_AS(ReadBy(schema, {{"prompt", json::array()}}, {}), Contains("holds no message"), Error);
  CHECK_THROWS_WITH_AS(ReadBy(schema, {{"prompt", {{{"role", "user"}}}}}, {}), Contains("where a message"), Error);
  CHECK(ReadBy(schema, {{"prompt", "q"}, {"answer", nullptr}}, {.answer = true})[0].answer.empty());
}

TEST_CASE("a row in which no problem is recognised names its fields") {
  CHECK_THROWS_WITH_AS(RowSchema({{"id", 1}, {"input", "x"}}, {}), Contains("among the fields (id, input)"), Error);
}

TEST_CASE("a gold answer that is a number keeps the digits of the file") {
  for (const char* digits : {"0.00005", "1e-7", "1e16", "1E3", "0.10", "-0.50", "1000000000000", "-3", "1.0",
                             "123456789012345678901234567890"}) {
    CAPTURE(digits);
    CHECK(GoldOf(Concat("{\"question\": \"q\", \"answer\": ", digits, "}")) == digits);
    CHECK(GoldOf(Concat("{\"question\": \"q\", \"answer\": [", digits, "]}")) == digits);
  }
  CHECK(GoldOf(R"({"answer": 2.50, "prompt": "p", "reward_model": {"x": 1.0, "ground_truth": 0.10}, "x": 7.0})",
               {.answer = "reward_model.ground_truth"}) == "0.10");
}

TEST_CASE("a solution's gold answer is what the verifier finds in it") {
  const auto gold = [](const std::string& solution) {
    return Read({{"problem", "P?"}, {"solution", solution}}, {.completion = true}).answer;
  };
  CHECK(gold("first try \\boxed{3}, but in fact \\fbox{6}.") == "6");
  CHECK(gold("maybe \\boxed{3}; finally \\boxed {8}.") == "8");
  CHECK(gold("so \\boxed{a \\} b}") == "a \\} b");
  CHECK(gold("so \\boxed{\\left\\{\\frac{1}{2}\\right.}") == "\\left\\{\\frac{1}{2}\\right.");
  CHECK(gold("\\boxed{1} no, \\boxed{2").empty());
}

TEST_CASE("calculator marks are cut out, and what only looks like one stays") {
  CHECK(WithoutCalculatorMarks("48/2 = <<48/2=24>>24 and <<1+1=2>>2.") == "48/2 = 24 and 2.");
  CHECK(WithoutCalculatorMarks("1 << 2") == "1 << 2");
  CHECK(WithoutCalculatorMarks(">> a <<b>>") == ">> a ");
  CHECK(WithoutCalculatorMarks("").empty());
}

}  // namespace
}  // namespace swarr
