// SPDX-License-Identifier: Apache-2.0
// What an answer says (a number, a tuple, a set, ..., or else just its text), and whether two answers say the same:
// exactly, never by tolerance. docs/verifier.md has the rules with examples. The reading is total and bounded: any text
// gives an answer, in time linear in its length times its nesting (at most 32), from at most kMaxAnswerBytes bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "task/math/quantity.h"

namespace swarr {

constexpr std::size_t kMaxAnswerBytes = 1024;

struct MathAnswer {
  enum class Kind {
    kText,      // compared by its spelling
    kNumber,    // `quantity`
    kTuple,     // (1,2), [0,1): ordered, with its brackets
    kSet,       // {1,2}; 1 or 2; 1 \pm 2; x > 1 and x < 2: without order
    kList,      // 1,2 without brackets: ordered
    kMatrix,    // `items` row by row, `columns` of them in each
    kUnion,     // [0,1] \cup [2,3]: without order
    kRelation,  // x > 5, 0 < x < 1: `items` with `relations` between them
  };
  Kind kind = Kind::kText;
  std::string text{};   // the common spelling of the answer without `label`
  std::string label{};  // x of "x = 5" and "x \in [0,1)", (p,q) of "(p,q) = (3,2)"; empty if none
  Quantity quantity{};
  char open = 0, close = 0;  // of a tuple
  std::vector<MathAnswer> items{};
  std::size_t columns = 0;
  std::string joint{};  // "and" or "or" where the word joins relations; empty for a comma, and between other elements
  std::string relations{};  // = < \le \ne \in \approx, a space behind each; x > 5 is read as 5 < x
};

// Text beyond kMaxAnswerBytes is not read: callers refuse such answers.
MathAnswer ParseMathAnswer(std::string_view text);

struct MathVerdict {
  bool correct = false;
  std::string rule;  // what decided, such as "equal numbers" or "different numbers"
};

// Symmetric and reflexive, but for one rule: a percent sign in the gold has to be in the answer too, whereas "50%"
// answers "50".
MathVerdict CompareMathAnswers(const MathAnswer& gold, const MathAnswer& answer);

// One text for all spellings of an answer, as far as they can be recognised without a second answer. Majority votes
// count these texts. They leave units out, but not percent signs.
std::string CanonicalText(const MathAnswer& answer);

}  // namespace swarr
