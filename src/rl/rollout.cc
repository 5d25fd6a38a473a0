// SPDX-License-Identifier: Apache-2.0
#include "rl/rollout.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "dist/generate.h"
#include "tensor/philox.h"

namespace swarr {

PackedPass ForwardTrajectories(Context& ctx, const Transformer& model, std::span<const Trajectory* const> batch,
                               bool checkpoint_blocks) {
  std::vector<Document> documents;
  for (const Trajectory* t : batch) documents.push_back(t->document);
  PackedPass pass = ForwardPacked(ctx, model, PackCompletions(ctx.HostArena(), documents), checkpoint_blocks);
  Wait(ctx);
  return pass;
}

std::int64_t FirstRow(const PackedPass& pass, std::size_t d, const Trajectory& t) {
  return pass.packed.places.data<std::int32_t>()[pass.packed.first_row(d) + t.document.first_predicting_row()];
}

std::vector<double> OfCompletion(const PackedPass& pass, std::size_t d, const Trajectory& t, const Tensor& values) {
  return DispatchSum(values.dtype(), [&]<class T>() {
    const T* begin = values.data<T>() + FirstRow(pass, d, t);
    return std::vector<double>(begin, begin + t.length());
  });
}

// For completions of a rank's whole step, which make sequences of up to max_length tokens.
static Decoder MakeDecoder(const Transformer& model, const RlOptions& options, const Ranks& ranks, int max_length) {
  const std::int64_t completions = ranks.PartOf(options.prompts_per_step).size() * options.num_generations;
  return {model, SlotsFor(model, options.slots, completions, max_length), max_length};
}

Sampler::Sampler(const Transformer& model, const Transformer* reference, const Tokenizer& tokenizer, const Task& task,
                 const RlOptions& options, const Ranks& ranks)
    : reference_(reference),
      tokenizer_(tokenizer),
      task_(task),
      options_(options),
      ranks_(ranks),
      order_(task.size(), options.seed),
      decoder_(MakeDecoder(model, options, ranks, LongestPrompt(task, tokenizer) + options.max_completion_length)) {}

Rollout Sampler::Sample(Context& ctx, std::int64_t step, const std::function<bool()>& stop) {
  Rollout rollout;
  std::map<std::int64_t, int> groups_of;
  for (; rollout.rounds < MaxRounds(); ++rollout.rounds) {
    const int missing = options_.prompts_per_step - static_cast<int>(rollout.kept.size()) / options_.num_generations;
    if (missing == 0) break;
    std::vector<Trajectory> sampled = SampleRound(ctx, step, rollout.rounds, missing, groups_of, stop);
    if (reference_ != nullptr) AddReference(ctx, sampled);
    KeepOrDrop(std::move(sampled), rollout);
  }
  AssignAdvantages(rollout.kept);
  return rollout;
}

// Groups of num_generations completions, prompt after prompt.
std::vector<Trajectory> Sampler::SampleRound(Context& ctx, std::int64_t step, int round, int prompts,
                                             std::map<std::int64_t, int>& groups_of,
                                             const std::function<bool()>& stop) {
  ResetStep(ctx);
  std::vector<Request> requests;
  std::vector<Trajectory> sampled;
  const std::int64_t first = (step * MaxRounds() + round) * options_.prompts_per_step;
  for (int p = 0; p < prompts; ++p) {
    const std::int64_t problem = order_.At(first + p).problem;
    const Example example = task_.Get(problem, 0);
    const std::vector<std::int32_t> prompt = tokenizer_.EncodePrompt(example.prompt);
    // A problem may come twice in a step, in several rounds or where an epoch ends: its samples are numbered through.
    const int first_sample = groups_of[problem]++ * options_.num_generations;
    for (int g = 0; g < options_.num_generations; ++g) {
      const auto sample = static_cast<std::uint32_t>(first_sample + g);
      requests.push_back({.prompt = prompt,
                          .max_new_tokens = options_.max_completion_length,
                          .key = StreamKey(options_.seed, Purpose::kSample, static_cast<std::uint32_t>(step),
                                           static_cast<std::uint32_t>(problem), sample)});
      sampled.push_back({.example = example, .document = {prompt, static_cast<int>(prompt.size())}});
    }
  }
  std::vector<Completion> completions =
      Generate(ctx, ranks_, decoder_, requests, options_.num_generations, /*on_token=*/{}, stop);
  if (stop()) throw RolloutStopped("sampling was stopped");
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    Trajectory& t = sampled[i];
    Completion& c = completions[i];
    t.document.tokens.insert(t.document.tokens.end(), c.tokens.begin(), c.tokens.end());
    t.old_logp = std::move(c.logp);
    t.text = tokenizer_.Decode(c.tokens, /*skip_special=*/true);
    t.finished = c.finished;
    t.reward = task_.Reward(t.example, t.text, c.finished);
  }
  return sampled;
}

void Sampler::AddReference(Context& ctx, std::vector<Trajectory>& sampled) const {
  const Part own = ranks_.PartOf(static_cast<std::int64_t>(sampled.size()));
  const auto end = static_cast<std::size_t>(own.end), size = static_cast<std::size_t>(options_.micro_batch);
  std::vector<double> ref_logp;  // of all their tokens, one after another
  for (auto begin = static_cast<std::size_t>(own.begin); begin < end; begin += size) {
    std::vector<const Trajectory*> batch;
    for (std::size_t i = begin; i < std::min(end, begin + size); ++i) batch.push_back(&sampled[i]);
    ResetStep(ctx);
    const PackedPass pass = ForwardTrajectories(ctx, *reference_, batch, /*checkpoint_blocks=*/false);
    for (std::size_t d = 0; d < batch.size(); ++d) {
      const std::vector<double> logp = OfCompletion(pass, d, *batch[d], pass.result.logp.value);
      ref_logp.insert(ref_logp.end(), logp.begin(), logp.end());
    }
  }
  ref_logp = ranks_.GatherAll(ref_logp);
  auto next = ref_logp.begin();
  for (Trajectory& t : sampled) {
    t.ref_logp.assign(next, next + t.length());
    next += t.length();
  }
}

void Sampler::KeepOrDrop(std::vector<Trajectory> sampled, Rollout& rollout) const {
  const auto size = static_cast<std::ptrdiff_t>(options_.num_generations);
  for (auto group = sampled.begin(); group != sampled.end(); group += size) {
    const auto differs = [&](const Trajectory& t) { return t.reward != group->reward; };
    const bool spread = std::any_of(group, group + size, differs);
    std::vector<Trajectory>& to = options_.objective.dynamic_sampling && !spread ? rollout.dropped : rollout.kept;
    std::move(group, group + size, std::back_inserter(to));
  }
}

void Sampler::AssignAdvantages(std::vector<Trajectory>& kept) const {
  std::vector<int> lengths;
  std::vector<double> rewards, old_logp, ref_logp;
  for (const Trajectory& t : kept) {
    lengths.push_back(t.length());
    rewards.push_back(t.reward);
    old_logp.insert(old_logp.end(), t.old_logp.begin(), t.old_logp.end());
    ref_logp.insert(ref_logp.end(), t.ref_logp.begin(), t.ref_logp.end());
  }
  const SampledTokens sampled{.lengths = lengths,
                              .group_size = options_.num_generations,
                              .rewards = rewards,
                              .old_logp = old_logp,
                              .ref_logp = ref_logp};
  const std::vector<double> advantages = Advantages(sampled, options_.objective);
  const std::vector<double> weights = SequenceWeights(lengths, options_.objective);
  auto next = advantages.begin();
  for (std::size_t i = 0; i < kept.size(); ++i) {
    kept[i].advantages.assign(next, next + kept[i].length());
    kept[i].weight = weights[i];
    next += kept[i].length();
  }
}

}  // namespace swarr
