// SPDX-License-Identifier: Apache-2.0
#include "task/math/verify.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "task/math/words.h"

namespace swarr {
namespace {

constexpr const char* kNoMark = "no marked answer";

struct ExtractedAnswer {
  bool found = false;
  std::string text;
  std::string rule;  // that found it: "boxed", "####", "answer is" or "last number"; or why there is none
};

ExtractedAnswer NotFound(std::string rule) { return {.found = false, .text = "", .rule = std::move(rule)}; }

ExtractedAnswer Found(std::string_view text, const char* rule) {
  const std::string_view trimmed = TrimSpace(text);
  if (trimmed.empty()) return NotFound(std::string("nothing after ") + rule);
  return {.found = true, .text = std::string(trimmed), .rule = rule};
}

struct Box {
  std::size_t begin;    // of the command
  std::size_t content;  // behind the opening brace
  std::size_t end = 0;  // of the closing brace; 0: never closed
  bool holds_box = false;
};

// The size of "\boxed{" or "\fbox {" at the start of `text`, or 0.
std::size_t BoxOpening(std::string_view text) {
  for (const std::string_view command : {"\\boxed", "\\fbox"}) {
    if (!text.starts_with(command)) continue;
    const std::size_t brace = text.find_first_not_of(kSpaces, command.size());
    if (brace != std::string_view::npos && text[brace] == '{') return brace + 1;
  }
  return 0;
}

// All boxes in the order of their beginnings. Braces behind a backslash are characters.
std::vector<Box> FindBoxes(std::string_view text) {
  constexpr std::size_t kNoBox = std::string_view::npos;
  std::vector<Box> boxes;
  std::vector<std::size_t> open;  // for each open brace the box that it began, or kNoBox
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      if (const std::size_t size = BoxOpening(text.substr(i)); size > 0) {
        open.push_back(boxes.size());
        boxes.push_back({.begin = i, .content = i + size});
        i += size - 1;
      } else {
        ++i;
      }
    } else if (text[i] == '{') {
      open.push_back(kNoBox);
    } else if (text[i] == '}' && !open.empty()) {
      if (const std::size_t box = open.back(); box != kNoBox) {
        boxes[box].end = i;
        boxes[box].holds_box = box + 1 < boxes.size();
      }
      open.pop_back();
    }
  }
  return boxes;
}

// Whether what stands between two boxes joins them to one answer.
bool Joins(std::string_view between) {
  constexpr std::size_t kLongestGap = 32;
  if (between.size() > kLongestGap) return false;
  std::string words(between);
  std::erase_if(words, [](char c) { return std::string_view(" \t\r\n$,;").find(c) != std::string_view::npos; });
  return words.empty() || words == "and" || words == "or";
}

std::optional<ExtractedAnswer> LastBox(std::string_view text) {
  const std::vector<Box> boxes = FindBoxes(text);
  if (boxes.empty()) return std::nullopt;
  const Box& last = boxes.back();
  if (last.end == 0) return NotFound("a box that is not closed");
  const auto holds_last = [&](const Box& box) { return box.holds_box && box.end > last.end; };
  if (std::ranges::any_of(boxes, holds_last)) return NotFound("a box in a box");
  std::vector<std::string_view> contents;
  for (std::size_t i = boxes.size(); i-- > 0;) {
    const bool closed = boxes[i].end != 0 && !boxes[i].holds_box;
    const bool joined = i + 1 == boxes.size() ||
                        (closed && Joins(text.substr(boxes[i].end + 1, boxes[i + 1].begin - boxes[i].end - 1)));
    if (!joined) break;
    const std::string_view content = TrimSpace(text.substr(boxes[i].content, boxes[i].end - boxes[i].content));
    if (content.empty()) return NotFound("an empty box");
    contents.push_back(content);
  }
  const bool same = std::ranges::all_of(contents, [&](auto c) { return c == contents[0]; });
  if (same) return Found(contents[0], "boxed");
  std::string set = "\\{";
  for (auto content = contents.rbegin(); content != contents.rend(); ++content) {
    if (set.size() > 2) set += ", ";
    set += *content;
  }
  return Found(set + "\\}", "boxed");
}

std::optional<ExtractedAnswer> AfterHashes(std::string_view text) {
  constexpr std::string_view kMark = "####";
  const std::size_t mark = text.rfind(kMark);
  if (mark == std::string_view::npos) return std::nullopt;
  const std::size_t begin = mark + kMark.size();
  return Found(text.substr(begin, text.find('\n', begin) - begin), "####");
}

// What follows the last "answer is" or "answer:", whatever its case.
std::optional<std::string_view> AfterAnswerIs(std::string_view text) {
  constexpr std::string_view kWord = "answer";
  const std::string lower = LowerCase(text);
  for (std::size_t at = lower.rfind(kWord); at != std::string::npos;
       at = at == 0 ? at - 1 : lower.rfind(kWord, at - 1)) {
    const std::size_t next = std::min(lower.find_first_not_of(" *", at + kWord.size()), lower.size());
    for (const std::string_view verb : {"is:", "is ", "is\n", ":"}) {
      if (lower.compare(next, verb.size(), verb) == 0) return text.substr(next + verb.size());
    }
  }
  return std::nullopt;
}

std::optional<ExtractedAnswer> AnswerIs(std::string_view text) {
  std::optional<std::string_view> answer = AfterAnswerIs(text);
  if (!answer) return std::nullopt;
  answer->remove_prefix(std::min(answer->find_first_not_of(" *:\n"), answer->size()));
  answer = answer->substr(0, answer->find('\n'));
  answer = answer->substr(0, answer->find(". "));
  return Found(answer->substr(0, answer->find_last_not_of("* .") + 1), "answer is");
}

// Backwards over digits with commas, points and slashes inside, an optional sign before and percent sign behind.
std::optional<ExtractedAnswer> LastNumber(std::string_view text) {
  const std::size_t last = text.find_last_of("0123456789");
  if (last == std::string_view::npos) return std::nullopt;
  std::size_t begin = last;
  const auto inside = [](char c) { return c == ',' || c == '.' || c == '/'; };
  while (begin > 0 &&
         (IsDigit(text[begin - 1]) || (inside(text[begin - 1]) && begin > 1 && IsDigit(text[begin - 2])))) {
    --begin;
  }
  // .5 begins with its point; a minus sign behind a digit or a letter subtracts or hyphenates.
  if (begin > 0 && text[begin - 1] == '.') --begin;
  const auto ends_word = [](char c) { return IsDigit(c) || IsLetter(c) || c == ')'; };
  if (begin > 0 && text[begin - 1] == '-' && (begin == 1 || !ends_word(text[begin - 2]))) --begin;
  std::size_t end = last + 1;
  if (end < text.size() && text[end] == '%') ++end;
  return Found(text.substr(begin, end - begin), "last number");
}

// What follows the thinking; nothing if the thinking has not come to its end.
std::string_view AfterThinking(std::string_view text) {
  constexpr std::string_view kClose = "</think>";
  const std::size_t close = text.rfind(kClose);
  if (close != std::string_view::npos) text.remove_prefix(close + kClose.size());
  return text.substr(0, text.find("<think>"));
}

ExtractedAnswer ExtractAnswer(std::string_view completion, Extraction mode) {
  const std::string_view text = AfterThinking(completion);
  if (auto answer = LastBox(text)) return *answer;
  if (auto answer = AfterHashes(text)) return *answer;
  if (mode == Extraction::kLenient) {
    if (auto answer = AnswerIs(text)) return *answer;
    if (auto answer = LastNumber(text)) return *answer;
  }
  return NotFound(kNoMark);
}

bool BracesBalance(std::string_view text) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size() && depth >= 0; ++i) {
    if (text[i] == '\\')
      ++i;  // the brace behind it is a character
    else
      depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
  }
  return depth == 0;
}

}  // namespace

MathAnswer ParseMathGold(std::string_view gold) {
  const ExtractedAnswer marked = ExtractAnswer(gold, Extraction::kStrict);
  SWARR_CHECK(marked.found || marked.rule == kNoMark, "the gold answer can't be read: ", marked.rule);
  const std::string_view text = marked.found ? std::string_view(marked.text) : TrimSpace(gold);
  SWARR_CHECK(!text.empty(), "the gold answer is empty");
  SWARR_CHECK(text.size() <= kMaxAnswerBytes, "the gold answer has ", text.size(), " bytes, more than the ",
              kMaxAnswerBytes, " that are compared");
  SWARR_CHECK(BracesBalance(text), "the braces of the gold answer don't balance");
  MathAnswer answer = ParseMathAnswer(text);
  SWARR_CHECK(!answer.text.empty(), "the gold answer says nothing once spacing and delimiters are dropped");
  return answer;
}

MathVerdict VerifyMath(std::string_view gold, std::string_view completion, Extraction mode) {
  const MathAnswer right = ParseMathGold(gold);
  const ExtractedAnswer extracted = ExtractAnswer(completion, mode);
  if (!extracted.found) return {false, extracted.rule};
  if (extracted.text.size() > kMaxAnswerBytes) return {false, "an answer that is too long"};
  const MathAnswer answer = ParseMathAnswer(extracted.text);
  if (answer.text.empty()) return {false, "an empty answer"};
  MathVerdict verdict = CompareMathAnswers(right, answer);
  verdict.rule = extracted.rule + ": " + verdict.rule;
  return verdict;
}

std::string ExtractCanonicalAnswer(std::string_view completion, Extraction mode) {
  const ExtractedAnswer extracted = ExtractAnswer(completion, mode);
  const bool usable = extracted.found && extracted.text.size() <= kMaxAnswerBytes;
  return usable ? CanonicalText(ParseMathAnswer(extracted.text)) : "";
}

}  // namespace swarr
