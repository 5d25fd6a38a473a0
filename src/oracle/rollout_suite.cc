// SPDX-License-Identifier: Apache-2.0
// The suite `rollout`: prompts to sampled tokens and their log-probabilities.
#include <algorithm>

#include "oracle/rollout_rule.h"
#include "tensor/bf16.h"
#include "tensor/kernels/math.h"

namespace swarr::oracle {
namespace {

// A chosen token leads by this many logits, so that logits may be wrong by half of it. In bf16 the product's are wrong
// by less than 0.1 here.
constexpr double kMargin = 0.375;
constexpr std::int32_t kNoToken = -1;

// The noise of tensor/ops.h's SampleForward with 8 significant bits, as all inputs of the oracle; the margin is wide
// enough for the rest.
Value GumbelNoise(std::uint64_t key, std::int64_t first_position, std::int64_t count, std::int64_t V) {
  Value noise = Zeros({count, V});
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::int64_t v = 0; v < V; ++v) {
      const PhiloxWords words =
          Philox(key, {static_cast<std::uint32_t>(v / 4), static_cast<std::uint32_t>(first_position + t), 0, 0});
      const double g = -Log(-Log(UniformFrom(words[static_cast<std::size_t>(v % 4)])));
      noise.data[static_cast<std::size_t>(t * V + v)] = static_cast<double>(static_cast<float>(BFloat16(g)));
    }
  }
  return noise;
}

Tokens PromptOf(const Values& inputs, std::int64_t n) {
  const Value& prompts = inputs.at("prompts");
  const auto row = prompts.data.begin() + n * prompts.dim(1);
  Tokens prompt;
  for (auto id = row; id != row + prompts.dim(1) && *id != kNoToken; ++id) {
    prompt.push_back(static_cast<std::int32_t>(*id));
  }
  return prompt;
}

// --- the mistakes beside the models' ---

struct RolloutMistake {
  const char* name;
  void (*make)(RolloutRule& rule, Values& inputs);
};

// Prompts of equal length, filled up in front.
void PadInFront(Values& inputs) {
  Value& prompts = inputs.at("prompts");
  for (std::int64_t n = 0; n < prompts.dim(0); ++n) {
    const auto begin = prompts.data.begin() + n * prompts.dim(1), end = begin + prompts.dim(1);
    std::rotate(begin, std::find(begin, end, kNoToken), end);
    std::replace(begin, end, static_cast<double>(kNoToken), 0.0);
  }
}

void FirstNoiseForAll(Values& inputs) {
  Value& noise = inputs.at("noise");
  const std::int64_t size = noise.dim(1) * noise.dim(2);
  for (std::int64_t n = 1; n < noise.dim(0); ++n) {
    std::copy_n(noise.data.begin(), size, noise.data.begin() + n * size);
  }
}

constexpr RolloutMistake kMistakes[] = {
    {"log-probabilities at the sampling temperature",
     [](RolloutRule& r, Values&) { r.recorded = Recorded::kTempered; }},
    {"logits recorded instead of log-probabilities", [](RolloutRule& r, Values&) { r.recorded = Recorded::kLogit; }},
    {"log-probabilities by the logits after the token, one row late",
     [](RolloutRule& r, Values&) { r.recorded = Recorded::kNextRow; }},
    {"logits multiplied by the temperature instead of divided",
     [](RolloutRule& r, Values&) {
       if (r.temperature != 0) r.temperature = 1 / r.temperature;
     }},
    {"temperature ignored: sampling at 1",
     [](RolloutRule& r, Values&) {
       if (r.temperature != 0) r.temperature = 1;
     }},
    {"noise ignored: the most likely token", [](RolloutRule& r, Values&) { r.noise_factor = 0; }},
    {"noise subtracted", [](RolloutRule& r, Values&) { r.noise_factor = -1; }},
    {"noise at temperature 0 too", [](RolloutRule& r, Values&) { r.noise_when_greedy = true; }},
    {"noise added to probabilities instead of logits",
     [](RolloutRule& r, Values&) { r.scores = Scores::kProbabilities; }},
    {"the noise of the next token", [](RolloutRule& r, Values&) { r.noise_shift = 1; }},
    {"the first sequence's noise for all", [](RolloutRule&, Values& inputs) { FirstNoiseForAll(inputs); }},
    {"no stop at the end of text", [](RolloutRule& r, Values&) { r.stops = false; }},
    {"the token that ends the text left out", [](RolloutRule& r, Values&) { r.records_end = false; }},
    {"the prompt's last token fed twice", [](RolloutRule& r, Values&) { r.repeats_last = true; }},
    {"the prompt's first token lost", [](RolloutRule& r, Values&) { r.loses_first = true; }},
    {"padding before shorter prompts seen as tokens", [](RolloutRule&, Values& inputs) { PadInFront(inputs); }},
};

Values Evaluate(const Context& ctx, const Case& c, const Values& given, const std::string& mistake, Noise& noise) {
  ModelConfig config = ConfigOf(c.parameters);
  Values inputs = given, weights = WeightsIn(given, config);
  RolloutRule rule;
  rule.temperature = c.parameters.at("temperature");
  for (const RolloutMistake& named : kMistakes) {
    if (mistake == named.name) named.make(rule, inputs);
  }
  for (const ModelMistake& named : AttentionMistakes()) {
    if (mistake == named.name) named.change(config, weights);
  }
  const auto model = ModelWith(config, weights, false);
  const Value& gumbel = inputs.at("noise");
  const std::int64_t B = gumbel.dim(0), M = gumbel.dim(1), V = gumbel.dim(2);
  Value tokens = Zeros({B, M}), logp = Zeros({B, M}), length = Zeros({B});
  tokens.integer = length.integer = true;
  std::fill(tokens.data.begin(), tokens.data.end(), kNoToken);
  for (std::int64_t n = 0; n < B; ++n) {
    const Rollout rollout = Continue(
        ctx, *model, PromptOf(inputs, n), M, [&](std::int64_t t) { return gumbel.data.data() + (n * M + t) * V; },
        rule);
    std::copy(rollout.tokens.begin(), rollout.tokens.end(), tokens.data.begin() + n * M);
    std::copy(rollout.logp.begin(), rollout.logp.end(), logp.data.begin() + n * M);
    length.data[static_cast<std::size_t>(n)] = static_cast<double>(rollout.tokens.size());
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

const std::vector<Setting>& Settings() {
  static const std::vector<Setting> settings = {
      {"greedy_window", "temperature 0, a window", 0, {{3, 0}, {3, 0}}},
      {"full", "temperature 1, full attention, a key head for each query head", 1, {{}, {}}, 2, 2},
      {"window", "temperature 1, a window", 1, {{4, 0}, {4, 0}}},
      {"sinks", "temperature 1, a window with sinks", 1, {{3, 2}, {3, 2}}},
      {"cool", "temperature 1/2, a window with sinks", 0.5, {{4, 1}, {4, 1}}},
      {"hot", "temperature 2, a window in the second layer alone", 2, {{}, {3, 0}}},
  };
  return settings;
}

constexpr std::int64_t kSequences = 3, kLongestPrompt = 6, kMostTokens = 6;
constexpr int kMostTries = 2000;

struct Sample {
  Tokens prompt;
  std::uint64_t key = 0;
  Value noise;
};

// The first sample, of those that the stream gives, whose tokens are all chosen with the margin. Unless it is greedy,
// the first sequence is one that the end of text ends.
Sample DecidedSample(const Transformer& model, PhiloxStream& random, double temperature, std::int64_t n) {
  Arena arena;
  Context ctx;
  ctx.arena = &arena;
  ctx.cpu = Cpu::kPortable;
  RolloutRule rule;
  rule.temperature = temperature;
  const int V = model.config().vocab;
  for (int tries = 0; tries < kMostTries; ++tries) {
    Sample sample;
    // Of 6, 4 and 2 tokens; without the one that ends texts, id 0.
    for (std::int64_t i = 0; i < kLongestPrompt - 2 * n; ++i) {
      sample.prompt.push_back(1 + static_cast<std::int32_t>(random.NextBelow(static_cast<std::uint32_t>(V - 1))));
    }
    sample.key = random.NextWord();
    sample.noise = GumbelNoise(sample.key, static_cast<std::int64_t>(sample.prompt.size()), kMostTokens, V);
    const Rollout rollout = Continue(
        ctx, model, sample.prompt, kMostTokens, [&](std::int64_t t) { return sample.noise.data.data() + t * V; }, rule,
        kMargin);
    const auto length = static_cast<std::int64_t>(rollout.tokens.size());
    const bool ends = length > 2 && length < kMostTokens;
    if (rollout.margin >= kMargin && (ends || n > 0 || temperature == 0)) return sample;
  }
  throw Error(Concat("no sample of the oracle's rollouts is decided by a lead of ", kMargin, " in ", kMostTries,
                     " tries; give the case another name, which gives it other weights"));
}

Case MakeCase(const Setting& s) {
  Case c{s.name, s.meaning, {}, {}, 1};
  ModelConfig config = SmallConfig(s.attention, s.heads, s.kv_heads);
  config.eos_id = 0;
  PhiloxStream random = StreamOf("rollout", s.name);
  c.inputs = RandomWeights(random, config);
  const auto model = ModelWith(config, c.inputs, false);
  Value prompts = Zeros({kSequences, kLongestPrompt}), noise = Zeros({kSequences, kMostTokens, config.vocab});
  prompts.integer = true;
  std::fill(prompts.data.begin(), prompts.data.end(), kNoToken);
  std::string keys;
  for (std::int64_t n = 0; n < kSequences; ++n) {
    const Sample sample = DecidedSample(*model, random, s.temperature, n);
    std::copy(sample.prompt.begin(), sample.prompt.end(), prompts.data.begin() + n * kLongestPrompt);
    std::copy(sample.noise.data.begin(), sample.noise.data.end(), noise.data.begin() + n * kMostTokens * config.vocab);
    keys += (n == 0 ? "" : " ") + std::to_string(sample.key);
  }
  c.inputs["prompts"] = prompts;
  c.inputs["noise"] = noise;
  c.parameters = ParametersOf(config);
  c.parameters["temperature"] = s.temperature;
  c.parameters["max_new_tokens"] = kMostTokens;
  c.parameters["noise_keys"] = keys;
  c.longest_sum = config.vocab;
  return c;
}

Family RolloutFamily() {
  Family f;
  f.name = "sampling";
  f.semantics = ModelSemantics();
  for (const std::string& sentence : {
           std::string(
               "Token t of sequence n is argmax_v z[v] / temperature + noise[n, t, v], z the logits after prompt "
               "and earlier tokens; at temperature 0 argmax_v z[v], without noise. Prompts have the positions "
               "from 0, tokens those after."),
           std::string("A sequence ends with eos_token_id, which is part of it, or after max_new_tokens. After the end "
                       "tokens are -1 and logp 0."),
           std::string("logp[n, t] = log softmax(z)[token] at temperature 1, whatever the temperature of the choice."),
           Concat("Every chosen token leads the next best by ", kMargin,
                  " logits (the lead of scores times the temperature): what a dtype moves decides nothing, and tokens "
                  "must be equal in all of them."),
           std::string("Once a token differs, what comes after it in its sequence is another text's: look at the first "
                       "difference. The suite `model` compares log-probabilities of given texts."),
           std::string("noise is Gumbel's, -log(-log u) rounded to 8 bits: u = (w + 1/2) 2^-32 with w word v mod 4 of "
                       "Philox4x32-10 under the n-th of noise_keys at the counter {v / 4, position, 0, 0}, position "
                       "that of the drawn token."),
       }) {
    f.semantics.push_back(sentence);
  }
  f.inputs = WeightInfos(false);
  f.inputs.push_back({"prompts", "[B, P]", "ids of each prompt, then -1", false});
  f.inputs.push_back({"noise", "[B, M, V]", "noise of each token to be drawn", false});
  f.outputs = {{"tokens", "[B, M]", "drawn tokens, then -1", false},
               {"length", "[B]", "how many tokens were drawn", false},
               {"logp", "[B, M]", "log-probability of each drawn token, then 0", false}};
  // As in the suite `model`.
  f.roundings = {{"input of a weight", "output of a weight", "output after RoPE, softmax or the residual sum"}, {}};
  for (const ModelMistake& mistake : AttentionMistakes()) f.mistakes.emplace_back(mistake.name);
  for (const RolloutMistake& mistake : kMistakes) f.mistakes.emplace_back(mistake.name);
  for (const Setting& setting : Settings()) f.cases.push_back(MakeCase(setting));
  f.evaluate = Evaluate;
  return f;
}

}  // namespace

Suite RolloutSuite() {
  return {"rollout", "Prompts to sampled tokens and their log-probabilities under the model.", {RolloutFamily()}};
}

}  // namespace swarr::oracle
