// SPDX-License-Identifier: Apache-2.0
// Whole traces, with a line from every use of a fact to where it was last stated.
#include <algorithm>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "plot/svg.h"
#include "study/page/arm_style.h"
#include "study/page/html.h"
#include "study/page/sections.h"
#include "study/traces.h"
#include "task/ceiling.h"
#include "task/chain.h"

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

std::string Arc(const FactUse& use, int row, int window, std::int64_t reach) {
  const double shift = kSide + kLetter / 2 - row * kRowLetters * kLetter;
  const double to = use.query * kLetter + shift, from = (use.query - use.distance) * kLetter + shift;
  const double height = std::min(kArcRoom - 3, 2 + 3 * std::sqrt(use.distance)) * 4 / 3;  // of the control points
  const char* kind = use.distance < window ? "near" : use.distance <= reach ? "far" : "lost";
  const char* place = use.distance < window   ? "inside the window"
                      : use.distance <= reach ? "outside the window, in reach of all layers"
                                              : "out of reach";
  return Fill("<path class=\"@\" d=\"M@ @C@ @ @ @ @ @\">@</path>\n",
              {kind, from, kArcRoom, from, kArcRoom - height, to, kArcRoom - height, to, kArcRoom,
               Hover(Concat(use.what, ": last stated ", use.distance, " tokens before, ", place))});
}

// Facts in the prompt and in restatements, shaded where they stand in this row.
std::string ShadeFacts(const std::string& text, int row) {
  std::string out;
  const auto shade = [&](std::size_t begin, std::size_t length) {
    const double x = kSide + kLetter * (static_cast<double>(begin) - row * kRowLetters);
    out += Fill("<rect x=\"@\" y=\"@\" width=\"@\" height=\"17\" fill=\"@\"/>\n",
                {x, kArcRoom + 1, kLetter * static_cast<double>(length), colour::kTrack});
  };
  shade(0, kFactsLength);
  for (std::size_t at = text.find('['); at != std::string::npos; at = text.find('[', at + 1)) {
    shade(at, std::min<std::size_t>(text.find(']', at), text.size() - 1) - at + 1);
  }
  return out;
}

// Rows are pictures in a picture: what runs past the end of one is cut off there and goes on in the next.
std::string TracePicture(const ChainProblem& problem, const SampledTrace& trace, int window, std::int64_t reach) {
  const std::string text = trace.prompt + trace.completion;
  const std::vector<FactUse> uses = UsesIn(problem, trace.completion);
  const int letters = static_cast<int>(text.size()), rows = (letters + kRowLetters - 1) / kRowLetters;
  std::string body;
  for (int row = 0; row < rows; ++row) {
    const int begin = row * kRowLetters, end = std::min(begin + kRowLetters, letters);
    std::string arcs;
    for (const FactUse& use : uses) {
      if (use.query >= begin && use.query - use.distance < end) arcs += Arc(use, row, window, reach);
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

std::optional<ChainProblem> ChainProblemIn(const std::string& prompt) {
  try {
    return ParsePrompt(prompt);
  } catch (const Error&) {
    return std::nullopt;
  }
}

const SampledTrace* TraceOfProblem(const ArmRun& run, std::int64_t problem) {
  const auto found = std::ranges::find(run.traces, problem, &SampledTrace::problem);
  return found == run.traces.end() ? nullptr : &*found;
}

std::string TraceOfArm(const StudyResults& results, const ArmRun& run, const SampledTrace& trace) {
  const ChainProblem problem = ParsePrompt(trace.prompt);
  const int window = run.window > 0 ? run.window : results.task.window;
  const std::int64_t reach = ReachOf(results.task.layers, window);
  const TraceMeasures measures = MeasureTrace(problem, trace.completion);
  const std::size_t facts = measures.distances.size();
  return Fill("<div class=\"trace\"><p>@<b>@</b>: @</p><div class=\"scroll\">@</div></div>\n",
              {ArmMark(results, run.arm), EscapeMarkup(ArmName(results.looks, run.arm)),
               Concat(trace.right ? "right" : "wrong", ", ", measures.length, " tokens, ", measures.restatements,
                      measures.restatements == 1 ? " restatement, " : " restatements, ",
                      FactsInWindow(measures, window), " of ", facts, " used facts inside the window of ", window, ", ",
                      LosesAfter(measures.runs, reach) ? "out of reach" : "in reach"),
               TracePicture(problem, trace, window, reach)});
}

}  // namespace

std::string ArmMark(const StudyResults& results, const std::string& arm) {
  return Fill("<svg class=\"mark\" width=\"14\" height=\"14\" aria-hidden=\"true\">@</svg>",
              {SvgMarker(7, 7, StyleIn(results, arm))});
}

std::string TraceSection(const StudyResults& results) {
  std::vector<const ArmRun*> runs;  // of the first seed that has traces
  for (const ArmRun& run : results.runs) {
    if (run.traces.empty() || !ChainProblemIn(run.traces[0].prompt)) continue;
    if (runs.empty() || runs[0]->seed == run.seed) runs.push_back(&run);
  }
  if (runs.empty()) return "";
  std::string out;
  for (const SampledTrace& first : runs[0]->traces) {
    const bool shared =
        std::ranges::all_of(runs, [&](const ArmRun* run) { return TraceOfProblem(*run, first.problem); });
    if (!shared) continue;
    const ChainProblem problem = ParsePrompt(first.prompt);
    std::string traces;
    for (const ArmRun* run : runs) traces += TraceOfArm(results, *run, *TraceOfProblem(*run, first.problem));
    out += Fill("<details open>\n<summary>@</summary>\n@</details>\n",
                {Concat("Problem ", first.problem, ": x = (", problem.a, " x + ", problem.b, ") mod 13 from ",
                        problem.x0, ", ", problem.n, " steps; the answer is ", AnswerOf(problem)),
                 traces});
  }
  if (out.empty()) return "";
  return Tag("p",
             Concat("One sampled trace of each arm (seed ", runs[0]->seed,
                    ") for the first problems whose number of steps is the median of all. A line leads from every use "
                    "of the facts a and b, and of n where the policy decides to stop, back to where they were last "
                    "stated rightly: blue inside the window, red outside it, dashed where not even all layers together "
                    "reach. A trace is out of reach if it loses n: the values in view tell a and b. Shaded: the facts "
                    "in the prompt and in restatements. SA sees all; its lines are drawn as the study's window would "
                    "have them.")) +
         out;
}

}  // namespace swarr
