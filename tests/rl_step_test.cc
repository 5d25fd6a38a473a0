// SPDX-License-Identifier: Apache-2.0
// What happens within a step of RL, between its rollout and its end: a wish to stop, and weights that change.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "resume_checks.h"
#include "rl_runs.h"
#include "temp_directory.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr int kSampled = 24;  // completions of a step of Steps

// Calls f when it judges the last completion of a step, from 1: the rollout is done, and its update has not begun.
class RolloutEndTask : public ShareTask {
 public:
  RolloutEndTask(int step, std::function<void()> f) : last_(step * kSampled), f_(std::move(f)) {}
  double Reward(const Example& example, std::string_view text, bool finished) const override {
    if (++judged_ == last_) f_();
    return ShareTask::Reward(example, text, finished);
  }

 private:
  int last_;
  std::function<void()> f_;
  mutable int judged_ = 0;
};

TEST_CASE(
    "RL that is to stop gives up a step before any micro-batch of its first update, but none whose weights have "
    "changed, and saves the last whole one") {
  const TempDirectory dir;
  constexpr int kMicroBatches = 5;  // of 5 completions each: all of them teach, since entropies do
  RlOptions rl = Steps(3);
  rl.num_iterations = 2;
  rl.objective.entropy_coef = 0.01;
  RlTrainee alone(TextConfig(), DType::kF32);
  RunOptions saving = In(dir / "alone");
  saving.save_every = 1;
  saving.keep_checkpoints = 3;
  Train(alone, ShareTask(), rl, saving);

  for (int before = 0; before <= kMicroBatches; ++before) {  // micro-batches that are computed before the wish
    INFO(before);
    const int last = before < kMicroBatches ? 1 : 2;  // whole step
    bool updating = false;
    int asks = before;
    RunOptions run = In(dir / Concat("stopped-", before));
    run.interrupted = [&] { return updating && asks-- <= 0; };
    RlTrainee t(TextConfig(), DType::kF32);
    CHECK_THROWS_WITH_AS(Train(t, RolloutEndTask(2, [&] { updating = true; }), rl, run),
                         doctest::Contains(Concat("interrupted after step ", last, ";").c_str()), Interrupted);
    CHECK(MetricsWithoutTimes(run.output_dir).size() == static_cast<std::size_t>(last));
    CHECK(t.optimizer.steps_taken() == 2 * last);
    REQUIRE(CheckpointsOf(run.output_dir).size() == 1);
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "trainer_state.json"}) {
      INFO(file);
      CHECK(ReadFile(CheckpointPath(run.output_dir, last) / file) ==
            ReadFile(CheckpointPath(dir / "alone", last) / file));
    }
  }
}

// A run of two steps, of which the second samples from other weights than it trains: a factor is put on one of them in
// between.
struct LaggingSampler {
  RlTrainee t{TextConfig(), DType::kF64};
  Transformer sampler{TextConfig(), DType::kF64, /*with_gradients=*/false};
  Transformer trainer{TextConfig(), DType::kF64, /*with_gradients=*/false};
  OnPolicyCheck check;
  std::vector<nlohmann::ordered_json> metrics;
  std::vector<double> gaps;  // of the second step: log p of each sampled token, trainer's less sampler's

  LaggingSampler(double factor, const fs::path& dir) {
    RlOptions rl = Steps(2);
    rl.chunks = 2;
    const RolloutEndTask task(2, [&] {
      Copy(sampler.parameters().master(), t.model.parameters().master());
      t.model.parameters()["model.norm.weight"].value.data<double>()[0] *= factor;
      Copy(trainer.parameters().master(), t.model.parameters().master());
    });
    check = Train(t, task, rl, In(dir));
    metrics = MetricsWithoutTimes(dir);
    const SampledStep step(CompletionsOf(dir, 2));
    const std::vector<double> sampled = step.LogprobsUnder(sampler), trained = step.LogprobsUnder(trainer);
    for (std::size_t i = 0; i < sampled.size(); ++i) gaps.push_back(trained[i] - sampled[i]);
  }

  double largest() const {
    double largest = 0;
    for (double gap : gaps) largest = std::max(largest, std::abs(gap));
    return largest;
  }
};

TEST_CASE("RL tells how far a sampler is from the trainer: the largest difference of log p and the mean KL by k3") {
  const TempDirectory dir;
  const LaggingSampler run(/*factor=*/1.5, dir / "run");
  REQUIRE(run.metrics.size() == 2);
  CHECK(run.metrics[0]["rollout_logprob_max_abs_diff"] == 0.0);
  CHECK(run.metrics[0]["kl"] == 0.0);

  double kl = 0;  // k3: r - 1 - log r with r = p / p of the sampler
  for (double gap : run.gaps) kl += (std::expm1(gap) - gap) / static_cast<double>(run.gaps.size());
  const auto& row = run.metrics[1];
  CHECK(run.largest() > 0.1);
  CHECK(kl > 1e-3);
  CHECK(row["rollout_logprob_max_abs_diff"] == run.largest());
  CHECK(row["kl"].get<double>() == doctest::Approx(kl).epsilon(1e-12));  // sums of some hundred terms in f64
  CHECK(row["rollout_logprob_tokens"] == run.gaps.size());
  CHECK(run.check.max_abs_diff == run.largest());
}

TEST_CASE("RL tells of a sampler of which a single weight differs by its last bit") {
  const TempDirectory dir;
  const LaggingSampler run(1 + std::numeric_limits<double>::epsilon(), dir / "run");
  CHECK(run.largest() > 0);
  CHECK(run.largest() < 1e-14);
  CHECK(run.check.max_abs_diff == run.largest());
  CHECK(run.metrics[1]["rollout_logprob_max_abs_diff"] == run.largest());
}

}  // namespace
}  // namespace swarr
