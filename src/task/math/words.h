// SPDX-License-Identifier: Apache-2.0
// ASCII characters, and tables of words, for reading answers.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace swarr {

constexpr std::string_view kSpaces = " \t\n\r\f\v";

constexpr bool IsSpace(char c) { return kSpaces.find(c) != std::string_view::npos; }
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }
constexpr char ToLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr bool IsLetter(char c) { return ToLower(c) >= 'a' && ToLower(c) <= 'z'; }

inline std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = ToLower(c);
  return lower;
}

// The text without white space around it.
constexpr std::string_view TrimSpace(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  return text.substr(0, text.find_last_not_of(kSpaces) + 1);
}

// Tables of words are texts with one space between words.

// Takes the first word off `words`.
constexpr std::string_view TakeWord(std::string_view& words) {
  const std::string_view word = words.substr(0, words.find(' '));
  words.remove_prefix(std::min(word.size() + 1, words.size()));
  return word;
}

constexpr bool HasWord(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    if (TakeWord(words) == word) return true;
  }
  return false;
}

// `groups` has words that mean the same side by side, and " | " between groups. Returns the first word of the group
// that has `word`, or `otherwise` if none has.
constexpr std::string_view MeaningOf(std::string_view word, std::string_view groups, std::string_view otherwise = "") {
  std::string_view meaning;
  while (!groups.empty()) {
    const std::string_view next = TakeWord(groups);
    if (next != "|" && meaning.empty()) meaning = next;
    if (next != "|" && next == word) return meaning;
    if (next == "|") meaning = "";
  }
  return otherwise;
}

}  // namespace swarr
