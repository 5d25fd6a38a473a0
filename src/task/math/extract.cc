// SPDX-License-Identifier: Apache-2.0
#include "task/math/extract.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "task/math/last_number.h"
#include "task/math/markdown.h"
#include "task/math/number_words.h"
#include "task/math/words.h"

namespace swarr {
namespace {

ExtractedAnswer NotFound(std::string rule) { return {.rule = std::move(rule)}; }

ExtractedAnswer Found(std::string_view text, const char* rule) {
  std::string trimmed = WithoutMarkdown(text);
  if (trimmed.empty()) return NotFound(std::string("nothing after ") + rule);
  return {.found = true, .text = std::move(trimmed), .rule = rule};
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

// What stands between two boxes that are one answer: a comma or a word. Empty if they are two answers.
std::string_view JointOf(std::string_view between) {
  constexpr std::size_t kLongestGap = 32;
  if (between.size() > kLongestGap) return "";
  std::string words(between);
  std::erase_if(words, [](char c) { return std::string_view(" \t\r\n$,;").find(c) != std::string_view::npos; });
  return words.empty() ? ", " : words == "and" ? " and " : words == "or" ? " or " : "";
}

std::optional<ExtractedAnswer> LastBox(std::string_view text) {
  const std::vector<Box> boxes = FindBoxes(text);
  if (boxes.empty()) return std::nullopt;
  const Box& last = boxes.back();
  if (last.end == 0) return NotFound("a box that is not closed");
  const auto holds_last = [&](const Box& box) { return box.holds_box && box.end > last.end; };
  if (std::ranges::any_of(boxes, holds_last)) return NotFound("a box in a box");
  std::vector<std::string> contents;     // from the last box on
  std::vector<std::string_view> joints;  // behind each of them
  for (std::size_t i = boxes.size(); i-- > 0;) {
    std::string_view joint = "\\}";
    if (i + 1 < boxes.size()) {
      if (boxes[i].end == 0 || boxes[i].holds_box) break;
      joint = JointOf(text.substr(boxes[i].end + 1, boxes[i + 1].begin - boxes[i].end - 1));
    }
    if (joint.empty()) break;
    std::string content = WithoutMarkdown(text.substr(boxes[i].content, boxes[i].end - boxes[i].content));
    if (content.empty()) return NotFound("an empty box");
    contents.push_back(std::move(content));
    joints.push_back(joint);
  }
  const bool same = std::ranges::all_of(contents, [&](const std::string& c) { return c == contents[0]; });
  if (same) return Found(contents[0], "boxed");
  std::string set = "\\{";
  for (std::size_t i = contents.size(); i-- > 0;) set.append(contents[i]).append(joints[i]);
  return Found(set, "boxed");
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

// The answer before a clause about it: "72 which is the total". A clause that denies it stays.
std::string_view BeforeClause(std::string_view sentence) {
  for (const std::string_view clause : {" which ", " because ", " since "}) {
    const std::size_t at = sentence.find(clause);
    if (at == std::string_view::npos) continue;
    std::string_view words = sentence.substr(at + 1);
    bool denied = false;
    while (!words.empty()) denied |= IsNegation(TakeWord(words));
    if (!denied) return sentence.substr(0, at);
  }
  return sentence;
}

std::optional<ExtractedAnswer> AnswerIs(std::string_view text) {
  std::optional<std::string_view> answer = AfterAnswerIs(text);
  if (!answer) return std::nullopt;
  answer->remove_prefix(std::min(answer->find_first_not_of(" *:\n"), answer->size()));
  answer = answer->substr(0, answer->find('\n'));
  answer = BeforeClause(answer->substr(0, answer->find(". ")));
  return Found(answer->substr(0, answer->find_last_not_of("* .") + 1), "answer is");
}

// What follows the thinking; nothing if the thinking has not come to its end.
std::string_view AfterThinking(std::string_view text) {
  constexpr std::string_view kClose = "</think>";
  const std::size_t close = text.rfind(kClose);
  if (close != std::string_view::npos) text.remove_prefix(close + kClose.size());
  return text.substr(0, text.find("<think>"));
}

}  // namespace

ExtractedAnswer ExtractAnswer(std::string_view whole, Extraction mode) {
  const std::string_view text = AfterThinking(whole);
  if (auto answer = LastBox(text)) return *answer;
  if (auto answer = AfterHashes(text)) return *answer;
  if (mode == Extraction::kLenient) {
    if (auto answer = AnswerIs(text)) return *answer;
    if (const std::string number = LastNumber(text); !number.empty()) return Found(number, "last number");
  }
  return NotFound(kNoMark);
}

std::string MarkedAnswer(std::string_view text) { return ExtractAnswer(text, Extraction::kStrict).text; }

}  // namespace swarr
