// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "tensor/memory_report.h"
#include "test_models.h"

namespace swarr {
namespace {

using doctest::Approx;
using doctest::Contains;

OptimizerOptions Rates(Schedule schedule, std::int64_t warmup_steps = 0) {
  OptimizerOptions options;
  options.lr = 2.0;
  options.schedule = schedule;
  options.warmup_steps = warmup_steps;
  options.min_lr_ratio = 0.1;
  return options;
}

// A tiny model with a gradient of `value` everywhere.
struct Parameters {
  explicit Parameters(double value) : model(TinyConfig(), DType::kF64, true) {
    Randomize(model);
    SetGradients(value);
  }
  void SetGradients(double value) const {
    const Tensor g = model.parameters().flat_gradients();
    for (std::int64_t i = 0; i < g.size(); ++i) g.data<double>()[i] = value;
  }
  double weight(std::int64_t i) const { return model.parameters().master().data<double>()[i]; }
  TestContext t;
  Transformer model;
};

TEST_CASE("the learning rate rises linearly over the warm-up, and its last step has the full rate") {
  const OptimizerOptions options = Rates(Schedule::kCosine, 4);
  CHECK(LearningRate(options, 0, 100) == 0.5);
  CHECK(LearningRate(options, 1, 100) == 1.0);
  CHECK(LearningRate(options, 3, 100) == 2.0);
  CHECK(LearningRate(options, 4, 100) == 2.0);
}

TEST_CASE("the learning rate stays, falls linearly, or falls along a cosine to its last share") {
  for (std::int64_t step : {0, 5, 10, 12}) CHECK(LearningRate(Rates(Schedule::kConstant), step, 10) == 2.0);

  const OptimizerOptions linear = Rates(Schedule::kLinear, 2);  // from 2 to 0.2 over steps 2 .. 12
  CHECK(LearningRate(linear, 2, 12) == Approx(2.0));
  CHECK(LearningRate(linear, 7, 12) == Approx(1.1));
  CHECK(LearningRate(linear, 11, 12) == Approx(0.2 + 1.8 * 0.1));
  CHECK(LearningRate(linear, 12, 12) == Approx(0.2));
  CHECK(LearningRate(linear, 20, 12) == Approx(0.2));

  const OptimizerOptions cosine = Rates(Schedule::kCosine);
  CHECK(LearningRate(cosine, 0, 12) == Approx(2.0));
  CHECK(LearningRate(cosine, 4, 12) == Approx(0.2 + 1.8 * 0.75));  // cos 60 degrees = 0.5
  CHECK(LearningRate(cosine, 6, 12) == Approx(1.1));
  CHECK(LearningRate(cosine, 8, 12) == Approx(0.2 + 1.8 * 0.25));
  CHECK(LearningRate(cosine, 12, 12) == Approx(0.2));
}

TEST_CASE("a run that is all warm-up has finite rates") {
  for (Schedule s : {Schedule::kConstant, Schedule::kLinear, Schedule::kCosine}) {
    for (std::int64_t step = 0; step < 3; ++step)
      CHECK(LearningRate(Rates(s, 3), step, 3) == Approx(2.0 * (static_cast<double>(step) + 1) / 3));
    CHECK(std::isfinite(LearningRate(Rates(s, 3), 3, 3)));
  }
}

TEST_CASE("the gradient norm is that of all gradients together") {
  const Parameters p(-0.25);
  const Optimizer optimizer(p.model.parameters(), {});
  CHECK(optimizer.GradientNorm(p.t.ctx) == Approx(0.25 * std::sqrt(static_cast<double>(p.model.parameters().count()))));
}

TEST_CASE("gradients beyond the largest norm are scaled down to it, smaller ones are left alone") {
  for (double max_norm : {0.5, 1e9, 0.0}) {  // 0: never clip
    const Parameters p(0.25);
    OptimizerOptions options = GradientProbe();
    options.max_grad_norm = max_norm;
    Optimizer optimizer(p.model.parameters(), options);
    const double norm = optimizer.GradientNorm(p.t.ctx);
    REQUIRE(norm > 0.5);
    optimizer.Step(p.t.ctx, 0.1, norm);
    const double expected = max_norm == 0.5 ? 0.25 * 0.5 / norm : 0.25;
    for (std::int64_t i = 0; i < p.model.parameters().count(); ++i) {
      CHECK(ValueAt(optimizer.first_moment(), i) == Approx(expected).epsilon(1e-14));
    }
  }
}

TEST_CASE("weight decay shrinks matrices by lr times its factor, and leaves norms and biases alone") {
  ModelConfig config = TinyConfig();
  config.qkv_bias = config.qk_norm = true;
  Transformer model(config, DType::kF64, true), before(config, DType::kF64, false);
  Randomize(model);
  Randomize(before);
  OptimizerOptions options;
  options.adamw.weight_decay = 0.1;
  Optimizer optimizer(model.parameters(), options);
  TestContext t;
  optimizer.Step(t.ctx, 0.5, 0);  // gradients are 0: nothing but decay moves a weight
  for (const Parameter& p : model.parameters().all()) {
    INFO(p.name);
    const double factor = p.var.value.rank() == 2 ? 1 - 0.5 * 0.1 : 1.0;
    const Tensor& old = before.parameters()[p.name].value;
    for (std::int64_t i = 0; i < old.size(); ++i) {
      CHECK(ValueAt(p.var.value, i) == Approx(factor * ValueAt(old, i)).epsilon(1e-14));
    }
  }
}

TEST_CASE("two steps of AdamW give the numbers of a calculation by hand") {
  const Parameters p(0.5);
  OptimizerOptions options;
  options.max_grad_norm = 0;
  options.adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0};
  Optimizer optimizer(p.model.parameters(), options);
  const double start = p.weight(3);
  optimizer.Step(p.t.ctx, 0.1, 1);
  // The first step goes by lr in the gradient's sign: both corrected moments are g and g^2.
  CHECK(p.weight(3) == Approx(start - 0.1 * 0.5 / (0.5 + 1e-8)).epsilon(1e-12));
  const double after_one = p.weight(3);
  p.SetGradients(-1.0);
  optimizer.Step(p.t.ctx, 0.1, 1);
  const double m = 0.9 * (0.1 * 0.5) + 0.1 * -1.0, v = 0.99 * (0.01 * 0.25) + 0.01 * 1.0;
  const double step = 0.1 * (m / (1 - 0.81)) / (std::sqrt(v / (1 - 0.9801)) + 1e-8);
  CHECK(p.weight(3) == Approx(after_one - step).epsilon(1e-12));
  CHECK(optimizer.steps_taken() == 2);
}

TEST_CASE("a step leaves gradients of 0, so that the next one starts afresh") {
  const Parameters p(0.5);
  Optimizer optimizer(p.model.parameters(), {});
  optimizer.Step(p.t.ctx, 0.1, 1);
  CHECK(optimizer.GradientNorm(p.t.ctx) == 0.0);
}

TEST_CASE("the sum of a step's chunks is all of them, and as many sums wait meanwhile as their tree is deep") {
  for (const auto& [chunks, depth] : {std::pair{1, 0}, {2, 1}, {3, 2}, {4, 2}, {8, 3}}) {
    CAPTURE(chunks);
    const Parameters p(0);
    Optimizer optimizer(p.model.parameters(), {});
    const std::int64_t count = p.model.parameters().count();
    std::vector<int> computed;
    optimizer.SumGradients(p.t.ctx, chunks, [&](int chunk) {
      computed.push_back(chunk);
      p.SetGradients(1 << chunk);
    });
    CHECK(static_cast<int>(computed.size()) == chunks);
    CHECK(ValueAt(p.model.parameters().flat_gradients(), count - 1) == (1 << chunks) - 1);
    MemoryReport report;
    optimizer.NoteMemory(report);
    const auto held = report.ToJson(*p.t.ctx.arena)["held"];
    CHECK(held["optimizer moments"] == 2 * 8 * count);
    CHECK(held.contains("sums of gradients") == (depth > 0));
    if (depth > 0) CHECK(held["sums of gradients"] == depth * 8 * count);
  }
}

TEST_CASE("a model without gradients and an unknown schedule are refused") {
  const Transformer frozen(TinyConfig(), DType::kF32, false);
  CHECK_THROWS_WITH_AS(Optimizer(frozen.parameters(), {}), Contains("without gradients"), Error);
  CHECK(ParseSchedule("constant") == Schedule::kConstant);
  CHECK(ParseSchedule("linear") == Schedule::kLinear);
  CHECK(ParseSchedule("cosine") == Schedule::kCosine);
  CHECK_THROWS_WITH_AS(ParseSchedule("step"), Contains("'step'; use constant, linear or cosine"), UsageError);
}

}  // namespace
}  // namespace swarr
