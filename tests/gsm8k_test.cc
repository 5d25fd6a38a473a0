// SPDX-License-Identifier: Apache-2.0
// GSM8K as lm-evaluation-harness scores it.
#include "task/math/gsm8k.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/files.h"
#include "task/jsonl_task.h"
#include "task/registry.h"
#include "temp_directory.h"

using namespace swarr;
using nlohmann::json;

namespace {

// What the harness itself does; tools/make_gsm8k_fixtures.py.
json Harness() { return json::parse(ReadFile(SWARR_TEST_DATA "/gsm8k_harness.json")); }

}  // namespace

TEST_CASE("every pair of the fixture gives the harness's extraction and verdict, by both filters") {
  const json pairs = Harness()["pairs"];
  CHECK(pairs.size() >= 300);
  for (const json& pair : pairs) {
    const std::string gold = pair["gold"], completion = pair["completion"];
    CAPTURE(gold);
    CAPTURE(completion);
    for (const auto& [mode, name] : {std::pair(Gsm8kMode::kStrictMatch, "strict-match"),
                                     std::pair(Gsm8kMode::kFlexibleExtract, "flexible-extract")}) {
      CHECK(ExtractGsm8k(completion, mode) == pair[name][0].get<std::string>());
      CHECK(VerifyGsm8k(gold, completion, mode).correct == pair[name][1].get<bool>());
    }
  }
}

TEST_CASE("rows of a file become the harness's prompts, byte for byte, with any number of worked examples") {
  const json harness = Harness();
  const TempDirectory directory;
  std::string lines;
  for (const json& row : harness["rows"]) lines += row.dump() + '\n';
  WriteFileAtomically(directory / "rows.jsonl", lines);
  const JsonlTask rows(directory / "rows.jsonl", {.completion = true}, {});
  REQUIRE(harness["prompts"].size() == 3);
  for (const auto& [shots, prompt] : harness["prompts"].items()) {
    PromptFormat format{{}, Instruction::kQuestionAnswer};
    for (int i = 0; i < std::stoi(shots); ++i) {
      format.examples.push_back({rows.Get(i, 0).prompt, rows.Get(i, 0).completion});
    }
    const JsonlTask problems(directory / "rows.jsonl", {.answer = true}, RewardByName("gsm8k-strict-match"), {},
                             format);
    CHECK(problems.Get(problems.size() - 1, 0).prompt == prompt.get<std::string>());
  }
}

TEST_CASE("strict match and flexible extract give the verdicts of the harness's patterns and filters") {
  struct Case {
    std::string gold, completion;
    bool strict, flexible;
  };
  for (const Case& c : std::vector<Case>{{"72", "#### 72.", true, true},
                                         {"72", "#### 72.0", false, false},
                                         {"1234", "#### 1,234", true, true},
                                         {"72", "#### $72", false, true},
                                         {"72", "####72", false, true},
                                         {"72", "it is 72. (See step 3.)", false, false},
                                         {"5", "= 5 apples... done", false, false},
                                         {"6", "#### 5\n#### 6", false, true},
                                         {"5", "#### 5\n#### 6", true, false},
                                         {"0.5", "total is 1/2", false, false},
                                         {"5", "= 5.00", false, false},
                                         {"-5", "#### -5", true, true},
                                         {"-5", "so 3--5", false, true},
                                         {"1,234", "#### 1234", true, true},
                                         {"Half is 36.\n#### 72", "#### 72", true, true},
                                         {"72", "#### 72\n\nQuestion: next\n#### 9", true, true},
                                         {"72", "#### 72<|im_end|> 5", true, true},
                                         {"72", "no number", false, false}}) {
    CAPTURE(c.completion);
    CHECK(VerifyGsm8k(c.gold, c.completion, Gsm8kMode::kStrictMatch).correct == c.strict);
    CHECK(VerifyGsm8k(c.gold, c.completion, Gsm8kMode::kFlexibleExtract).correct == c.flexible);
  }
}

TEST_CASE("extraction returns what the pattern captures") {
  CHECK(ExtractGsm8k("#### -1,2.5x", Gsm8kMode::kStrictMatch) == "-1,2.5");
  CHECK(ExtractGsm8k("#### x #### 7", Gsm8kMode::kStrictMatch) == "7");
  CHECK(ExtractGsm8k("####  7", Gsm8kMode::kStrictMatch) == "[invalid]");
  CHECK(ExtractGsm8k("a 3 b $4.50, c", Gsm8kMode::kFlexibleExtract) == "$4.50,");
  CHECK(ExtractGsm8k("a - 3 .", Gsm8kMode::kFlexibleExtract) == "3");
}

TEST_CASE("the rewards by these names judge unfinished texts too, and refuse an empty gold") {
  const RewardRule strict = RewardByName("gsm8k-strict-match"), flexible = RewardByName("gsm8k-flexible-extract");
  CHECK(strict.verify("72", "#### 72", false).reward == 1.0);
  CHECK(strict.verify("72", "72", true).rule == "no match");
  CHECK(flexible.verify("72", "72", true).reward == 1.0);
  CHECK(flexible.extract("it is $1,072.") == "1072");
  CHECK_THROWS_AS(strict.check_gold(" "), Error);
}
