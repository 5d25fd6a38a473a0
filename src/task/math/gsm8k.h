// SPDX-License-Identifier: Apache-2.0
// GSM8K as lm-evaluation-harness scores it (its task "gsm8k"), for numbers that compare with published ones. It
// compares text, not values: "72.0" is no 72, and the first "#### " decides.
#pragma once

#include <string>
#include <string_view>

#include "task/math/answer.h"

namespace swarr {

enum class Gsm8kMode {
  kStrictMatch,      // the first match of  #### (\-?[0-9\.\,]+)
  kFlexibleExtract,  // the last match of  (-?[$0-9.,]{2,})|(-?[0-9]+)
};

// The text that the mode's pattern captures, after cutting the completion where generation would have been stopped (at
// "Question:", "</s>" or "<|im_end|>"); "[invalid]" if nothing matches.
std::string ExtractGsm8k(std::string_view completion, Gsm8kMode mode);

// The text in lower case without commas, dollar signs, everything up to the last "#### ", and one full stop at the end.
std::string NormalizeGsm8k(std::string_view text);

// Whether the two are equal once normalised. Throws Error for a gold with nothing left to compare.
MathVerdict VerifyGsm8k(std::string_view gold, std::string_view completion, Gsm8kMode mode);
void CheckGsm8kGold(std::string_view gold);

}  // namespace swarr
