// SPDX-License-Identifier: Apache-2.0
// An objective on a padded batch, with what an implementation may get wrong as a switch. With all switches as they are
// by default it is rl/objective.h applied to the tokens that the mask lets through.
#pragma once

#include "oracle/suite.h"
#include "rl/objective.h"

namespace swarr::oracle {

enum class Tokens : std::uint8_t { kMasked, kNoLast, kNoFirst, kAll };  // in the loss
enum class Groups : std::uint8_t { kConsecutive, kOne, kInterleaved };
enum class Count : std::uint8_t { kSampled, kMaskedToo, kNoEmpty, kByGroup, kLongestSampled };  // by the normaliser
enum class Choice : std::uint8_t { kMinimum, kClipped, kMaximum };  // between a product and its clipped form

struct LossRule {
  ObjectiveOptions options;
  Tokens tokens = Tokens::kMasked;
  Groups groups = Groups::kConsecutive;
  Count count = Count::kSampled;
  Choice choice = Choice::kMinimum;
  bool bessel = true, whiten_bessel = true;
  double scale_epsilon = 1e-4;
  double advantage_sign = 1;
  bool inverse_ratio = false;
  bool ratio_in_gradient = true;
  bool kl_reversed = false, kl_from_old = false, kl_gradient = true;

  // Where there is a ratio, or a clip, to mistake.
  void SetRatio(RatioKind ratio);
  void SetClip(ClipKind clip);
};

// Inputs and outputs as the loss suite names them.
Values EvaluateLoss(const Values& inputs, const LossRule& rule, int group_size, Noise& noise);

}  // namespace swarr::oracle
