// SPDX-License-Identifier: Apache-2.0
// swarr rl: reinforcement learning.
#include "rl/rl.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>

#include "cli/generation.h"
#include "cli/task_options.h"
#include "cli/training.h"
#include "model/model_files.h"
#include "rl/objective_names.h"
#include "train/data.h"
#include "train/run_files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

std::string NamesOfObjectives() {
  std::string list;
  for (const auto& [name, switches] : NamedObjectives()) list += (list.empty() ? "" : "|") + name;
  return list;
}

// The objective on the command line: a name, and a flag in kebab-case for every switch that ObjectiveFromJson knows.
class ObjectiveSwitches {
 public:
  void AddTo(OptionSet& options) {
    options.Group(kGroup);
    options.Add("objective", name_, "what the switches below are by default")->type_name(NamesOfObjectives());
    Add(options, "reward-weight", reward_weight_, "of the task's reward; 0 leaves it out", AtLeast(0));
    Add(options, "baseline", baseline_, "what is taken off a reward")->type_name(OneOf(kNames<Baseline>));
    Add(options, "scale-rewards", scale_rewards_, "whose standard deviation the rest is divided by")
        ->type_name(OneOf(kNames<RewardScale>));
    Add(options, "whiten,!--no-whiten", whiten_, "then advantages are whitened over all tokens of the step");
    Add(options, "ratio", ratio_, "of the policy to the sampler")->type_name(OneOf(kNames<RatioKind>));
    Add(options, "clip", clip_, "of the ratio; weight is CISPO's, a capped, constant factor")
        ->type_name(OneOf(kNames<ClipKind>));
    Add(options, "epsilon", epsilon_,
        "the clip's range below 1, and above it where the objective has one range for both", AtLeast(0));
    Add(options, "epsilon-high", epsilon_high_, "the clip's range above 1", AtLeast(0));
    Add(options, "normalizer", normalizer_,
        "how losses of tokens become one; constant divides by --max-completion-length")
        ->type_name(OneOf(kNames<Aggregation>));
    Add(options, "kl", kl_, "estimator of the KL from the reference model")->type_name(OneOf(kNames<KlEstimator>));
    Add(options, "kl-in", kl_in_,
        "where the KL goes; return is the reward-to-go of each token, advantage each token's own")
        ->type_name(OneOf(kNames<KlPlace>));
    Add(options, "beta", beta_, "weight of the KL; 0 needs no reference model", AtLeast(0));
    Add(options, "entropy-coef", entropy_coef_, "weight of the entropy bonus", AtLeast(0));
    Add(options, "dynamic-sampling,!--no-dynamic-sampling", dynamic_sampling_,
        "replace groups whose rewards are all the same by those of further prompts, in at most 10 rounds");
    Add(options, "overlong-share", overlong_share_,
        "end of --max-completion-length, as a share of it, over which a completion's reward falls by 1; 0 is off");
  }

  // The named objective with the switches that were given, but for max_completion_length. From then on the recorded
  // configuration holds the name and the values of all switches, given or not. Throws UsageError as ObjectiveFromJson
  // and CheckObjective do.
  ObjectiveOptions Resolve() {
    ObjectiveOptions objective = Given();
    const ordered_json all = ToJson(objective);
    for (const Switch& s : switches_) s.write(all[s.name]);
    objective.max_completion_length = 1;  // stands for the length that is not known yet
    CheckObjective(objective);
    return objective;
  }

  // The same without a check or a record.
  ObjectiveOptions Given() const {
    ordered_json given = {{"objective", name_}};
    for (const Switch& s : switches_) {
      if (s.option->count() > 0) given[s.name] = s.read();
    }
    return ObjectiveFromJson(given);
  }

  // After Resolve: the name, the switches that differ from what it stands for, and all switches as flags, in one line.
  std::string ToText() const {
    const ordered_json named = ToJson(ObjectiveFromJson({{"objective", name_}}));
    std::string all, changed;
    for (const Switch& s : switches_) {
      const ordered_json value = s.read();
      const std::string flag = s.option->get_lnames().front();
      const std::string text = value.is_boolean()
                                   ? (value.get<bool>() ? " --" : " --no-") + flag
                                   : " --" + flag + " " + (value.is_string() ? value.get<std::string>() : value.dump());
      if (value != named[s.name]) changed += text;
      all += text;
    }
    return "objective " + name_ + (changed.empty() ? "" : ", changed by" + changed) + ", that is" + all;
  }

 private:
  static constexpr const char* kGroup = "Objective: a switch that is not given is the named objective's";

  struct Switch {
    std::string name;  // in JSON
    CLI::Option* option;
    std::function<ordered_json()> read;
    std::function<void(const ordered_json&)> write;
  };
  // `flag` may be "whiten,!--no-whiten"; the switch is called like its first name.
  template <class T, class... Checks>
  CLI::Option* Add(OptionSet& options, const std::string& flag, T& value, const std::string& help,
                   const Checks&... checks) {
    std::string name = flag.substr(0, flag.find(','));
    std::replace(name.begin(), name.end(), '-', '_');
    switches_.push_back({.name = std::move(name),
                         .option = options.Add(flag, value, help, checks...)->default_str(""),
                         .read = [&value] { return ordered_json(value); },
                         .write = [&value](const ordered_json& to) { value = to.get<T>(); }});
    return switches_.back().option;
  }

  std::string name_ = "grpo";
  std::string baseline_, scale_rewards_, ratio_, clip_, normalizer_, kl_, kl_in_;
  double reward_weight_ = 0, epsilon_ = 0, epsilon_high_ = 0, beta_ = 0, entropy_coef_ = 0, overlong_share_ = 0;
  bool whiten_ = false, dynamic_sampling_ = false;
  std::vector<Switch> switches_;
};

struct RlCommand {
  explicit RlCommand(OptionSet& set) : options(set) {
    training.optimizer.lr = 1e-4;
    training.schedule = "constant";
    options.Group("Model");
    options.Add("model", model_dir, "model to start from")->required()->type_name("DIR");
    task.AddTo(options, /*with_completions=*/false);
    task.AddRewardTo(options);
    options.Group("Training");
    options.Add("max-steps", rl.steps, "steps: each samples, then updates", StepsFrom(1))->required();
    options.Add("prompts-per-step", rl.prompts_per_step, "problems sampled for a step", CountFrom(1));
    options.Group("Sampling");
    options.Add("num-generations", rl.num_generations, "completions per problem: a group; 1 only without a baseline",
                CountFrom(1));
    options.Add(
        "max-completion-length", rl.max_completion_length,
        "tokens of a completion (a longer one is cut and worth 0); 0 is the task's own limit or what the context "
        "leaves",
        AtLeast(0));
    options.Group("Training");
    options.Add("num-iterations", rl.num_iterations,
                "optimizer updates of a step, each over all that it has sampled; checkpoints and the learning-rate "
                "schedule count steps",
                CountFrom(1));
    options.Add("micro-batch", rl.micro_batch, "completions packed into one training pass", CountFrom(1));
    options.Add(
        "chunks", rl.chunks,
        "parts of a step's groups whose gradients are added along a tree: several GPUs give the bits of one and "
        "need at least as many",
        CountFrom(1));
    options.Group("Sampling");
    AddSlots(options, rl.slots);
    objective.AddTo(options);
    options
        .Add("ref-model", ref_model_dir,
             "reference model of the KL, where --beta is not 0; without it the one that --model names. The teacher of "
             "--objective opd")
        ->type_name("DIR");
    options.HaveNoEffect({"ref-model"}, "where --beta is 0", [this] { return objective.Given().beta == 0; });
    training.AddTo(options);
  }

  void Run() {
    training.Meet(options);
    training.run.model_dir = model_dir;
    training.run.inputs = {{"model", model_dir}};
    rl.objective = objective.Resolve();
    if (rl.objective.reward_weight == 0 && rl.objective.beta != 0 && ref_model_dir.empty()) {
      throw UsageError("with --reward-weight 0 the reference model is the teacher; name it with --ref-model");
    }
    const LoadedTask problems = task.Load(Split::kRl, {.answer = true}, training.compute.seed, model_dir);
    const auto model = training.compute.Load(model_dir, /*with_gradients=*/true);
    const Tokenizer tokenizer = LoadTokenizer(model_dir, model->config());
    SetEndOfText(problems, tokenizer, *model);
    rl.max_completion_length = CompletionLimit(rl.max_completion_length, problems, tokenizer, model->config());
    if (!training.quiet) ReportDropped(problems);
    rl.objective.max_completion_length = rl.max_completion_length;
    rl.seed = training.compute.seed;
    rl.checkpoint_blocks = training.grad_checkpoint;
    const auto reference = LoadReference(*model, tokenizer);
    if (!task.data.empty()) training.run.inputs.emplace_back("data", task.data);
    if (reference) training.run.inputs.emplace_back("ref-model", ref_model_dir);
    training.compute.Need(RlParts(model->config(), model->dtype(), training.compute.ResolveDevice(),
                                  ShortestPrompt(*problems.task, tokenizer), rl));

    OnPolicyCheck check;
    training.Train(options, rl.steps, *model, tokenizer, [&](Context& ctx, Optimizer& optimizer, TrainingSteps& run) {
      if (!training.quiet) std::fprintf(stderr, "%s\n", objective.ToText().c_str());
      check = RunRl(ctx, *model, tokenizer, *problems.task, rl, optimizer, run, reference.get());
    });
    if (training.quiet) return;
    std::fprintf(stderr, "log-probabilities of sampler and trainer: %s\n", InWords(check).c_str());
  }

  // "0 tokens, largest difference 0" would read like a finding, so what was not compared is told as that.
  std::string InWords(const OnPolicyCheck& check) const {
    if (check.steps == 0) {
      return Concat("no step was left, so none were compared now; ",
                    (std::filesystem::path(training.output_dir) / kMetricsFile).string(),
                    " has the differences of the steps made before");
    }
    const std::string steps = Concat(check.steps, check.steps == 1 ? " step" : " steps");
    if (check.tokens == 0) return Concat("none compared, since no group was kept in ", steps);
    return Concat(check.tokens, " tokens compared in ", steps, ", largest difference ", check.max_abs_diff);
  }

  // The model that the run began with, on a resume too, never a checkpoint. Null without a KL.
  std::unique_ptr<Transformer> LoadReference(const Transformer& model, const Tokenizer& tokenizer) {
    if (rl.objective.beta == 0) return nullptr;
    if (ref_model_dir.empty()) ref_model_dir = model_dir;
    auto reference = training.compute.Load(ref_model_dir, /*with_gradients=*/false, " of the reference");
    RequireSameTexts({"reference model", ref_model_dir, reference->config()}, model_dir, model.config(), tokenizer,
                     task);
    return reference;
  }

  OptionSet& options;
  std::string model_dir, ref_model_dir;
  TaskOptions task;
  ObjectiveSwitches objective;
  RlOptions rl;
  TrainingOptions training;
};

}  // namespace

void AddRl(const CommandGroup& program) {
  program.Add<RlCommand>(
      "rl", "Adapt a model by reinforcement learning",
      "  swarr rl --model out/sft --task chain --objective grpo --max-steps 100 --output-dir out/rl");
}

}  // namespace swarr
