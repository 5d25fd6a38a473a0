// SPDX-License-Identifier: Apache-2.0
// Bad input: one sentence, status 1 or 2, nothing half-written.
#include <doctest/doctest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "program.h"
#include "tensor/cpu.h"

using namespace swarr;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

// Fails with this status and one sentence that holds `text`, and leaves `directory` without anything but `kept`.
void CheckRefused(const Arguments& arguments, int status, const std::string& text, const fs::path& directory,
                  const Arguments& kept = {}) {
  const Outcome outcome = Swarr(arguments);
  CAPTURE(outcome.err);
  CHECK(outcome.status == status);
  CHECK(outcome.IsOneSentence());
  CHECK(outcome.Says(text));
  CHECK(outcome.out.empty());
  CHECK(HoldsOnly(directory, kept));
}

void Write(const fs::path& path, const std::string& text) { WriteFileAtomically(path, text); }

// Copies the tests' model to `to`.
std::string CopyModel(const fs::path& to) {
  fs::copy(TinyModel(), to);
  return to.string();
}

const std::string kGoodRow = R"({"prompt": "a7b3n01x5?", "completion": "01:C,#C", "answer": "C"})";

}  // namespace

TEST_CASE("wrong usage is one sentence and status 2") {
  const TempDirectory dir;
  const std::string out = (dir / "out").string(), model = TinyModel();
  CheckRefused({}, 2, "a command is required: study", dir.path());
  CheckRefused({"fly"}, 2, "'fly'", dir.path());
  CheckRefused({"sft", "--model", model, "--modle", "x", "--task", "chain", "--output-dir", out}, 2, "'--modle'",
               dir.path());
  CheckRefused({"sft", "--modle", model}, 2, "'--modle'", dir.path());
  CheckRefused({"sft", "--task", "chain", "--output-dir", out}, 2, "--model is required", dir.path());
  CheckRefused({"sft", "--model", model, "--output-dir", out}, 2, "exactly one of --data", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--data", "x", "--output-dir", out}, 2,
               "exactly one of --data", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "gsm8k", "--output-dir", out}, 2, "unknown task 'gsm8k'",
               dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--lr", "fast"}, 2, "--lr",
               dir.path());
  // What the option takes, in words of ours.
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--seed", "-1"}, 2,
               "--seed: -1 given where a whole number from 0 to 18446744073709551615 is needed", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--batch-size", "1.5"}, 2,
               "--batch-size: 1.5 given where a whole number", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--quiet=maybe"}, 2,
               "--quiet: maybe given where true or false is needed", dir.path());
  CheckRefused({"convert", "--model", model, "--window", "wide", "--output-dir", out}, 2,
               "--window: wide given where a whole number", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--restate", "often"}, 2,
               "--restate: often given where a number is needed", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--batch-size", "0"}, 2,
               "--batch-size", dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--lr-schedule", "wavy"}, 2, "'wavy'",
               dir.path());
  CheckRefused({"sft", "--model", model, "--task", "chain", "--output-dir", out, "--n-min", "9", "--n-max", "3"}, 2,
               "from 9 to 3", dir.path());
  const auto rl = [&](const Arguments& more) {
    Arguments arguments = {"rl", "--model", model, "--task", "chain", "--max-steps", "1", "--output-dir", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  CheckRefused(
      rl({"--objective", "ppo"}), 2,
      "unknown objective \"ppo\"; use reinforce, rloo, reinforce++, reinforce++-baseline, grpo, dr_grpo, dapo, "
      "gspo, cispo or opd",
      dir.path());
  CheckRefused(rl({"--clip", "hard"}), 2, "clip is \"hard\"; use none, ppo or weight", dir.path());
  CheckRefused(rl({"--scale-rewards", "std"}), 2, "use none, group or batch", dir.path());
  CheckRefused(rl({"--ratio", "none"}), 2, "set clip to none", dir.path());
  CheckRefused(rl({"--overlong-share", "1.5"}), 2, "between 0 and 1", dir.path());
  CheckRefused(rl({"--beta", "-1"}), 2, "--beta", dir.path());
  CheckRefused(rl({"--beta", "nan"}), 2, "--beta", dir.path());
  CheckRefused(rl({"--num-iterations", "0"}), 2, "--num-iterations", dir.path());
  CheckRefused(
      rl({"--n-max", "4", "--max-completion-length", "9", "--beta", "0.1", "--ref-model", (dir / "none").string()}), 1,
      "none/config.json", dir.path());
  CheckRefused({"verify", "--gold", "1", "--answer", "1", "--reward", "maths"}, 2,
               "unknown reward 'maths'; use chain, words, math", dir.path());
  CheckRefused({"bench", "--suite", "all"}, 2, "unknown suite 'all'", dir.path());
  CheckRefused({"study", "--preset", "epic", "--output-dir", out}, 2, "no preset 'epic'", dir.path());
}

TEST_CASE("a device, processor or dtype that this build or machine lacks is refused in a sentence") {
  const TempDirectory dir;
  const Arguments sft = {"sft", "--model", TinyModel(), "--task", "chain", "--output-dir", (dir / "out").string()};
  const auto with = [&](const char* flag, const char* value) {
    Arguments arguments = sft;
    arguments.insert(arguments.end(), {flag, value});
    return arguments;
  };
  CheckRefused(with("--device", "cuda"), 1, "has no CUDA", dir.path());
  CheckRefused(with("--device", "abacus"), 2, "unknown device", dir.path());
  CheckRefused(with("--dtype", "i32"), 2, "unknown --dtype", dir.path());
  CheckRefused(with("--dtype", "f16"), 2, "unknown --dtype 'f16'; use f32, f64 or bf16", dir.path());
  CheckRefused(with("--gemm", "blas"), 2, "unknown --gemm 'blas'; use own, eigen or cublas", dir.path());
  Arguments cublas = with("--gemm", "cublas");
  cublas.insert(cublas.end(), {"--device", "cpu"});
  CheckRefused(cublas, 2, "--gemm cublas is for --device cuda; use own or eigen here", dir.path());
  CheckRefused(with("--cpu", "nonsense"), 2,
               "unknown --cpu 'nonsense'; use auto, portable, avx2, avx512, avx512bf16 or amx", dir.path());
  CheckRefused(with("--cpu", ""), 2, "unknown --cpu ''", dir.path());
  const std::vector<Cpu>& supported = SupportedCpus();
  for (Cpu cpu : {Cpu::kAvx2, Cpu::kAvx512, Cpu::kAvx512Bf16, Cpu::kAmx}) {
    if (std::find(supported.begin(), supported.end(), cpu) != supported.end()) continue;
    CheckRefused(
        with("--cpu", Name(cpu).c_str()), 1,
        Concat("this machine or build can't run --cpu ", Name(cpu), "; the best that it can is ", Name(BestCpu())),
        dir.path());
  }
}

TEST_CASE("a window of 0 where one is asked for, and layers that do not exist, are refused") {
  const TempDirectory dir;
  const std::string out = (dir / "swa").string(), model = TinyModel();
  CheckRefused({"convert", "--model", model, "--window", "0", "--output-dir", out}, 2, "the window is 0", dir.path());
  CheckRefused({"convert", "--model", model, "--window", "4", "--full-layers", "2", "--output-dir", out}, 2,
               "no layer 2; its layers are 0 to 1", dir.path());
  CheckRefused({"convert", "--model", model, "--window", "4", "--full-layers", "0,0", "--output-dir", out}, 2, "twice",
               dir.path());
  CheckRefused(
      {"convert", "--model", model, "--window", "4", "--full-layers", "0", "--full-every", "2", "--output-dir", out}, 2,
      "--full-layers or --full-every, not both", dir.path());
  for (const char* every : {"1", "3"}) {
    CheckRefused({"convert", "--model", model, "--window", "4", "--full-every", every, "--output-dir", out}, 2,
                 "in a model of 2 layers; give a number from 2 to 2", dir.path());
  }
  CheckRefused(Arguments{"eval", "--model", model, "--full-attention-decode"} + kShort, 2,
               "needs a model with a window", dir.path());
  CheckRefused({"convert", "--model", model, "--window", "4", "--full-layers", "one", "--output-dir", out}, 2, "'one'",
               dir.path());
  CheckRefused({"convert", "--model", model, "--window", "4", "--output-dir", model}, 1, "in place", dir.path());
}

TEST_CASE("heads that do not divide are refused by the flags' names or the fields'") {
  const TempDirectory dir;
  const std::string out = (dir / "out").string();
  const Arguments pretrain = {"pretrain", "--task", "chain", "--output-dir", out, "--hidden-size", "16"};
  const auto with = [&](const Arguments& more) {
    Arguments arguments = pretrain;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  CheckRefused(with({"--heads", "3"}), 2, "--hidden-size 16 is no multiple of --heads 3", dir.path());
  CheckRefused(with({"--heads", "4", "--kv-heads", "3"}), 2, "num_key_value_heads 3", dir.path());
  CheckRefused(with({"--heads", "2", "--head-dim", "7"}), 2, "head_dim 7 is odd", dir.path());
  CheckRefused(with({"--sinks", "1"}), 2, "no window", dir.path());
}

TEST_CASE("missing or damaged model files are named") {
  const TempDirectory dir;
  const auto inspect = [](const std::string& model) { return Arguments{"inspect", "--model", model, "--json"}; };
  CheckRefused(inspect((dir / "none").string()), 1, "none/config.json", dir.path());
  const std::string model = CopyModel(dir / "model");
  const std::string weights = ReadFile(fs::path(model) / "model.safetensors");
  Write(fs::path(model) / "model.safetensors", weights.substr(0, weights.size() - 1));
  CheckRefused(inspect(model), 1, "model.safetensors", dir.path(), {"model"});
  CheckRefused({"convert", "--model", model, "--window", "4", "--output-dir", (dir / "swa").string()}, 1,
               "model.safetensors", dir.path(), {"model"});
  Write(fs::path(model) / "model.safetensors", weights);
  Write(fs::path(model) / "tokenizer.json", "{\"model\": ");
  CheckRefused({"tokenize", "--model", model, "--text", "1"}, 1, "tokenizer.json", dir.path(), {"model"});

  auto config = nlohmann::json::parse(ReadFile(fs::path(model) / "config.json"));
  config["num_attention_heads"] = "two";
  Write(fs::path(model) / "config.json", config.dump());
  CheckRefused(inspect(model), 1, "num_attention_heads is \"two\"", dir.path(), {"model"});
}

TEST_CASE("a bad data row is named with file and line before anything is written") {
  const TempDirectory dir;
  const std::string file = (dir / "rows.jsonl").string(), out = (dir / "out").string();
  const Arguments sft = {"sft", "--model", TinyModel(), "--data", file, "--max-steps", "1", "--output-dir", out};
  const Arguments eval = {"eval", "--model", TinyModel(), "--data", file};
  const auto refused = [&](const Arguments& command, const std::string& row, const std::string& text) {
    Write(file, kGoodRow + "\n\n" + row + "\n");
    CheckRefused(command, 1, "rows.jsonl:3: " + text, dir.path(), {"rows.jsonl"});
  };
  refused(sft, "no JSON", "no valid JSON");
  refused(sft, "[1]", "a row must be an object");
  refused(sft, R"({"completion": "#C"})", "the field \"prompt\" is missing");
  refused(sft, R"({"prompt": "a7b3n01x5?"})", "the field \"completion\" is missing");
  refused(sft, R"({"prompt": 7, "completion": "#C"})", "the field \"prompt\" is 7");
  refused(sft, R"({"prompt": "zebra", "completion": "#C"})", "");
  refused(eval, R"({"prompt": "a7b3n01x5?", "completion": "#C"})", "the field \"answer\" is missing");
  Write(file, kGoodRow + "\n" + R"({"prompt": "a7b3n01x5?", "answer": "C", "a": 7})" + "\n");
  CheckRefused(eval, 1, "rows.jsonl:2: the field \"b\" is missing", dir.path(), {"rows.jsonl"});
  Write(file, R"({"prompt": "a7b3n01x5?", "answer": "12"})");
  CheckRefused(eval, 1, "none of the 1 problems of the file can be used", dir.path(), {"rows.jsonl"});
  Write(file, R"({"prompt": ")" + std::string(70, 'a') + R"(", "completion": "#C"})");
  CheckRefused(sft, 1, "rows.jsonl:1: prompt and completion with end of text have 73 tokens", dir.path(),
               {"rows.jsonl"});
  Write(file, R"({"id": 1, "input": "a"})");
  CheckRefused(sft, 1, "rows.jsonl:1: no problem is recognised among the fields (id, input)", dir.path(),
               {"rows.jsonl"});
  Write(file, "\n");
  CheckRefused(sft, 1, "holds no problem", dir.path(), {"rows.jsonl"});
  fs::remove(file);
  CheckRefused(sft, 1, "rows.jsonl", dir.path());
}

TEST_CASE("a prompt longer than the context is refused") {
  const TempDirectory dir;
  const std::string prompt(64, 'a'), out = (dir / "logits").string();
  CheckRefused({"generate", "--model", TinyModel(), "--prompt", prompt}, 1, "context of 64", dir.path());
  CheckRefused({"generate", "--model", TinyModel(), "--prompt", "a7b3", "--max-new-tokens", "61"}, 1, "at most 60",
               dir.path());
  CheckRefused({"logits", "--model", TinyModel(), "--prompt", prompt + "a", "--out", out}, 1, "context of 64",
               dir.path());
  CheckRefused({"rl", "--model", TinyModel(), "--task", "chain", "--n-min", "9", "--n-max", "9", "--max-steps", "1",
                "--output-dir", (dir / "rl").string()},
               1, "context of 64", dir.path());
  CheckRefused({"logits", "--model", TinyModel(), "--tokens", "1,24", "--out", out}, 1, "24", dir.path());
}

TEST_CASE("an unknown key, a wrong type or another command's configuration is refused with the file's name") {
  const TempDirectory dir;
  const std::string config = (dir / "config.json").string(), out = (dir / "out").string();
  const Arguments sft = {"sft", "--config", config, "--output-dir", out};
  const auto refused = [&](const std::string& content, int status, const std::string& text) {
    Write(config, content);
    CheckRefused(sft, status, text, dir.path(), {"config.json"});
  };
  refused(R"({"model": "x", "modle": "y"})", 2, "config.json: sft has no option \"modle\"");
  refused(R"({"config": "x"})", 2, "no option \"config\"");
  refused(R"({"train-on-prompt": 1})", 2, "true or false is needed");
  refused(R"({"lr": null})", 2, "\"lr\" is null");
  refused(R"({"lr": [1, 2]})", 2, "\"lr\" is [1,2] where a text or a number is needed");
  refused(R"({"change": [["lr"]]})", 2, "a list of these is needed");
  refused(R"({"lr": "fast"})", 2, "--lr");
  refused(R"({"command": "rl"})", 2, "is for the command \"rl\", not for sft");
  refused("{", 1, "no valid JSON");
  fs::remove(config);
  CheckRefused(sft, 1, "config.json", dir.path());
}

TEST_CASE("a finished run is not overwritten, and a resume with other options is refused") {
  const TempDirectory dir;
  Arguments pretrain = TinyPretrain(dir / "run", 2);
  pretrain.insert(pretrain.end(), {"--save-every", "1"});
  REQUIRE(Swarr(pretrain).status == 0);
  const std::string metrics = ReadFile(dir / "run" / "metrics.jsonl");
  CheckRefused(pretrain, 1, "already holds a run", dir.path(), {"run"});
  pretrain.insert(pretrain.end(), {"--resume", "auto", "--lr", "0.5"});
  CheckRefused(pretrain, 1, "another 'lr'", dir.path(), {"run"});
  CHECK(ReadFile(dir / "run" / "metrics.jsonl") == metrics);
}

TEST_CASE(
    "a loss that is not finite stops the run, and a checkpoint of the weights that gave it does not count as good") {
  const TempDirectory dir;
  Arguments pretrain = TinyPretrain(dir / "run", 9);
  pretrain.insert(pretrain.end(), {"--save-every", "1", "--lr", "1e30"});
  const Outcome outcome = Swarr(pretrain);
  CHECK(outcome.status == 1);
  CHECK(outcome.Says("not finite"));
  // The first update spoiled the weights, so their checkpoint is no good one.
  CHECK(outcome.Says("there is no checkpoint to go back to"));
  CHECK(fs::exists(dir / "run" / "set-aside-1" / "checkpoint-00000001"));
  CHECK(!fs::exists(dir / "run" / "checkpoint-00000001"));
  CHECK(!fs::exists(dir / "run" / "model.safetensors"));
}

TEST_CASE("a write that fails half-way leaves nothing, and what was there stays") {
  const TempDirectory dir;
  constexpr rlim_t kBytes = 6000;  // less than the model and the rows below have
  const auto limit_files = [] {
    ::signal(SIGXFSZ, SIG_IGN);  // the write then fails instead of ending the process
    const rlimit limit{kBytes, kBytes};
    return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
  };
  const auto check = [&](const Arguments& arguments, const Arguments& kept) {
    const Outcome outcome = Program(arguments, limit_files).Wait();
    CHECK(outcome.status == 1);
    CHECK(outcome.IsOneSentence());
    CHECK(outcome.Says("can't write"));
    CHECK(HoldsOnly(dir.path(), kept));
  };
  const std::string model = TinyModel();
  REQUIRE(fs::file_size(fs::path(model) / "model.safetensors") > kBytes);
  check({"convert", "--model", model, "--window", "4", "--output-dir", (dir / "swa").string()}, {});
  Write(dir / "rows.jsonl", "what was there");
  check({"data", "chain", "--count", "200", "--overwrite", "--out", (dir / "rows.jsonl").string()}, {"rows.jsonl"});
  CHECK(ReadFile(dir / "rows.jsonl") == "what was there");
}

TEST_CASE("a full disk is said to be full") {
  const TempDirectory dir;
  const std::string disk = dir.path().string();
  // In a mount namespace of its own, where that is allowed.
  const auto mount_small_disk = [&] {
    return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("none", disk.c_str(), "tmpfs", 0, "size=8k") == 0;
  };
  const Outcome outcome =
      Program({"data", "chain", "--count", "200", "--out", disk + "/rows.jsonl"}, mount_small_disk).Wait();
  if (outcome.status == Program::kNotPrepared) {
    MESSAGE("no file system could be mounted here; the failed write of the test before stands for a full disk");
  } else {
    CHECK(outcome.status == 1);
    CHECK(outcome.IsOneSentence());
    CHECK(outcome.Says("No space left"));
  }
  const Outcome to_stdout = Program({"verify", "--gold", "1", "--answer", "#1"}, {}, "/dev/full").Wait();
  CHECK(to_stdout.status == 1);
  CHECK(to_stdout.Says("standard output"));
}
