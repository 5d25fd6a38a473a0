// SPDX-License-Identifier: Apache-2.0
// swarr rl: on-policy reinforcement learning.
#include "rl/rl.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/training.h"
#include "model/model_files.h"
#include "rl/objective_names.h"

namespace swarr {
namespace {

struct RlCommand {
  RlCommand(CLI::App& app, const Environment& env) : environment(env), options(app) {
    training.optimizer.lr = 1e-4;
    training.schedule = "constant";
    options.Add("model", model_dir, "model to start from (directory)")->required();
    task.AddTo(options, /*with_completions=*/false);
    task.AddRewardTo(options);
    options.Add("max-steps", rl.steps, "optimizer steps")->required()->check(AtLeast(1));
    options.Add("prompts-per-step", rl.prompts_per_step, "problems sampled for a step")->check(AtLeast(1));
    options.Add("num-generations", rl.num_generations, "completions per problem: a group")->check(AtLeast(2));
    options
        .Add("max-completion-length", rl.max_completion_length,
             "tokens of a completion (a longer one is cut and worth 0); 0 is the task's own limit or what the context "
             "leaves")
        ->check(AtLeast(0));
    options.Add("objective", objective, "by name");
    options.Add("micro-batch", rl.micro_batch, "completions packed into one row of the training pass")
        ->check(AtLeast(1));
    options.Add("slots", rl.slots, "sequences decoded at a time; results do not depend on it", Record::kNo)
        ->check(AtLeast(1));
    training.AddTo(options);
  }

  void Run() {
    training.run.model_dir = model_dir;
    rl.objective = ObjectiveFromJson({{"objective", objective}});
    const LoadedTask problems = task.Load(Split::kRl, {.answer = true}, training.compute.seed, model_dir);
    const auto model =
        LoadModel(model_dir, training.compute.MakeDType(), /*with_gradients=*/true, training.compute.MakeKind());
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    EndTextsAs(problems, tokenizer, *model);
    rl.max_completion_length = CompletionLimit(rl.max_completion_length, problems, tokenizer, model->config());
    if (!training.quiet) ReportDropped(problems);
    rl.objective.max_completion_length = rl.max_completion_length;
    rl.seed = training.compute.seed;
    rl.checkpoint_blocks = training.grad_checkpoint;

    StepMemory steps(training.compute.MakeDevice());
    Context ctx = training.compute.MakeContext(steps);
    Optimizer optimizer(model->parameters(), training.MakeOptimizerOptions());
    const OnPolicyCheck check = [&] {
      TrainingRun run(training.MakeRunOptions(environment, rl.steps), options.Resolved(), *model, optimizer, tokenizer);
      const OnPolicyCheck result = RunRl(ctx, *model, tokenizer, *problems.task, rl, optimizer, run);
      run.Finish();
      return result;
    }();
    training.NoteMemory(*model, optimizer);
    training.compute.PrintMemory(steps.arena());
    if (training.quiet) return;
    std::fprintf(stderr, "log-probabilities of sampler and trainer: %lld tokens compared, largest difference %g\n",
                 static_cast<long long>(check.tokens), check.max_abs_diff);
  }

  Environment environment;
  OptionSet options;
  std::string model_dir, objective = "grpo";
  TaskOptions task;
  RlOptions rl;
  TrainingOptions training;
};

}  // namespace

void AddRl(CLI::App& program, const Environment& environment) {
  AddCommand<RlCommand>(program, "rl", "Adapt a model by on-policy reinforcement learning", environment);
}

}  // namespace swarr
