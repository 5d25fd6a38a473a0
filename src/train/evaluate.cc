// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "dist/generate.h"
#include "train/data.h"

namespace swarr {
namespace {

// Cuts `tokens` before the first that is a stop text by itself; whether there was one. A special token would be gone
// from the decoded text, and what follows it would stay.
bool CutAtStopToken(std::vector<std::int32_t>& tokens, const Tokenizer& tokenizer,
                    const std::vector<std::string>& stop_texts) {
  const auto end = std::find_if(tokens.begin(), tokens.end(), [&](std::int32_t id) {
    return std::find(stop_texts.begin(), stop_texts.end(), tokenizer.Decode({id}, /*skip_special=*/false)) !=
           stop_texts.end();
  });
  if (end == tokens.end()) return false;
  tokens.erase(end, tokens.end());
  return true;
}

// Cuts `text` before the first stop text in it; whether there was one.
bool CutAtStop(std::string& text, const std::vector<std::string>& stop_texts) {
  std::size_t end = std::string::npos;
  for (const std::string& stop : stop_texts) end = std::min(end, text.find(stop));
  if (end == std::string::npos) return false;
  text.resize(end);
  return true;
}

bool Correct(const EvaluatedCompletion& completion) { return completion.reward == 1.0; }

// Sees every token that is drawn and tells options.on_progress of completions that end; null where nobody asks.
std::function<void(std::size_t, std::int32_t)> Counting(const Transformer& model, const std::vector<Request>& requests,
                                                        const EvaluateOptions& options) {
  if (!options.on_progress) return {};
  return [&, drawn = std::vector<int>(requests.size()), ended = std::int64_t{0}](std::size_t i,
                                                                                 std::int32_t token) mutable {
    if (++drawn[i] < requests[i].max_new_tokens && !model.config().Stops(token)) return;
    options.on_progress(++ended, static_cast<std::int64_t>(requests.size()));
  };
}

// How many of the first completions belong to problems of which all are complete.
std::size_t OfWholeProblems(const std::vector<Request>& requests, const std::vector<Completion>& completions,
                            int samples) {
  const auto [request, completion] = std::ranges::mismatch(requests, completions, IsComplete);
  const auto complete = static_cast<std::size_t>(request - requests.begin());
  return complete - complete % static_cast<std::size_t>(samples);
}

}  // namespace

std::int64_t ProblemsOf(const Task& task, const EvaluateOptions& options) {
  return options.problems == 0 ? task.size() : std::min(options.problems, task.size());
}

std::vector<MemoryPart> EvaluateParts(const ModelConfig& config, DType dtype, Device device, const Task& task,
                                      const EvaluateOptions& options) {
  const std::int64_t requests = Product({ProblemsOf(task, options), options.samples});
  std::vector<MemoryPart> parts = DecodeParts(config, dtype, device,
                                              {.slots = options.slots,
                                               .requests = requests,
                                               .max_length = options.max_completion_length + 1,
                                               .value = options.slots});
  const std::int64_t each = sizeof(Request) + sizeof(Completion) + sizeof(EvaluatedCompletion);
  parts.push_back(CompletionsPart(requests, each, "--samples", options.samples));
  return parts;
}

std::vector<EvaluatedCompletion> Evaluate(Context& ctx, const Transformer& model, const Tokenizer& tokenizer,
                                          const Task& task, const EvaluateOptions& options) {
  SWARR_CHECK(options.max_completion_length > 0,
              "an evaluation needs max_completion_length, of which completion_limit() of the task may tell");
  const std::int64_t problems = ProblemsOf(task, options);
  std::vector<Request> requests;
  std::size_t longest = 0;
  for (std::int64_t p = 0; p < problems; ++p) {
    const std::vector<std::int32_t> prompt = tokenizer.EncodePrompt(task.Get(p, 0).prompt);
    longest = std::max(longest, prompt.size());
    for (int s = 0; s < options.samples; ++s) {
      requests.push_back({prompt, options.max_completion_length, options.temperature,
                          StreamKey(options.seed, options.purpose, options.step, static_cast<std::uint32_t>(p),
                                    static_cast<std::uint32_t>(s))});
    }
  }
  const int max_length = static_cast<int>(longest) + options.max_completion_length;
  ResetStep(ctx);  // so that the slots are chosen by what is free; a caller holds no step memory here
  Decoder decoder(model, SlotsFor(model, options.slots, static_cast<std::int64_t>(requests.size()), max_length),
                  max_length);
  std::vector<Completion> completions = Generate(ctx, options.ranks, decoder, requests, options.samples,
                                                 Counting(model, requests, options), options.stop);
  completions.resize(OfWholeProblems(requests, completions, options.samples));
  CheckFinite(completions);
  std::vector<EvaluatedCompletion> results;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    Completion& c = completions[i];
    const std::int64_t p = static_cast<std::int64_t>(i) / options.samples;
    std::vector<std::int32_t> tokens = c.tokens;
    const bool at_token = CutAtStopToken(tokens, tokenizer, options.stop_texts);
    std::string text = tokenizer.Decode(tokens, /*skip_special=*/true);
    const bool finished = CutAtStop(text, options.stop_texts) || at_token || c.finished;
    const double reward = task.Reward(task.Get(p, 0), text, finished);
    std::string answer = task.Extract(text);
    results.push_back({p, std::move(text), std::move(answer), std::move(c), finished, reward});
  }
  return results;
}

LogprobGap CompareWithTraining(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                               const std::vector<EvaluatedCompletion>& completions) {
  constexpr std::size_t kDocuments = 32;  // of a pass
  LogprobGap gap;
  for (std::size_t begin = 0; begin < completions.size(); begin += kDocuments) {
    const auto part = std::span(completions).subspan(begin, std::min(kDocuments, completions.size() - begin));
    std::vector<Document> documents;
    for (const EvaluatedCompletion& c : part) {
      std::vector<std::int32_t> tokens = tokenizer.EncodePrompt(task.Get(c.problem, 0).prompt);
      const auto prompt = static_cast<int>(tokens.size());
      tokens.insert(tokens.end(), c.drawn.tokens.begin(), c.drawn.tokens.end());
      documents.push_back({std::move(tokens), prompt});
    }
    ResetStep(ctx);
    const PackedPass pass = ForwardPacked(ctx, model, documents, /*checkpoint_blocks=*/false);
    Wait(ctx);
    DispatchSum(pass.result.logp.value.dtype(), [&]<class T>() {
      for (std::size_t d = 0; d < part.size(); ++d) {
        const T* logp =
            pass.result.logp.value.data<T>() + pass.packed.first_row(d) + documents[d].first_predicting_row();
        for (const double sampled : part[d].drawn.logp) {
          const double distance = std::abs(sampled - static_cast<double>(*logp++));
          gap.mean += distance;
          gap.largest = std::max(gap.largest, distance);
          ++gap.tokens;
        }
      }
    });
  }
  gap.mean /= static_cast<double>(std::max<std::int64_t>(1, gap.tokens));
  return gap;
}

AccuracySummary Summarize(const std::vector<EvaluatedCompletion>& completions, int samples) {
  AccuracySummary sum{};
  for (const EvaluatedCompletion& c : completions) {
    sum.accuracy += Correct(c);
    sum.mean_length += c.tokens();
    sum.truncated += !c.finished;
    sum.extracted += !c.answer.empty();
  }
  const auto k = static_cast<std::ptrdiff_t>(samples);
  for (auto begin = completions.begin(); begin != completions.end(); begin += k) {
    const auto end = begin + k;
    const auto votes = [&](const EvaluatedCompletion& c) {
      if (c.answer.empty()) return std::ptrdiff_t{0};
      return std::count_if(begin, end, [&](const EvaluatedCompletion& other) { return other.answer == c.answer; });
    };
    const auto winner = std::max_element(begin, end, [&](const auto& a, const auto& b) { return votes(a) < votes(b); });
    sum.majority_at_k += Correct(*winner);
  }
  const double n = static_cast<double>(std::max<std::size_t>(1, completions.size())), problems = n / samples;
  for (double* mean : {&sum.accuracy, &sum.mean_length, &sum.truncated, &sum.extracted}) *mean /= n;
  sum.majority_at_k /= problems;
  return sum;
}

double PassAtK(int n, int c, int k) {
  SWARR_CHECK(0 <= c && c <= n && 1 <= k && k <= n, "there is no pass@", k, " of ", n, " samples with ", c, " correct");
  // C(n - c, k) / C(n, k) = prod (1 - k / i) over i = n - c + 1 .. n; 0 if fewer than k are wrong.
  if (n - c < k) return 1.0;
  double all_wrong = 1.0;
  for (int i = n - c + 1; i <= n; ++i) all_wrong *= 1.0 - static_cast<double>(k) / i;
  return 1.0 - all_wrong;
}

double PassAtK(const std::vector<EvaluatedCompletion>& completions, int samples, int k) {
  const auto size = static_cast<std::ptrdiff_t>(samples);
  double sum = 0;
  for (auto begin = completions.begin(); begin != completions.end(); begin += size) {
    sum += PassAtK(samples, static_cast<int>(std::count_if(begin, begin + size, Correct)), k);
  }
  return sum * samples / static_cast<double>(std::max<std::size_t>(1, completions.size()));
}

double ShareRight(const std::vector<EvaluatedCompletion>& completions, const Task& task, const RewardRule& rule) {
  double right = 0;
  for (const EvaluatedCompletion& c : completions) {
    right += rule.verify(task.Get(c.problem, 0).answer, c.text, /*finished=*/true).reward == 1.0;
  }
  return right / static_cast<double>(std::max<std::size_t>(1, completions.size()));
}

}  // namespace swarr
