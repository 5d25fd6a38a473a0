// SPDX-License-Identifier: Apache-2.0
#include "task/rewards.h"

#include <algorithm>
#include <array>
#include <limits>

#include "task/math/gsm8k.h"
#include "task/math/verify.h"
#include "tensor/check.h"

namespace swarr {
namespace {

constexpr std::array<const char*, 4> kFactFields = {"a", "b", "n", "x0"};

int FactField(const nlohmann::json& row, const char* key) {
  const auto found = row.find(key);
  SWARR_CHECK(found != row.end(), "the field \"", key,
              "\" is missing; a chain row has a, b, n and x0, or none of them");
  const bool fits = found->is_number_integer() && *found >= 0 && *found <= std::numeric_limits<int>::max();
  SWARR_CHECK(fits, "the field \"", key, "\" is ", found->dump(), " where an integer from 0 is needed");
  return found->get<int>();
}

RewardRule ChainReward(const std::string& name) {
  return {name, [](std::string_view gold) { VerifyChain(gold, "", true); },
          [](std::string_view gold, std::string_view completion, bool finished) {
            ChainVerdict verdict = VerifyChain(gold, completion, finished);
            return Verdict{verdict.correct ? 1.0 : 0.0, std::move(verdict.rule)};
          },
          [](std::string_view completion) { return ExtractChainAnswer(completion); }};
}

RewardRule MathReward(const std::string& name, Extraction mode) {
  return {name, [](std::string_view gold) { ParseMathGold(gold); },
          [mode](std::string_view gold, std::string_view completion, bool finished) {
            if (!finished) return Verdict{0.0, "truncated"};
            MathVerdict verdict = VerifyMath(gold, completion, mode);
            return Verdict{verdict.correct ? 1.0 : 0.0, std::move(verdict.rule)};
          },
          [mode](std::string_view completion) { return ExtractCanonicalAnswer(completion, mode); }};
}

// The harness judges whatever was generated, finished or not.
RewardRule Gsm8kReward(const std::string& name, Gsm8kMode mode) {
  return {name, [](std::string_view gold) { CheckGsm8kGold(gold); },
          [mode](std::string_view gold, std::string_view completion, bool /*finished*/) {
            Gsm8kVerdict verdict = VerifyGsm8k(gold, completion, mode);
            return Verdict{verdict.correct ? 1.0 : 0.0, std::move(verdict.rule)};
          },
          [mode](std::string_view completion) { return NormalizeGsm8k(ExtractGsm8k(completion, mode)); }};
}

}  // namespace

RewardRule RewardByName(const std::string& name) {
  if (name == "chain") return ChainReward(name);
  if (name == "math") return MathReward(name, Extraction::kStrict);
  if (name == "math-lenient") return MathReward(name, Extraction::kLenient);
  if (name == "gsm8k-strict-match") return Gsm8kReward(name, Gsm8kMode::kStrictMatch);
  if (name == "gsm8k-flexible-extract") return Gsm8kReward(name, Gsm8kMode::kFlexibleExtract);
  throw UsageError(Concat("unknown reward '", name, "'; use ", kRewardNames));
}

Split ParseSplit(const std::string& name) {
  if (name == "sft") return Split::kSft;
  if (name == "rl") return Split::kRl;
  if (name == "eval") return Split::kEval;
  throw UsageError(Concat("unknown split '", name, "'; use sft, rl or eval"));
}

std::string ChainRowsText(Split split, const ChainOptions& options, std::int64_t count) {
  const ChainTask task(split, options);
  std::string text;
  const std::int64_t rows = count == 0 ? task.size() : count;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t index = i % task.size();
    const Example example = task.Get(index, static_cast<std::uint64_t>(i / task.size()));
    const ChainProblem& p = task.problem(index);
    const nlohmann::ordered_json row = {{"prompt", example.prompt},
                                        {"completion", example.completion},
                                        {"answer", example.answer},
                                        {"a", p.a},
                                        {"b", p.b},
                                        {"n", p.n},
                                        {"x0", p.x0}};
    text += row.dump() + '\n';
  }
  return text;
}

std::optional<ChainProblem> ChainProblemOf(const nlohmann::json& row) {
  const auto has = [&](const char* key) { return row.contains(key); };
  if (std::none_of(kFactFields.begin(), kFactFields.end(), has)) return std::nullopt;
  const ChainProblem problem{FactField(row, "a"), FactField(row, "b"), FactField(row, "x0"), FactField(row, "n")};
  SWARR_CHECK(Valid(problem) && row.contains("prompt") && row["prompt"] == PromptOf(problem),
              "the fields a, b, n and x0 do not state the problem of the row's prompt");
  return problem;
}

}  // namespace swarr
