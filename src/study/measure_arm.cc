// SPDX-License-Identifier: Apache-2.0
#include "study/measure_arm.h"

#include <algorithm>
#include <numeric>

#include "base/version.h"
#include "study/seed_study.h"
#include "study/traces.h"
#include "task/ceiling.h"
#include "tensor/device.h"
#include "train/evaluate.h"

namespace swarr {
namespace {

// SA's traces are judged by the study's window: what it would leave of them.
int JudgedWindow(const StudySettings& settings, const ArmPlan& arm) {
  const int window = arm.attention.spec.window;
  return window > 0 ? window : settings.attention.window;
}

ProblemOutcome OutcomeOf(const ChainProblem& problem, const EvaluatedCompletion& sampled, bool correct_greedy,
                         int window, std::int64_t reach) {
  const TraceMeasures trace = MeasureTrace(problem, sampled.text);
  return {.problem = sampled.problem,
          .steps = problem.n,
          .correct_sampled = sampled.reward == 1.0,
          .correct_greedy = correct_greedy,
          .length = sampled.tokens(),
          .truncated = !sampled.finished,
          .steps_written = trace.steps,
          .restatements = trace.restatements,
          .facts = static_cast<int>(trace.distances.size()),
          .facts_in_window = FactsInWindow(trace, window),
          .distance_sum = std::accumulate(trace.distances.begin(), trace.distances.end(), std::int64_t{0}),
          .in_reach = InReach(trace, reach)};
}

}  // namespace

std::string DeviceName(Device device) { return device == Device::kCpu ? "cpu" : CudaDeviceName(); }

ArmRun MeasureArm(Context& ctx, const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm,
                  const Transformer& model, const Tokenizer& tokenizer) {
  const auto complete = [&](const ChainTask& task, double temperature) {
    StopIfAsked(options);
    return Evaluate(ctx, model, tokenizer, task,
                    {.problems = settings.evaluation_problems,
                     .temperature = temperature,
                     .max_completion_length = task.completion_limit(),
                     .seed = settings.task.seed});
  };
  const ChainTask task(Split::kEval, settings.task);
  const std::vector<EvaluatedCompletion> sampled = complete(task, 1), greedy = complete(task, 0);
  const int window = JudgedWindow(settings, arm);
  const std::int64_t reach = ReachOf(model.config().layers, window);
  ArmRun run;
  run.arm = arm.name;
  run.seed = settings.task.seed;
  run.window = arm.attention.spec.window;
  run.base_model = BaseModelOf(options, settings, run.seed).filename().string();
  run.device = DeviceName(options.device);
  run.revision = BuildRevision();
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    const ChainProblem& problem = task.problem(sampled[i].problem);
    run.outcomes.push_back(OutcomeOf(problem, sampled[i], greedy[i].reward == 1.0, window, reach));
  }
  run.traces = TracesToShow(task, sampled, run.outcomes);
  if (settings.longer) {
    const std::vector<EvaluatedCompletion> longer = complete(ChainTask(Split::kEval, *settings.longer), 1);
    run.longer.traces = static_cast<std::int64_t>(longer.size());
    run.longer.right = std::ranges::count(longer, 1.0, &EvaluatedCompletion::reward);
  }
  return run;
}

void CompleteRun(ArmRun& run, const StudySettings& settings, const ArmPlan& arm, int layers) {
  Aggregate(run, StepRanges(settings.task.n_min, settings.task.n_max));
  const auto& [spec, full_every, learned_sinks] = arm.attention;
  if (spec.window == 0 || spec.sinks > 0 || full_every > 0) return;
  run.ceiling =
      MeanMemorylessCeiling(layers, spec.window, run.restatement_rate, settings.task.n_min, settings.task.n_max);
  run.reach_bound = ReachBound(run.in_reach);
}

}  // namespace swarr
