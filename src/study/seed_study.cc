// SPDX-License-Identifier: Apache-2.0
#include "study/seed_study.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "base/files.h"
#include "base/hash.h"
#include "model/model_files.h"
#include "model/transformer.h"
#include "task/ceiling.h"
#include "task/jsonl_task.h"
#include "task/registry.h"
#include "tensor/philox.h"
#include "train/evaluate.h"
#include "train/samples.h"
#include "train/watch.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using ModelPtr = std::unique_ptr<Transformer>;

std::string HowToGoOn(const StudyOptions& options) {
  return Concat("interrupted; the same command goes on with ", options.output_dir.string());
}

// What an arm's training took.
struct ArmCost {
  std::int64_t trained = 0, steps = 0;       // tokens, and optimizer steps
  std::int64_t sampled = 0, by_teacher = 0;  // tokens drawn by the arm; drawn or scored by the model of another
};

class SeedStudy {
 public:
  SeedStudy(Context& ctx, const StudyOptions& options, const StudySettings& settings, bool again, StudyResults& results)
      : ctx_(ctx), options_(options), settings_(settings), again_(again), results_(results) {}

  void Run() {
    for (const ArmPlan& arm : settings_.arms) {
      switch (arm.training) {
        case ArmTraining::kNone:
          EvaluateArm(arm.name, *LoadWith(DirOf(arm.from), arm.attention));
          break;
        case ArmTraining::kSft:
          TrainSft(arm);
          break;
        case ArmTraining::kRl:
          TrainRl(arm);
          break;
      }
    }
  }

 private:
  fs::path DirOf(const std::string& arm) const {
    if (arm == kBaseModel) return base_dir_;
    const ArmPlan& plan = PlanOf(arm);
    return plan.training == ArmTraining::kNone ? DirOf(plan.from) : RunDir(arm);
  }
  fs::path RunDir(const std::string& arm) const {
    return options_.output_dir / "runs" / (arm + "-seed" + std::to_string(seed_));
  }
  const ArmPlan& PlanOf(const std::string& arm) const {
    return *std::ranges::find(settings_.arms, arm, &ArmPlan::name);
  }

  ModelPtr LoadWith(const fs::path& dir, AttentionSpec spec, bool with_gradients = false) const {
    ModelPtr model = LoadModel(dir, DType::kF32, with_gradients, MemoryOf(options_.device));
    model->SetAttention(std::vector<AttentionSpec>(static_cast<std::size_t>(model->config().layers), spec));
    return model;
  }
  // The model of an arm under its own attention.
  ModelPtr LoadArm(const std::string& arm) const { return LoadWith(DirOf(arm), PlanOf(arm).attention); }

  template <class... Parts>
  void Announce(const std::string& arm, const Parts&... parts) const {
    if (options_.progress) options_.progress(Concat("seed ", seed_, ": ", ArmName(arm), ": ", parts...));
  }

  void TrainSft(const ArmPlan& arm) {
    ArmCost& cost = costs_[arm.name];
    const std::unique_ptr<Task> task = DataOf(arm, cost);
    SftOptions options = arm.sft;
    if (!arm.tokens_of.empty()) {
      const auto tokens = static_cast<double>(costs_.at(arm.tokens_of).trained);
      options.steps = StepsFor(arm, *task, std::max(std::llround(arm.tokens_share * tokens), 1LL));
    }
    // An arm that goes on reads the problems in a new order, not the same batches again.
    options.seed = arm.from == kBaseModel ? seed_ : StreamKey(seed_, Purpose::kOrder, 1);
    const ModelPtr teacher = arm.teacher.empty() ? nullptr : LoadArm(arm.teacher);
    options.distill.teacher = teacher.get();
    Announce(arm.name, options.steps, " steps of SFT");
    const ModelPtr model =
        Train(arm, options.steps, cost, [&](const Transformer& student, Optimizer& optimizer, TrainingRun& run) {
          RunSft(ctx_, student, tokenizer_, *task, nullptr, options, optimizer, run);
        });
    if (teacher) cost.by_teacher += cost.trained;
    EvaluateArm(arm.name, *model);
  }

  void TrainRl(const ArmPlan& arm) {
    ArmCost& cost = costs_[arm.name];
    RlOptions options = arm.rl;
    options.seed = seed_;
    const ModelPtr teacher = arm.teacher.empty() ? nullptr : LoadArm(arm.teacher);
    Announce(arm.name, options.steps, " steps of RL");
    const ModelPtr model =
        Train(arm, options.steps, cost, [&](const Transformer& policy, Optimizer& optimizer, TrainingRun& run) {
          RunRl(ctx_, policy, tokenizer_, rl_task_, options, optimizer, run, teacher.get());
        });
    // From the files, since a run may have been stopped and resumed.
    LearningCurve curve{.arm = arm.name};
    StudyChecks& checks = results_.checks;
    ForEachJsonLine(RunDir(arm.name) / "metrics.jsonl", [&](int, const nlohmann::json& row) {
      curve.points.push_back({.step = row["step"].get<double>(), .reward = row["reward"].get<double>()});
      checks.rollout_logprob_max_abs_diff =
          std::max(checks.rollout_logprob_max_abs_diff, row["rollout_logprob_max_abs_diff"].get<double>());
      checks.rollout_logprob_tokens += row["rollout_logprob_tokens"].get<std::int64_t>();
    });
    cost.sampled += ReadCompletions(RunDir(arm.name) / "completions", curve);
    results_.curves.push_back(std::move(curve));
    if (teacher) cost.by_teacher += cost.trained;
    EvaluateArm(arm.name, *model);
  }

  // What SFT imitates: the task's traces, or the correct samples of an arm.
  std::unique_ptr<Task> DataOf(const ArmPlan& arm, ArmCost& cost) {
    if (!arm.samples_of.empty()) {
      std::int64_t& drawn = arm.samples_of == arm.from ? cost.sampled : cost.by_teacher;
      return std::make_unique<JsonlTask>(SamplesOf(arm, drawn), JsonlFields{.completion = true}, RewardByName("chain"));
    }
    ChainOptions options = settings_.task;
    options.restate_probability = arm.restate_probability;
    return std::make_unique<ChainTask>(Split::kSft, options);
  }

  // The file of an arm's correct samples, which is written once; adds the tokens that were drawn for it.
  fs::path SamplesOf(const ArmPlan& arm, std::int64_t& drawn) {
    const fs::path file =
        options_.output_dir / "samples" / Concat(arm.samples_of, "-", arm.samples, "-seed", seed_, ".jsonl");
    const fs::path record = fs::path(file).replace_extension(".json");
    const bool made =
        fs::exists(record) && ParseJson<nlohmann::json>(ReadFile(record), record.string())["study"] == study_;
    if (!made || (again_ && !sampled_.contains(file))) {
      Announce(arm.samples_of, "sampling ", arm.samples, " completions of each problem of RL");
      StopIfAsked(options_);
      const ModelPtr model = LoadArm(arm.samples_of);
      const std::vector<EvaluatedCompletion> completions =
          Evaluate(ctx_, *model, tokenizer_, rl_task_,
                   {.samples = arm.samples,
                    .max_completion_length = settings_.rl.max_completion_length,
                    .seed = seed_,
                    .purpose = Purpose::kSample});
      const SampledRows rows = RowsToLearn(completions,
                                           {.task = rl_task_,
                                            .tokenizer = tokenizer_,
                                            .format = {},
                                            .eos_id = model->config().eos_id,
                                            .model = arm.samples_of,
                                            .seed = seed_,
                                            .samples = arm.samples},
                                           Keep::kCorrect);
      SWARR_CHECK(rows.rows > 0, "arm '", arm.name, "': none of the ", completions.size(), " samples of '",
                  arm.samples_of, "' is correct; take another arm or more samples");
      std::int64_t tokens = 0;
      for (const EvaluatedCompletion& c : completions) tokens += c.tokens();
      fs::create_directories(file.parent_path());
      WriteFileAtomically(file, rows.lines);
      WriteFileAtomically(record, nlohmann::json({{"study", study_}, {"tokens", tokens}}).dump());
    }
    sampled_.insert(file);
    drawn += ParseJson<nlohmann::json>(ReadFile(record), record.string())["tokens"].get<std::int64_t>();
    return file;
  }

  // The steps that hold `budget` tokens, rounded up. A step's tokens are those of the SFT that the arm goes on from, if
  // it read the same documents, else the mean over all documents.
  std::int64_t StepsFor(const ArmPlan& arm, const Task& task, std::int64_t budget) const {
    const auto rounded_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    if (arm.from != kBaseModel && arm.samples_of.empty()) {
      const ArmPlan& from = PlanOf(arm.from);
      const bool same = from.training == ArmTraining::kSft && from.samples_of.empty() &&
                        from.restate_probability == arm.restate_probability &&
                        from.sft.batch_size == arm.sft.batch_size;
      if (same) return rounded_up(budget * costs_.at(arm.from).steps, costs_.at(arm.from).trained);
    }
    std::int64_t tokens = 0;
    for (std::int64_t i = 0; i < task.size(); ++i) {
      const Example e = task.Get(i, 0);
      tokens += static_cast<std::int64_t>(tokenizer_.Encode(e.prompt + e.completion).size());
    }
    return rounded_up(budget * task.size(), tokens * arm.sft.batch_size);
  }

  // Whether a run is left from before the study was overwritten by one of other settings, which was then interrupted.
  bool IsOfAnotherStudy(const fs::path& run) const {
    const fs::path config = run / "resolved_config.json";
    return fs::exists(config) &&
           ParseJson<nlohmann::json>(ReadFile(config), config.string()).value("study", "") != study_;
  }

  // Trains a model by loop(model, optimizer, run) and keeps it in the arm's directory.
  template <class Loop>
  ModelPtr Train(const ArmPlan& arm, std::int64_t steps, ArmCost& cost, const Loop& loop) {
    nlohmann::ordered_json config = arm.stage;
    config["study"] = study_;
    config["stage"] = Name(arm.training);
    config["model"] = DirOf(arm.from).filename().string();
    config["seed"] = seed_;
    config["window"] = arm.attention.window;
    config["sinks"] = arm.attention.sinks;
    config["task"] = settings_.json["task"];
    config["arm"] = arm.name;
    config["steps"] = steps;
    config["device"] = Name(options_.device);
    ModelPtr model = LoadWith(DirOf(arm.from), arm.attention, /*with_gradients=*/true);
    Optimizer optimizer(model->parameters(), arm.optimizer);
    const bool afresh = again_ || IsOfAnotherStudy(RunDir(arm.name));
    TrainingRun run({.output_dir = RunDir(arm.name),
                     .resume = afresh ? "" : "auto",
                     .overwrite = afresh,
                     .inputs = {{"model", DirOf(arm.from)}},
                     .interrupted = options_.interrupted,
                     .saving = options_.saving,
                     .warn = options_.progress},
                    config, *model, optimizer, tokenizer_);
    try {
      loop(*model, optimizer, run);
    } catch (const Interrupted&) {  // says how a run of its own would go on
      throw Interrupted(HowToGoOn(options_));
    }
    run.Finish();
    for (const auto& [step, text] : WarningsOf(run.output_dir())) {
      Announce(arm.name, "warning at step ", step, ": ", text);
      results_.checks.warnings.push_back({.arm = arm.name, .seed = seed_, .step = step, .text = text});
    }
    cost.trained = run.num_tokens();
    cost.steps = steps;
    return model;
  }

  // Adds the restatements per step of the sampled trajectories, and returns their tokens, also of those that dynamic
  // sampling dropped. RL keeps one file of completions for each of its steps.
  std::int64_t ReadCompletions(const fs::path& completions, LearningCurve& curve) const {
    std::int64_t tokens = 0;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(completions)) files.push_back(entry.path());
    std::ranges::sort(files);
    for (std::size_t i = 0; i < curve.points.size(); ++i) {
      std::vector<TraceMeasures> traces;
      ForEachJsonLine(files.at(i), [&](int, const nlohmann::json& row) {
        const auto prompt = row["prompt"].get<std::string>(), completion = row["completion"].get<std::string>();
        traces.push_back(MeasureTrace(ParsePrompt(prompt), completion));
        const std::int64_t end_of_text = row["finished"].get<bool>() ? 1 : 0;
        tokens += static_cast<std::int64_t>(tokenizer_.Encode(completion).size()) + end_of_text;
      });
      curve.points[i].restatement_rate = SummarizeMechanism(traces, settings_.attention.window).restatement_rate;
    }
    return tokens;
  }

  // One sample at temperature 1 and one greedy completion of each evaluation problem.
  void EvaluateArm(const std::string& arm, const Transformer& model) {
    Announce(arm, "evaluation");
    StopIfAsked(options_);
    EvaluateOptions options{.problems = settings_.evaluation_problems,
                            .max_completion_length = ChainTokenLimit(settings_.task.n_max),
                            .seed = seed_};
    const std::vector<EvaluatedCompletion> sampled = Evaluate(ctx_, model, tokenizer_, eval_task_, options);
    options.temperature = 0;
    StopIfAsked(options_);
    const std::vector<EvaluatedCompletion> greedy = Evaluate(ctx_, model, tokenizer_, eval_task_, options);
    // SA's traces are judged by the study's window: what it would leave of them.
    const AttentionSpec spec = model.config().attention[0];
    const int window = spec.window > 0 ? spec.window : settings_.attention.window;
    const std::int64_t reach = ReachOf(model.config().layers, window);
    ArmRun run;
    run.arm = arm;
    run.seed = seed_;
    for (std::size_t i = 0; i < sampled.size(); ++i) {
      const ChainProblem& problem = eval_task_.problem(sampled[i].problem);
      const TraceMeasures trace = MeasureTrace(problem, sampled[i].text);
      run.outcomes.push_back(
          {.problem = sampled[i].problem,
           .steps = problem.n,
           .correct_sampled = sampled[i].reward == 1.0,
           .correct_greedy = greedy[i].reward == 1.0,
           .length = sampled[i].tokens(),
           .truncated = !sampled[i].finished,
           .steps_written = trace.steps,
           .restatements = trace.restatements,
           .facts = static_cast<int>(trace.distances.size()),
           .facts_in_window = FactsInWindow(trace, window),
           .distance_sum = std::accumulate(trace.distances.begin(), trace.distances.end(), std::int64_t{0}),
           .in_reach = InReach(trace, reach)});
    }
    Aggregate(run, StepRanges(settings_.task.n_min, settings_.task.n_max));
    if (spec.window > 0 && spec.sinks == 0) {
      run.ceiling = MeanMemorylessCeiling(model.config().layers, spec.window, run.restatement_rate,
                                          settings_.task.n_min, settings_.task.n_max);
      run.reach_bound = ReachBound(run.in_reach);
    }
    const ArmCost& cost = costs_[arm];
    run.trained_tokens = cost.trained, run.sampled_tokens = cost.sampled, run.teacher_tokens = cost.by_teacher;
    Announce(arm, "accuracy ", run.accuracy, ", restatements per step ", run.restatement_rate, ", traces in reach ",
             run.in_reach);
    results_.runs.push_back(std::move(run));
  }

  Context& ctx_;
  const StudyOptions& options_;
  const StudySettings& settings_;
  const bool again_;
  const std::uint64_t seed_ = settings_.task.seed;
  const std::string study_ = HashOf(settings_.json.dump());  // what runs and samples were made for
  StudyResults& results_;
  std::map<std::string, ArmCost> costs_{};
  std::set<fs::path> sampled_{};  // files of samples that this call has seen to
  const fs::path base_dir_ = options_.data_dir / settings_.base_model;
  const Tokenizer tokenizer_ = Tokenizer::Load(base_dir_);
  const ChainTask rl_task_{Split::kRl, settings_.task};
  const ChainTask eval_task_{Split::kEval, settings_.task};
};

}  // namespace

void StopIfAsked(const StudyOptions& options) {
  if (options.interrupted && options.interrupted()) throw Interrupted(HowToGoOn(options));
}

void RunSeed(Context& ctx, const StudyOptions& options, const StudySettings& settings, bool again,
             StudyResults& results) {
  SeedStudy(ctx, options, settings, again, results).Run();
}

}  // namespace swarr
