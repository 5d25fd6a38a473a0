// SPDX-License-Identifier: Apache-2.0
#include "rl/rl.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "rl/rollout.h"
#include "train/step_timer.h"
#include "train/watch.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// Sums over a training pass. `kl` and `max_abs_diff` compare the sampler with the trainer.
struct PassSums {
  double loss = 0, entropy = 0, kl = 0, max_abs_diff = 0;
  std::int64_t tokens = 0, clipped = 0;  // sampled tokens
  std::int64_t rows = 0;                 // fed to the model

  double PerToken(double sum) const { return tokens > 0 ? sum / static_cast<double>(tokens) : 0.0; }

  PassSums& operator+=(const PassSums& other) {
    loss += other.loss;
    entropy += other.entropy;
    kl += other.kl;
    max_abs_diff = std::max(max_abs_diff, other.max_abs_diff);
    tokens += other.tokens;
    clipped += other.clipped;
    rows += other.rows;
    return *this;
  }
};

// Over the updates of a step.
struct StepSums {
  PassSums first;                                  // of the first update
  double loss = 0, grad_norm = 0, clip_ratio = 0;  // means
  int updates = 0;
  std::int64_t rows = 0;
};

// Whether the loss has a gradient at a completion.
bool Teaches(const Trajectory& t, const ObjectiveOptions& objective) {
  if (objective.entropy_coef != 0 || (objective.beta != 0 && objective.kl_in == KlPlace::kLoss)) return true;
  return std::any_of(t.advantages.begin(), t.advantages.end(), [](double a) { return a != 0; });
}

// Writes one gradient for each token of a completion, from row `first` on.
void SetGradient(const Tensor& grad, std::int64_t first, std::span<const double> values) {
  DispatchSum(grad.dtype(), [&]<class T>() {
    std::transform(values.begin(), values.end(), grad.data<T>() + first, [](double v) { return static_cast<T>(v); });
  });
}

// The training pass over a micro-batch: the log-probabilities of all its tokens, compared with the sampler's, and the
// backward if the pass is to be learned from.
void Accumulate(Context& ctx, const Transformer& model, std::span<const Trajectory* const> batch, bool learn,
                const RlOptions& options, PassSums& sums) {
  ResetStep(ctx);
  Tape tape;
  const TapeScope recording(ctx, learn ? &tape : nullptr);
  const PackedPass pass = ForwardTrajectories(ctx, model, batch, options.checkpoint_blocks);
  const double entropy_coef = options.objective.entropy_coef;
  // The rows of these gradients are those that predict the completions' tokens: all are written below.
  const Tensor dentropy = learn && entropy_coef != 0 ? pass.result.entropy.ClaimGrad() : Tensor{};
  for (std::size_t d = 0; d < batch.size(); ++d) {
    const Trajectory& t = *batch[d];
    const std::vector<double> logp = OfCompletion(pass, d, t, pass.result.logp.value);
    const std::vector<double> entropy = OfCompletion(pass, d, t, pass.result.entropy.value);
    std::vector<double> term(logp.size()), dlogp(logp.size());
    const CompletionLoss loss = EvaluateCompletion({.logp = logp,
                                                    .old_logp = t.old_logp,
                                                    .ref_logp = t.ref_logp,
                                                    .entropy = entropy,
                                                    .advantage = t.advantages,
                                                    .weight = t.weight,
                                                    .term = term,
                                                    .dlogp = dlogp},
                                                   options.objective);
    if (learn) SetGradient(pass.result.logp.grad, FirstRow(pass, d, t), dlogp);
    if (!dentropy.empty()) {
      SetGradient(dentropy, FirstRow(pass, d, t), std::vector<double>(logp.size(), -entropy_coef * t.weight));
    }
    sums.loss += loss.loss;
    sums.clipped += loss.clipped;
    for (std::size_t i = 0; i < logp.size(); ++i) {
      const double gap = logp[i] - t.old_logp[i];
      sums.entropy += entropy[i];
      sums.kl += EvaluateKl(-gap, KlEstimator::kK3).value;
      sums.max_abs_diff = std::max(sums.max_abs_diff, std::abs(gap));
    }
    sums.tokens += t.length();
  }
  if (learn) tape.Backward(ctx);
  sums.rows += pass.packed.rows();
}

// Only trajectories at which the loss has a gradient are learned from. The others go through the comparison alone.
// `between` is called before each micro-batch.
PassSums TrainChunk(Context& ctx, const Transformer& model, std::span<const Trajectory> kept, const RlOptions& options,
                    const std::function<void()>& between) {
  PassSums sums;
  for (const bool learn : {true, false}) {
    std::vector<const Trajectory*> chosen;
    for (const Trajectory& t : kept) {
      if (Teaches(t, options.objective) == learn) chosen.push_back(&t);
    }
    const auto size = static_cast<std::size_t>(options.micro_batch);
    for (std::size_t m = 0; m < chosen.size(); m += size) {
      between();
      Accumulate(ctx, model, std::span(chosen).subspan(m, std::min(size, chosen.size() - m)), learn, options, sums);
    }
  }
  return sums;
}

// A chunk of what was kept: whole groups, as many in each chunk but for one.
std::span<const Trajectory> ChunkOf(std::span<const Trajectory> kept, int chunk, const RlOptions& options) {
  const auto size = static_cast<std::size_t>(options.num_generations),
             chunks = static_cast<std::size_t>(options.chunks);
  const auto begin = [&](int c) { return kept.size() / size * static_cast<std::size_t>(c) / chunks * size; };
  return kept.subspan(begin(chunk), begin(chunk + 1) - begin(chunk));
}

// The gradient of the objective over all that was kept, and the sums of all ranks' passes.
PassSums TrainingPass(Context& ctx, const Transformer& model, const std::vector<Trajectory>& kept,
                      const RlOptions& options, Optimizer& optimizer, const std::function<void()>& between) {
  std::vector<PassSums> own;
  optimizer.SumGradients(ctx, options.chunks, [&](int chunk) {
    own.push_back(TrainChunk(ctx, model, ChunkOf(kept, chunk, options), options, between));
  });
  const std::vector<PassSums> all = optimizer.ranks().GatherAll(own);
  return std::accumulate(all.begin(), all.end(), PassSums{}, [](PassSums sum, const PassSums& s) { return sum += s; });
}

StepSums Update(Context& ctx, const Transformer& model, const std::vector<Trajectory>& kept, const RlOptions& options,
                double lr, Optimizer& optimizer, TrainingSteps& run) {
  StepSums step;
  for (int i = 0; i < options.num_iterations; ++i) {
    const PassSums sums = TrainingPass(ctx, model, kept, options, optimizer, [&] {
      if (step.updates == 0) run.StopIfAsked();
    });
    run.CheckFinite("loss", sums.loss);
    const double grad_norm = optimizer.GradientNorm(ctx);
    run.CheckFinite("gradient norm", grad_norm);
    if (grad_norm > 0) {  // else nothing was learned, and not even weight decay may act
      optimizer.Step(ctx, lr, grad_norm);
      ++step.updates;
    }
    if (i == 0) step.first = sums;
    step.loss += sums.loss / options.num_iterations;
    step.grad_norm += grad_norm / options.num_iterations;
    step.clip_ratio += sums.PerToken(static_cast<double>(sums.clipped)) / options.num_iterations;
    step.rows += sums.rows;
  }
  return step;
}

ordered_json MetricsOf(const StepSums& step) {
  return {{"loss", step.loss},
          {"grad_norm", step.grad_norm},
          {"num_updates", step.updates},
          {"entropy", step.first.PerToken(step.first.entropy)},
          {"kl", step.first.PerToken(step.first.kl)},
          {"clip_ratio/region_mean", step.clip_ratio},
          {"rollout_logprob_max_abs_diff", step.first.max_abs_diff},
          {"rollout_logprob_tokens", step.first.tokens}};
}

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

// The rows of completions/step-*.jsonl for this step, 1 or more: the kept groups, then the dropped ones.
std::string LinesOf(std::int64_t step, const Rollout& rollout, const RlOptions& options) {
  std::string lines;
  for (const Trajectory& t : rollout.kept) lines += LineOf(step, t, false, options);
  for (const Trajectory& t : rollout.dropped) lines += LineOf(step, t, true, options);
  return lines;
}

// The metrics that follow from the rollout alone, over all that was sampled.
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

Rollout SampleUnlessStopped(Context& ctx, Sampler& sampler, TrainingSteps& run) {
  try {
    return sampler.Sample(ctx, run.step(), [&] { return run.AskedToStop(); });
  } catch (const RolloutStopped&) {
    run.StopIfAsked();
    throw;
  }
}

void CheckReference(const Transformer& model, const Transformer* reference, const RlOptions& options) {
  SWARR_CHECK(options.objective.beta == 0 || reference != nullptr, "beta is ", options.objective.beta,
              ", but there is no reference model for the KL");
  SWARR_CHECK(reference == nullptr || reference->config().vocab == model.config().vocab,
              "the reference model has a vocabulary of ", reference->config().vocab, " tokens, the model one of ",
              model.config().vocab, "; the KL needs two models of the same tokenizer");
}

}  // namespace

std::vector<MemoryPart> RlParts(const ModelConfig& config, DType dtype, Device device, int prompt_tokens,
                                const RlOptions& options) {
  const std::int64_t completions = Product({options.prompts_per_step, options.num_generations});
  std::vector<MemoryPart> parts = DecodeParts(config, dtype, device,
                                              {.slots = options.slots,
                                               .requests = completions,
                                               .max_length = prompt_tokens + options.max_completion_length,
                                               .value = options.slots});
  const std::int64_t each = sizeof(Request) + sizeof(Completion) + sizeof(Trajectory);
  parts.push_back(CompletionsPart(completions, each, "--num-generations", options.num_generations));
  // How long completions get is not known: one token, which is not fed.
  const std::int64_t packed = std::min<std::int64_t>(options.micro_batch, completions);
  parts.push_back(StepPart(config, dtype, Product({packed, prompt_tokens}), /*scored=*/packed,
                           options.checkpoint_blocks ? PassKind::kCheckpointedTraining : PassKind::kTraining));
  parts.back().option = "--micro-batch";
  parts.back().value = packed;
  return parts;
}

OnPolicyCheck RunRl(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                    const RlOptions& options, Optimizer& optimizer, TrainingSteps& run, const Transformer* reference) {
  CheckObjective(options.objective);
  SWARR_CHECK(options.max_completion_length > 0,
              "RL needs max_completion_length, of which completion_limit() of the task may tell");
  if (options.num_generations < 2 && options.objective.baseline != Baseline::kNone) {
    throw UsageError(
        "a baseline needs groups of at least 2 completions; raise --num-generations, or take --baseline none");
  }
  if (options.objective.beta == 0) reference = nullptr;
  CheckReference(model, reference, options);
  const int longest = LongestPrompt(task, tokenizer) + options.max_completion_length;
  SWARR_CHECK(reference == nullptr || longest <= reference->config().max_positions,
              "a prompt and a completion of up to ", longest,
              " tokens in all don't fit the reference model's context of ", reference->config().max_positions,
              "; allow shorter completions, or take another reference model");
  Sampler sampler(model, reference, tokenizer, task, options, optimizer.ranks());
  OnPolicyCheck check;
  Watch watch = run.MakeWatch();
  while (run.step() < options.steps) {
    const StepTimer timer;
    const std::int64_t step = run.step();
    const Rollout rollout = SampleUnlessStopped(ctx, sampler, run);
    const double lr = LearningRate(optimizer.options(), step, options.steps);
    const StepSums sums = Update(ctx, model, rollout.kept, options, lr, optimizer, run);
    check.max_abs_diff = std::max(check.max_abs_diff, sums.first.max_abs_diff);
    check.tokens += sums.first.tokens;
    ++check.steps;
    if (options.keep_completions) run.KeepCompletions(step + 1, LinesOf(step + 1, rollout, options));

    ordered_json record = MetricsOf(sums);
    record.update(MetricsOf(rollout, options));  // its KL, from the reference, replaces the sampler's from the trainer
    const double seconds = timer.Seconds();
    record.update(
        {{"epoch", static_cast<double>((step + 1) * options.prompts_per_step) / static_cast<double>(task.size())},
         {"learning_rate", lr},
         {"step_time", seconds},
         {"tokens_per_second", static_cast<double>(sums.rows) / seconds},
         {"peak_memory_mb", PeakMemoryMb()}});
    watch.AddTo(record);
    run.EndStep(sums.rows, record);
  }
  return check;
}

}  // namespace swarr
