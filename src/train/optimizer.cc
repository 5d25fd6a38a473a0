// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/memory_report.h"
#include "tensor/transfer.h"

namespace swarr {

double LearningRate(const OptimizerOptions& options, std::int64_t step, std::int64_t steps) {
  if (step < options.warmup_steps) {
    return options.lr * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  }
  const double over = static_cast<double>(step - options.warmup_steps);
  const double u = std::min(1.0, over / static_cast<double>(std::max<std::int64_t>(1, steps - options.warmup_steps)));
  const auto decayed = [&](double f) { return options.lr * (options.min_lr_ratio + (1.0 - options.min_lr_ratio) * f); };
  switch (options.schedule) {
    case Schedule::kConstant:
      return options.lr;
    case Schedule::kLinear:
      return decayed(1.0 - u);
    case Schedule::kCosine:
      return decayed(0.5 * (1.0 + std::cos(std::numbers::pi * u)));
  }
  throw Error("there is no such learning-rate schedule");
}

Optimizer::Optimizer(const ParameterStore& parameters, const OptimizerOptions& options)
    : parameters_(parameters),
      options_(options),
      m_(parameters.master(), parameters.kind()),
      v_(parameters.master(), parameters.kind()) {
  SWARR_CHECK(!parameters.flat_gradients().empty(), "a model without gradients can't be trained");
}

void Optimizer::NoteMemory(MemoryReport& report) const {
  report.Note("optimizer moments", m_.view().bytes() + v_.view().bytes());
}

void Optimizer::Step(const Context& ctx, double lr, double grad_norm) {
  const bool clip = options_.max_grad_norm > 0 && grad_norm > options_.max_grad_norm;
  const double scale = clip ? options_.max_grad_norm / grad_norm : 1.0;
  ++t_;
  // Parameters side by side that decay alike take one step, for fewer launches. Every element's step is its own.
  const std::vector<Parameter>& all = parameters_.all();
  const auto decays = [](const Parameter& p) { return p.var.value.rank() >= 2; };
  for (auto first = all.begin(); first != all.end();) {
    const auto next = std::find_if(first, all.end(), [&](const Parameter& p) { return decays(p) != decays(*first); });
    const std::int64_t end = next == all.end() ? parameters_.count() : next->offset;
    const auto part = [&](const Tensor& flat) { return flat.Rows(first->offset, end); };
    AdamWOptions adamw = options_.adamw;
    if (!decays(*first)) adamw.weight_decay = 0;
    AdamWStep(ctx, part(parameters_.master()), part(m_.view()), part(v_.view()), part(parameters_.flat_gradients()),
              {lr, t_, scale, adamw});
    first = next;
  }
  parameters_.RoundMaster(ctx);
  FillZero(ctx, parameters_.flat_gradients());
}

}  // namespace swarr
