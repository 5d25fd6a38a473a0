// SPDX-License-Identifier: Apache-2.0
#include "study/seed_study.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/files.h"
#include "model/convert.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/transformer.h"
#include "study/measure_arm.h"
#include "study/records/gather.h"
#include "study/records/record.h"
#include "study/write_samples.h"
#include "task/jsonl_task.h"
#include "task/registry.h"
#include "tensor/philox.h"
#include "train/data.h"
#include "train/evaluate.h"
#include "train/run.h"
#include "train/samples.h"
#include "train/step_timer.h"
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

  // Arms that have a record are done; those that are not wanted wait for another call.
  void Run() {
    for (const ArmPlan& arm : settings_.arms) {
      std::optional<ArmRecord> record = FindRecord(options_, settings_, arm);
      if (!record && !options_.Wants(arm.name)) continue;
      if (!record) {
        record = Make(arm);
        WriteRecord(RecordPath(options_.output_dir, arm.name, seed_), StudyId(settings_), *record,
                    settings_.task.reward.traces);
      }
      Take(arm, std::move(*record));
    }
    if (!options_.keep_models) RemoveModels();
  }

 private:
  // Where the weights of an arm are. If they have gone, or were never here because only the records came from another
  // machine, the arm is trained again.
  fs::path DirOf(const std::string& arm) {
    if (arm == kBaseModel) return base_dir_;
    const ArmPlan& plan = PlanOf(arm);
    if (plan.training == ArmTraining::kNone) return DirOf(plan.from);
    if (!fs::exists(ModelFile(arm)) || IsOfAnotherStudy(RunDir(arm))) Train(plan);
    return RunDir(arm);
  }
  fs::path ModelFile(const std::string& arm) const { return RunDir(arm) / "model.safetensors"; }
  fs::path RunDir(const std::string& arm) const {
    return options_.output_dir / "runs" / (arm + "-seed" + std::to_string(seed_));
  }
  const ArmPlan& PlanOf(const std::string& arm) const {
    return *std::ranges::find(settings_.arms, arm, &ArmPlan::name);
  }

  // The model that the arm starts from, under the arm's attention.
  ModelPtr LoadStart(const ArmPlan& arm, bool with_gradients) {
    fs::path dir = DirOf(arm.from);
    const std::vector<AttentionSpec> layers = LayersOf(arm.attention, base_.layers);
    if (arm.attention.learned_sinks && !ReadModelConfig(dir).learned_sinks) {
      const fs::path converted = options_.output_dir / "converted" / Concat(arm.name, "-seed", seed_);
      fs::create_directories(converted.parent_path());
      ConvertModel(dir, layers, converted, {}, /*learned_sinks=*/0.0);
      dir = converted;
    }
    return LoadWith(dir, layers, with_gradients);
  }

  // The arm's own model, under its own attention.
  ModelPtr LoadArm(const ArmPlan& arm) {
    if (arm.training == ArmTraining::kNone) return LoadStart(arm, /*with_gradients=*/false);
    return LoadWith(DirOf(arm.name), LayersOf(arm.attention, base_.layers), /*with_gradients=*/false);
  }

  ModelPtr LoadWith(const fs::path& dir, const std::vector<AttentionSpec>& layers, bool with_gradients) const {
    ModelPtr model = LoadModel(dir, settings_.dtype, with_gradients, MemoryOf(options_.device));
    model->SetAttention(layers);
    return model;
  }

  template <class... Parts>
  void Announce(const std::string& arm, const Parts&... parts) const {
    if (!options_.progress) return;
    options_.progress(Concat("seed ", seed_, ": ", ArmName(settings_.looks, arm), ": ", parts...));
  }

  // Trains the arm, if it is one that trains, and measures it.
  ArmRecord Make(const ArmPlan& arm) {
    const StepTimer timer;
    ArmRecord record;
    const ModelPtr model = arm.training == ArmTraining::kNone ? LoadArm(arm) : Train(arm);
    Announce(arm.name, "evaluation");
    record.run = MeasureArm(ctx_, options_, settings_, arm, *model, tokenizer_);
    if (arm.training == ArmTraining::kRl) ReadSteps(arm, record);
    if (arm.training != ArmTraining::kNone) {
      ReadWarnings(arm, record);
      record.run.training = ReadTraining(RunDir(arm.name) / "metrics.jsonl");
    }
    const ArmCost& cost = costs_[arm.name];
    record.run.optimizer_steps = cost.steps, record.run.trained_tokens = cost.trained;
    record.run.sampled_tokens = cost.sampled, record.run.teacher_tokens = cost.by_teacher;
    record.inputs = HashesOf(settings_.inputs);
    record.seconds = timer.Seconds();
    return record;
  }

  // Adds what was recorded of the arm, now or in an earlier call, to the results.
  void Take(const ArmPlan& arm, ArmRecord record) {
    costs_[arm.name] = {.trained = record.run.trained_tokens,
                        .steps = record.run.optimizer_steps,
                        .sampled = record.run.sampled_tokens,
                        .by_teacher = record.run.teacher_tokens};
    AddRecord(settings_, arm, base_.layers, std::move(record), results_);
    const ArmRun& run = results_.runs.back();
    Announce(arm.name, "accuracy ", run.accuracy, ", ", settings_.task.reward.traces.measures[kRepeatRate].head, ' ',
             run.Mechanism(kRepeatRate), ", traces in reach ", run.in_reach);
  }

  ModelPtr Train(const ArmPlan& arm) {
    costs_[arm.name] = {};
    return arm.training == ArmTraining::kRl ? TrainRl(arm) : TrainSft(arm);
  }

  ModelPtr TrainSft(const ArmPlan& arm) {
    ArmCost& cost = costs_[arm.name];
    const std::unique_ptr<Task> task = DataOf(arm, cost);
    SftOptions options = arm.sft;
    if (!arm.tokens_of.empty()) {
      const auto tokens = static_cast<double>(costs_.at(arm.tokens_of).trained);
      options.steps = StepsFor(arm, *task, std::max(std::llround(arm.tokens_share * tokens), 1LL));
    }
    // An arm that goes on reads the problems in a new order, not the same batches again.
    options.seed = arm.from == kBaseModel ? seed_ : StreamKey(seed_, Purpose::kOrder, 1);
    const ModelPtr teacher = arm.teacher.empty() ? nullptr : LoadArm(PlanOf(arm.teacher));
    options.distill.teacher = teacher.get();
    Announce(arm.name, options.steps, " steps of SFT");
    ModelPtr model =
        RunTraining(arm, options.steps, cost, [&](const Transformer& student, Optimizer& optimizer, TrainingRun& run) {
          RunSft(ctx_, student, tokenizer_, *task, nullptr, options, optimizer, run);
        });
    if (teacher) cost.by_teacher += cost.trained;
    return model;
  }

  ModelPtr TrainRl(const ArmPlan& arm) {
    ArmCost& cost = costs_[arm.name];
    RlOptions options = arm.rl;
    options.seed = seed_;
    const ModelPtr teacher = arm.teacher.empty() ? nullptr : LoadArm(PlanOf(arm.teacher));
    Announce(arm.name, options.steps, " steps of RL");
    ModelPtr model =
        RunTraining(arm, options.steps, cost, [&](const Transformer& policy, Optimizer& optimizer, TrainingRun& run) {
          RunRl(ctx_, policy, tokenizer_, *rl_task_, options, optimizer, run, teacher.get());
        });
    if (teacher) cost.by_teacher += cost.trained;
    return model;
  }

  // What the steps of RL gave, from the files, since a run may have been stopped and resumed.
  void ReadSteps(const ArmPlan& arm, ArmRecord& record) {
    record.curve.arm = arm.name;
    StudyChecks& checks = record.checks;
    ForEachJsonLine(RunDir(arm.name) / "metrics.jsonl", [&](int, const nlohmann::json& row) {
      record.curve.points.push_back({.step = row["step"].get<double>(), .reward = row["reward"].get<double>()});
      checks.rollout_logprob_max_abs_diff =
          std::max(checks.rollout_logprob_max_abs_diff, row["rollout_logprob_max_abs_diff"].get<double>());
      checks.rollout_logprob_tokens += row["rollout_logprob_tokens"].get<std::int64_t>();
    });
    costs_[arm.name].sampled += ReadCompletions(RunDir(arm.name) / "completions", record.curve);
  }

  void ReadWarnings(const ArmPlan& arm, ArmRecord& record) const {
    for (const auto& [step, text] : WarningsOf(RunDir(arm.name))) {
      Announce(arm.name, "warning at step ", step, ": ", text);
      record.checks.warnings.push_back({.arm = arm.name, .seed = seed_, .step = step, .text = text});
    }
  }

  // What SFT imitates: the task's traces, or samples of an arm.
  std::unique_ptr<Task> DataOf(const ArmPlan& arm, ArmCost& cost) {
    if (!arm.samples_of.empty()) {
      std::int64_t& drawn = arm.samples_of == arm.from ? cost.sampled : cost.by_teacher;
      return std::make_unique<JsonlTask>(SamplesOf(arm, drawn), JsonlFields{.completion = true}, settings_.task.reward);
    }
    return ReadTask(arm.name, arm.task).make(Split::kSft, seed_);
  }

  // The file of the samples that the arm imitates, which is written once; adds the tokens that were drawn for it.
  fs::path SamplesOf(const ArmPlan& arm, std::int64_t& drawn) {
    const std::string problems = arm.sample_problems > 0 ? Concat("-of-", arm.sample_problems) : "";
    const std::string kept = arm.keep == Keep::kCorrect ? "" : Concat("-", Name(arm.keep));
    fs::path file = options_.output_dir / "samples" /
                    Concat(arm.samples_of, "-", arm.samples, problems, kept, "-seed", seed_, ".jsonl");
    const fs::path record = fs::path(file).replace_extension(".json");
    const bool made =
        fs::exists(record) && ParseJson<nlohmann::json>(ReadFile(record), record.string())["study"] == study_;
    if (!made || (again_ && !sampled_.contains(file))) {
      Announce(arm.samples_of, "sampling ", arm.samples, " completions of each problem of RL");
      StopIfAsked(options_);
      const ModelPtr model = LoadArm(PlanOf(arm.samples_of));
      const std::int64_t tokens = WriteSamples(ctx_, options_, settings_, arm, *model, tokenizer_, *rl_task_, file);
      WriteFileAtomically(record, nlohmann::json({{"study", study_}, {"tokens", tokens}}).dump());
    }
    sampled_.insert(file);
    drawn += ParseJson<nlohmann::json>(ReadFile(record), record.string())["tokens"].get<std::int64_t>();
    return file;
  }

  // The steps that hold `budget` tokens, rounded up. A step's tokens are those of the SFT that the arm goes on from, if
  // it read the same documents, else the mean over the first documents.
  std::int64_t StepsFor(const ArmPlan& arm, const Task& task, std::int64_t budget) const {
    const auto rounded_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    if (arm.from != kBaseModel && arm.samples_of.empty()) {
      const ArmPlan& from = PlanOf(arm.from);
      const bool same = from.training == ArmTraining::kSft && from.samples_of.empty() && from.task == arm.task &&
                        from.sft.batch_size == arm.sft.batch_size;
      if (same) return rounded_up(budget * costs_.at(arm.from).steps, costs_.at(arm.from).trained);
    }
    constexpr std::int64_t kMostRead = 8192;
    const std::int64_t documents = std::min(task.size(), kMostRead);
    std::int64_t tokens = 0;
    for (std::int64_t i = 0; i < documents; ++i) {
      const Example e = task.Get(i, 0);
      tokens += static_cast<std::int64_t>(tokenizer_.Encode(e.prompt + e.completion).size());
    }
    return rounded_up(budget * documents, tokens * arm.sft.batch_size);
  }

  // Whether a run is left from before the study was overwritten by one of other settings or inputs, which was then
  // interrupted.
  bool IsOfAnotherStudy(const fs::path& run) const {
    const fs::path config = run / "resolved_config.json";
    return fs::exists(config) &&
           ParseJson<nlohmann::json>(ReadFile(config), config.string()).value("study", "") != study_;
  }

  // Whether a complete run's weights have been removed; its record may have been, too.
  bool IsWithoutModel(const std::string& arm) const {
    if (fs::exists(ModelFile(arm))) return false;
    if (fs::exists(RecordPath(options_.output_dir, arm, seed_))) return true;
    const fs::path state = RunDir(arm) / "run.json";  // has the model's files from the run's end on
    return fs::exists(state) && !ParseJson<nlohmann::json>(ReadFile(state), state.string())["files"].empty();
  }

  void RemoveModels() const {
    for (const ArmPlan& arm : settings_.arms) {
      if (arm.training != ArmTraining::kNone) fs::remove(ModelFile(arm.name));
    }
  }

  // RunOptions::on_step.
  std::function<void(const nlohmann::ordered_json&)> StepsOf(std::int64_t steps) const {
    if (!options_.working) return {};
    return [this, steps](const nlohmann::ordered_json& row) {
      options_.working("step", row["step"].get<std::int64_t>(), steps);
    };
  }

  // Trains a model by loop(model, optimizer, run) and keeps it in the arm's directory.
  template <class Loop>
  ModelPtr RunTraining(const ArmPlan& arm, std::int64_t steps, ArmCost& cost, const Loop& loop) {
    nlohmann::ordered_json config = arm.stage;
    config["study"] = study_;
    config["stage"] = Name(arm.training);
    config["model"] = DirOf(arm.from).filename().string();
    config["seed"] = seed_;
    config["window"] = arm.attention.spec.window;
    config["sinks"] = arm.attention.spec.sinks;
    config["full_every"] = arm.attention.full_every;
    config["learned_sinks"] = arm.attention.learned_sinks;
    config["task"] = arm.task;
    config["arm"] = arm.name;
    config["steps"] = steps;
    config["device"] = Name(options_.device);
    ModelPtr model = LoadStart(arm, /*with_gradients=*/true);
    Optimizer optimizer(model->parameters(), arm.optimizer);
    const bool afresh = again_ || IsOfAnotherStudy(RunDir(arm.name)) || IsWithoutModel(arm.name);
    TrainingRun run({.output_dir = RunDir(arm.name),
                     .resume = afresh ? "" : "auto",
                     .overwrite = afresh,
                     .inputs = {{"model", DirOf(arm.from)}},
                     .interrupted = options_.interrupted,
                     .saving = options_.saving,
                     .on_step = StepsOf(steps),
                     .warn = options_.progress},
                    config, *model, optimizer, tokenizer_);
    try {
      loop(*model, optimizer, run);
    } catch (const Interrupted&) {  // says how a run of its own would go on
      throw Interrupted(HowToGoOn(options_));
    }
    run.Finish();
    cost.trained = run.num_tokens();
    cost.steps = steps;
    return model;
  }

  // Adds how often the sampled trajectories repeat what slides away, and returns their tokens, also of those that
  // dynamic sampling dropped. RL keeps one file of completions for each of its steps.
  std::int64_t ReadCompletions(const fs::path& completions, LearningCurve& curve) const {
    std::int64_t tokens = 0;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(completions)) files.push_back(entry.path());
    std::ranges::sort(files);
    const TraceRule& rule = settings_.task.reward.traces;
    constexpr std::int64_t kAnyReach = 0;            // the curve does not show what is in reach
    std::map<std::string, std::int64_t> problem_of;  // by prompt
    for (std::int64_t i = 0; i < rl_task_->size(); ++i) problem_of.emplace(rl_task_->Get(i, 0).prompt, i);
    for (std::size_t i = 0; i < curve.points.size(); ++i) {
      std::vector<std::int64_t> sums(rule.counts.size());
      ForEachJsonLine(files.at(i), [&](int, const nlohmann::json& row) {
        const auto completion = row["completion"].get<std::string>();
        const std::vector<std::int32_t> ids = tokenizer_.Encode(completion);
        const auto trace = CountTrace(rule, *rl_task_, tokenizer_, problem_of.at(row["prompt"]), completion, ids,
                                      settings_.attention.window, kAnyReach);
        std::ranges::transform(sums, trace.value().counts, sums.begin(), std::plus());
        const std::int64_t end_of_text = row["finished"].get<bool>() ? 1 : 0;
        tokens += static_cast<std::int64_t>(ids.size()) + end_of_text;
      });
      curve.points[i].repeat_rate = rule.measures[kRepeatRate].Of(sums);
    }
    return tokens;
  }

  Context& ctx_;
  const StudyOptions& options_;
  const StudySettings& settings_;
  const bool again_;
  const std::uint64_t seed_ = settings_.seed;
  const std::string study_ = MakingId(settings_);  // what runs and samples were made for
  StudyResults& results_;
  std::map<std::string, ArmCost> costs_{};
  std::set<fs::path> sampled_{};  // files of samples that this call has seen to
  const fs::path base_dir_ = BaseModelOf(options_, settings_, seed_);
  const ModelConfig base_ = ReadModelConfig(base_dir_);
  const Tokenizer tokenizer_ = Tokenizer::Load(base_dir_);
  const std::unique_ptr<Task> rl_task_ = settings_.task.make(Split::kRl, seed_);
};

}  // namespace

void StopIfAsked(const StudyOptions& options) {
  if (options.interrupted && options.interrupted()) throw Interrupted(HowToGoOn(options));
}

std::function<void(std::int64_t, std::int64_t)> CompletionsOf(const StudyOptions& options) {
  if (!options.working) return {};
  return [&](std::int64_t done, std::int64_t of) { options.working("completion", done, of); };
}

void RunSeed(Context& ctx, const StudyOptions& options, const StudySettings& settings, bool again,
             StudyResults& results) {
  SeedStudy(ctx, options, settings, again, results).Run();
}

}  // namespace swarr
