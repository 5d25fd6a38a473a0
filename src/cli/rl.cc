// SPDX-License-Identifier: Apache-2.0
// swarr rl: reinforcement learning.
#include "rl/rl.h"

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/objective_options.h"
#include "cli/training.h"
#include "model/model_files.h"

namespace swarr {
namespace {

struct RlCommand {
  RlCommand(CLI::App& app, const Environment& env) : environment(env), options(app) {
    training.optimizer.lr = 1e-4;
    training.schedule = "constant";
    options.Add("model", model_dir, "model to start from (directory)")->required();
    task.AddTo(options, /*with_completions=*/false);
    task.AddRewardTo(options);
    options.Add("max-steps", rl.steps, "steps: each samples, then updates")->required()->check(AtLeast(1));
    options.Add("prompts-per-step", rl.prompts_per_step, "problems sampled for a step")->check(AtLeast(1));
    options.Add("num-generations", rl.num_generations, "completions per problem: a group; 1 only without a baseline")
        ->check(AtLeast(1));
    options
        .Add("max-completion-length", rl.max_completion_length,
             "tokens of a completion (a longer one is cut and worth 0); 0 is the task's own limit or what the context "
             "leaves")
        ->check(AtLeast(0));
    options
        .Add("num-iterations", rl.num_iterations,
             "optimizer updates of a step, each over all that it has sampled; checkpoints and the learning-rate "
             "schedule count steps")
        ->check(AtLeast(1));
    options.Add("micro-batch", rl.micro_batch, "completions packed into one training pass")->check(AtLeast(1));
    options.Add("slots", rl.slots, "sequences decoded at a time; results do not depend on it", Record::kNo)
        ->check(AtLeast(1));
    objective.AddTo(options);
    options.Add("ref-model", ref_model_dir,
                "reference model of the KL (directory), where --beta is not 0; without it the one that --model names");
    training.AddTo(options);
  }

  void Run() {
    training.run.model_dir = model_dir;
    rl.objective = objective.Resolve();
    const LoadedTask problems = task.Load(Split::kRl, {.answer = true}, training.compute.seed, model_dir);
    const auto model =
        LoadModel(model_dir, training.compute.MakeDType(), /*with_gradients=*/true, training.compute.MakeKind());
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    SetEndOfText(problems, tokenizer, *model);
    rl.max_completion_length = CompletionLimit(rl.max_completion_length, problems, tokenizer, model->config());
    if (!training.quiet) ReportDropped(problems);
    rl.objective.max_completion_length = rl.max_completion_length;
    rl.seed = training.compute.seed;
    rl.checkpoint_blocks = training.grad_checkpoint;
    const auto reference = LoadReference();

    StepMemory steps(training.compute.MakeDevice());
    Context ctx = training.compute.MakeContext(steps);
    Optimizer optimizer(model->parameters(), training.MakeOptimizerOptions());
    const OnPolicyCheck check = [&] {
      TrainingRun run(training.MakeRunOptions(environment, rl.steps), options.Resolved(), *model, optimizer, tokenizer);
      if (!training.quiet) std::fprintf(stderr, "%s\n", objective.ToText().c_str());
      const OnPolicyCheck result = RunRl(ctx, *model, tokenizer, *problems.task, rl, optimizer, run, reference.get());
      run.Finish();
      return result;
    }();
    training.NoteMemory(*model, optimizer);
    training.compute.PrintMemory(steps.arena());
    if (training.quiet) return;
    std::fprintf(stderr, "log-probabilities of sampler and trainer: %lld tokens compared, largest difference %g\n",
                 static_cast<long long>(check.tokens), check.max_abs_diff);
  }

  // Also on a resume the model that the run began with, never a checkpoint. Null without a KL.
  std::unique_ptr<Transformer> LoadReference() {
    if (rl.objective.beta == 0) {
      options.Omit("ref-model");
      return nullptr;
    }
    if (ref_model_dir.empty()) ref_model_dir = model_dir;
    return LoadModel(ref_model_dir, training.compute.MakeDType(), /*with_gradients=*/false,
                     training.compute.MakeKind());
  }

  Environment environment;
  OptionSet options;
  std::string model_dir, ref_model_dir;
  TaskOptions task;
  ObjectiveSwitches objective;
  RlOptions rl;
  TrainingOptions training;
};

}  // namespace

void AddRl(CLI::App& program, const Environment& environment) {
  AddCommand<RlCommand>(program, "rl", "Adapt a model by reinforcement learning", environment);
}

}  // namespace swarr
