// SPDX-License-Identifier: Apache-2.0
// Whole traces of all arms.
#include <algorithm>

#include "base/check.h"
#include "page/html.h"
#include "page/trace_picture.h"
#include "plot/svg.h"
#include "study/page/arm_style.h"
#include "study/page/sections.h"
#include "study/traces.h"
#include "task/ceiling.h"

namespace swarr {
namespace {

const SampledTrace* TraceOfProblem(const ArmRun& run, std::int64_t problem) {
  const auto found = std::ranges::find(run.traces, problem, &SampledTrace::problem);
  return found == run.traces.end() ? nullptr : &*found;
}

std::string TraceOfArm(const StudyResults& results, const ArmRun& run, const SampledTrace& trace) {
  const ChainProblem problem = ParsePrompt(trace.prompt);
  const int window = run.window > 0 ? run.window : results.task.window;
  const Sight sight = {.window = window, .reach = ReachOf(results.task.layers, window)};
  return Fill(
      "<div class=\"trace\"><p>@<b>@</b>: @, @</p><div class=\"scroll\">@</div></div>\n",
      {ArmMark(results, run.arm), EscapeMarkup(ArmName(results.looks, run.arm)), trace.right ? "right" : "wrong",
       TraceInWords(problem, trace.completion, sight), TracePicture(problem, trace.completion, sight)});
}

}  // namespace

std::string ArmMark(const StudyResults& results, const std::string& arm) {
  return Fill(R"(<svg class="mark" width="14" height="14" aria-hidden="true">@</svg>)",
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
    std::string traces;
    for (const ArmRun* run : runs) traces += TraceOfArm(results, *run, *TraceOfProblem(*run, first.problem));
    out += Fill("<details open>\n<summary>@</summary>\n@</details>\n",
                {Concat("Problem ", first.problem, ": ", ChainProblemInWords(ParsePrompt(first.prompt))), traces});
  }
  if (out.empty()) return "";
  return Tag("p", Concat("One sampled trace of each arm (seed ", runs[0]->seed,
                         ") for the first problems whose number of steps is the median of all. ", kTraceKey,
                         " SA sees all; its lines are drawn as the study's window would have them.")) +
         out;
}

}  // namespace swarr
