// SPDX-License-Identifier: Apache-2.0
#include "task/data_row.h"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "task/math/extract.h"
#include "task/number_text.h"

namespace swarr {
namespace {

using nlohmann::json;

// The value at `path`, or nullptr.
const json* Find(const json& row, std::string_view path) {
  if (const auto whole = row.find(path); whole != row.end()) return &*whole;
  const std::size_t dot = path.find('.');
  if (dot == std::string_view::npos) return nullptr;
  const auto outer = row.find(path.substr(0, dot));
  return outer != row.end() && outer->is_object() ? Find(*outer, path.substr(dot + 1)) : nullptr;
}

// The value at `path`; where no field was found for this use, the sentence names the use.
const json& Field(const json& row, const std::string& path, const char* use) {
  const json* value = path.empty() ? nullptr : Find(row, path);
  SWARR_CHECK(value != nullptr, "the field \"", path.empty() ? use : path,
              "\" is missing; if it has another name, say --", use, "-field");
  return *value;
}

// The first of `paths` that the row has; empty if it has none.
std::string FirstOf(const json& row, std::initializer_list<const char*> paths) {
  for (const char* path : paths) {
    if (Find(row, path) != nullptr) return path;
  }
  return {};
}

// The beginning of a value, for a sentence about it.
std::string Shown(const json& value) {
  constexpr std::size_t kLongest = 60;
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

std::string Text(const json& value, const std::string& path) {
  SWARR_CHECK(value.is_string(), "the field \"", path, "\" is ", Shown(value), " where a text in quotes is needed");
  return value.get<std::string>();
}

// The text at `path`; empty where there is none.
std::string TextIfAny(const json& row, const std::string& path) {
  const json* value = path.empty() ? nullptr : Find(row, path);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

// Answers may be numbers too, and a list of one.
std::string Answer(const json& value, const std::string& path, std::string_view line) {
  const json& one = value.is_array() && value.size() == 1 ? value[0] : value;
  if (one.is_null()) return {};
  return one.is_number() ? NumberText(line, path) : Text(one, path);
}

// ShareGPT's names of the roles beside the usual ones.
std::string Role(const std::string& name) { return name == "human" ? "user" : name == "gpt" ? "assistant" : name; }

std::vector<Message> Messages(const json& list, const std::string& path) {
  std::vector<Message> messages;
  for (const json& m : list) {
    const auto member = [&](const char* key, const char* other) {
      const json* value = m.is_object() ? Find(m, m.contains(key) ? key : other) : nullptr;
      SWARR_CHECK(value != nullptr && value->is_string(), "the field \"", path, "\" holds ", Shown(m),
                  " where a message {\"role\": ..., \"content\": ...} of texts is needed");
      return value->get<std::string>();
    };
    messages.push_back({Role(member("role", "from")), member("content", "value")});
  }
  SWARR_CHECK(!messages.empty(), "the field \"", path, "\" holds no message");
  return messages;
}

std::string Completion(const json& value, const std::string& path) {
  if (value.is_null()) return {};
  if (!value.is_array()) return Text(value, path);
  const std::vector<Message> messages = Messages(value, path);
  SWARR_CHECK(messages.size() == 1 && messages[0].role == "assistant", "the field \"", path,
              "\" must hold one message, of the assistant");
  return messages[0].content;
}

// A row for each turn of the assistant; one row for the whole conversation if the assistant has no turn.
std::vector<DataRow> Turns(std::vector<Message> conversation) {
  std::vector<DataRow> rows;
  for (std::size_t i = 1; i < conversation.size(); ++i) {
    if (conversation[i].role != "assistant") continue;
    const auto end = conversation.begin() + static_cast<std::ptrdiff_t>(i);
    rows.push_back({{conversation.begin(), end}, conversation[i].content, {}});
  }
  if (rows.empty()) rows.push_back({std::move(conversation), {}, {}});
  return rows;
}

std::string Trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
  return std::string(text.substr(0, text.find_last_not_of(kBlank) + 1));
}

std::string QuestionAnswer(const std::string& question, const std::vector<WorkedExample>& examples) {
  std::string text;
  for (const WorkedExample& e : examples) text += Concat("Question: ", e.question, "\nAnswer: ", e.answer, "\n\n");
  return text + "Question: " + question + "\nAnswer:";
}

}  // namespace

RowSchema::RowSchema(const json& first_row, FieldNames named) : fields_(std::move(named)) {
  DetectFields(first_row);
  if (!fields_.prompt.empty()) return;
  std::string keys;
  for (const auto& [key, value] : first_row.items()) keys += (keys.empty() ? "" : ", ") + key;
  throw Error(Concat("no problem is recognised among the fields (", keys,
                     "); there should be prompt, question, problem, messages, conversations or text, or name the "
                     "field with --prompt-field"));
}

void RowSchema::DetectFields(const json& row) {
  auto& [prompt, completion, answer] = fields_;
  if (prompt.empty()) prompt = FirstOf(row, {"prompt", "question", "problem", "messages", "conversations", "text"});
  if (prompt == "text") return;
  if (answer.empty()) answer = FirstOf(row, {"answer", "ground_truth", "reward_model.ground_truth", "solution"});
  const bool dialogue = prompt == "messages" || prompt == "conversations";
  if (completion.empty() && !dialogue) completion = FirstOf(row, {"completion", "solution"});
  if (completion.empty() && prompt == "question") completion = answer;  // GSM8K
  // Later rows may have what the first lacks.
  const json* problem = Find(row, prompt);
  if (completion.empty() && problem != nullptr && !problem->is_array()) completion = "completion";
  if (answer.empty()) answer = "answer";

  const std::string first = TextIfAny(row, answer);
  worked_answer_ = answer == "solution" || !MarkedAnswer(first).empty();
}

std::vector<DataRow> RowSchema::ReadProblem(const json& row) const {
  const json& problem = Field(row, fields_.prompt, "prompt");
  if (fields_.answer.empty()) return {{{}, Text(problem, fields_.prompt), {}}};  // plain text
  if (!problem.is_array()) return {{{{"user", Text(problem, fields_.prompt)}}, {}, {}}};
  std::vector<Message> messages = Messages(problem, fields_.prompt);
  if (fields_.completion.empty()) return Turns(std::move(messages));
  return {{std::move(messages), {}, {}}};
}

std::vector<DataRow> RowSchema::Read(const json& row, std::string_view line, JsonlFields needed) const {
  const auto& [prompt, completion, answer] = fields_;
  std::vector<DataRow> rows = ReadProblem(row);
  const std::string imitated = needed.completion && !completion.empty()
                                   ? Completion(Field(row, completion, "completion"), completion)
                                   : TextIfAny(row, completion);
  const std::string gold = needed.answer ? Answer(Field(row, answer, "answer"), answer, line) : TextIfAny(row, answer);
  for (DataRow& r : rows) {
    if (!completion.empty()) r.completion = imitated;
    r.answer = worked_answer_ ? MarkedAnswer(gold) : Trimmed(gold);
  }
  return rows;
}

std::string WithoutCalculatorMarks(std::string_view solution) {
  std::string text;
  while (true) {
    const std::size_t begin = solution.find("<<"), end = solution.find(">>", std::min(begin, solution.size()));
    text += solution.substr(0, end == std::string_view::npos ? end : begin);
    if (end == std::string_view::npos) return text;
    solution.remove_prefix(end + 2);
  }
}

std::string PromptFormat::Prompt(std::span<const Message> conversation) const {
  if (conversation.empty()) return {};
  std::vector<Message> messages(conversation.begin(), conversation.end());
  SWARR_CHECK(messages.back().role == "user", "the turn before a completion is the ", messages.back().role,
              "'s, where the user's is needed");
  std::string& problem = messages.back().content;
  switch (instruction) {
    case Instruction::kNone:
      break;
    case Instruction::kBoxed:
      problem += "\nPlease reason step by step, and put your final answer within \\boxed{}.";
      break;
    case Instruction::kHash:
      problem += " Let's think step by step and output the final answer after \"####\".";
      break;
    case Instruction::kQuestionAnswer:
      problem = QuestionAnswer(problem, examples);
      break;
  }
  return chat.Prompt(messages);
}

std::string PromptFormat::Completion(std::string_view content) const {
  const std::string text = strip_calculator_marks ? WithoutCalculatorMarks(content) : std::string(content);
  // "Answer:" is followed by a space, which belongs to the first word's token.
  const bool continues = instruction == Instruction::kQuestionAnswer && chat.format == ChatFormat::kPlain;
  return chat.Completion(continues ? " " + text : text);
}

}  // namespace swarr
