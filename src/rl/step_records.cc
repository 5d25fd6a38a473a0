// SPDX-License-Identifier: Apache-2.0
#include "rl/step_records.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tensor/files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// The sum over the tokens of the objective's estimates of the KL from the reference.
double KlOf(const Trajectory& t, const RlOptions& options) {
  double sum = 0;
  for (std::size_t i = 0; i < t.ref_logp.size(); ++i) {
    sum += EvaluateKl(t.old_logp[i] - t.ref_logp[i], options.objective.kl).value;
  }
  return sum;
}

std::string LineOf(std::int64_t step, const Trajectory& t, bool dropped, const RlOptions& options) {
  ordered_json line = {{"step", step},           {"prompt", t.example.prompt},
                       {"completion", t.text},   {"answer", t.example.answer},
                       {"finished", t.finished}, {"reward", t.reward}};
  if (HasSpread(t.advantages)) {
    line["advantages"] = t.advantages;
  } else {
    line["advantage"] = t.advantages.empty() ? 0.0 : t.advantages[0];
  }
  if (!t.ref_logp.empty()) line["kl"] = KlOf(t, options);
  if (options.objective.dynamic_sampling) line["dropped"] = dropped;
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Sums over completions, and over groups of them.
struct Sums {
  double completions = 0, groups = 0, reward = 0, deviation = 0, without_spread = 0, truncated = 0, kl = 0;
  std::int64_t tokens = 0;

  void AddGroup(std::span<const Trajectory> group, const RlOptions& options) {
    double sum = 0, squares = 0;
    bool spread = false;
    for (const Trajectory& t : group) {
      sum += t.reward;
      squares += t.reward * t.reward;
      spread |= t.reward != group[0].reward;
      truncated += !t.finished;
      tokens += t.length();
      kl += KlOf(t, options);
    }
    const double n = static_cast<double>(group.size());
    completions += n;
    groups += 1;
    reward += sum;
    deviation += n > 1 ? std::sqrt(std::max(0.0, (squares - sum * sum / n) / (n - 1))) : 0.0;
    without_spread += !spread;
  }
};

}  // namespace

void WriteCompletions(const std::filesystem::path& dir, std::int64_t step, const Rollout& rollout,
                      const RlOptions& options) {
  std::string lines;
  for (const Trajectory& t : rollout.kept) lines += LineOf(step, t, false, options);
  for (const Trajectory& t : rollout.dropped) lines += LineOf(step, t, true, options);
  std::filesystem::create_directories(dir / "completions");
  WriteFileAtomically(dir / "completions" / (StepName("step-", step) + ".jsonl"), lines);
}

ordered_json MetricsOf(const Rollout& rollout, const RlOptions& options) {
  Sums sums;
  const auto size = static_cast<std::size_t>(options.num_generations);
  for (const std::vector<Trajectory>* part : {&rollout.kept, &rollout.dropped}) {
    for (std::size_t begin = 0; begin < part->size(); begin += size) {
      sums.AddGroup(std::span(*part).subspan(begin, size), options);
    }
  }
  ordered_json metrics = {{"reward", sums.reward / sums.completions},
                          {"reward_std", sums.deviation / sums.groups},
                          {"frac_reward_zero_std", sums.without_spread / sums.groups},
                          {"completions/mean_length", static_cast<double>(sums.tokens) / sums.completions},
                          {"completions/clipped_ratio", sums.truncated / sums.completions}};
  if (options.objective.beta != 0) metrics["kl"] = sums.kl / static_cast<double>(sums.tokens);
  if (options.objective.dynamic_sampling) {
    metrics["dynamic_sampling/rounds"] = rollout.rounds;
    metrics["dynamic_sampling/dropped_ratio"] = static_cast<double>(rollout.dropped.size()) / sums.completions;
  }
  return metrics;
}

}  // namespace swarr
