// SPDX-License-Identifier: Apache-2.0
// An objective on a padded batch, with what an implementation may get wrong as a switch. The truth is rl/objective.h
// applied to the tokens that the mask lets through; mistakes have formulas of their own, which with all switches as
// they are by default give the same.
#pragma once

#include "oracle/suite.h"
#include "rl/objective.h"

namespace swarr::oracle {

enum class Tokens : std::uint8_t { kMasked, kNoLast, kNoFirst, kAll };  // in the loss
enum class Groups : std::uint8_t { kConsecutive, kOne, kInterleaved };
// What the normaliser counts.
enum class Count : std::uint8_t {
  kSampled,
  kPadded,  // masked tokens too: in token-mean, in sequence-mean, or in both
  kPaddedInTokenMean,
  kPaddedInSequenceMean,
  kNoEmpty,
  kByGroup,
  kLongestSampled,  // these two in place of max_completion_length
  kPaddedWidth
};
enum class Choice : std::uint8_t { kMinimum, kClipped, kMaximum };  // between a product and its clipped form
enum class Whitened : std::uint8_t { kTogether, kByGroup, kWithPadding };

// Of rewards and what becomes of them.
struct AdvantageMistakes {
  bool bessel = true, whiten_bessel = true;
  double scale_epsilon = 1e-4;
  bool epsilon_in_root = false;          // sqrt(variance + epsilon)
  bool baseline_undivided = false;       // r / s - baseline
  bool others_divided_by_group = false;  // the sum of the others over G in place of G - 1
  Whitened whitened = Whitened::kTogether;
  bool own_kl_to_go = true;  // of the token itself, beside the later ones
  double sign = 1;
};

// Of the policy's term.
struct PolicyMistakes {
  bool inverse_ratio = false;
  bool ratio_is_one = false;          // exp(logp - logp.detach())
  bool sequence_cut = false;          // log of a sequence's ratio at most 10
  bool sequence_by_token = false;     // the derivative of a sequence's ratio taken token by token
  bool ratio_in_gradient = true;      // of a clipped objective of token ratios
  Choice choice = Choice::kMinimum;   // of clip = ppo, as is the next
  bool dual_clip = false;             // -3 A at most where A < 0
  bool weight_clipped_below = false;  // of clip = weight, as is the next
  bool gradient_through_weight = false;
};

struct KlMistakes {
  bool turned = false, turned_in_loss = false, k3_turned = false;
  bool k3_cut = false;  // at 10
  bool from_old = false;
  bool gradient = true;
};

struct LossRule {
  ObjectiveOptions options;
  bool truth = false;  // by rl/objective.h; then everything below is as it is by default
  Tokens tokens = Tokens::kMasked;
  Groups groups = Groups::kConsecutive;
  Count count = Count::kSampled;
  AdvantageMistakes advantages;
  PolicyMistakes policy;
  KlMistakes kl;

  // Where there is a ratio, or a clip, to mistake.
  void SetRatio(RatioKind ratio);
  void SetClip(ClipKind clip);
};

// Inputs and outputs as the loss suite names them.
Values EvaluateLoss(const Values& inputs, const LossRule& rule, int group_size, Noise& noise);

// --- the formulas of mistakes ---

// Advantages() of rl/objective.h. `padding` is the number of tokens that the mask has left out.
std::vector<double> MistakenAdvantages(const SampledTokens& sampled, const LossRule& rule, std::size_t padding);

// What EvaluateCompletion() of rl/objective.h writes to `term` and `dlogp`, in two parts: the policy's; KL and entropy.
void MistakenPolicy(const CompletionTokens& c, const LossRule& rule);
void MistakenRest(const CompletionTokens& c, const LossRule& rule);

// EvaluateKl() of rl/objective.h, with the mistakes that are everywhere where there is a KL.
KlTerm MistakenKl(double d, const LossRule& rule);

}  // namespace swarr::oracle
