// SPDX-License-Identifier: Apache-2.0
// What a training run does with its directory: it overwrites nothing by accident, goes on from what is whole, and keeps
// no value that is not finite.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "model/model_files.h"
#include "resume_checks.h"
#include "temp_directory.h"
#include "train/sft.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::ordered_json;

TableTask SmallTask() { return TableTask({{"a?", "b", "b"}, {"b?", "cc", "c"}, {"abc?", "d", "d"}}); }

void Train(Trainee& t, const RunOptions& run_options, std::int64_t steps = 5, double lr = 1e-3) {
  SftOptions options;
  options.steps = steps;
  options.batch_size = 4;
  const ordered_json config = {{"max-steps", steps}, {"seed", 3}, {"lr", lr}};
  TrainingRun run(run_options, config, t.model, t.optimizer, t.tokenizer);
  RunSft(t.ctx, t.model, t.tokenizer, SmallTask(), nullptr, options, t.optimizer, run);
  run.Finish();
}

struct Small : Trainee {
  explicit Small(double lr = 1e-3)
      : Trainee(TextConfig(), DType::kF32, [&] {
          OptimizerOptions options;
          options.lr = lr;
          return options;
        }()) {}
};

RunOptions Saving(const fs::path& dir, std::int64_t save_every = 2) {
  RunOptions options = In(dir);
  options.save_every = save_every;
  return options;
}

RunOptions Resuming(const fs::path& dir, const std::string& from = "auto") {
  RunOptions options = Saving(dir);
  options.resume = from;
  return options;
}

std::vector<std::string> CheckpointNames(const fs::path& dir) {
  std::vector<std::string> names;
  for (const fs::path& path : CheckpointsOf(dir)) names.push_back(path.filename().string());
  return names;
}

// Every file of a directory with its content.
std::map<std::string, std::string> Contents(const fs::path& dir) {
  std::map<std::string, std::string> files;
  for (const auto& e : fs::recursive_directory_iterator(dir)) {
    if (e.is_regular_file()) files[fs::relative(e.path(), dir).string()] = ReadFile(e.path());
  }
  return files;
}

TEST_CASE("a run resumes from a named checkpoint, and auto without a checkpoint is a fresh start") {
  const TempDirectory dir;
  Small alone, again, fresh;
  Train(alone, Saving(dir / "run"));
  Train(again, Resuming(dir / "run", (dir / "run" / "checkpoint-00000002").string()));
  CHECK(SameState(again, alone));
  CHECK(MetricsWithoutTimes(dir / "run").size() == 5);

  RunOptions run = In(dir / "fresh");
  run.resume = "auto";
  Train(fresh, run);
  CHECK(SameState(fresh, alone));
  CHECK(MetricsWithoutTimes(dir / "fresh") == MetricsWithoutTimes(dir / "run"));
}

TEST_CASE("an earlier run is continued with the same options, replaced only with overwrite, and else left alone") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  Small t;
  Train(t, In(out));  // no checkpoint is due
  const auto before = Contents(out);
  Small other;
  CHECK_THROWS_WITH_AS(Train(other, In(out)), Contains("already holds a run"), Error);
  CHECK_THROWS_WITH_AS(Train(other, Resuming(out), 6), Contains("another 'max-steps'"), Error);
  CHECK_THROWS_WITH_AS(Train(other, Resuming(out, (dir / "nowhere").string())), Contains("nowhere"), Error);
  CHECK(Contents(out) == before);

  RunOptions replacing = In(out);
  replacing.overwrite = true;
  Small longer;
  Train(longer, replacing, 6);
  CHECK(MetricsWithoutTimes(out).size() == 6);
  CHECK(Contents(out).at("model.safetensors") != before.at("model.safetensors"));
}

TEST_CASE("a complete run that is resumed has nothing left to do, and changes no file") {
  const TempDirectory dir;
  Small t, again;
  Train(t, In(dir / "run"));
  const auto before = Contents(dir / "run");
  int steps = 0;
  RunOptions resuming = Resuming(dir / "run");
  resuming.on_step = [&](const ordered_json&) { ++steps; };
  Train(again, resuming);
  CHECK(steps == 0);
  CHECK(Contents(dir / "run") == before);
}

TEST_CASE("a model that no run wrote is never replaced, not even with overwrite, and nothing beside it changes") {
  const TempDirectory dir;
  Small t;
  SaveModel(dir / "base", t.model, t.tokenizer);
  WriteFileAtomically(dir / "base" / "notes.txt", "mine");
  const auto before = Contents(dir / "base");
  for (const char* resume : {"", "auto"}) {
    RunOptions run = Resuming(dir / "base", resume);
    run.overwrite = true;
    CHECK_THROWS_WITH_AS(Train(t, run), Contains("which no run wrote"), Error);
    CHECK(Contents(dir / "base") == before);
  }
}

TEST_CASE("files of others in a run's directory stay, whatever becomes of the run") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  WriteFileAtomically((fs::create_directories(out), out / "notes.txt"), "mine");
  Small t, again;
  Train(t, Saving(out));
  WriteFileAtomically(out / "checkpoint-00000004" / "notes.txt", "mine too");
  RunOptions replacing = Saving(out);
  replacing.overwrite = true;
  CHECK_THROWS_WITH_AS(Train(again, replacing), Contains("files that are no checkpoint's"), Error);
  CHECK(ReadFile(out / "notes.txt") == "mine");
  CHECK(ReadFile(out / "checkpoint-00000004" / "notes.txt") == "mine too");
}

TEST_CASE("what is refused has changed nothing, and overwriting waits for the first loss") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  Small t;
  Train(t, Saving(out));
  const auto before = Contents(out);
  RunOptions replacing = Saving(out);
  replacing.overwrite = true;
  {
    const TrainingRun begun(replacing, {{"max-steps", 9}}, t.model, t.optimizer, t.tokenizer);
    CHECK(Contents(out) == before);
  }
  Small other;
  replacing.inputs = {{"model", out / "checkpoint-00000004"}};
  CHECK_THROWS_WITH_AS(Train(other, replacing), Contains("would remove the model"), Error);
  RunOptions shorter = Resuming(out);
  shorter.changes = {"max-steps"};
  CHECK_THROWS_WITH_AS(Train(other, shorter, 3), Contains("more than --max-steps 3"), Error);
  fs::create_directory_symlink(out / "checkpoint-00000004", out / "checkpoint-00000006");
  CHECK_THROWS_WITH_AS(Train(other, Resuming(out)), Contains("symbolic link"), Error);
  fs::remove(out / "checkpoint-00000006");
  CHECK(Contents(out) == before);

  fs::remove_all(out / "checkpoint-00000002");
  fs::remove_all(out / "checkpoint-00000004");
  CHECK_THROWS_WITH_AS(Train(
                           other,
                           [&] {
                             RunOptions longer = Resuming(out);
                             longer.changes = {"max-steps"};
                             return longer;
                           }(),
                           9),
                       Contains("no checkpoint to go on from"), Error);
  CHECK(Contents(out).at("model.safetensors") == before.at("model.safetensors"));

  WriteFileAtomically(out / "run.json", R"({"my": "settings"})");
  replacing.inputs = {};
  CHECK_THROWS_WITH_AS(Train(other, replacing), Contains("no state of a run"), Error);
}

TEST_CASE("an old checkpoint that holds another's file is not pruned") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  Small t;
  RunOptions run = Saving(out, 1);
  run.keep_checkpoints = 1;
  run.on_step = [&](const ordered_json& row) {
    if (row["step"] == 2) WriteFileAtomically(out / "checkpoint-00000001" / "notes.txt", "mine");
  };
  Train(t, run);
  CHECK(ReadFile(out / "checkpoint-00000001" / "notes.txt") == "mine");
  CHECK(CheckpointNames(out) == std::vector<std::string>{"checkpoint-00000001", "checkpoint-00000005"});
}

TEST_CASE("a resume that goes back sets later checkpoints and metrics aside, and its own are kept") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  RunOptions saving = Saving(out);
  saving.keep_checkpoints = 9;
  Small alone, again;
  Train(alone, saving, 8);
  const auto before = Contents(out);

  RunOptions back = Resuming(out, (out / "checkpoint-00000002").string());
  back.keep_checkpoints = 9;
  back.interrupted = [steps = 0]() mutable { return ++steps == 1; };
  CHECK_THROWS_AS(Train(again, back, 8), Interrupted);
  CHECK(CheckpointNames(out) == std::vector<std::string>{"checkpoint-00000002", "checkpoint-00000003"});
  const auto aside = Contents(out / "set-aside-1");
  for (const char* name : {"checkpoint-00000008/model.safetensors", "metrics.jsonl"}) {
    CHECK(aside.at(name) == before.at(name));
  }
  CHECK(aside.contains("checkpoint-00000004/trainer_state.json"));

  Small rest;
  Train(rest, Resuming(out), 8);
  CHECK(SameState(rest, alone));
}

TEST_CASE("a resume refuses inputs that have changed, and takes options anew that are named, which it records") {
  const TempDirectory dir;
  const fs::path out = dir / "run", data = dir / "data.jsonl";
  WriteFileAtomically(data, "one\ntwo\n");
  RunOptions run = Saving(out);
  run.inputs = {{"data", data}};
  Small t;
  Train(t, run, 4);

  RunOptions resuming = run;
  resuming.resume = "auto";
  WriteFileAtomically(data, "two\none\n");
  Small reordered;
  CHECK_THROWS_WITH_AS(Train(reordered, resuming, 4), Contains("another 'data'"), Error);
  WriteFileAtomically(data, "one\ntwo\n");

  Small slower(1e-4);
  CHECK_THROWS_WITH_AS(Train(slower, resuming, 6, 1e-4), Contains("--change"), Error);
  resuming.changes = {"lr", "max-steps"};
  Train(slower, resuming, 6, 1e-4);
  const auto state = ordered_json::parse(ReadFile(out / "run.json"));
  CHECK(state["changes"] == ordered_json::parse(R"([{"step": 4, "max-steps": [4, 6], "lr": [0.001, 0.0001]}])"));
  CHECK(MetricsWithoutTimes(out).size() == 6);
  resuming.changes = {};
  Train(slower, resuming, 6, 1e-4);  // the new options are the run's now
}

TEST_CASE("two runs can't write to one directory at a time") {
  const TempDirectory dir;
  Small t, other;
  RunOptions run = In(dir / "run");
  run.on_step = [&](const ordered_json& row) {
    if (row["step"] != 2) return;
    const std::string metrics = ReadFile(dir / "run" / "metrics.jsonl");
    CHECK_THROWS_WITH_AS(Train(other, Resuming(dir / "run")), Contains("another process"), Error);
    CHECK(ReadFile(dir / "run" / "metrics.jsonl") == metrics);
  };
  Train(t, run);
}

TEST_CASE("a gap in the metrics is reported on a resume") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  Small t, again;
  Train(t, Saving(out), 4);
  const std::string metrics = ReadFile(out / "metrics.jsonl");
  WriteFileAtomically(out / "metrics.jsonl", metrics.substr(metrics.find('\n') + 1));
  std::string said;
  RunOptions resuming = Resuming(out, (out / "checkpoint-00000004").string());
  resuming.warn = [&](const std::string& sentence) { said += sentence; };
  Train(again, resuming, 4);
  CHECK(said.find("3 lines for the 4 steps") != std::string::npos);
}

void SetNormWeight(const Trainee& t, float value) {
  t.model.parameters()["model.norm.weight"].value.data<float>()[0] = value;
}

TEST_CASE("a loss that is not finite stops the run before the weights change, and names tensor and checkpoint") {
  const TempDirectory dir;
  Small t;
  RunOptions run = Saving(dir / "run");
  OwnedTensor before(DType::kF32, {t.model.parameters().count()});
  run.on_step = [&](const ordered_json& row) {
    if (row["step"] != 5) return;
    SetNormWeight(t, std::numeric_limits<float>::infinity());
    Copy(before.view(), t.model.parameters().master());
  };
  std::string sentence;
  try {
    Train(t, run, 20);
  } catch (const Error& error) {
    sentence = error.what();
  }
  for (const char* part : {"not finite at step 6", "the weight model.norm.weight: 1 of", "checkpoint-00000004"}) {
    CHECK_MESSAGE(sentence.find(part) != std::string::npos, sentence);
  }
  CHECK(SameBits(t.model.parameters().master(), before.view()));
  CHECK(MetricsWithoutTimes(dir / "run").size() == 5);
  CHECK(CheckpointNames(dir / "run") == std::vector<std::string>{"checkpoint-00000002", "checkpoint-00000004"});

  Small early;
  SetNormWeight(early, std::numeric_limits<float>::quiet_NaN());
  CHECK_THROWS_WITH_AS(Train(early, In(dir / "early"), 20), Contains("not finite at step 1"), Error);
}

TEST_CASE("weights that are not finite are never saved: not as a checkpoint, nor as the model of the last update") {
  for (const int bad_step : {4, 5}) {
    const TempDirectory dir;
    Small t;
    RunOptions run = Saving(dir / "run");
    run.keep_checkpoints = 1;
    run.on_step = [&](const ordered_json& row) {
      if (row["step"] == bad_step) SetNormWeight(t, std::nanf(""));
    };
    CHECK_THROWS_WITH_AS(Train(t, run), Contains(Concat("after the update of step ", bad_step).c_str()), Error);
    CHECK(CheckpointNames(dir / "run") ==
          std::vector<std::string>{bad_step == 4 ? "checkpoint-00000002" : "checkpoint-00000004"});
    CHECK(!fs::exists(dir / "run" / "model.safetensors"));
  }
}

TEST_CASE("the checkpoint before is kept until the step after the newest was finite, with one to keep too") {
  const TempDirectory dir;
  Small t;
  RunOptions run = Saving(dir / "run");
  run.keep_checkpoints = 1;
  run.saving = [&](bool begins) {  // the weights of step 4 are finite where they are saved, and useless
    if (!begins && fs::exists(dir / "run" / "checkpoint-00000004")) SetNormWeight(t, std::nanf(""));
  };
  CHECK_THROWS_WITH_AS(Train(t, run), Contains("checkpoint-00000002"), Error);
  CHECK(CheckpointNames(dir / "run") == std::vector<std::string>{"checkpoint-00000002"});
  CHECK(fs::exists(dir / "run" / "set-aside-1" / "checkpoint-00000004"));
}

TEST_CASE("tracing names layer and op of the first value that is not finite") {
  const TempDirectory dir;
  Small t;
  t.ctx.trace_non_finite = true;
  t.model.parameters()["model.layers.1.mlp.up_proj.weight"].value.data<float>()[0] = std::nanf("");
  CHECK_THROWS_WITH_AS(Train(t, In(dir / "run")), Contains("layer 1: the result of the op linear"), Error);
}

TEST_CASE("only the newest checkpoints are kept, as many as asked for") {
  const TempDirectory dir;
  Small t;
  RunOptions run = Saving(dir / "run", 1);
  run.keep_checkpoints = 3;
  Train(t, run, 12);
  CHECK(CheckpointNames(dir / "run") ==
        std::vector<std::string>{"checkpoint-00000010", "checkpoint-00000011", "checkpoint-00000012"});
}

TEST_CASE("what killed runs left half done is finished or undone by the next") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  Small t, again;
  Train(t, Saving(out), 4);
  const auto before = Contents(out);
  fs::create_directory(out / ".checkpoint-00000006.swarr-partial");
  WriteFileAtomically(out / ".checkpoint-00000006.swarr-partial" / "config.json", "{}");
  fs::create_directory(out / ".checkpoint-00000001.swarr-removed");
  WriteFileAtomically(out / ".metrics.jsonl.swarr-partial", "half");
  fs::rename(out / "checkpoint-00000004", out / ".checkpoint-00000004.swarr-old");
  fs::create_directory(out / ".files.swarr-ready");
  fs::rename(out / "config.json", out / ".files.swarr-ready" / "config.json");
  CHECK_THROWS_WITH_AS(LoadModel(out, DType::kF32, false), Contains("--resume auto"), Error);
  Train(again, Resuming(out), 4);
  CHECK(Contents(out) == before);
}

}  // namespace
}  // namespace swarr
