// SPDX-License-Identifier: Apache-2.0
#include "task/prompt_format.h"

#include "task/data_row.h"
#include "tensor/check.h"

namespace swarr {
namespace {

std::string QuestionAnswer(const std::string& question, const std::vector<WorkedExample>& examples) {
  std::string text;
  for (const WorkedExample& e : examples) text += Concat("Question: ", e.question, "\nAnswer: ", e.answer, "\n\n");
  return text + "Question: " + question + "\nAnswer:";
}

}  // namespace

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
