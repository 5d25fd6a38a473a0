// SPDX-License-Identifier: Apache-2.0
// Commands that train, end to end: what they write, that it gives the same run again, and that a run can be
// interrupted.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "program.h"
#include "rl/objective_names.h"
#include "tensor/memory.h"
#include "tensor/safetensors.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

TEST_CASE("sft and rl write a model, metrics by their names and a configuration that gives the same run again") {
  const TempDirectory dir;
  const std::string sft = (dir / "sft").string(), again = (dir / "again").string(), rl = (dir / "rl").string();
  REQUIRE(Swarr(std::vector<std::string>{"sft", "--model", TinyModel(), "--max-steps", "4", "--eval-every", "2",
                                         "--eval-examples", "3", "--lr", "0.01", "--output-dir", sft} +
                kShort)
              .status == 0);
  const std::vector<json> steps = Lines(fs::path(sft) / "metrics.jsonl");
  REQUIRE(steps.size() == 4);
  for (const char* name : {"step", "epoch", "num_tokens", "loss", "learning_rate", "grad_norm", "entropy", "step_time",
                           "tokens_per_second", "peak_memory_mb"}) {
    CHECK_MESSAGE(steps[0].contains(name), name);
  }
  CHECK(!steps[0].contains("eval/accuracy"));
  CHECK(steps[1].contains("eval/accuracy"));

  const std::string config = (fs::path(sft) / "resolved_config.json").string();
  REQUIRE(Swarr({"sft", "--config", config, "--output-dir", again}).status == 0);
  CHECK(ReadFile(fs::path(again) / "model.safetensors") == ReadFile(fs::path(sft) / "model.safetensors"));
  const std::string other = (dir / "other").string();
  REQUIRE(Swarr({"sft", "--config", config, "--output-dir", other, "--lr", "0.02"}).status == 0);  // flags win
  CHECK(json::parse(ReadFile(fs::path(other) / "resolved_config.json"))["lr"] == 0.02);
  CHECK(ReadFile(fs::path(other) / "model.safetensors") != ReadFile(fs::path(sft) / "model.safetensors"));

  const Outcome trained = Swarr(std::vector<std::string>{"rl", "--model", sft, "--max-steps", "2", "--prompts-per-step",
                                                         "3", "--num-generations", "4", "--output-dir", rl} +
                                kShort);
  REQUIRE(trained.status == 0);
  CHECK(trained.Says("largest difference 0\n"));
  for (const json& row : Lines(fs::path(rl) / "metrics.jsonl")) {
    for (const char* name : {"reward", "reward_std", "frac_reward_zero_std", "completions/mean_length",
                             "completions/clipped_ratio", "kl", "clip_ratio/region_mean"}) {
      CHECK_MESSAGE(row.contains(name), name);
    }
    CHECK(row["rollout_logprob_max_abs_diff"] == 0.0);
  }
  CHECK(Lines(fs::path(rl) / "completions" / "step-00000002.jsonl").size() == 12);
}

TEST_CASE("rl: every switch of an objective is a flag, and is recorded so that the configuration gives the run again") {
  const TempDirectory dir;
  const std::string run = (dir / "run").string(), again = (dir / "again").string();
  const Outcome trained = Swarr(std::vector<std::string>{"rl",
                                                         "--model",
                                                         TinyModel(),
                                                         "--max-steps",
                                                         "2",
                                                         "--prompts-per-step",
                                                         "2",
                                                         "--num-generations",
                                                         "3",
                                                         "--objective",
                                                         "dapo",
                                                         "--beta",
                                                         "0.1",
                                                         "--kl",
                                                         "k2",
                                                         "--entropy-coef",
                                                         "0.01",
                                                         "--no-dynamic-sampling",
                                                         "--num-iterations",
                                                         "2",
                                                         "--output-dir",
                                                         run} +
                                kShort);
  REQUIRE_MESSAGE(trained.status == 0, trained.err);
  CHECK(
      trained.Says("objective dapo, changed by --kl k2 --beta 0.1 --entropy-coef 0.01 --no-dynamic-sampling, that is "
                   "--baseline group-mean --scale-rewards group --no-whiten --ratio token --clip ppo "
                   "--epsilon 0.2 --epsilon-high 0.28 --normalizer token-mean --kl k2 --kl-in loss --beta 0.1 "
                   "--entropy-coef 0.01 --no-dynamic-sampling --overlong-share 0.2\n"));
  const fs::path config = fs::path(run) / "resolved_config.json";
  const json recorded = json::parse(ReadFile(config));
  ObjectiveOptions expected =
      ObjectiveFromJson({{"objective", "dapo"}, {"beta", 0.1}, {"kl", "k2"}, {"entropy_coef", 0.01}});
  expected.dynamic_sampling = false;
  const json switches = ToJson(expected);
  for (const auto& [name, value] : switches.items()) {
    if (name == "max_completion_length") continue;  // an option of its own
    std::string flag = name;
    std::replace(flag.begin(), flag.end(), '_', '-');
    CHECK_MESSAGE(recorded.at(flag) == value, flag);
  }
  CHECK(recorded["objective"] == "dapo");
  CHECK(recorded["ref-model"] == TinyModel());

  REQUIRE(Swarr({"rl", "--config", config.string(), "--output-dir", again}).status == 0);
  CHECK(ReadFile(fs::path(again) / "resolved_config.json") == ReadFile(config));
  CHECK(ReadFile(fs::path(again) / "model.safetensors") == ReadFile(fs::path(run) / "model.safetensors"));
  CHECK(ReadFile(fs::path(again) / "model.safetensors") != ReadFile(fs::path(TinyModel()) / "model.safetensors"));
}

TEST_CASE("--dtype bf16 trains, evaluates, generates and writes logits") {
  const TempDirectory dir;
  const std::string sft = (dir / "sft").string(), rl = (dir / "rl").string();
  const std::vector<std::string> bf16 = {"--dtype", "bf16"};
  const Outcome tuned = Swarr(
      std::vector<std::string>{"sft", "--model", TinyModel(), "--max-steps", "8", "--lr", "0.01", "--output-dir", sft} +
      kShort + bf16);
  REQUIRE_MESSAGE(tuned.status == 0, tuned.err);
  const std::vector<json> steps = Lines(fs::path(sft) / "metrics.jsonl");
  REQUIRE(steps.size() == 8);
  CHECK(steps[7]["loss"] < steps[0]["loss"]);
  CHECK(json::parse(ReadFile(fs::path(sft) / "resolved_config.json"))["dtype"] == "bf16");
  const SafetensorsFile weights(fs::path(sft) / "model.safetensors");
  for (const std::string& name : weights.names()) CHECK(weights.dtype(name) == DType::kF32);

  const Outcome trained = Swarr(std::vector<std::string>{"rl", "--model", sft, "--max-steps", "2", "--prompts-per-step",
                                                         "3", "--num-generations", "4", "--output-dir", rl} +
                                kShort + bf16);
  REQUIRE_MESSAGE(trained.status == 0, trained.err);
  CHECK(trained.Says("largest difference 0\n"));

  const json result =
      JsonOf(std::vector<std::string>{"eval", "--model", rl, "--problems", "4", "--json"} + kShort + bf16);
  CHECK(result["problems"] == 4);
  const std::vector<std::string> generate = {"generate",   "--model",          rl, "--prompt",
                                             "a7b3n02x5?", "--max-new-tokens", "9"};
  const Outcome text = Swarr(generate + bf16);
  CHECK(text.status == 0);
  CHECK(Swarr(generate + bf16 + std::vector<std::string>{"--threads", "2"}).out == text.out);

  OwnedTensor logits[] = {OwnedTensor(DType::kF32, {10, 24}), OwnedTensor(DType::kF32, {10, 24})};
  for (int i : {0, 1}) {
    const std::string out = (dir / Concat("logits-", i)).string();
    REQUIRE(Swarr({"logits", "--model", rl, "--prompt", "a7b3n02x5?", "--out", out, "--dtype", i == 0 ? "f32" : "bf16"})
                .status == 0);
    SafetensorsFile(out).CopyTo("logits", logits[i].view());
  }
  double largest = 0, difference = 0;
  for (std::int64_t i = 0; i < 240; ++i) {
    const double single = logits[0].view().data<float>()[i], half = logits[1].view().data<float>()[i];
    largest = std::max(largest, std::fabs(single));
    difference = std::max(difference, std::fabs(single - half));
  }
  CHECK(difference > 0);
  CHECK(difference < 0.1 * largest);  // some thirty roundings by 2^-9
}
