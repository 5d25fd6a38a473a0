// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "base/check.h"
#include "task/data_row.h"

namespace swarr {
namespace {

const std::vector<Message> kQuestion = {{"user", "How many?"}};

std::string Prompt(const char* instruction, const std::vector<WorkedExample>& examples = {}) {
  return PromptFormat{{}, ParseName<Instruction>("instruction", instruction), examples}.Prompt(kQuestion);
}

TEST_CASE("an instruction is said beside the problem, in the words that models and evaluators use") {
  CHECK(Prompt("none") == "How many?");
  CHECK(Prompt("boxed") == "How many?\nPlease reason step by step, and put your final answer within \\boxed{}.");
  CHECK(Prompt("hash") == "How many? Let's think step by step and output the final answer after \"####\".");
  CHECK(Prompt("question-answer") == "Question: How many?\nAnswer:");
  CHECK(Prompt("question-answer", {{"q", "a"}, {"r", "b"}}) ==
        "Question: q\nAnswer: a\n\nQuestion: r\nAnswer: b\n\nQuestion: How many?\nAnswer:");
  CHECK_THROWS_AS(ParseName<Instruction>("instruction", "please"), UsageError);
}

TEST_CASE("in a conversation the instruction goes into the last message, inside the template") {
  const PromptFormat format{{ChatFormat::kChatml, ""}, Instruction::kHash};
  const std::string prompt = format.Prompt(std::vector<Message>{{"user", "a"}, {"assistant", "b"}, {"user", "c"}});
  CHECK(prompt ==
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc Let's think step by "
        "step and output the final answer after \"####\".<|im_end|>\n<|im_start|>assistant\n");
  CHECK_THROWS_WITH_AS(format.Prompt(std::vector<Message>{{"user", "a"}, {"assistant", "b"}}),
                       doctest::Contains("the assistant's, where the user's is needed"), Error);
  CHECK(format.Prompt({}).empty());
}

TEST_CASE("a completion continues its prompt: after Answer: with a space, without marks if they are to go") {
  CHECK(PromptFormat{}.Completion("<<1=1>>1") == "<<1=1>>1");
  CHECK(PromptFormat{{}, Instruction::kNone, {}, true}.Completion("<<1=1>>1") == "1");
  CHECK(PromptFormat{{}, Instruction::kQuestionAnswer}.Completion("1") == " 1");
  CHECK(PromptFormat{{ChatFormat::kChatml, ""}, Instruction::kQuestionAnswer}.Completion("1") == "1");
}

}  // namespace
}  // namespace swarr
