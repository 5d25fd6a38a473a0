// SPDX-License-Identifier: Apache-2.0
// The suite scaling: one ever longer sequence.
#include "bench/suites.h"
#include "plot/svg.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr int kWindow = 128;
constexpr int kShortest = 1024, kGrowth = 4;
// Full attention is measured where a run should take less than this.
constexpr double kMostSeconds = 20;

// Measures one row. Returns its seconds, or 0 if it is not wanted.
double Row(BenchRows& bench, bool trains, int length, int window) {
  const std::string name = Concat(trains ? "D train T" : "D forward T", length, " ", AttentionName(window));
  if (!bench.Wanted(name)) return 0;
  Arena& arena = *bench.ctx().arena;
  ResetStep(bench.ctx());
  arena = Arena(arena.kind());  // for the row's own high-water mark
  const ModelConfig config = BenchShape('D', length, window);
  ordered_json row = {{"name", name}, {"T", length}, {"window", window}};
  const double seconds = MeasureModel(bench, row, config, /*batch=*/1, trains, /*checkpoint=*/true);
  row["arena_bytes_per_token"] = static_cast<double>(arena.high_water_bytes()) / length;
  row["kv_bytes"] = KvBytesPerSequence(config, bench.dtype(), length);
  bench.Add(std::move(row));
  return seconds;
}

}  // namespace

void ScalingSuite(BenchRows& bench) {
  for (const bool trains : {false, true}) {
    for (int length = kShortest; length <= bench.sizes().longest; length *= kGrowth) {
      const double seconds = Row(bench, trains, length, kWindow);
      const double more_work = ForwardFlopsPerToken(BenchShape('D', length, 0), length) /
                               ForwardFlopsPerToken(BenchShape('D', length, kWindow), length);
      if (more_work * seconds < kMostSeconds) Row(bench, trains, length, /*window=*/0);
    }
  }
}

std::string ScalingFigure(const ordered_json& results) {
  std::vector<Series> lines;
  for (const std::string kind : {"forward", "train"}) {
    const bool forward = kind == "forward";
    for (const int window : {kWindow, 0}) {
      Series line{.legend = Concat(forward ? "forward" : "training",
                                   window == 0 ? ", full attention" : Concat(", window of ", window)),
                  .style = {.colour = window == 0 ? colour::kBlue : colour::kVermillion,
                            .marker = forward ? Marker::kCircle : Marker::kSquare,
                            .filled = forward,
                            .line = true}};
      for (const ordered_json& row : results["rows"]) {
        if (row["window"] != window || row["name"].get<std::string>().find(kind) == std::string::npos) continue;
        const double thousands = row["tokens_per_second"].get<double>() / 1000;  // short tick labels
        line.points.push_back({row["T"].get<double>(), thousands});
      }
      lines.push_back(std::move(line));
    }
  }
  return SvgFigure("Speed against length", {PanelByLength("", "thousand tokens per second", std::move(lines))});
}

}  // namespace swarr
