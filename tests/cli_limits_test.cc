// SPDX-License-Identifier: Apache-2.0
// What no machine can hold is refused at once, in one sentence, before anything is written.
#include <doctest/doctest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "memory_limit.h"
#include "program.h"

using namespace swarr;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

constexpr auto kLimit = LimitMemory<1ull << 30>;

// Refused with this status by one short sentence that holds `text`, in little time, with and without ulimit -v, and
// nothing is left in `directory` but `kept`.
void CheckRefusedAtOnce(const Arguments& arguments, int status, const std::string& text, const fs::path& directory,
                        const Arguments& kept = {}) {
  for (const bool limited : {false, true}) {
    if (limited && !kCanLimitMemory) continue;
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = Program(
                                arguments, limited ? kLimit : [] { return true; })
                                .Wait();
    CAPTURE(outcome.err);
    CAPTURE(text);
    CHECK(outcome.status == status);
    CHECK(outcome.IsOneSentence());
    CHECK(outcome.Says(text));
    CHECK(outcome.out.empty());
    CHECK(HoldsOnly(directory, kept));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
  }
}

// A flag's value that its range does not hold.
void CheckOutOfRange(const Arguments& arguments, const std::string& flag, const fs::path& directory,
                     const Arguments& kept = {}) {
  for (const char* absurd : {"2000000000", "2147483647", "99999999999999999999"}) {
    CheckRefusedAtOnce(arguments + Arguments{flag, absurd}, 2, flag, directory, kept);
  }
}

Arguments Sft(const fs::path& out, const Arguments& more = {}) {
  return Arguments{"sft", "--model", TinyModel(), "--max-steps", "1", "--quiet", "--output-dir", out.string()} +
         kShort + more;
}

Arguments Rl(const fs::path& out, const Arguments& more = {}) {
  return Arguments{"rl", "--model", TinyModel(), "--max-steps", "1", "--quiet", "--output-dir", out.string()} + kShort +
         more;
}

}  // namespace

TEST_CASE("counts of billions are refused by their flags, and their products by the memory they need") {
  const TempDirectory dir;
  const fs::path out = dir / "out";
  for (const char* flag : {"--batch-size", "--grad-accum"}) CheckOutOfRange(Sft(out), flag, dir.path());
  for (const char* flag : {"--prompts-per-step", "--num-generations", "--num-iterations", "--micro-batch", "--slots"}) {
    CheckOutOfRange(Rl(out), flag, dir.path());
  }
  const Arguments eval = Arguments{"eval", "--model", TinyModel()} + kShort;
  for (const char* flag : {"--samples", "--slots"}) CheckOutOfRange(eval, flag, dir.path());
  CheckOutOfRange({"study", "--output-dir", out.string()}, "--seeds", dir.path());
  CheckRefusedAtOnce(Sft(out, {"--max-steps", "9000000000000000000"}), 2, "--max-steps", dir.path());
  CheckRefusedAtOnce(Sft(out, {"--max-steps", "0", "--epochs", "1e300"}), 2, "--epochs", dir.path());

  const std::string most = "1048576";
  CheckRefusedAtOnce(Sft(out, {"--batch-size", most, "--grad-accum", most}), 1, "not enough memory", dir.path());
  CheckRefusedAtOnce(Rl(out, {"--prompts-per-step", most, "--num-generations", most}), 1, "sampled completions",
                     dir.path());
  CheckRefusedAtOnce(
      {"eval", "--model", TinyModel(), "--task", "chain", "--max-completion-length", "20", "--samples", most}, 1,
      "--samples can be at most", dir.path());
  CheckRefusedAtOnce({"data", "chain", "--count", "2000000000000", "--out", (dir / "rows").string()}, 1,
                     "--count can be at most", dir.path());
}

TEST_CASE("shapes of new models that nothing holds are refused by their flags or by the memory they need") {
  const TempDirectory dir;
  const Arguments pretrain = {"pretrain", "--task",  "chain",        "--max-steps",
                              "1",        "--quiet", "--output-dir", (dir / "out").string()};
  for (const char* flag :
       {"--layers", "--hidden-size", "--heads", "--kv-heads", "--head-dim", "--ffn", "--max-positions"}) {
    CheckOutOfRange(pretrain, flag, dir.path());
  }
  CheckRefusedAtOnce(pretrain + Arguments{"--hidden-size", "1048576", "--ffn", "1048576", "--layers", "10000"}, 1,
                     "a smaller model is needed", dir.path());
  CheckRefusedAtOnce(pretrain + Arguments{"--heads", "1024", "--head-dim", "1048576"}, 2, "head_dim 1048576",
                     dir.path());
}

TEST_CASE("a config.json of absurd sizes is refused by its fields, whatever the weights are") {
  const TempDirectory dir;
  fs::copy(TinyModel(), dir / "model");
  const fs::path config = dir / "model" / "config.json";
  const auto good = nlohmann::json::parse(ReadFile(config));
  for (const char* field :
       {"num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings", "head_dim"}) {
    for (const std::int64_t absurd : {std::int64_t{2'000'000'000}, std::int64_t{1} << 62}) {
      nlohmann::json changed = good;
      changed[field] = absurd;
      WriteFileAtomically(config, changed.dump());
      CheckRefusedAtOnce({"generate", "--model", (dir / "model").string(), "--prompt", "a7b3n01x5?"}, 1, field,
                         dir.path(), {"model"});
      CheckRefusedAtOnce({"inspect", "--model", (dir / "model").string()}, 1, field, dir.path(), {"model"});
    }
  }
}

TEST_CASE("a preset of absurd counts is refused by file and field, and one that memory can't hold by what would fit") {
  const TempDirectory dir;
  fs::create_directories(dir / "data/presets");
  const fs::path preset = dir / "data/presets/quick.json";
  const auto good =
      nlohmann::ordered_json::parse(ReadFile(fs::path(SWARR_TEST_DATA) / "../../data/presets/quick.json"));
  fs::copy(fs::path(SWARR_TEST_DATA) / "../../data/chain-base", dir / "data/chain-base");
  const auto refused = [&](const char* part, const char* field, std::int64_t value, const std::string& text) {
    nlohmann::ordered_json changed = good;
    changed[part][field] = value;
    WriteFileAtomically(preset, changed.dump());
    CheckRefusedAtOnce(
        {"study", "--quiet", "--data-dir", (dir / "data").string(), "--output-dir", (dir / "out").string()}, 1, text,
        dir.path(), {"data"});
  };
  for (const std::int64_t absurd : {std::int64_t{0}, std::int64_t{2'000'000'000}, std::int64_t{1} << 40}) {
    refused("sft", "batch_size", absurd, "sft.batch_size is");
    refused("rl", "num_generations", absurd, "rl.num_generations is");
    refused("rl", "prompts_per_step", absurd, "rl.prompts_per_step is");
    const bool held = absurd <= std::numeric_limits<int>::max();  // by the field; what it may be is the task's to say
    refused("task", "n_max", absurd, held ? "give a range within 1..99" : "task.n_max is");
  }
  refused("rl", "steps", -1, "rl.steps is -1");
  refused("sft", "batch_size", 1 << 20, "not enough memory");
}

TEST_CASE("a cache or a batch that ulimit -v does not allow is refused with the value that fits, and that one runs") {
  if (!kCanLimitMemory) return;
  const TempDirectory dir;
  const auto limited = [&](Arguments arguments) {
    return Program(std::move(arguments) + Arguments{"--threads", "1"}, kLimit).Wait();
  };
  const Outcome refused = limited(Rl(dir / "rl", {"--slots", "1000000"}));
  CAPTURE(refused.err);
  CHECK(refused.status == 1);
  CHECK(refused.IsOneSentence());
  CHECK(refused.Says("key/value cache"));
  CHECK(refused.Says("ulimit -v"));
  const std::string before = "--slots can be at most ";
  REQUIRE(refused.Says(before));
  const std::int64_t fits = std::stoll(refused.err.substr(refused.err.find(before) + before.size()));
  CHECK(fits > 1000);
  const Outcome runs = limited(Rl(dir / "rl", {"--slots", std::to_string(fits / 2)}));
  CHECK_MESSAGE(runs.status == 0, runs.err);

  const Outcome batch = limited(Sft(dir / "sft", {"--batch-size", "500000"}));
  CAPTURE(batch.err);
  CHECK(batch.status == 1);
  CHECK(batch.IsOneSentence());
  CHECK(batch.Says("activations"));
  CHECK(batch.Says("--batch-size can be at most"));
  CHECK(HoldsOnly(dir.path(), {"rl"}));
}

TEST_CASE("checkpoints that the disk can't hold are refused before the run with the number that it can") {
  const TempDirectory dir;
  CheckRefusedAtOnce(
      Sft(dir / "out", {"--max-steps", "2000000000", "--save-every", "1", "--keep-checkpoints", "2000000000"}), 1,
      "--keep-checkpoints can be at most", dir.path());
}

TEST_CASE("a run that learns nothing says so once, with --quiet too, and a resumed one at the same step") {
  const TempDirectory dir;
  // Completions of two tokens are never right: nothing has a reward.
  const auto train = [&](const char* out, const Arguments& more) {
    return Swarr(Rl(dir / out, Arguments{"--max-completion-length", "2", "--threads", "1"} + more));
  };
  const auto warned = [&](const char* out) {
    std::vector<std::int64_t> steps;
    for (const nlohmann::json& row : Lines(dir / out / "metrics.jsonl")) {
      if (row.contains("warnings") && row["warnings"][0].get<std::string>().starts_with("none of the last 20 steps")) {
        steps.push_back(row["step"]);
      }
    }
    return steps;
  };
  const Outcome whole = train("whole", {"--max-steps", "22"});
  CHECK_MESSAGE(whole.status == 0, whole.err);
  CHECK(whole.Says("warning at step 20: none of the last 20 steps changed the weights"));
  CHECK(warned("whole") == std::vector<std::int64_t>{20});

  fs::create_directories(dir / "again");
  const Outcome first = train("again", {"--max-steps", "22", "--save-every", "9", "--keep-checkpoints", "9"});
  REQUIRE(first.status == 0);
  const std::string checkpoint = (dir / "again" / "checkpoint-00000009").string();
  fs::remove_all(dir / "again" / "checkpoint-00000018");
  const Outcome resumed = train("again", {"--max-steps", "22", "--resume", checkpoint});
  CHECK_MESSAGE(resumed.status == 0, resumed.err);
  CHECK(warned("again") == std::vector<std::int64_t>{20});
}
