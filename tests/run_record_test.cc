// SPDX-License-Identifier: Apache-2.0
// What a run says of itself: where it goes on, and by what it was made.
#include <doctest/doctest.h>

#include "base/machine.h"
#include "base/version.h"
#include "program.h"
#include "tensor/cpu.h"

using namespace swarr;
using nlohmann::json;

TEST_CASE("a run that resumes says from which checkpoint, and one that is complete that nothing is left") {
  const TempDirectory dir;
  std::vector<std::string> pretrain = TinyPretrain(dir / "run", 2) + std::vector<std::string>{"--save-every", "1"};
  REQUIRE(Swarr(pretrain).status == 0);
  std::erase(pretrain, "--quiet");
  const std::vector<std::string> resumed = pretrain + std::vector<std::string>{"--resume", "auto"};
  CHECK(Swarr(resumed).Says(Concat("the run in ", (dir / "run").string(), " is complete; nothing is left to do\n")));
  const std::vector<std::string> longer = {"--max-steps", "3", "--change", "max-steps"};
  const std::string checkpoint = (dir / "run" / "checkpoint-00000002").string();
  const Outcome outcome = Swarr(resumed + longer);
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(outcome.Says(Concat("swarr: resumed from ", checkpoint, ", after step 2\n")));
  CHECK(Swarr(resumed + std::vector<std::string>{"--max-steps", "3", "--quiet"}).err.empty());
}

TEST_CASE("RL says over how many tokens and steps its log-probabilities agree, and why where it compared none") {
  const TempDirectory dir;
  const std::string run = (dir / "run").string(), metrics = (dir / "run" / "metrics.jsonl").string();
  const std::string about = "log-probabilities of sampler and trainer: ";
  const auto train = [&](std::vector<std::string> more) {
    const Outcome outcome = Swarr(std::vector<std::string>{"rl", "--model", TinyModel(), "--threads", "1"} + kShort +
                                  std::vector<std::string>{"--prompts-per-step", "2", "--num-generations", "3"} + more);
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    return outcome;
  };
  const std::vector<std::string> two_steps = {"--max-completion-length", "4", "--max-steps", "2", "--output-dir", run};
  std::int64_t tokens = 0;
  const Outcome whole = train(two_steps);
  for (const json& row : Lines(metrics)) tokens += row["rollout_logprob_tokens"].get<std::int64_t>();
  CHECK(whole.Says(Concat(about, tokens, " tokens compared in 2 steps, largest difference 0\n")));
  const Outcome resumed = train(two_steps + std::vector<std::string>{"--resume", "auto"});
  CHECK(resumed.Says(Concat(about, "no step was left, so none were compared now; ", metrics,
                            " has the differences of the steps made before\n")));
  CHECK(!resumed.Says("tokens compared"));
  // One token is no answer: nothing earns anything, so that dynamic sampling keeps no group.
  const Outcome dropped = train({"--max-completion-length", "1", "--objective", "dapo", "--max-steps", "1",
                                 "--output-dir", (dir / "dapo").string()});
  CHECK(dropped.Says(about + "none compared, since no group was kept in 1 step\n"));
}

TEST_CASE("resolved_config.json records version, revision, kernels and threads, which a resume may change") {
  const TempDirectory dir;
  const auto environment = [&] {
    return json::parse(ReadFile(dir / "run" / "resolved_config.json")).at("environment");
  };
  const std::vector<std::string> pretrain =
      TinyPretrain(dir / "run", 2) + std::vector<std::string>{"--save-every", "1"};
  REQUIRE(Swarr(pretrain).status == 0);
  CHECK(environment() == json{{"version", Version()},
                              {"revision", BuildRevision()},
                              {"device", "cpu"},
                              {"kernels", Name(BestCpu())},
                              {"threads", 1},
                              {"ranks", 1},
                              {"machine", ProcessorModel()}});
  const Outcome resumed = Swarr(pretrain + std::vector<std::string>{"--threads", "2", "--resume", "auto", "--max-steps",
                                                                    "3", "--change", "max-steps"});
  REQUIRE_MESSAGE(resumed.status == 0, resumed.err);
  CHECK(environment()["threads"] == 2);

  const std::string swa = (dir / "swa").string();
  REQUIRE(Swarr({"convert", "--model", (dir / "run").string(), "--window", "4", "--output-dir", swa}).status == 0);
  const json converted = json::parse(ReadFile(dir / "swa" / "resolved_config.json"));
  CHECK(converted["environment"] == json{{"version", Version()}, {"revision", BuildRevision()}});
}
