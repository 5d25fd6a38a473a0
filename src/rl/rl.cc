// SPDX-License-Identifier: Apache-2.0
#include "rl/rl.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "model/decoder.h"
#include "tensor/files.h"
#include "tensor/philox.h"
#include "train/data.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

// One sampled completion and what became of it.
struct Trajectory {
  Example example;
  Document document;                 // prompt and completion tokens, as the training pass reads them
  std::vector<double> old_logprobs;  // of the completion tokens, recorded by the sampler
  std::string text;
  bool finished;
  double reward;
  std::vector<double> advantages{};  // of the completion tokens
  double weight = 0;

  int length() const { return static_cast<int>(old_logprobs.size()); }
};

struct StepSums {
  double loss = 0, entropy = 0, kl = 0, max_abs_diff = 0;
  std::int64_t tokens = 0, clipped = 0;  // sampled tokens
  std::int64_t rows = 0;                 // fed to the model
};

int LongestPrompt(const Task& task, const Tokenizer& tokenizer) {
  std::size_t longest = 0;
  for (std::int64_t i = 0; i < task.size(); ++i) {
    longest = std::max(longest, tokenizer.EncodePrompt(task.Get(i, 0).prompt).size());
  }
  return static_cast<int>(longest);
}

// Groups of num_generations completions, prompt after prompt.
std::vector<Trajectory> Rollout(Context& ctx, std::int64_t step, Decoder& decoder, const Tokenizer& tokenizer,
                                const Task& task, const RlOptions& options, ProblemOrder& order) {
  ResetStep(ctx);
  std::vector<Request> requests;
  std::vector<Trajectory> rollout;
  for (int p = 0; p < options.prompts_per_step; ++p) {
    const std::int64_t problem = order.At(step * options.prompts_per_step + p).problem;
    const Example example = task.Get(problem, 0);
    const std::vector<std::int32_t> prompt = tokenizer.EncodePrompt(example.prompt);
    for (int g = 0; g < options.num_generations; ++g) {
      requests.push_back({prompt, options.max_completion_length, 1.0,
                          StreamKey(options.seed, Purpose::kSample, static_cast<std::uint32_t>(step),
                                    static_cast<std::uint32_t>(problem), static_cast<std::uint32_t>(g))});
      rollout.push_back({example, {prompt, static_cast<int>(prompt.size())}, {}, {}, false, 0});
    }
  }
  std::vector<Completion> completions = decoder.Generate(ctx, requests);
  for (std::size_t i = 0; i < rollout.size(); ++i) {
    Trajectory& t = rollout[i];
    Completion& c = completions[i];
    t.document.tokens.insert(t.document.tokens.end(), c.tokens.begin(), c.tokens.end());
    t.old_logprobs = std::move(c.logprobs);
    t.text = tokenizer.Decode(c.tokens, /*skip_special=*/true);
    t.finished = c.finished;
    t.reward = task.Reward(t.example, t.text, c.finished);
  }
  return rollout;
}

void AssignAdvantages(std::vector<Trajectory>& rollout, const RlOptions& options) {
  std::vector<double> rewards, old_logp;
  std::vector<int> lengths;
  for (const Trajectory& t : rollout) {
    rewards.push_back(t.reward);
    lengths.push_back(t.length());
    old_logp.insert(old_logp.end(), t.old_logprobs.begin(), t.old_logprobs.end());
  }
  const std::vector<double> advantages =
      Advantages({lengths, options.num_generations, rewards, old_logp, {}}, options.objective);
  const std::vector<double> weights = SequenceWeights(lengths, options.objective);
  auto next = advantages.begin();
  for (std::size_t i = 0; i < rollout.size(); ++i) {
    rollout[i].advantages.assign(next, next + lengths[i]);
    rollout[i].weight = weights[i];
    next += lengths[i];
  }
}

// The training pass over a micro-batch: log-probabilities of all its tokens, compared with the sampler's, and, if it is
// to be learned from, the backward.
void Accumulate(Context& ctx, const Transformer& model, std::span<const Trajectory* const> batch, bool learn,
                const RlOptions& options, StepSums& sums) {
  ResetStep(ctx);
  Tape tape;
  ctx.tape = learn ? &tape : nullptr;
  std::vector<Document> documents;
  for (const Trajectory* t : batch) documents.push_back(t->document);
  const PackedRow row = Pack(ctx.HostArena(), documents);
  const LogprobResult result =
      model.Logprob(ctx, model.Forward(ctx, row.batch, options.checkpoint_blocks), row.targets);
  Wait(ctx);
  DispatchSum(result.logp.value.dtype(), [&]<class T>() {
    for (std::size_t d = 0; d < batch.size(); ++d) {
      const Trajectory& t = *batch[d];
      const std::int64_t first =
          row.first_row[d] + t.document.prompt_length - 1;  // this row predicts completion token 0
      const auto rows_of = [&](const Tensor& values) {
        const T* begin = values.data<T>() + first;
        return std::vector<double>(begin, begin + t.length());
      };
      const std::vector<double> logp = rows_of(result.logp.value), entropy = rows_of(result.entropy);
      std::vector<double> term(logp.size()), dlogp(logp.size());
      const CompletionLoss loss = EvaluateCompletion(
          {logp, t.old_logprobs, {}, entropy, t.advantages, t.weight, term, dlogp}, options.objective);
      sums.loss += loss.loss;
      sums.clipped += loss.clipped;
      for (std::size_t i = 0; i < logp.size(); ++i) {
        const double gap = logp[i] - t.old_logprobs[i];
        sums.entropy += entropy[i];
        sums.kl += std::exp(gap) - gap - 1.0;
        sums.max_abs_diff = std::max(sums.max_abs_diff, std::abs(gap));
        if (learn) result.logp.grad.data<T>()[first + static_cast<std::int64_t>(i)] = static_cast<T>(dlogp[i]);
      }
      sums.tokens += t.length();
    }
  });
  if (learn) tape.Backward(ctx);
  ctx.tape = nullptr;
  sums.rows += row.first_row.back();
}

// Micro-batches of the trajectories with an advantage are learned from; the others only go through the comparison.
StepSums TrainingPass(Context& ctx, const Transformer& model, const std::vector<Trajectory>& rollout,
                      const RlOptions& options) {
  StepSums sums;
  for (const bool learn : {true, false}) {
    std::vector<const Trajectory*> chosen;
    for (const Trajectory& t : rollout) {
      const bool counts = std::any_of(t.advantages.begin(), t.advantages.end(), [](double a) { return a != 0; });
      if (counts == learn) chosen.push_back(&t);
    }
    const auto size = static_cast<std::size_t>(options.micro_batch);
    for (std::size_t m = 0; m < chosen.size(); m += size) {
      Accumulate(ctx, model, std::span(chosen).subspan(m, std::min(size, chosen.size() - m)), learn, options, sums);
    }
  }
  return sums;
}

void WriteCompletions(const std::filesystem::path& dir, std::int64_t step, const std::vector<Trajectory>& rollout) {
  std::string lines;
  for (const Trajectory& t : rollout) {
    const nlohmann::ordered_json line = {{"step", step},
                                         {"prompt", t.example.prompt},
                                         {"completion", t.text},
                                         {"answer", t.example.answer},
                                         {"finished", t.finished},
                                         {"reward", t.reward},
                                         {"advantage", t.advantages.empty() ? 0.0 : t.advantages[0]}};
    lines += line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld.jsonl", static_cast<long long>(step));
  std::filesystem::create_directories(dir / "completions");
  WriteFileAtomically(dir / "completions" / name, lines);
}

nlohmann::ordered_json MetricsOf(const std::vector<Trajectory>& rollout, const StepSums& sums,
                                 const RlOptions& options) {
  const double count = static_cast<double>(rollout.size()), tokens = static_cast<double>(sums.tokens);
  double reward = 0, deviation = 0, groups_without_spread = 0, truncated = 0;
  const auto size = static_cast<std::size_t>(options.num_generations);
  for (std::size_t begin = 0; begin < rollout.size(); begin += size) {
    double sum = 0, squares = 0;
    bool spread = false;
    for (std::size_t i = begin; i < begin + size; ++i) {
      sum += rollout[i].reward;
      squares += rollout[i].reward * rollout[i].reward;
      truncated += !rollout[i].finished;
      spread |= rollout[i].reward != rollout[begin].reward;
    }
    const double n = static_cast<double>(size);
    reward += sum;
    deviation += size > 1 ? std::sqrt(std::max(0.0, (squares - sum * sum / n) / (n - 1))) : 0.0;
    groups_without_spread += !spread;
  }
  const double groups = count / static_cast<double>(size);
  return {{"loss", sums.loss},
          {"reward", reward / count},
          {"reward_std", deviation / groups},
          {"frac_reward_zero_std", groups_without_spread / groups},
          {"completions/mean_length", tokens / count},
          {"completions/clipped_ratio", truncated / count},
          {"entropy", sums.entropy / tokens},
          {"kl", sums.kl / tokens},
          {"clip_ratio/region_mean", static_cast<double>(sums.clipped) / tokens},
          {"rollout_logprob_max_abs_diff", sums.max_abs_diff},
          {"rollout_logprob_tokens", sums.tokens}};
}

}  // namespace

OnPolicyCheck RunRl(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                    const RlOptions& options, Optimizer& optimizer, TrainingRun& run) {
  ProblemOrder order(task.size(), options.seed);
  Decoder decoder(model, options.slots, LongestPrompt(task, tokenizer) + options.max_completion_length);
  OnPolicyCheck check;
  while (run.step() < options.steps) {
    const StepTimer timer;
    const std::int64_t step = run.step();
    std::vector<Trajectory> rollout = Rollout(ctx, step, decoder, tokenizer, task, options, order);
    AssignAdvantages(rollout, options);
    const StepSums sums = TrainingPass(ctx, model, rollout, options);
    run.CheckFinite("loss", sums.loss);
    const double lr = LearningRate(optimizer.options(), step, options.steps);
    const double grad_norm = optimizer.GradientNorm(ctx);
    run.CheckFinite("gradient norm", grad_norm);
    if (grad_norm > 0) optimizer.Step(ctx, lr, grad_norm);  // no group had any spread: nothing was learned
    check.max_abs_diff = std::max(check.max_abs_diff, sums.max_abs_diff);
    check.tokens += sums.tokens;
    if (options.keep_completions) WriteCompletions(run.output_dir(), step + 1, rollout);

    nlohmann::ordered_json row = MetricsOf(rollout, sums, options);
    const double seconds = timer.Seconds();
    row.update(
        {{"epoch", static_cast<double>((step + 1) * options.prompts_per_step) / static_cast<double>(task.size())},
         {"learning_rate", lr},
         {"grad_norm", grad_norm},
         {"step_time", seconds},
         {"tokens_per_second", static_cast<double>(sums.rows) / seconds},
         {"peak_memory_mb", PeakMemoryMb()}});
    run.EndStep(sums.rows, std::move(row));
  }
  return check;
}

}  // namespace swarr
