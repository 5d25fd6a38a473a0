// SPDX-License-Identifier: Apache-2.0
// A mathematical answer, written in LaTeX, Unicode or plain text, as a list of tokens in one spelling: what only looks
// different is the same afterwards. docs/verifier.md lists what is unified.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace swarr {

struct MathToken {
  enum class Kind {
    kNumber,   // digits as Rational::FromDecimal reads them; zeros at the end and separators are gone
    kWord,     // a run of letters
    kCommand,  // \frac, \pi, \{, \\, \begin{pmatrix}; always with its backslash
    kSymbol,   // anything else: one character
  };
  Kind kind;
  std::string text;
  bool after_space = false;  // a space stood before it
  bool in_text = false;      // it stood in \text{...} or its like
  bool Is(std::string_view spelling) const { return kind != Kind::kNumber && text == spelling; }
};

using MathTokens = std::span<const MathToken>;

// The tokens of any text, in time and memory linear in its length. The arguments of ^, _, \frac, \sqrt and
// accents get braces where the text has none. Delimiters of mathematics, spacing, colours, sizes and fonts are dropped.
// Signs of Unicode become commands.
std::vector<MathToken> TokenizeMath(std::string_view text);

// The tokens joined: the spelling that two answers have in common if they differ in form only. Numbers stay apart.
std::string JoinTokens(MathTokens tokens);

}  // namespace swarr
