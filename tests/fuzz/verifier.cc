// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/check.h"
#include "fuzz/harnesses.h"
#include "task/math/gsm8k.h"
#include "task/math/verify.h"

namespace swarr::fuzz {

void FuzzVerifier(std::string_view input) {
  const std::size_t end = std::min(input.find('\n'), input.size());
  const std::string_view gold = input.substr(0, end), completion = input.substr(std::min(end + 1, input.size()));
  for (const Extraction mode : {Extraction::kStrict, Extraction::kLenient}) {
    ExtractCanonicalAnswer(completion, mode);  // any text gives a result
  }
  for (const Gsm8kMode mode : {Gsm8kMode::kStrictMatch, Gsm8kMode::kFlexibleExtract}) {
    try {
      VerifyGsm8k(gold, completion, mode);
    } catch (const Error&) {  // a gold that this rule refuses may be one for the others
    }
  }
  for (const Extraction mode : {Extraction::kStrict, Extraction::kLenient}) VerifyMath(gold, completion, mode);
}

}  // namespace swarr::fuzz
