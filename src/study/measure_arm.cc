// SPDX-License-Identifier: Apache-2.0
#include "study/measure_arm.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/version.h"
#include "model/attention_map.h"
#include "study/seed_study.h"
#include "study/traces.h"
#include "task/ceiling.h"
#include "tensor/device.h"
#include "train/data.h"
#include "train/evaluate.h"

namespace swarr {
namespace {

// SA's traces are judged by the study's window: what it would leave of them.
int JudgedWindow(const StudySettings& settings, const ArmPlan& arm) {
  const int window = arm.attention.spec.window;
  return window > 0 ? window : settings.attention.window;
}

ProblemOutcome OutcomeOf(TraceCounts trace, const EvaluatedCompletion& sampled, bool correct_greedy) {
  return {.problem = sampled.problem,
          .steps = trace.size,
          .correct_sampled = sampled.reward == 1.0,
          .correct_greedy = correct_greedy,
          .length = sampled.tokens(),
          .truncated = !sampled.finished,
          .counts = std::move(trace.counts),
          .in_reach = trace.in_reach,
          .best_chance = trace.best_chance,
          .runs = std::move(trace.runs)};
}

// What the model attends to as it writes the first of the traces that are shown.
AttendedTrace Attended(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const SampledTrace& shown,
                       const EvaluatedCompletion& drawn) {
  std::vector<std::int32_t> tokens = tokenizer.EncodePrompt(shown.prompt);
  const auto prompt = static_cast<int>(tokens.size());
  tokens.insert(tokens.end(), drawn.drawn.tokens.begin(), drawn.drawn.tokens.end());
  if (drawn.drawn.finished) tokens.pop_back();  // end of text asks nothing
  AttendedTrace attended{.problem = shown.problem,
                         .prompt = shown.prompt,
                         .completion = shown.completion,
                         .tokens = static_cast<int>(tokens.size())};
  const std::vector<AttentionMap> maps = AttentionMaps(ctx, model, tokens, prompt);
  for (std::size_t i = 0; i < maps.size(); ++i) {
    AttendedLayer& layer =
        attended.layers.emplace_back(AttendedLayer{.spec = OfDocument(model.config().attention[i], prompt)});
    for (int query = 0; query < attended.tokens; ++query) {
      for (int key = 0; key <= query; ++key) {
        const auto percent = static_cast<int>(std::lround(100 * maps[i].at(query, key)));
        if (percent >= kLeastPercent) layer.cells.push_back({query, key, percent});
      }
    }
  }
  return attended;
}

}  // namespace

std::string DeviceName(Device device) { return device == Device::kCpu ? "cpu" : CudaDeviceName(); }

ArmRun MeasureArm(Context& ctx, const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm,
                  const Transformer& model, const Tokenizer& tokenizer) {
  const auto complete = [&](const Task& task, double temperature) {
    StopIfAsked(options);
    return Evaluate(ctx, model, tokenizer, task,
                    {.problems = settings.evaluation_problems,
                     .temperature = temperature,
                     .max_completion_length = settings.CompletionLimit(task),
                     .seed = settings.seed,
                     .on_progress = CompletionsOf(options)});
  };
  const std::unique_ptr<Task> task = settings.task.make(Split::kEval, settings.seed);
  const std::vector<EvaluatedCompletion> sampled = complete(*task, 1), greedy = complete(*task, 0);
  const int window = JudgedWindow(settings, arm);
  const std::int64_t reach = ReachOf(model.config().layers, window);
  ArmRun run;
  run.arm = arm.name;
  run.seed = settings.seed;
  run.window = arm.attention.spec.window;
  run.base_model = BaseModelOf(options, settings, run.seed).filename().string();
  run.device = DeviceName(options.device);
  run.revision = BuildRevision();
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    const EvaluatedCompletion& c = sampled[i];
    auto trace =
        CountTrace(settings.task.reward.traces, *task, tokenizer, c.problem, c.text, c.drawn.tokens, window, reach);
    run.outcomes.push_back(OutcomeOf(std::move(trace.value()), c, greedy[i].reward == 1.0));
  }
  run.traces = TracesToShow(*task, sampled, run.outcomes);
  const bool mapped = std::ranges::find(kMappedArms, arm.name) != kMappedArms.end();
  if (mapped && settings.seed == options.seed && !run.traces.empty()) {
    const auto drawn = std::ranges::find(sampled, run.traces[0].problem, &EvaluatedCompletion::problem);
    run.attention = Attended(ctx, model, tokenizer, run.traces[0], *drawn);
  }
  if (settings.longer) {
    const std::vector<EvaluatedCompletion> longer = complete(*settings.longer->make(Split::kEval, settings.seed), 1);
    run.longer.traces = static_cast<std::int64_t>(longer.size());
    run.longer.right = std::ranges::count(longer, 1.0, &EvaluatedCompletion::reward);
  }
  return run;
}

void CompleteRun(ArmRun& run, const StudySettings& settings, const ArmPlan& arm, int layers) {
  const TaskView& view = settings.task.view;
  const auto [from, to] = view.sizes();
  Aggregate(run, settings.task.reward.traces, StepRanges(from, to));
  const auto& [spec, full_every, learned_sinks] = arm.attention;
  if (spec.window == 0 || spec.sinks > 0 || full_every > 0) return;
  const StudyTask task = {.kind = settings.task, .layers = layers, .window = spec.window};
  run.ceiling = task.MemorylessCeiling(run.Mechanism(kRepeatRate), {from, to});
  run.reach_bound = ReachBoundOf(run);
}

}  // namespace swarr
