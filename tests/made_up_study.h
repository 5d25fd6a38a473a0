// SPDX-License-Identifier: Apache-2.0
// Results of a study that never was, for tests of what is told of them.
#pragma once

#include <string>

#include "study/results.h"
#include "study/statistics.h"
#include "study/study.h"
#include "task/chain.h"

namespace swarr {

inline nlohmann::ordered_json MadeUpTask() { return {{"n_min", 4}, {"n_max", 16}, {"restate_probability", 0.2}}; }

// What makes a run complete: the sums over its outcomes, its ceiling and its bound.
inline void Complete(ArmRun& run, const StudyTask& task) {
  const auto [from, to] = task.sizes();
  Aggregate(run, task.traces(), StepRanges(from, to));
  if (run.arm.starts_with("swa")) {
    run.ceiling = task.MemorylessCeiling(run.Mechanism(kRepeatRate), {from, to});
    run.reach_bound = ReachBoundOf(run);
  }
}

// `right` of every 100 problems are right, `restatements` per 10 steps are written. Of every 100 traces 60 are in
// reach, all if they restate often; right answers lie in reach first.
inline ArmRun MadeUpRun(const std::string& arm, int right, int restatements, const StudyTask& task) {
  ArmRun run;
  run.arm = arm;
  run.window = arm.starts_with("sa") ? 0 : task.window;
  for (int i = 0; i < 200; ++i) {
    const int place = i * 37 % 100;  // 37 and 100 are coprime: exactly `right` of 100 are below `right`
    const bool in_reach = restatements >= 7 || place < 60;
    run.outcomes.push_back({.problem = i,
                            .steps = 4 + i % 13,
                            .correct_sampled = place < right,
                            .correct_greedy = i % 2 == 0,
                            .length = 50 + i % 7,
                            .truncated = i % 50 == 0,
                            .counts = {10, restatements, 21, 7, 21 * 12},
                            .in_reach = in_reach,
                            .best_chance = in_reach ? 1 : kChainGuess,
                            .runs = {10}});
  }
  Complete(run, task);
  return run;
}

inline CostPoint Cost(const char* arm, std::int64_t length, std::int64_t kv_bytes, double milliseconds, double speed) {
  return {.arm = arm,
          .length = length,
          .kv_bytes = kv_bytes,
          .decode_ms_per_token = milliseconds,
          .forward_tokens_per_second = speed};
}

inline StudyResults MadeUpResults(int swa_sft, int swa_more, int swa_rl, int sa_sft = 99, int sa_rl = 99) {
  StudyResults r;
  r.preset = "quick";
  r.device = "cpu";
  r.command_line = "swarr study --output-dir \"a<b>&c\"";
  r.source_revision = "deadbeef";
  r.task = {.kind = ReadTask("made up", MadeUpTask()), .layers = 2, .window = 16};
  r.task.data_ceiling = r.task.MemorylessCeiling(0.2, r.task.sizes());
  r.settings = {{"rl", {{"steps", 60}}}, {"note", "</td><script>"}};
  r.runs = {MadeUpRun("swa_converted", 9, 1, r.task), MadeUpRun("sa_sft", sa_sft, 2, r.task),
            MadeUpRun("swa_sft", swa_sft, 2, r.task), MadeUpRun("swa_sft_more", swa_more, 2, r.task),
            MadeUpRun("sa_rl", sa_rl, 1, r.task),     MadeUpRun("swa_rl", swa_rl, 7, r.task)};
  r.summary = Summarize(r.runs);
  r.checks.rollout_logprob_tokens = 1000;
  r.cost = {Cost("sa", 64, 4096, 0.1, 9e4), Cost("sa", 1024, 65536, 0.4, 3e4), Cost("swa", 64, 1024, 0.1, 9e4),
            Cost("swa", 1024, 1024, 0.1, 9e4)};
  r.curves = {{.arm = "sa_rl", .points = {{1, 0.9, 0.2}, {2, 0.95, 0.15}, {3, 1, 0.1}}},
              {.arm = "swa_rl", .points = {{1, 0.4, 0.2}, {2, 0.9, 0.7}}}};
  return r;
}

}  // namespace swarr
