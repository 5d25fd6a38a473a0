// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <algorithm>

#include "tensor/philox.h"

namespace swarr {

std::vector<EvaluatedCompletion> Evaluate(Context& ctx, const Transformer& model, const Tokenizer& tokenizer,
                                          const Task& task, const EvaluateOptions& options) {
  const std::int64_t problems = options.problems == 0 ? task.size() : std::min(options.problems, task.size());
  std::vector<Request> requests;
  std::size_t longest = 0;
  for (std::int64_t p = 0; p < problems; ++p) {
    const std::vector<std::int32_t> prompt = tokenizer.Encode(task.Get(p, 0).prompt);
    longest = std::max(longest, prompt.size());
    for (int s = 0; s < options.samples; ++s) {
      requests.push_back({prompt, options.max_completion_length, options.temperature,
                          StreamKey(options.seed, Purpose::kEvaluate, options.step, static_cast<std::uint32_t>(p),
                                    static_cast<std::uint32_t>(s))});
    }
  }
  Decoder decoder(model, options.slots, static_cast<int>(longest) + options.max_completion_length);
  const std::vector<Completion> completions = decoder.Generate(ctx, requests);
  std::vector<EvaluatedCompletion> results;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const Completion& c = completions[i];
    const std::int64_t p = static_cast<std::int64_t>(i) / options.samples;
    std::string text = tokenizer.Decode(c.tokens, /*skip_special=*/true);
    const double reward = task.Reward(task.Get(p, 0), text, c.finished);
    std::string answer = task.Extract(text);
    results.push_back({p, std::move(text), std::move(answer), static_cast<int>(c.tokens.size()), c.finished, reward});
  }
  return results;
}

AccuracySummary Summarize(const std::vector<EvaluatedCompletion>& completions, int samples) {
  AccuracySummary sum{};
  const auto correct = [](const EvaluatedCompletion& c) { return c.reward == 1.0; };
  for (const EvaluatedCompletion& c : completions) {
    sum.accuracy += correct(c);
    sum.mean_length += c.tokens;
    sum.truncated += !c.finished;
  }
  const auto k = static_cast<std::ptrdiff_t>(samples);
  for (auto begin = completions.begin(); begin != completions.end(); begin += k) {
    const auto end = begin + k;
    sum.pass_at_k += std::any_of(begin, end, correct);
    const auto votes = [&](const EvaluatedCompletion& c) {
      if (c.answer.empty()) return std::ptrdiff_t{0};
      return std::count_if(begin, end, [&](const EvaluatedCompletion& other) { return other.answer == c.answer; });
    };
    const auto winner = std::max_element(begin, end, [&](const auto& a, const auto& b) { return votes(a) < votes(b); });
    sum.majority_at_k += correct(*winner);
  }
  const double n = static_cast<double>(std::max<std::size_t>(1, completions.size())), problems = n / samples;
  sum.accuracy /= n;
  sum.mean_length /= n;
  sum.truncated /= n;
  sum.pass_at_k /= problems;
  sum.majority_at_k /= problems;
  return sum;
}

}  // namespace swarr
