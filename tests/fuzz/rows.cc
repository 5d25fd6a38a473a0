// SPDX-License-Identifier: Apache-2.0
#include "fuzz/harnesses.h"
#include "task/jsonl_task.h"
#include "task/registry.h"

namespace swarr::fuzz {

void FuzzRows(std::string_view input) {
  if (input.empty()) return;
  const unsigned wish = static_cast<unsigned char>(input[0]);
  const JsonlFields needed{.completion = (wish & 1) != 0, .answer = (wish & 2) != 0};
  PromptFormat format;
  if ((wish & 4) != 0) format.chat.format = ChatFormat::kQwen3;
  if ((wish & 8) != 0) format.instruction = Instruction::kBoxed;
  const JsonlTask task(Write("rows.jsonl", input.substr(1)), needed, RewardByName("math"), {}, format);
  for (std::int64_t i = 0; i < task.size(); ++i) {
    const Example example = task.Get(i, 0);
    if (needed.answer) task.Reward(example, example.completion, /*finished=*/true);
    task.Extract(example.completion);
    task.Row(i, 0).dump();
  }
}

}  // namespace swarr::fuzz
