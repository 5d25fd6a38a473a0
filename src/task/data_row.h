// SPDX-License-Identifier: Apache-2.0
// Data rows: problems as the lines of a JSON Lines file state them, and the texts that a model reads of them. Whatever
// its shape, a row is read as a conversation, a completion and a gold answer.
//
//   prompt [, completion] [, answer | ground_truth | reward_model.ground_truth | solution]   TRL, verl
//   question, answer                                    GSM8K: the answer is a worked solution that ends in #### GOLD
//   problem [, solution] [, answer]                     MATH: without an answer the gold one is the solution's last box
//   messages | conversations [, answer | ground_truth]  chat: {role, content}, or ShareGPT's {from, value}
//   text                                                plain text, to be learned as it is
//
// The first row of a file decides; fields can be named instead. prompt and completion may be messages too.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/names.h"
#include "model/chat_template.h"

namespace swarr {

// One problem, or one turn of a conversation.
struct DataRow {
  std::vector<Message> prompt;  // empty: plain text
  std::string completion;       // empty if there is none
  std::string answer;           // gold; empty if there is none
};

// What rows must have besides the problem. What isn't needed may be absent and is then empty.
struct JsonlFields {
  bool completion = false;  // something to imitate
  bool answer = false;      // something to compare with
};

// Names of fields; "a.b" is field b of the object in field a. Empty: detected.
struct FieldNames {
  std::string prompt = {}, completion = {}, answer = {};
};

class RowSchema {
 public:
  // The schema of a file with this first row, a JSON object. Throws Error if no prompt is recognised, naming what the
  // row has.
  RowSchema(const nlohmann::json& first_row, FieldNames named);

  // A conversation gives a row for every turn of the assistant, whose prompt is the turns before it; every other shape
  // gives one row. Throws Error, naming the field, where the problem or what is needed is absent or of the wrong type.
  // Null counts as empty. `line` is the text that the row was parsed from: a number that is a gold answer keeps its
  // digits.
  std::vector<DataRow> Read(const nlohmann::json& row, std::string_view line, JsonlFields needed) const;

 private:
  void DetectFields(const nlohmann::json& row);
  std::vector<DataRow> ReadProblem(const nlohmann::json& row) const;

  FieldNames fields_;
  bool worked_answer_ = false;  // the answer's field holds a whole solution, in which the gold answer is marked
};

// GSM8K's solutions without their calculator's marks: "48/2 = <<48/2=24>>24" becomes "48/2 = 24".
std::string WithoutCalculatorMarks(std::string_view solution);

// What is said beside a problem.
enum class Instruction {
  kNone,
  kBoxed,           // reason step by step, answer in \boxed{}: Qwen2.5-Math, DeepSeekMath, Mathstral
  kHash,            // reason step by step, answer after "####": verl's GSM8K
  kQuestionAnswer,  // "Question: ...\nAnswer:", the worked examples before it: lm-evaluation-harness's gsm8k
};
template <>
inline constexpr std::array kNames<Instruction> = {"none", "boxed", "hash", "question-answer"};

struct WorkedExample {
  std::string question, answer;
};

struct PromptFormat {
  ChatTemplate chat;
  Instruction instruction = Instruction::kNone;
  std::vector<WorkedExample> examples = {};  // of question-answer
  bool strip_calculator_marks = false;       // from completions (WithoutCalculatorMarks)

  // The prompt for a conversation whose last message is the user's, where the instruction goes. Throws as
  // ChatTemplate::Prompt does, and if the last message is not the user's. An empty conversation is an empty prompt.
  std::string Prompt(std::span<const Message> conversation) const;
  // The completion as it continues Prompt.
  std::string Completion(std::string_view content) const;
};

}  // namespace swarr
