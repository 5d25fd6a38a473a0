// SPDX-License-Identifier: Apache-2.0
// An objective on a padded batch, with a switch for everything that an implementation may get wrong. The truth is
// rl/objective.h on the tokens that the mask lets through. Mistakes have formulas of their own, which give the same
// where all switches are right, as they are by default.
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
// Completions of max_completion_length tokens, which may have been cut off: in the loss; left out of it; or left out of
// it and counted in the normaliser.
enum class Longest : std::uint8_t { kKept, kLeftOut, kCountedAlone };

struct LossRule : ObjectiveOptions {
  bool truth = false;  // by rl/objective.h; then everything below is as it is by default
  Tokens tokens = Tokens::kMasked;
  Groups groups = Groups::kConsecutive;
  Count count = Count::kSampled;
  // Rewards and what becomes of them.
  bool bessel = true, whiten_bessel = true;
  double scale_epsilon = 1e-4;
  bool epsilon_in_root = false;          // sqrt(variance + epsilon)
  bool baseline_undivided = false;       // r / s - baseline
  bool others_divided_by_group = false;  // the sum of the others over G in place of G - 1
  Whitened whitened = Whitened::kTogether;
  bool own_kl_to_go = true;    // the token's own, beside the later ones
  bool to_go_cut = false;      // the later ones up to the next masked token
  bool empty_in_group = true;  // completions without tokens count in their group's mean and deviation
  double sign = 1;
  // The policy's term.
  bool negated = false;  // A in place of -A
  bool inverse_ratio = false;
  bool ratio_is_one = false;             // exp(logp - logp.detach())
  bool ratios_added = false;             // a sequence's ratio is the sum, or the mean, of its tokens'
  bool sequence_cut = false;             // the logarithm of a sequence's ratio is at most 10
  bool sequence_by_token = false;        // the derivative of a sequence's ratio is taken token by token
  bool ratio_in_gradient = true;         // in a clipped objective of token ratios
  Choice choice = Choice::kMinimum;      // in clip = ppo
  bool dual_clip = false;                // in clip = ppo: -3 A at most where A < 0
  bool weight_clipped_below = false;     // in clip = weight
  bool gradient_through_weight = false;  // in clip = weight
  // The KL.
  bool kl_turned = false, kl_turned_in_loss = false, k3_turned = false;
  bool k3_cut = false;  // at 10
  bool kl_from_old = false;
  bool kl_gradient = true;
  bool kl_score = false;         // KL dlog p in the gradient too, as of a constant reward
  bool kl_times_ratio = false;   // in the loss
  bool kl_over_padding = false;  // in the loss: beta times the mean over all B T positions
  // The normaliser.
  Longest longest = Longest::kKept;
  bool constant_counts_completions = true;  // in constant
  double divided = 1;                       // loss and gradients, once more

  // Where there is a ratio, or a clip, to mistake.
  void SetRatio(RatioKind kind) {
    if (ratio == RatioKind::kNone) return;
    ratio = kind;
    if (ratio == RatioKind::kNone) clip = ClipKind::kNone;
  }
  void SetClip(ClipKind kind) {
    if (clip != ClipKind::kNone) clip = kind;
  }
};

// EvaluateKl() of rl/objective.h, with the mistakes that are everywhere where there is a KL.
KlTerm MistakenKl(double d, const LossRule& rule);

// Advantages() of rl/objective.h. `places` are those of the tokens, `padding` how many the mask has left out.
std::vector<double> MistakenAdvantages(const SampledTokens& sampled, std::span<const std::size_t> places,
                                       const LossRule& rule, std::size_t padding);

// The rule of a case, without a mistake. Its parameters are switches of the objective; those that it lacks are of no
// importance to it.
LossRule RightRule(const Case& c);

// The two parts of a loss. Inputs and outputs have the names of the suites'.
//
// The advantages of the tokens that count, 0 elsewhere, from old_logp, ref_logp, mask and rewards.
Value AdvantagesOf(const Values& inputs, const LossRule& rule, int group_size, Noise& noise);
// policy, kl, terms, loss, dlogp and dentropy from logp, old_logp, ref_logp, entropy, mask and the given advantages.
Values LossOf(const Values& inputs, const LossRule& rule, int group_size, Noise& noise);

}  // namespace swarr::oracle
