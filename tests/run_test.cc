// SPDX-License-Identifier: Apache-2.0
// What a training run does with its directory: it overwrites nothing by accident, and goes on from what is whole.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "small_run.h"
#include "temp_directory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using doctest::Contains;
using nlohmann::ordered_json;

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

TEST_CASE("a complete run that is resumed has nothing left to do, and writes no file: its directory may be read-only") {
  const TempDirectory dir;
  Small t, again;
  Train(t, In(dir / "run"));
  const auto written = [&] {
    std::map<fs::path, fs::file_time_type> times;
    for (const auto& e : fs::recursive_directory_iterator(dir / "run")) times[e.path()] = e.last_write_time();
    times["run"] = fs::last_write_time(dir / "run");
    return times;
  };
  const auto before = Contents(dir / "run");
  const auto times = written();
  int steps = 0;
  RunOptions resuming = Resuming(dir / "run");
  resuming.on_step = [&](const ordered_json&) { ++steps; };
  Train(again, resuming);
  CHECK(steps == 0);
  CHECK(Contents(dir / "run") == before);
  CHECK(written() == times);
}

TEST_CASE("a complete run without checkpoints whose model is gone says that it must be run again") {
  const TempDirectory dir;
  Small t;
  Train(t, In(dir / "run"));
  fs::remove(dir / "run" / "model.safetensors");
  CHECK_THROWS_WITH_AS(Train(t, Resuming(dir / "run")), Contains("start that run again with --overwrite"), Error);
}

TEST_CASE("an output directory without a name, or a link to nothing, is refused in a sentence that says so") {
  const TempDirectory dir;
  Small t;
  fs::create_symlink(dir / "nothing", dir / "link");
  CHECK_THROWS_WITH_AS(Train(t, In("")), Contains("empty name"), Error);
  CHECK_THROWS_WITH_AS(Train(t, In(dir / "link")), Contains("symbolic link to what does not exist"), Error);
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
  for (const std::int64_t step : {2, 3}) {
    fs::create_directories(CompletionsPath(out, step).parent_path());
    WriteFileAtomically(CompletionsPath(out, step), "sampled");
  }
  const auto before = Contents(out);

  RunOptions back = Resuming(out, (out / "checkpoint-00000002").string());
  back.keep_checkpoints = 9;
  bool ended = false;
  back.on_step = [&](const nlohmann::ordered_json&) { ended = true; };
  back.interrupted = [&] { return ended; };
  CHECK_THROWS_AS(Train(again, back, 8), Interrupted);
  CHECK(CheckpointNames(out) == std::vector<std::string>{"checkpoint-00000002", "checkpoint-00000003"});
  const auto aside = Contents(out / "set-aside-1");
  for (const char* name : {"checkpoint-00000008/model.safetensors", "metrics.jsonl"}) {
    CHECK(aside.at(name) == before.at(name));
  }
  CHECK(aside.contains("checkpoint-00000004/trainer_state.json"));
  CHECK(aside.contains("completions/step-00000003.jsonl"));
  CHECK(!fs::exists(CompletionsPath(out, 3)));
  CHECK(fs::exists(CompletionsPath(out, 2)));

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

TEST_CASE("what a complete run that is resumed with other options advises can be done, with a checkpoint and without") {
  for (const int save_every : {0, 2}) {
    CAPTURE(save_every);
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Small t, other;
    Train(t, Saving(out, save_every));
    RunOptions advised = Saving(out, save_every);
    if (save_every > 0) {
      CHECK_THROWS_WITH_AS(Train(other, Resuming(out), 6), Contains("or say with --change max-steps that"), Error);
      CHECK_THROWS_WITH_AS(Train(other, Resuming(out), 4), Contains("give at least as many"), Error);
      advised.resume = "auto";
      advised.changes = {"max-steps"};
      const auto before = Contents(out);
      CHECK_THROWS_WITH_AS(Train(other, advised, 4), Contains("give at least as many"), Error);
      CHECK(Contents(out) == before);
    } else {
      for (const int steps : {6, 4}) {
        const std::string differs = Concat("another 'max-steps' (5, not ", steps, "); go on with the same options");
        CHECK_THROWS_WITH_AS(Train(other, Resuming(out), steps), Contains(differs.c_str()), Error);
        CHECK_THROWS_WITH_AS(Train(other, Resuming(out), steps), Contains("or start the run again with --overwrite"),
                             Error);
      }
      advised.overwrite = true;
    }
    Train(other, advised, 6);
    CHECK(MetricsWithoutTimes(out).size() == 6);
  }
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

TEST_CASE("metrics with a gap, or of another run, are reported on a resume; its own are not") {
  const TempDirectory dir;
  const fs::path out = dir / "run";
  Small t, again;
  Train(t, Saving(out), 4);
  const std::string metrics = ReadFile(out / "metrics.jsonl");
  const auto said_of = [&](const std::string& content) {
    WriteFileAtomically(out / "metrics.jsonl", content);
    std::string said;
    RunOptions resuming = Resuming(out, (out / "checkpoint-00000004").string());
    resuming.warn = [&](const std::string& sentence) { said += sentence; };
    Train(again, resuming, 4);
    return said;
  };
  CHECK(said_of(metrics) == "");
  CHECK(said_of(metrics.substr(metrics.find('\n') + 1)).find("tells of 3 steps") != std::string::npos);
  std::string other;
  for (int step = 1; step <= 4; ++step) other += ordered_json{{"step", step}, {"num_tokens", 7 * step}}.dump() + "\n";
  CHECK(said_of(other).find("tells of 4 steps and 28 tokens") != std::string::npos);
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
