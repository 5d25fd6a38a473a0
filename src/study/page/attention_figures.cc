// SPDX-License-Identifier: Apache-2.0
// Maps of attention: what is seen as an outline, weights as cells within.
#include <algorithm>
#include <array>

#include "base/check.h"
#include "page/html.h"
#include "page/trace_picture.h"
#include "plot/svg.h"
#include "study/page/arm_style.h"
#include "study/page/sections.h"

namespace swarr {
namespace {

// All in pixels. A column for each arm, a row for each layer.
constexpr double kTop = 34, kGap = 16, kSide = 64, kMostSide = 300;

// From so many per cent on a cell is drawn so dark.
struct Shade {
  int from;
  const char* opacity;
};
constexpr std::array<Shade, 4> kShades = {{{kLeastPercent, "0.3"}, {10, "0.5"}, {25, "0.75"}, {50, "1"}}};

std::size_t ShadeOf(int percent) {
  std::size_t shade = 0;
  while (shade + 1 < kShades.size() && percent >= kShades[shade + 1].from) ++shade;
  return shade;
}

// Neighbours of one shade are one stroke.
std::string Cells(const AttendedLayer& layer, std::string_view ink) {
  std::array<std::string, kShades.size()> paths;
  const auto& cells = layer.cells;
  for (std::size_t i = 0; i < cells.size();) {
    const auto& [query, key, percent] = cells[i];
    const std::size_t shade = ShadeOf(percent);
    int length = 0;
    for (; i < cells.size() && cells[i][0] == query && cells[i][1] == key + length; ++i, ++length) {
      if (ShadeOf(cells[i][2]) != shade) break;
    }
    paths[shade] += Concat('M', key, ' ', query, 'h', length);
  }
  std::string out;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (paths[i].empty()) continue;
    out += Fill("<path transform=\"translate(0 0.5)\" d=\"@\" stroke=\"@\" stroke-opacity=\"@\"/>\n",
                {paths[i], ink, kShades[i].opacity});
  }
  return out;
}

// Around the keys that are seen: down the right edge of all rows, and up their left edge.
std::string Outline(const AttentionSpec& spec, int tokens) {
  std::string out;
  for (KeyRange VisibleKeys::*part : {&VisibleKeys::sinks, &VisibleKeys::recent}) {
    std::string down, up;
    for (int query = 0; query < tokens; ++query) {
      const KeyRange range = VisibleKeysOf(query, spec).*part;
      if (range.size() == 0) continue;
      down += Concat(down.empty() ? Concat('M', range.begin, ' ', query) : "", 'H', range.end, 'V', query + 1);
      up = Concat('H', range.begin, 'V', query, up);
    }
    out += down + up + (down.empty() ? "" : "Z");
  }
  return Fill("<path d=\"@\" stroke=\"@\" vector-effect=\"non-scaling-stroke\"/>\n", {out, colour::kTick});
}

// Where the keys are facts, if every letter is a token.
std::string ShadedFacts(const AttendedTrace& trace) {
  const std::string text = trace.prompt + trace.completion;
  if (!ChainProblemIn(trace.prompt) || static_cast<int>(text.size()) != trace.tokens) return "";
  std::string out;
  for (const auto& [begin, length] : FactSpans(text)) {
    out += Fill("<rect x=\"@\" y=\"@\" width=\"@\" height=\"@\" fill=\"@\" stroke=\"none\"/>\n",
                {std::to_string(begin), std::to_string(begin), std::to_string(length),
                 std::to_string(static_cast<std::size_t>(trace.tokens) - begin), colour::kTrack});
  }
  return out;
}

std::string Written(double x, double y, std::string_view text, std::string_view anchor, std::string_view more = "") {
  return Fill("<text x=\"@\" y=\"@\" text-anchor=\"@\"@>@</text>\n", {x, y, anchor, more, EscapeMarkup(text)});
}

std::string Map(const AttendedTrace& trace, std::size_t layer, std::array<double, 2> corner, double side,
                const SeriesStyle& style) {
  const auto scale = Concat(side / trace.tokens);
  return Fill("<g transform=\"translate(@ @) scale(@)\" fill=\"none\" stroke-width=\"1\">\n@@@</g>\n",
              {corner[0], corner[1], scale, ShadedFacts(trace), Cells(trace.layers[layer], style.colour),
               Outline(trace.layers[layer].spec, trace.tokens)});
}

}  // namespace

std::string AttentionSection(const StudyResults& results) {
  std::vector<const ArmRun*> runs;
  for (const char* arm : kMappedArms) {
    const auto run = std::ranges::find_if(results.runs,
                                          [&](const ArmRun& r) { return r.arm == arm && !r.attention.layers.empty(); });
    if (run != results.runs.end()) runs.push_back(&*run);
  }
  if (runs.empty()) return "";
  const auto columns = static_cast<double>(runs.size());
  const double side = std::min(kMostSide, (kFigureWidth - kSide - columns * kGap) / columns);
  std::size_t layers = 0;
  std::string body;
  for (std::size_t a = 0; a < runs.size(); ++a) {
    const AttendedTrace& trace = runs[a]->attention;
    const double x = kSide + (side + kGap) * static_cast<double>(a);
    body += Written(x, kTop - 12, ArmName(results.looks, runs[a]->arm), "start", " font-weight=\"600\"");
    for (std::size_t i = 0; i < trace.layers.size(); ++i) {
      body += Map(trace, i, {x, kTop + (side + kGap) * static_cast<double>(i)}, side, StyleIn(results, runs[a]->arm));
    }
    layers = std::max(layers, trace.layers.size());
  }
  for (std::size_t i = 0; i < layers; ++i) {
    body += Written(0, kTop + (side + kGap) * static_cast<double>(i) + 12, Concat("layer ", i + 1), "start");
  }
  const double bottom = kTop + (side + kGap) * static_cast<double>(layers);
  const AttendedTrace& first = runs[0]->attention;
  return HtmlFigure(
      SvgPicture("Attention", bottom + 6, body),
      Concat("Attention of each arm (seed ", runs[0]->seed, ") in its own trace of problem ", first.problem, ", ",
             first.prompt,
             ": a row for each token that asks, from the top, a column for each that it looks at, from the left; means "
             "over the heads, drawn from ",
             kLeastPercent, "% on and darker at ", kShades[1].from, ", ", kShades[2].from, " and ", kShades[3].from,
             "%. Outlined is what is visible: all that came before, or the window. Shaded columns are facts, in the "
             "prompt and in restatements. The texts are those of the first problem under Traces."));
}

}  // namespace swarr
