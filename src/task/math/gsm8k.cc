// SPDX-License-Identifier: Apache-2.0
#include "task/math/gsm8k.h"

#include <algorithm>

#include "base/check.h"
#include "task/math/words.h"

namespace swarr {
namespace {

constexpr std::string_view kMark = "#### ";
constexpr std::string_view kInvalid = "[invalid]";

bool IsNumeric(char c) { return IsDigit(c) || c == '.' || c == ','; }

template <class Predicate>
std::size_t RunLength(std::string_view text, const Predicate& belongs) {
  return static_cast<std::size_t>(std::ranges::find_if_not(text, belongs) - text.begin());
}

std::string_view BeforeStops(std::string_view text) {
  for (const std::string_view stop : {"Question:", "</s>", "<|im_end|>"}) text = text.substr(0, text.find(stop));
  return text;
}

// #### (\-?[0-9\.\,]+)
std::string_view StrictMatch(std::string_view text) {
  for (std::size_t at = text.find(kMark); at != std::string_view::npos; at = text.find(kMark, at + 1)) {
    const std::string_view rest = text.substr(at + kMark.size());
    const std::size_t sign = rest.starts_with('-') ? 1 : 0;
    if (const std::size_t digits = RunLength(rest.substr(sign), IsNumeric); digits > 0) {
      return rest.substr(0, sign + digits);
    }
  }
  return kInvalid;
}

// (-?[$0-9.,]{2,})|(-?[0-9]+)
std::string_view FlexibleExtract(std::string_view text) {
  std::string_view last = kInvalid;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t sign = text[at] == '-' ? 1 : 0;
    const std::string_view body = text.substr(at + sign);
    const std::size_t run = RunLength(body, [](char c) { return IsNumeric(c) || c == '$'; });
    const bool matches = run >= 2 || (run == 1 && IsDigit(body[0]));
    if (matches) last = text.substr(at, sign + run);
    at += matches ? sign + run : 1;
  }
  return last;
}

}  // namespace

std::string ExtractGsm8k(std::string_view completion, Gsm8kMode mode) {
  const std::string_view text = BeforeStops(completion);
  return std::string(mode == Gsm8kMode::kStrictMatch ? StrictMatch(text) : FlexibleExtract(text));
}

std::string NormalizeGsm8k(std::string_view text) {
  std::string kept(text);
  std::erase_if(kept, [](char c) { return c == ',' || c == '$'; });
  if (const std::size_t mark = kept.rfind(kMark); mark != std::string::npos) kept.erase(0, mark + kMark.size());
  if (!kept.empty() && kept.back() == '.') kept.pop_back();
  return LowerCase(kept);
}

void CheckGsm8kGold(std::string_view gold) {
  SWARR_CHECK(!NormalizeGsm8k(TrimSpace(gold)).empty(), "the gold answer is empty");
}

MathVerdict VerifyGsm8k(std::string_view gold, std::string_view completion, Gsm8kMode mode) {
  CheckGsm8kGold(gold);
  const std::string extracted = ExtractGsm8k(completion, mode);
  const bool correct = NormalizeGsm8k(extracted) == NormalizeGsm8k(TrimSpace(gold));
  if (extracted == kInvalid) return {correct, "no match"};
  return {correct, correct ? "equal text" : "different text"};
}

}  // namespace swarr
