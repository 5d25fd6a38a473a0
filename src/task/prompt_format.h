// SPDX-License-Identifier: Apache-2.0
// From a conversation to the text that a model is prompted with: the chat template, and how a problem is put to it.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_template.h"
#include "tensor/names.h"

namespace swarr {

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
