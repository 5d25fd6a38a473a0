// SPDX-License-Identifier: Apache-2.0
// The commands, end to end: what they write and print, by the names that others rely on.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "attn/spec.h"
#include "program.h"
#include "rl/objective_names.h"
#include "task/chain.h"
#include "tensor/cpu.h"
#include "tensor/memory.h"
#include "tensor/safetensors.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::vector<json> Lines(const fs::path& path) {
  std::vector<json> rows;
  ForEachJsonLine(path, [&](int, const json& row) { rows.push_back(row); });
  return rows;
}

json JsonOf(const std::vector<std::string>& arguments) {
  const Outcome outcome = Swarr(arguments);
  CHECK_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(std::count(outcome.out.begin(), outcome.out.end(), '\n') == 1);
  return json::parse(outcome.out);
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const std::vector<std::string> kShort = {"--task", "chain", "--n-min", "1", "--n-max", "2"};

}  // namespace

TEST_CASE("every command has --help on stdout with its defaults, and ends with status 0") {
  for (const char* command : {"study", "data", "pretrain", "sft", "rl", "convert", "eval", "generate", "inspect",
                              "logits", "tokenize", "verify", "bench"}) {
    CAPTURE(command);
    const Outcome help = Swarr({command, "--help"});
    CHECK(help.status == 0);
    CHECK(help.err.empty());
    CHECK(help.out.find("Usage: swarr " + std::string(command)) != std::string::npos);
  }
  CHECK(Swarr({"sft", "--help"}).out.find("--batch-size INT=16") != std::string::npos);
}

TEST_CASE("data chain writes rows with the problem, its trace and its facts, from the split asked for") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string();
  const std::vector<std::string> command = {"data", "chain",   "--count", "30",        "--split", "rl",    "--n-min",
                                            "2",    "--n-max", "5",       "--restate", "0.5",     "--out", file};
  REQUIRE(Swarr(command).status == 0);
  const std::vector<json> rows = Lines(file);
  REQUIRE(rows.size() == 30);
  bool restates = false;
  for (const json& row : rows) {
    const ChainProblem problem{row["a"], row["b"], row["x0"], row["n"]};
    CHECK(row["prompt"] == PromptOf(problem));
    CHECK(row["answer"] == AnswerOf(problem));
    CHECK(SplitOf(problem) == Split::kRl);
    CHECK(VerifyChain(row["answer"].get<std::string>(), row["completion"].get<std::string>(), true).reward == 1);
    restates |= row["completion"].get<std::string>().find('[') != std::string::npos;
  }
  CHECK(restates);
  const std::string first = ReadFile(file);
  REQUIRE(Swarr(command).status == 0);
  CHECK(ReadFile(file) == first);
  REQUIRE(Swarr(command + std::vector<std::string>{"--seed", "1"}).status == 0);
  CHECK(ReadFile(file) != first);
}

TEST_CASE("convert changes the attention of the layers asked for and not one byte of weights or tokenizer") {
  const TempDirectory dir;
  const std::string out = (dir / "swa").string();
  REQUIRE(Swarr({"convert", "--model", TinyModel(), "--window", "5", "--sinks", "2", "--full-layers", "1",
                 "--output-dir", out})
              .status == 0);
  for (const char* name : {"model.safetensors", "tokenizer.json"}) {
    CHECK(ReadFile(fs::path(out) / name) == ReadFile(fs::path(TinyModel()) / name));
  }
  CHECK(json::parse(ReadFile(fs::path(out) / "config.json"))["swarr_attention_sinks"] == 2);
  const json shown = JsonOf({"inspect", "--model", out, "--lengths", "8,640", "--json"});
  CHECK(shown["attention"][0] == json{{"layer", 0}, {"attention", "window"}, {"window", 5}, {"sinks", 2}});
  CHECK(shown["attention"][1] == json{{"layer", 1}, {"attention", "full"}, {"window", nullptr}, {"sinks", 0}});
  // Per tile of 32 tokens and each of two heads, 8 x 32 f32 numbers of keys and 32 x 32 (whole panels) of values: at
  // most one tile of sinks and two of the window in the first layer, and as many as there are tokens in the other.
  const int tile = 2 * (8 * 32 + 32 * 32) * 4;
  CHECK(shown["kv_bytes"] ==
        json{{{"length", 8}, {"bytes", (1 + 1) * tile}}, {{"length", 640}, {"bytes", (3 + 20) * tile}}});
}

TEST_CASE("inspect counts the parameters that the model file holds") {
  const SafetensorsFile file(fs::path(TinyModel()) / "model.safetensors");
  std::int64_t count = 0;
  for (const std::string& name : file.names()) {
    std::int64_t size = 1;
    for (const std::int64_t d : file.shape(name)) size *= d;
    count += size;
  }
  const json shown = JsonOf({"inspect", "--model", TinyModel(), "--json"});
  CHECK(shown["parameters"] == count);
  CHECK(shown["dtype"] == "f32");
}

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

TEST_CASE("an interrupted run saves, ends with 130, and goes on with --resume auto to the uninterrupted run's bits") {
  const TempDirectory dir;
  const fs::path stopped = dir / "stopped", whole = dir / "whole";
  constexpr int kSteps = 3000;
  Program program(TinyPretrain(stopped, kSteps));
  for (int i = 0; i < 1000 && !(fs::exists(stopped / "metrics.jsonl") && fs::file_size(stopped / "metrics.jsonl") > 0);
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::kill(program.pid(), SIGINT);
  const Outcome interrupted = program.Wait();
  REQUIRE(interrupted.status == 130);
  CHECK(interrupted.Says("--resume auto"));
  const std::size_t before = Lines(stopped / "metrics.jsonl").size();
  REQUIRE(before < kSteps);
  CHECK(!fs::exists(stopped / "model.safetensors"));

  REQUIRE(Swarr(TinyPretrain(stopped, kSteps) + std::vector<std::string>{"--resume", "auto"}).status == 0);
  REQUIRE(Swarr(TinyPretrain(whole, kSteps)).status == 0);
  const std::vector<json> rows = Lines(stopped / "metrics.jsonl");
  REQUIRE(rows.size() == kSteps);
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK(rows[i]["step"] == i + 1);
  CHECK(ReadFile(stopped / "model.safetensors") == ReadFile(whole / "model.safetensors"));
}

TEST_CASE("eval prints one object with intervals around each share, the same as its completions give") {
  const TempDirectory dir;
  const std::string out = (dir / "completions.jsonl").string();
  const json result = JsonOf(std::vector<std::string>{"eval", "--model", TinyModel(), "--problems", "5", "--samples",
                                                      "3", "--completions-out", out, "--json"} +
                             kShort);
  CHECK(result["problems"] == 5);
  for (const char* name : {"accuracy", "pass@k", "maj@k", "mean_length", "truncated"}) {
    CAPTURE(name);
    const json interval = result[std::string(name) + "_ci95"];
    CHECK(interval[0] <= result[name]);
    CHECK(result[name] <= interval[1]);
  }
  const std::vector<json> completions = Lines(out);
  REQUIRE(completions.size() == 15);
  double reward = 0, tokens = 0, truncated = 0;
  for (const json& c : completions) {
    reward += c["reward"].get<double>();
    tokens += c["tokens"].get<double>();
    truncated += !c["finished"].get<bool>();
  }
  CHECK(result["accuracy"] == doctest::Approx(reward / 15));
  CHECK(result["mean_length"] == doctest::Approx(tokens / 15));
  CHECK(result["truncated"] == doctest::Approx(truncated / 15));
}

TEST_CASE("eval on the file that data chain writes is eval on the chain task itself") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string();
  REQUIRE(Swarr({"data", "chain", "--split", "eval", "--count", "6", "--n-min", "1", "--n-max", "2", "--out", file})
              .status == 0);
  const std::vector<std::string> command = {"eval", "--model",    TinyModel(), "--max-completion-length",
                                            "20",   "--problems", "6",         "--json"};
  const json from_file = JsonOf(command + std::vector<std::string>{"--data", file});
  CHECK(from_file.contains("restatement_rate"));
  CHECK(from_file == JsonOf(command + kShort));
}

TEST_CASE("generate gives the same text for the same seed, and no more tokens than asked for") {
  const std::vector<std::string> command = {"generate",   "--model",          TinyModel(), "--prompt",
                                            "a7b3n02x5?", "--max-new-tokens", "9"};
  const Outcome first = Swarr(command);
  REQUIRE(first.status == 0);
  CHECK(first.out.size() <= 10);
  CHECK(Swarr(command).out == first.out);
  std::vector<std::string> texts;
  for (const char* seed : {"1", "2", "3"}) {
    texts.push_back(Swarr(command + std::vector<std::string>{"--seed", seed}).out);
  }
  CHECK(std::count(texts.begin(), texts.end(), first.out) < 3);
}

TEST_CASE("logits are the same from a text and from its ids, and greedy decoding takes their largest") {
  const TempDirectory dir;
  const std::string prompt = "a7b3n02x5?", from_text = (dir / "text").string(), from_ids = (dir / "ids").string();
  const json tokens = JsonOf({"tokenize", "--model", TinyModel(), "--text", prompt, "--json"});
  std::string ids;
  for (const json& id : tokens["ids"]) ids += (ids.empty() ? "" : ",") + id.dump();
  REQUIRE(Swarr({"logits", "--model", TinyModel(), "--prompt", prompt, "--out", from_text}).status == 0);
  REQUIRE(Swarr({"logits", "--model", TinyModel(), "--tokens", ids, "--out", from_ids}).status == 0);
  CHECK(ReadFile(from_text) == ReadFile(from_ids));

  const SafetensorsFile file(from_text);
  const OwnedTensor logits(DType::kF32, {10, 24});
  const OwnedTensor kept(DType::kI32, {10});
  file.CopyTo("logits", logits.view());
  file.CopyTo("tokens", kept.view());
  CHECK(json(std::vector<int>(kept.view().data<std::int32_t>(), kept.view().data<std::int32_t>() + 10)) ==
        tokens["ids"]);
  const float* last = logits.view().Rows(9, 10).data<float>();
  const auto best = std::max_element(last, last + 24) - last;
  const Outcome text =
      Swarr({"generate", "--model", TinyModel(), "--prompt", prompt, "--max-new-tokens", "1", "--temperature", "0"});
  const Outcome piece = Swarr({"tokenize", "--model", TinyModel(), "--decode", std::to_string(best)});
  CHECK(text.out == (best == 0 ? "\n" : piece.out));  // token 0 ends the text
}

TEST_CASE("tokenize gives ids and pieces, and --decode the way back") {
  const json tokens = JsonOf({"tokenize", "--model", TinyModel(), "--text", "07:C,", "--json"});
  CHECK(tokens["pieces"] == json{"0", "7", ":", "C", ","});
  CHECK(tokens["ids"].size() == 5);
  CHECK(Swarr({"tokenize", "--model", TinyModel(), "--decode", "1,2,0"}).out == "01<|end|>\n");
}

TEST_CASE("verify says what the reward says and which rule decided") {
  CHECK(JsonOf({"verify", "--gold", "C", "--answer", "01:C,#C", "--json"}) ==
        json{{"correct", true}, {"reward", 1.0}, {"rule", "correct"}, {"extracted", "C"}});
  CHECK(JsonOf({"verify", "--gold", "C", "--answer", "#B", "--json"})["rule"] == "wrong digit");
  CHECK(JsonOf({"verify", "--gold", "C", "--answer", "#C", "--truncated", "--json"})["correct"] == false);
}

TEST_CASE("verify --reward math says which rules found and compared the answer, and refuses a gold it can't read") {
  CHECK(JsonOf({"verify", "--reward", "math", "--gold", "1/2", "--answer", "so \\boxed{0.5}", "--json"}) ==
        json({{"correct", true}, {"reward", 1.0}, {"rule", "boxed: equal numbers"}, {"extracted", "1/2"}}));
  CHECK(JsonOf({"verify", "--reward", "math", "--gold", "72", "--answer", "72", "--json"})["rule"] ==
        "no marked answer");
  CHECK(JsonOf({"verify", "--reward", "gsm8k-flexible-extract", "--gold", "72", "--answer", "72",
                "--json"})["correct"] == true);
  const Outcome refused = Swarr({"verify", "--reward", "math", "--gold", "", "--answer", "#### 1"});
  CHECK(refused.status == 1);
  CHECK(refused.IsOneSentence());
  CHECK(refused.Says("the gold answer is empty"));
}

TEST_CASE("bench names the processor, the threads and a median for every row") {
  const TempDirectory dir;
  const std::string out = (dir / "ops.json").string();
  const Outcome outcome =
      Swarr({"bench", "--suite", "ops", "--seconds-per-row", "0.001", "--threads", "1", "--json", out});
  REQUIRE(outcome.status == 0);
  const json results = json::parse(ReadFile(out));
  CHECK(results["threads"] == 1);
  CHECK(!results["processor"].get<std::string>().empty());
  CHECK(results["rows"].size() == 94);
  for (const json& row : results["rows"]) CHECK_MESSAGE(row["ms"] > 0.0, row.dump());
}

TEST_CASE("--cpu picks the kernels: all of them write like logits, and each the same ones whatever the threads") {
  const TempDirectory dir;
  const auto logits = [&](const std::string& cpu, const std::string& threads) {
    const std::string out = (dir / "logits").string();
    const Outcome outcome = Swarr(
        {"logits", "--model", TinyModel(), "--prompt", "a7b3n02x5?", "--cpu", cpu, "--threads", threads, "--out", out});
    CHECK_MESSAGE(outcome.status == 0, outcome.err);
    OwnedTensor held(DType::kF32, {10, 24});
    SafetensorsFile(out).CopyTo("logits", held.view());
    return held;
  };
  const OwnedTensor best = logits("auto", "1");
  for (Cpu cpu : SupportedCpus()) {
    INFO(Name(cpu));
    const OwnedTensor one = logits(Name(cpu), "1"), three = logits(Name(cpu), "3");
    CHECK(std::memcmp(one.view().raw(), three.view().raw(), one.view().bytes()) == 0);
    if (cpu == BestCpu()) CHECK(std::memcmp(one.view().raw(), best.view().raw(), one.view().bytes()) == 0);
    for (std::int64_t i = 0; i < 240; ++i) {  // of size 1 at most, through two layers of sums of 24 terms in f32
      CHECK(std::fabs(one.view().data<float>()[i] - best.view().data<float>()[i]) <= 1e-5F);
    }
  }
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
    const std::string out = (dir / "logits").string();
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
