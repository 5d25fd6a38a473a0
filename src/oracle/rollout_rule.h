// SPDX-License-Identifier: Apache-2.0
// Rollouts without a cache: the model runs over the whole text again for each token. With all switches as they are by
// default it draws what model/decoder.h draws, which a test holds it to.
#pragma once

#include <functional>

#include "oracle/small_models.h"

namespace swarr::oracle {

using Tokens = std::vector<std::int32_t>;

// A sample's noise: [V] numbers for the t-th token, t from 0.
using NoiseOf = std::function<const double*(std::int64_t t)>;

enum class Scores : std::uint8_t {
  kLogits,         // right: z / temperature + noise
  kProbabilities,  // softmax(z / temperature) + noise
};
enum class Recorded : std::uint8_t {
  kModel,     // right: log softmax(z) at temperature 1
  kTempered,  // log softmax(z / temperature)
  kLogit,     // z
  kNextRow,   // log softmax of the logits after the token itself
};

struct RolloutRule {
  double temperature = 1;  // 0: greedy, without noise
  double noise_factor = 1;
  bool noise_when_greedy = false;
  std::int64_t noise_shift = 0;  // the t-th token takes the noise of t + noise_shift, as far as there is
  Scores scores = Scores::kLogits;
  Recorded recorded = Recorded::kModel;
  bool stops = true;          // at the end of text
  bool records_end = true;    // the token that ends the text is part of the completion
  bool repeats_last = false;  // the prompt's last token comes twice
  bool loses_first = false;   // the prompt's first token is missing, unless it is alone
};

struct Rollout {
  Tokens tokens;
  std::vector<double> logp;
  double margin = 0;  // least lead of a chosen token before the next best, in logits
};

// A continuation by up to `most` tokens. Gives up early where a lead is below `least_margin`.
Rollout Continue(const Context& ctx, const Transformer& model, const Tokens& prompt, std::int64_t most,
                 const NoiseOf& noise, const RolloutRule& rule, double least_margin = 0);

}  // namespace swarr::oracle
