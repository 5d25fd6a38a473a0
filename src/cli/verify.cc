// SPDX-License-Identifier: Apache-2.0
// swarr verify: the reward's own verdict on an answer.
#include <iostream>

#include "cli/commands.h"
#include "task/registry.h"

namespace swarr {
namespace {

struct VerifyCommand {
  explicit VerifyCommand(OptionSet& options) {
    options.Group("Answer");
    options.Add("gold", gold, "the right answer")->required();
    options.Add("answer", answer, "the completion to judge, without end of text")->required();
    options.Add("reward", reward, "the rule that judges")->type_name(OneOf(RewardNames()));
    options.Add("truncated", truncated, "the completion was cut off before end of text");
    options.Group("Output");
    options.Add("json", json, "print one JSON object: correct, reward, rule, extracted");
  }

  void Run() const {
    const RewardRule rule = RewardByName(reward);
    const Score score = rule.verify(gold, answer, !truncated);
    const bool correct = score.reward == 1.0;
    if (json) {
      PrintJson(
          {{"correct", correct}, {"reward", score.reward}, {"rule", score.rule}, {"extracted", rule.extract(answer)}});
    } else {
      std::cout << (correct ? "right" : "wrong") << ": " << score.rule << '\n';
    }
  }

  std::string gold, answer, reward = "chain";
  bool truncated = false, json = false;
};

}  // namespace

void AddVerify(const CommandGroup& program) {
  program.Add<VerifyCommand>("verify", "Judge an answer as the reward does, and say by which rule",
                             "  swarr verify --reward math --gold 1/2 --answer 'so \\boxed{0.5}'");
}

}  // namespace swarr
