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
  for (const Parameter& p : parameters.all()) {
    const bool decays = p.var.value.rank() >= 2;
    if (runs_.empty() || runs_.back().decays != decays) runs_.push_back({.end = 0, .decays = decays});
    runs_.back().end = p.offset + p.size();
  }
}

void Optimizer::NoteMemory(MemoryReport& report) const {
  report.Note("optimizer moments", m_.view().bytes() + v_.view().bytes());
}

void Optimizer::Step(const Context& ctx, double lr, double grad_norm) {
  const bool clip = options_.max_grad_norm > 0 && grad_norm > options_.max_grad_norm;
  const double scale = clip ? options_.max_grad_norm / grad_norm : 1.0;
  ++t_;
  const AdamWUpdate update{lr, t_, scale, options_.adamw};
  const FlatParameters flat{parameters_.master(), parameters_.values(), m_.view(), v_.view(),
                            parameters_.flat_gradients()};
  if (!FusedAdamW(ctx, flat, runs_, update)) {
    std::int64_t begin = 0;
    for (const auto& [end, decays] : runs_) {
      const auto part = [&](const Tensor& t) { return t.Rows(begin, end); };
      AdamWUpdate of_run = update;
      if (!decays) of_run.options.weight_decay = 0;
      AdamWStep(ctx, part(flat.master), part(flat.m), part(flat.v), part(flat.gradients), of_run);
      begin = end;
    }
    parameters_.RoundMaster(ctx);
  }
  FillZero(ctx, parameters_.flat_gradients());
}

}  // namespace swarr
