// SPDX-License-Identifier: Apache-2.0
#include "resume_checks.h"

#include <doctest/doctest.h>

#include <stdexcept>

#include "temp_directory.h"
#include "tensor/files.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

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

void Interrupt(Trainee& trainee, const Training& train, const fs::path& dir, int after) {
  RunOptions options = In(dir);
  int steps = 0;
  options.interrupted = [&] { return ++steps == after; };
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

void CheckExactResume(const ModelConfig& config, const OptimizerOptions& options, const Training& train) {
  for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    INFO(Name(dtype));
    const TempDirectory dir;
    Trainee alone(config, dtype, options);
    train(alone, In(dir / "alone"));

    Trainee first(config, dtype, options), rest(config, dtype, options);
    Interrupt(first, train, dir / "interrupted", 3);
    Resume(rest, train, dir / "interrupted");
    CHECK(SameState(rest, alone));
    CheckSameRun(dir / "interrupted", dir / "alone");

    Trainee killed(config, dtype, options), revived(config, dtype, options);
    Kill(killed, train, dir / "killed", 5);
    Resume(revived, train, dir / "killed");
    CHECK(SameState(revived, alone));
    CheckSameRun(dir / "killed", dir / "alone");
  }
}

}  // namespace swarr
