// SPDX-License-Identifier: Apache-2.0
// Loops that no directory stands behind.
#include <doctest/doctest.h>

#include <limits>

#include "rl_runs.h"
#include "small_run.h"
#include "temp_directory.h"
#include "tensor/transfer.h"
#include "train/step_timer.h"

using namespace swarr;
using nlohmann::ordered_json;

namespace {

// The records of a loop in memory, without what measures this machine.
struct Recorder {
  StepsInMemory steps{[this](ordered_json row) {
    for (const char* field : {"step_time", "tokens_per_second", "peak_memory_mb"}) row.erase(field);
    rows.emplace_back(nlohmann::json(row));  // in the order in which a file's rows are read
  }};
  std::vector<ordered_json> rows{};
};

}  // namespace

TEST_CASE("SFT in memory learns what a run in a directory learns, bit for bit, with the same records") {
  const TempDirectory dir;
  Small kept, other;
  Train(kept, In(dir / "run"), /*steps=*/3);
  Recorder recorder;
  SftOptions options;
  options.steps = 3;
  options.batch_size = 4;
  RunSft(other.ctx, other.model, other.tokenizer, SmallTask(), nullptr, options, other.optimizer, recorder.steps);
  CHECK(SameState(other, kept));
  CHECK(recorder.rows == MetricsWithoutTimes(dir / "run"));
  CHECK(recorder.steps.step() == 3);
  CHECK(recorder.steps.num_tokens() == recorder.rows.back()["num_tokens"]);
}

TEST_CASE("RL in memory learns what a run in a directory learns, bit for bit, with the same records") {
  const TempDirectory dir;
  RlTrainee kept(TextConfig(), DType::kF32), other(TextConfig(), DType::kF32);
  Train(kept, ShareTask(), Steps(3), In(dir / "run"));
  Recorder recorder;
  RunRl(other.ctx, other.model, other.tokenizer, ShareTask(), Steps(3), other.optimizer, recorder.steps);
  CHECK(SameState(other, kept));
  CHECK(recorder.rows == MetricsWithoutTimes(dir / "run"));
}

TEST_CASE("SFT and RL tell the time of each step, and by it how many rows a second they have fed to the model") {
  std::vector<ordered_json> rows;
  StepsInMemory sft_steps([&](const ordered_json& row) { rows.push_back(row); });
  StepsInMemory rl_steps([&](const ordered_json& row) { rows.push_back(row); });
  Small sft;
  RlTrainee rl(TextConfig(), DType::kF32);
  SftOptions options;
  options.steps = 3;
  options.batch_size = 4;
  options.grad_accum = 2;
  const StepTimer timer;
  RunSft(sft.ctx, sft.model, sft.tokenizer, SmallTask(), nullptr, options, sft.optimizer, sft_steps);
  RunRl(rl.ctx, rl.model, rl.tokenizer, ShareTask(), Steps(3), rl.optimizer, rl_steps);
  const double seconds = timer.Seconds();
  REQUIRE(rows.size() == 6);
  double of_steps = 0;
  std::int64_t before = 0;
  for (const ordered_json& row : rows) {
    if (row["step"] == 1) before = 0;
    const std::int64_t fed = row["num_tokens"].get<std::int64_t>() - before;
    const double time = row["step_time"];
    CHECK(time > 0);
    CHECK(row["tokens_per_second"].get<double>() * time == doctest::Approx(static_cast<double>(fed)).epsilon(1e-12));
    before += fed;
    of_steps += time;
  }
  CHECK(of_steps < seconds);
}

TEST_CASE("a loop in memory stops when it is asked to, between two steps") {
  Small t;
  int steps = 0;
  StepsInMemory run([&](const ordered_json&) { ++steps; }, [&] { return steps == 2; });
  SftOptions options;
  options.steps = 9;
  CHECK_THROWS_WITH_AS(RunSft(t.ctx, t.model, t.tokenizer, SmallTask(), nullptr, options, t.optimizer, run),
                       "interrupted after step 2", Interrupted);
  CHECK(t.optimizer.steps_taken() == 2);
}

TEST_CASE("a value that is not finite ends a loop in memory with the step and what to do") {
  StepsInMemory run;
  run.EndStep(1, {});
  run.CheckFinite("loss", 1.5);
  CHECK_THROWS_WITH_AS(run.CheckFinite("loss", std::numeric_limits<double>::quiet_NaN()),
                       "the loss is not finite at step 2; try a smaller learning rate", Error);
}

TEST_CASE("a context of its own has memory, the best kernels, and a thread for every processor unless told otherwise") {
  const OwnContext ctx, two(Device::kCpu, 2);
  CHECK(ctx.threads == ResolveThreads(0));
  CHECK(ctx.threads >= 1);
  CHECK(two.threads == 2);
  CHECK(ctx.cpu == BestCpu());
  const Tensor t = ctx.arena->NewZero(DType::kF32, {4});
  CHECK(t.data<float>()[3] == 0);
}
