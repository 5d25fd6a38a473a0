// SPDX-License-Identifier: Apache-2.0
#include "oracle/rollout_rule.h"

#include <algorithm>
#include <limits>

#include "tensor/kernels/math.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// [T, V] logits of a text.
Value LogitsOf(Context ctx, const Transformer& model, const Tokens& text) {
  const ArenaScope scope(*ctx.arena);
  const Var hidden = model.Forward(ctx, PackDocuments(*ctx.arena, std::span(&text, 1)));
  const Tensor logits = ctx.arena->New(DType::kF64, {hidden.value.dim(0), model.config().vocab});
  LinearForward(ctx, logits, hidden.value, model.head().value, {});
  return ValueOf(logits);
}

const double* Row(const Value& logits, std::int64_t row) { return logits.data.data() + row * logits.dim(1); }

double LogSumExp(const double* z, std::int64_t V, double scale) {
  const double largest = *std::max_element(z, z + V);
  double sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += Exp((z[v] - largest) * scale);
  return largest * scale + Log(sum);
}

std::vector<double> ScoresOf(const double* z, std::int64_t V, const double* noise, const RolloutRule& rule) {
  const bool greedy = rule.temperature == 0;
  const double scale = greedy ? 1 : 1 / rule.temperature;
  const double lse = LogSumExp(z, V, scale);
  std::vector<double> scores;
  for (std::int64_t v = 0; v < V; ++v) {
    double score = z[v] * scale;
    if (!greedy && rule.scores == Scores::kProbabilities) score = Exp(score - lse);
    if (!greedy || rule.noise_when_greedy) score += rule.noise_factor * noise[v];
    scores.push_back(score);
  }
  return scores;
}

struct Choice {
  std::int32_t token = 0;
  double lead = kInfinity;
};

// The first of the largest.
Choice Choose(const std::vector<double>& scores) {
  const auto best = std::max_element(scores.begin(), scores.end());
  Choice choice{static_cast<std::int32_t>(best - scores.begin()), kInfinity};
  for (auto other = scores.begin(); other != scores.end(); ++other) {
    if (other != best) choice.lead = std::min(choice.lead, *best - *other);
  }
  return choice;
}

Tokens Fed(const Tokens& prompt, const RolloutRule& rule) {
  Tokens text = prompt;
  if (rule.repeats_last) text.push_back(text.back());
  if (rule.loses_first && text.size() > 1) text.erase(text.begin());
  return text;
}

// What is recorded for each token, of the logits of prompt and completion.
std::vector<double> Record(const Value& logits, std::int64_t prompt, const Tokens& tokens, const RolloutRule& rule) {
  const double scale = rule.recorded == Recorded::kTempered && rule.temperature != 0 ? 1 / rule.temperature : 1;
  const std::int64_t first = rule.recorded == Recorded::kNextRow ? prompt : prompt - 1;
  std::vector<double> logp;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const double* z = Row(logits, first + static_cast<std::int64_t>(t));
    const double lse = rule.recorded == Recorded::kLogit ? 0 : LogSumExp(z, logits.dim(1), scale);
    logp.push_back(z[tokens[t]] * scale - lse);
  }
  return logp;
}

}  // namespace

Rollout Continue(const Context& ctx, const Transformer& model, const Tokens& prompt, std::int64_t most,
                 const NoiseOf& noise, const RolloutRule& rule, double least_margin) {
  Tokens text = Fed(prompt, rule);
  const auto begin = static_cast<std::int64_t>(text.size());
  const double unit = rule.temperature == 0 ? 1 : rule.temperature;
  Rollout rollout;
  rollout.margin = kInfinity;
  for (std::int64_t t = 0; t < most; ++t) {
    const Value logits = LogitsOf(ctx, model, text);
    const double* drawn = noise(std::min(t + rule.noise_shift, most - 1));
    const Choice choice = Choose(ScoresOf(Row(logits, logits.dim(0) - 1), logits.dim(1), drawn, rule));
    rollout.margin = std::min(rollout.margin, choice.lead * unit);
    if (rollout.margin < least_margin) return rollout;
    text.push_back(choice.token);
    if (rule.stops && model.config().Stops(choice.token)) break;
  }
  rollout.tokens.assign(text.begin() + begin, text.end());
  rollout.logp = Record(LogitsOf(ctx, model, text), begin, rollout.tokens, rule);
  if (!rule.records_end && model.config().Stops(rollout.tokens.back())) {
    rollout.tokens.pop_back();
    rollout.logp.pop_back();
  }
  return rollout;
}

}  // namespace swarr::oracle
