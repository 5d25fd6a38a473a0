// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer.h"

#include "fuzz/harnesses.h"

namespace swarr::fuzz {

void FuzzTokenizer(std::string_view input) {
  const std::size_t end = std::min(input.find('\0'), input.size());
  Write("tokenizer.json", input.substr(0, end));
  const Tokenizer tokenizer = Tokenizer::Load(Scratch());
  const std::string_view text = input.substr(std::min(end + 1, input.size()));
  for (const SpecialTokens special : {SpecialTokens::kRecognised, SpecialTokens::kAsText}) {
    tokenizer.Decode(tokenizer.Encode(text, special), /*skip_special=*/special == SpecialTokens::kRecognised);
  }
  tokenizer.EncodePrompt(text);
}

}  // namespace swarr::fuzz
