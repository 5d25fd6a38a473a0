// SPDX-License-Identifier: Apache-2.0
#include "task/registry.h"

#include <algorithm>
#include <utility>

#include "task/math/gsm8k.h"
#include "task/math/verify.h"

namespace swarr {

// A line for each task, which a file of its own defines.
BuiltInTask ChainBuiltIn();  // chain_task.cc
BuiltInTask WordsBuiltIn();  // words_task.cc

std::string TaskParameter::Field() const {
  std::string text = field.empty() ? name : field;
  std::ranges::replace(text, '-', '_');
  return text;
}

std::vector<BuiltInTask> BuiltInTasks() { return {ChainBuiltIn(), WordsBuiltIn()}; }

std::string DataRows(const Task& task, std::int64_t count) {
  std::string text;
  for (std::int64_t i = 0; i < (count == 0 ? task.size() : count); ++i) {
    text += task.Row(i % task.size(), static_cast<std::uint64_t>(i / task.size())).dump() + '\n';
  }
  return text;
}

namespace {

Score OneOrZero(MathVerdict verdict) { return {verdict.correct ? 1.0 : 0.0, std::move(verdict.rule)}; }

RewardRule MathReward(const std::string& name, Extraction mode) {
  return {.name = name,
          .check_gold = [](std::string_view gold) { ParseMathGold(gold); },
          .verify =
              [mode](std::string_view gold, std::string_view completion, bool finished) {
                if (!finished) return Score{0.0, "truncated"};
                return OneOrZero(VerifyMath(gold, completion, mode));
              },
          .extract = [mode](std::string_view completion) { return ExtractCanonicalAnswer(completion, mode); }};
}

// The harness judges whatever was generated, finished or not.
RewardRule Gsm8kReward(const std::string& name, Gsm8kMode mode) {
  return {.name = name,
          .check_gold = [](std::string_view gold) { CheckGsm8kGold(gold); },
          .verify = [mode](std::string_view gold, std::string_view completion,
                           bool /*finished*/) { return OneOrZero(VerifyGsm8k(gold, completion, mode)); },
          .extract = [mode](std::string_view completion) { return NormalizeGsm8k(ExtractGsm8k(completion, mode)); }};
}

std::vector<RewardRule> Rewards() {
  std::vector<RewardRule> rules;
  for (BuiltInTask& task : BuiltInTasks()) rules.push_back(std::move(task.reward));
  rules.push_back(MathReward("math", Extraction::kStrict));
  rules.push_back(MathReward("math-lenient", Extraction::kLenient));
  rules.push_back(Gsm8kReward("gsm8k-strict-match", Gsm8kMode::kStrictMatch));
  rules.push_back(Gsm8kReward("gsm8k-flexible-extract", Gsm8kMode::kFlexibleExtract));
  return rules;
}

}  // namespace

RewardRule RewardByName(const std::string& name) {
  for (RewardRule& rule : Rewards()) {
    if (rule.name == name) return std::move(rule);
  }
  throw UsageError(Concat("unknown reward '", name, "'; use ", RewardNames()));
}

std::string RewardNames() {
  std::vector<std::string> names;
  for (const RewardRule& rule : Rewards()) names.push_back(rule.name);
  return Listed(names);
}

}  // namespace swarr
