// SPDX-License-Identifier: Apache-2.0
#include "resume_checks.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/files.h"
#include "temp_directory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

ModelConfig HybridConfig() {
  ModelConfig config = TextConfig();
  config.attention = {{}, {3, 1}};
  return config;
}

OptimizerOptions Warmup() {
  OptimizerOptions options;
  options.warmup_steps = 4;
  return options;
}

struct ResumeTrainee : Trainee {
  ResumeTrainee(DType dtype, Device device) : Trainee(HybridConfig(), dtype, Warmup(), /*threads=*/1, device) {}
};

struct Killed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void CheckSameRun(const fs::path& a, const fs::path& b) {
  const auto metrics = MetricsWithoutTimes(a);
  CHECK(metrics.size() == kResumeSteps);
  CHECK(metrics == MetricsWithoutTimes(b));
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json", "resolved_config.json"}) {
    INFO(name);
    CHECK(ReadFile(a / name) == ReadFile(b / name));
  }
}

// Continues the run in `dir` from wrong weights, so that all that is right in the end came from the checkpoint.
void Resume(Trainee& trainee, const Training& train, const fs::path& dir) {
  Randomize(trainee.model, /*stream=*/99);
  RunOptions options = In(dir);
  options.save_every = 2;
  options.resume = "auto";
  train(trainee, options);
}

// Stops the run when step `after` has ended and it has asked `asks` times more.
void Interrupt(Trainee& trainee, const Training& train, const fs::path& dir, int after, int asks) {
  RunOptions options = In(dir);
  bool ended = false;
  options.on_step = [&](const nlohmann::ordered_json& row) { ended = row["step"] == after; };
  options.interrupted = [&] { return ended && asks-- <= 0; };
  CHECK_THROWS_AS(train(trainee, options), Interrupted);
  CHECK(MetricsWithoutTimes(dir).size() == static_cast<std::size_t>(after));
}

// Dies after the metrics of step `after` are written, and leaves half a line more.
void Kill(Trainee& trainee, const Training& train, const fs::path& dir, int after) {
  RunOptions options = In(dir);
  options.save_every = 2;
  options.on_step = [&](const nlohmann::ordered_json& row) {
    if (row["step"] == after) throw Killed("no power");
  };
  CHECK_THROWS_AS(train(trainee, options), Killed);
  const std::string metrics = ReadFile(dir / "metrics.jsonl");
  WriteFileAtomically(dir / "metrics.jsonl", metrics + metrics.substr(0, 40));
}

}  // namespace

RunOptions In(const fs::path& output_dir) {
  RunOptions options;
  options.output_dir = output_dir;
  return options;
}

void CheckExactResume(Device device, const Training& train) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    INFO(Name(dtype));
    const TempDirectory dir;
    ResumeTrainee alone(dtype, device);
    train(alone, In(dir / "alone"));

    for (const int asks : {0, 1}) {  // between two steps, and within the fourth
      const fs::path interrupted = dir / Concat("interrupted-", asks);
      ResumeTrainee first(dtype, device), rest(dtype, device);
      Interrupt(first, train, interrupted, 3, asks);
      Resume(rest, train, interrupted);
      CHECK(SameState(rest, alone));
      CheckSameRun(interrupted, dir / "alone");
    }

    ResumeTrainee killed(dtype, device), revived(dtype, device);
    Kill(killed, train, dir / "killed", 5);
    Resume(revived, train, dir / "killed");
    CHECK(SameState(revived, alone));
    CheckSameRun(dir / "killed", dir / "alone");
  }
}

void CheckRepeats(Device device, const Training& train) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    INFO(Name(dtype));
    const TempDirectory dir;
    for (const char* name : {"once", "again"}) {
      ResumeTrainee t(dtype, device);
      RunOptions run = In(dir / name);
      run.save_every = kResumeSteps;
      train(t, run);
    }
    CheckSameRun(dir / "once", dir / "again");
    const std::string checkpoint = Concat("checkpoint-0000000", kResumeSteps);
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "trainer_state.json"}) {
      INFO(file);
      CHECK(ReadFile(dir / "once" / checkpoint / file) == ReadFile(dir / "again" / checkpoint / file));
    }
  }
}

}  // namespace swarr
