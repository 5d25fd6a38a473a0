// SPDX-License-Identifier: Apache-2.0
// The suite `rollout`: prompts to sampled tokens and their log-probabilities.
#include <algorithm>
#include <cmath>
#include <utility>

#include "oracle/suites/small_models.h"
#include "tensor/bf16.h"
#include "tensor/kernels/math.h"

namespace swarr::oracle {
namespace rollout_suite {

using Tokens = std::vector<std::int32_t>;

// --- rollouts without a cache: the model runs over the whole text again for each token ---

// By default the switches are right: then these are the tokens that model/decoder.h draws, and a test holds it to that.
enum class Recorded : std::uint8_t {
  kModel,     // right: log softmax(z) at temperature 1
  kTempered,  // log softmax(z / temperature)
  kLogit,     // z
  kNextRow,   // log softmax of the logits after the token itself
};

struct RolloutRule : ModelRule {
  double temperature = 1;  // 0: greedy, without noise
  double noise_factor = 1;
  bool noise_when_greedy = false;
  std::int64_t noise_shift = 0;         // the t-th token takes the noise of t + noise_shift, as far as there is
  bool noise_on_probabilities = false;  // softmax(z / temperature) + noise, not z / temperature + noise
  Recorded recorded = Recorded::kModel;
  bool stops = true;          // at the end of text
  bool records_end = true;    // the token that ends the text is part of the completion
  bool repeats_last = false;  // the prompt's last token comes twice
  bool loses_first = false;   // the prompt's first token is missing, unless it is alone
};

struct Rollout {
  Tokens tokens;
  std::vector<double> logp;
  double margin = HUGE_VAL;  // least lead of a chosen token before the next best, in logits
};

double LogSumExp(std::span<const double> z, double scale) {
  const double largest = *std::ranges::max_element(z);
  double sum = 0;
  for (const double logit : z) sum += Exp((logit - largest) * scale);
  return largest * scale + Log(sum);
}

std::vector<double> ScoresOf(std::span<const double> z, std::span<const double> noise, const RolloutRule& rule) {
  const bool greedy = rule.temperature == 0;
  const double scale = greedy ? 1 : 1 / rule.temperature, lse = LogSumExp(z, scale);
  std::vector<double> scores;
  for (std::size_t v = 0; v < z.size(); ++v) {
    double& score = scores.emplace_back(z[v] * scale);
    if (!greedy && rule.noise_on_probabilities) score = Exp(score - lse);
    if (!greedy || rule.noise_when_greedy) score += rule.noise_factor * noise[v];
  }
  return scores;
}

// The first of the largest, and its lead before the next best.
std::pair<std::int32_t, double> Choose(std::vector<double> scores) {
  const auto best = std::ranges::max_element(scores);
  const double largest = std::exchange(*best, -HUGE_VAL);
  return {static_cast<std::int32_t>(best - scores.begin()), largest - *std::ranges::max_element(scores)};
}

// What is recorded for each token, from the logits of prompt and completion.
std::vector<double> Record(const Value& logits, std::int64_t prompt, const Tokens& tokens, const RolloutRule& rule) {
  const double scale = rule.recorded == Recorded::kTempered && rule.temperature != 0 ? 1 / rule.temperature : 1;
  const std::int64_t first = rule.recorded == Recorded::kNextRow ? prompt : prompt - 1;
  std::vector<double> logp;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::span<const double> z = logits.Row(first + static_cast<std::int64_t>(t));
    const double lse = rule.recorded == Recorded::kLogit ? 0 : LogSumExp(z, scale);
    logp.push_back(z[static_cast<std::size_t>(tokens[t])] * scale - lse);
  }
  return logp;
}

// A continuation with a token for each row of `noise` [M, V] at most. Gives up early where a lead is below
// `least_margin`.
Rollout Continue(const Context& ctx, const Transformer& model, Tokens text, const Value& noise, const RolloutRule& rule,
                 double least_margin = 0) {
  if (rule.repeats_last) text.push_back(text.back());
  if (rule.loses_first && text.size() > 1) text.erase(text.begin());
  const auto begin = static_cast<std::int64_t>(text.size());
  const double unit = rule.temperature == 0 ? 1 : rule.temperature;
  Rollout rollout;
  for (std::int64_t t = 0; t < noise.dim(0); ++t) {
    const Value logits = LogitsOf(ctx, model, text);
    const std::span<const double> drawn = noise.Row(std::min(t + rule.noise_shift, noise.dim(0) - 1));
    const auto [token, lead] = Choose(ScoresOf(logits.Row(logits.dim(0) - 1), drawn, rule));
    rollout.margin = std::min(rollout.margin, lead * unit);
    if (rollout.margin < least_margin) return rollout;
    text.push_back(token);
    if (rule.stops && model.config().Stops(token)) break;
  }
  rollout.tokens.assign(text.begin() + begin, text.end());
  rollout.logp = Record(LogitsOf(ctx, model, text), begin, rollout.tokens, rule);
  if (!rule.records_end && model.config().Stops(rollout.tokens.back())) {
    rollout.tokens.pop_back();
    rollout.logp.pop_back();
  }
  return rollout;
}

// --- the cases' prompts and noise ---

// A chosen token leads by this many logits, so that logits may be wrong by half as much. The product's in bf16 are
// wrong by less than 0.1 here.
constexpr double kMargin = 0.375;
constexpr std::int32_t kNoToken = -1;

// The noise of SampleForward (tensor/ops.h), rounded to 8 significant bits, as all inputs of the oracle have. The
// margin covers the difference.
Value GumbelNoise(std::uint64_t key, std::int64_t first_position, std::int64_t count, std::int64_t V) {
  Value noise = Zeros({count, V});
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::int64_t v = 0; v < V; ++v) {
      const PhiloxWords words =
          Philox(key, {static_cast<std::uint32_t>(v / 4), static_cast<std::uint32_t>(first_position + t), 0, 0});
      const double g = -Log(-Log(UniformFrom(words[static_cast<std::size_t>(v % 4)])));
      noise(t, v) = static_cast<double>(static_cast<float>(BFloat16(g)));
    }
  }
  return noise;
}

Tokens PromptOf(const Values& inputs, std::int64_t n) {
  Tokens prompt;
  for (const double id : inputs.at("prompts").Row(n)) {
    if (id != kNoToken) prompt.push_back(static_cast<std::int32_t>(id));
  }
  return prompt;
}

// [rows, columns] of ids with no token anywhere.
Value NoTokens(std::int64_t rows, std::int64_t columns) {
  Value ids = Zeros({rows, columns});
  ids.integer = true;
  std::ranges::fill(ids.data, kNoToken);
  return ids;
}

// --- the mistakes beside the models' ---

// Prompts of equal length, filled up in front.
void PadInFront(RolloutRule& r) {
  Value& prompts = r.inputs.at("prompts");
  for (std::int64_t n = 0; n < prompts.dim(0); ++n) {
    const std::span<double> row = prompts.Row(n);
    std::rotate(row.begin(), std::ranges::find(row, kNoToken), row.end());
    std::ranges::replace(row, kNoToken, 0.0);
  }
}

// The same at the end: the text goes on behind the padding.
void PadBehind(RolloutRule& r) {
  for (double& id : r.inputs.at("prompts").data) id = id == kNoToken ? 0 : id;
}

void FirstNoiseForAll(RolloutRule& r) {
  Value& noise = r.inputs.at("noise");
  for (std::int64_t n = 1; n < noise.dim(0); ++n) std::ranges::copy(noise.Row(0), noise.Row(n).begin());
}

constexpr Mistake<RolloutRule> kMistakes[] = {
    {"log-probabilities at the sampling temperature", [](RolloutRule& r) { r.recorded = Recorded::kTempered; }},
    {"logits recorded instead of log-probabilities", [](RolloutRule& r) { r.recorded = Recorded::kLogit; }},
    {"log-probabilities by the logits after the token, one row late",
     [](RolloutRule& r) { r.recorded = Recorded::kNextRow; }},
    {"logits multiplied by the temperature instead of divided",
     [](RolloutRule& r) { r.temperature = r.temperature == 0 ? 0 : 1 / r.temperature; }},
    {"temperature ignored: sampling at 1", [](RolloutRule& r) { r.temperature = r.temperature == 0 ? 0 : 1; }},
    {"noise ignored: the most likely token", [](RolloutRule& r) { r.noise_factor = 0; }},
    {"noise subtracted", [](RolloutRule& r) { r.noise_factor = -1; }},
    {"noise at temperature 0 too", [](RolloutRule& r) { r.noise_when_greedy = true; }},
    {"noise added to probabilities instead of logits", [](RolloutRule& r) { r.noise_on_probabilities = true; }},
    {"the noise of the next token", [](RolloutRule& r) { r.noise_shift = 1; }},
    {"the first sequence's noise for all: cloned seeds", FirstNoiseForAll},
    {"no stop at the end of text", [](RolloutRule& r) { r.stops = false; }},
    {"the token that ends the text left out", [](RolloutRule& r) { r.records_end = false; }},
    {"the prompt's last token fed twice", [](RolloutRule& r) { r.repeats_last = true; }},
    {"the prompt's first token lost", [](RolloutRule& r) { r.loses_first = true; }},
    {"padding before shorter prompts seen as tokens", PadInFront},
    {"padding behind shorter prompts seen as tokens: generation goes on after it", PadBehind},
};

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  RolloutRule rule{{ConfigOf(c), inputs}, c.Number("temperature")};
  rule = WithMistake(WithMistake(rule, AttentionMistakes(), mistake), kMistakes, mistake);
  const auto model = ModelWith(rule.config, rule.inputs, false);
  const Value& gumbel = rule.inputs.at("noise");
  const std::int64_t B = gumbel.dim(0), M = gumbel.dim(1), V = gumbel.dim(2);
  Value tokens = NoTokens(B, M), logp = Zeros({B, M}), length = Zeros({B});
  length.integer = true;
  for (std::int64_t n = 0; n < B; ++n) {
    const Value drawn{{M, V}, {gumbel.Row(n).begin(), gumbel.Row(n).end()}, false};
    const Rollout rollout = Continue(ctx, *model, PromptOf(rule.inputs, n), drawn, rule);
    std::ranges::copy(rollout.tokens, tokens.Row(n).begin());
    std::ranges::copy(rollout.logp, logp.Row(n).begin());
    length(n) = static_cast<double>(rollout.tokens.size());
  }
  noise.Disturb(logp);
  return {{"tokens", tokens}, {"logp", logp}, {"length", length}};
}

// --- the cases ---

struct Setting {
  const char* name;
  const char* meaning;
  double temperature;
  std::vector<AttentionSpec> attention;
  int heads = 4, kv_heads = 2;
};

const Setting kSettings[] = {
    {"greedy_window", "temperature 0, a window", 0, {{3, 0}, {3, 0}}},
    {"full", "temperature 1, full attention, a key head for each query head", 1, {{}, {}}, 2, 2},
    {"window", "temperature 1, a window", 1, {{4, 0}, {4, 0}}},
    {"sinks", "temperature 1, a window with sinks", 1, {{3, 2}, {3, 2}}},
    {"cool", "temperature 1/2, a window with sinks", 0.5, {{4, 1}, {4, 1}}},
    {"hot", "temperature 2, a window in the second layer alone", 2, {{}, {3, 0}}},
};

constexpr std::int64_t kSequences = 3, kLongestPrompt = 6, kMostTokens = 6;
constexpr int kMostTries = 2000;

struct Sample {
  Tokens prompt;
  std::uint64_t key = 0;
  Value noise;
};

// The first sample from the stream whose tokens are all chosen with the margin. Unless sampling is greedy, the first
// sequence must be ended by the end of text.
Sample DecidedSample(const Transformer& model, PhiloxStream& random, double temperature, std::int64_t n) {
  Arena arena;
  const Context ctx{.arena = &arena, .cpu = Cpu::kPortable};
  const RolloutRule rule{{}, temperature};
  const int V = model.config().vocab;
  for (int tries = 0; tries < kMostTries; ++tries) {
    Sample sample;
    // Prompts have 6, 4 and 2 tokens, and never id 0, which ends texts.
    for (std::int64_t i = 0; i < kLongestPrompt - 2 * n; ++i) {
      sample.prompt.push_back(1 + static_cast<std::int32_t>(random.NextBelow(static_cast<std::uint32_t>(V - 1))));
    }
    sample.key = random.NextWord();
    sample.noise = GumbelNoise(sample.key, static_cast<std::int64_t>(sample.prompt.size()), kMostTokens, V);
    const Rollout rollout = Continue(ctx, model, sample.prompt, sample.noise, rule, kMargin);
    const auto length = static_cast<std::int64_t>(rollout.tokens.size());
    const bool ends = length > 2 && length < kMostTokens;
    if (rollout.margin >= kMargin && (ends || n > 0 || temperature == 0)) return sample;
  }
  throw Error(Concat("no sample of the oracle's rollouts is decided by a lead of ", kMargin, " in ", kMostTries,
                     " tries; give the case another name, which gives it other weights"));
}

Case MakeCase(const Setting& s) {
  ModelConfig config = SmallConfig(s.attention, s.heads, s.kv_heads);
  config.eos_id = 0;
  PhiloxStream random = StreamOf("rollout", s.name);
  Case c{s.name, s.meaning, ParametersOf(config), RandomWeights(random, config), config.vocab};
  const auto model = ModelWith(config, c.inputs, false);
  Value prompts = NoTokens(kSequences, kLongestPrompt), noise = Zeros({kSequences, kMostTokens, config.vocab});
  std::string keys;
  for (std::int64_t n = 0; n < kSequences; ++n) {
    const Sample sample = DecidedSample(*model, random, s.temperature, n);
    std::ranges::copy(sample.prompt, prompts.Row(n).begin());
    std::ranges::copy(sample.noise.data, noise.Row(n).begin());
    keys += (n == 0 ? "" : " ") + std::to_string(sample.key);
  }
  c.inputs["prompts"] = prompts;
  c.inputs["noise"] = noise;
  c.parameters["temperature"] = s.temperature;
  c.parameters["max_new_tokens"] = kMostTokens;
  c.parameters["noise_keys"] = keys;
  return c;
}

}  // namespace rollout_suite

Suite RolloutSuite() {
  using namespace rollout_suite;
  Family f{
      .name = "sampling",
      .semantics =
          Joined(ModelSemantics(),
                 {"Token t of sequence n is argmax_v z[v] / temperature + noise[n, t, v], z the logits after prompt "
                  "and earlier tokens; at temperature 0 argmax_v z[v], without noise. Prompts have the positions from "
                  "0, tokens those after.",
                  "A sequence ends with eos_token_id, which is part of it, or after max_new_tokens. After the end "
                  "tokens are -1 and logp 0.",
                  "logp[n, t] = log softmax(z)[token] at temperature 1, whatever the temperature of the choice.",
                  Concat("Every chosen token leads the next best by ", kMargin,
                         " logits (the lead of scores times the temperature): what a dtype moves decides nothing, and "
                         "tokens must be equal in all of them."),
                  "Once a token differs, what comes after it in its sequence is another text's: look at the first "
                  "difference. The suite `model` compares log-probabilities of given texts.",
                  "noise is Gumbel's, -log(-log u) rounded to 8 bits: u = (w + 1/2) 2^-32 with w word v mod 4 of "
                  "Philox4x32-10 under the n-th of noise_keys at the counter {v / 4, position, 0, 0}, position that of "
                  "the drawn token."}),
      .inputs = Joined(WeightInfos(false), {{"prompts", "[B, P]", "ids of each prompt, then -1"},
                                            {"noise", "[B, M, V]", "noise of each token to be drawn"}}),
      .outputs = {{"tokens", "[B, M]", "drawn tokens, then -1"},
                  {"length", "[B]", "how many tokens were drawn"},
                  {"logp", "[B, M]", "log-probability of each drawn token, then 0"}},
      // As in the suite `model`.
      .roundings = {{"input of a weight", "output of a weight", "output after RoPE, softmax or the residual sum"}, {}},
      .mistakes = NamesOf(AttentionMistakes(), kMistakes),
      .cases = CasesOf(kSettings, MakeCase),
      .evaluate = Evaluate};
  return {"rollout", "Prompts to sampled tokens and their log-probabilities under the model.", {std::move(f)}};
}

}  // namespace swarr::oracle
