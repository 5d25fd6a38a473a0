// SPDX-License-Identifier: Apache-2.0
// English words around a number: those that say a number or change what is said, and those that are units. Case does
// not count, nor whether a word is singular or plural.
#pragma once

#include <string_view>

namespace swarr {

// The digits that `word` multiplies a number by: 12 for "dozen", 1000000 for "Millions"; empty if it is no such word.
std::string_view MultiplierOf(std::string_view word);

// Whether `word` denies what stands beside it: "not", "never", "isn".
bool IsNegation(std::string_view word);

// Whether `word` says a number or a factor: "seven", "fifths", "TWENTY", "twofold", "double", "theta", all multipliers.
bool SaysNumber(std::string_view word);

// Whether a number with `word` says something else than the number alone: words that say a number, negations, and words
// such as "squared", "over" or "maybe".
bool ChangesNumber(std::string_view word);

// Whether bare letters read as an ordinary word ("apples"), not as a product of variables (abc, mgh, wxyz): they are a
// known word of three letters, or at least four with a vowel and without neighbours that no word has.
bool IsOrdinaryWord(std::string_view word);

// Whether the letters follow one another in the alphabet: ab, xyz.
bool IsAlphabetRun(std::string_view word);

}  // namespace swarr
