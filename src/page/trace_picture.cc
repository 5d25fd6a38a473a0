// SPDX-License-Identifier: Apache-2.0
#include "page/trace_picture.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "plot/svg.h"
#include "task/ceiling.h"

namespace swarr {
namespace {

// All in pixels. A row holds as many letters as fit the width of a picture.
constexpr int kRowLetters = 84;
constexpr double kLetter = 8, kSide = 14, kArcRoom = 36, kTextRow = 54;

// That a step, or the decision to stop, uses facts which were last stated so far back.
struct FactUse {
  int query = 0;     // position of the token that needs them, the prompt's included
  int distance = 0;  // of the oldest
  std::string what{};
};

// What MeasureTrace measured, put beside the places that it was measured for.
std::vector<FactUse> UsesIn(const ChainProblem& problem, const std::string& completion) {
  const std::vector<int> distances = MeasureTrace(problem, completion).distances;
  std::vector<FactUse> uses;
  std::size_t next = 0;
  for (std::size_t i = 0; i < completion.size(); ++i) {
    if (completion[i] != ':') continue;
    const int a = distances.at(next), b = distances.at(next + 1), query = kPromptLength + static_cast<int>(i);
    next += 2;
    // A restatement gives both, b two letters after a: one line is enough.
    if (a == b + kOffsetB - kOffsetA) {
      uses.push_back({query, a, "a and b"});
    } else {
      uses.push_back({query, a, "a"});
      uses.push_back({query, b, "b"});
    }
  }
  const std::size_t stop = completion.rfind('#');
  if (stop != std::string::npos) uses.push_back({kPromptLength + static_cast<int>(stop) - 1, distances.back(), "n"});
  return uses;
}

std::string Arc(const FactUse& use, int row, const Sight& sight) {
  const double shift = kSide + kLetter / 2 - row * kRowLetters * kLetter;
  const double to = use.query * kLetter + shift, from = (use.query - use.distance) * kLetter + shift;
  const double height = std::min(kArcRoom - 3, 2 + 3 * std::sqrt(use.distance)) * 4 / 3;  // of the control points
  const bool near = sight.window == 0 || use.distance < sight.window, far = !near && use.distance <= sight.reach;
  const char* kind = near ? "near" : far ? "far" : "lost";
  const char* place = sight.window == 0 ? "and all is seen"
                      : near            ? "inside the window"
                      : far             ? "outside the window, in reach of all layers"
                                        : "out of reach";
  return Fill("<path class=\"@\" d=\"M@ @C@ @ @ @ @ @\">@</path>\n",
              {kind, from, kArcRoom, from, kArcRoom - height, to, kArcRoom - height, to, kArcRoom,
               Hover(Concat(use.what, ": last stated ", use.distance, " tokens before, ", place))});
}

// The facts, shaded where they stand in this row.
std::string ShadeFacts(const std::string& text, int row) {
  std::string out;
  for (const auto& [begin, length] : FactSpans(text)) {
    const double x = kSide + kLetter * (static_cast<double>(begin) - row * kRowLetters);
    out += Fill("<rect x=\"@\" y=\"@\" width=\"@\" height=\"17\" fill=\"@\"/>\n",
                {x, kArcRoom + 1, kLetter * static_cast<double>(length), colour::kTrack});
  }
  return out;
}

}  // namespace

// Rows are pictures in a picture: what runs past the end of one is cut off there and goes on in the next.
std::string TracePicture(const ChainProblem& problem, const std::string& completion, const Sight& sight) {
  const std::string text = PromptOf(problem) + completion;
  const std::vector<FactUse> uses = UsesIn(problem, completion);
  const int letters = static_cast<int>(text.size()), rows = (letters + kRowLetters - 1) / kRowLetters;
  std::string body;
  for (int row = 0; row < rows; ++row) {
    const int begin = row * kRowLetters, end = std::min(begin + kRowLetters, letters);
    std::string arcs;
    for (const FactUse& use : uses) {
      if (use.query >= begin && use.query - use.distance < end) arcs += Arc(use, row, sight);
    }
    body += Fill(
        "<svg y=\"@\" width=\"@\" height=\"@\">\n@<g fill=\"none\" stroke-width=\"1.4\">\n@</g>"
        "<text x=\"@\" y=\"@\" textLength=\"@\">@</text></svg>\n",
        {kTextRow * row, kFigureWidth, kTextRow, ShadeFacts(text, row), arcs, kSide, kArcRoom + 14,
         kLetter * (end - begin),
         EscapeMarkup(text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)))});
  }
  return Fill(
      "<svg width=\"@\" height=\"@\" role=\"img\" aria-label=\"a trace\" font-size=\"@\" fill=\"@\">\n@</svg>\n",
      {kFigureWidth, kTextRow * rows, kFontSize, colour::kBlack, body});
}

const std::string_view kTraceKey =
    "A line leads from every use of the facts a and b, and of n where the policy decides to stop, back to where they "
    "were last stated rightly: blue inside the window, red outside it, dashed where not even all layers together "
    "reach. A trace is out of reach if it loses n: the values in view tell a and b; for that a restatement counts as "
    "stated whether it is right or not. Shaded: the facts in the prompt and in restatements.";

std::optional<ChainProblem> ChainProblemIn(const std::string& prompt) {
  try {
    return ParsePrompt(prompt);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string ChainProblemInWords(const ChainProblem& problem) {
  return Concat("x = (", problem.a, " x + ", problem.b, ") mod 13 from ", problem.x0, ", ", problem.n,
                " steps; the answer is ", AnswerOf(problem));
}

std::vector<std::pair<std::size_t, std::size_t>> FactSpans(std::string_view text) {
  std::vector<std::pair<std::size_t, std::size_t>> spans = {{0, kFactsLength}};
  for (std::size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at + 1)) {
    spans.emplace_back(at, std::min(text.find(']', at), text.size() - 1) - at + 1);
  }
  return spans;
}

std::string TraceInWords(const ChainProblem& problem, const std::string& completion, const Sight& sight) {
  const TraceMeasures measures = MeasureTrace(problem, completion);
  const std::string what = Concat(measures.length, " tokens, ", measures.restatements,
                                  measures.restatements == 1 ? " restatement" : " restatements");
  if (sight.window == 0) return what + ", full attention";
  return Concat(what, ", ", FactsInWindow(measures, sight.window), " of ", measures.distances.size(),
                " used facts inside the window of ", sight.window, ", ",
                LosesAfter(measures.runs, sight.reach) ? "out of reach" : "in reach");
}

}  // namespace swarr
