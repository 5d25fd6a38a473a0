// SPDX-License-Identifier: Apache-2.0
#include "study/study.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/files.h"
#include "base/version.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/transformer.h"
#include "study/report.h"
#include "study/statistics.h"
#include "task/ceiling.h"
#include "task/chain.h"
#include "tensor/philox.h"
#include "train/evaluate.h"
#include "train/step_timer.h"
#include "train/watch.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using ModelPtr = std::unique_ptr<Transformer>;

// Runs stop in good order by themselves; this is for what stands between them.
void StopIfAsked(const StudyOptions& options) {
  if (options.interrupted && options.interrupted()) {
    throw Interrupted(Concat("interrupted; the same command goes on with ", options.output_dir.string()));
  }
}

// All arms of the seed that `settings` has. The picture is in study.h.
class SeedStudy {
 public:
  // `again`: what runs there are is replaced, not continued.
  SeedStudy(Context& ctx, const StudyOptions& options, const StudySettings& settings, bool again, StudyResults& results)
      : ctx_(ctx), options_(options), settings_(settings), again_(again), results_(results) {}

  void Run() {
    const AttentionSpec full{}, windowed = settings_.attention;
    EvaluateArm("swa_converted", *LoadWith(base_dir_, windowed));

    const std::int64_t sft_steps = settings_.sft.steps;
    const std::int64_t sft_tokens = TrainSft({"sa_sft", base_dir_, full}, sft_steps, seed_);
    TrainSft({"swa_sft", base_dir_, windowed}, sft_steps, seed_);

    TrainRl({"sa_rl", RunDir("sa_sft"), full});
    const std::int64_t rl_tokens = TrainRl({"swa_rl", RunDir("swa_sft"), windowed});

    // The control: as many steps of SFT as hold the tokens that RL used, rounded up. They read the problems on in a new
    // order, not the same batches again.
    const std::int64_t more_steps = (rl_tokens * sft_steps + sft_tokens - 1) / sft_tokens;
    TrainSft({"swa_sft_more", RunDir("swa_sft"), windowed}, more_steps, StreamKey(seed_, Purpose::kOrder, 1));
  }

 private:
  struct Arm {
    std::string name;
    fs::path from;  // the model that its training starts with
    AttentionSpec attention;
  };

  fs::path RunDir(const std::string& arm) const {
    return options_.output_dir / "runs" / (arm + "-seed" + std::to_string(seed_));
  }

  ModelPtr LoadWith(const fs::path& dir, AttentionSpec spec, bool with_gradients = false) const {
    ModelPtr model = LoadModel(dir, DType::kF32, with_gradients, MemoryOf(options_.device));
    model->SetAttention(std::vector<AttentionSpec>(static_cast<std::size_t>(model->config().layers), spec));
    return model;
  }

  template <class... Parts>
  void Announce(const std::string& arm, const Parts&... parts) const {
    if (options_.progress) options_.progress(Concat("seed ", seed_, ": ", ArmName(arm), ": ", parts...));
  }

  std::int64_t TrainSft(const Arm& arm, std::int64_t steps, std::uint64_t order_seed) {
    Announce(arm.name, steps, " steps of SFT");
    SftOptions options = settings_.sft;
    options.steps = steps;
    options.seed = order_seed;
    return Train(arm, "sft", steps, settings_.sft_optimizer,
                 [&](const Transformer& model, Optimizer& optimizer, TrainingRun& run) {
                   RunSft(ctx_, model, tokenizer_, sft_task_, nullptr, options, optimizer, run);
                 });
  }

  std::int64_t TrainRl(const Arm& arm) {
    Announce(arm.name, settings_.rl.steps, " steps of RL");
    const std::int64_t tokens = Train(arm, "rl", settings_.rl.steps, settings_.rl_optimizer,
                                      [&](const Transformer& model, Optimizer& optimizer, TrainingRun& run) {
                                        RunRl(ctx_, model, tokenizer_, rl_task_, settings_.rl, optimizer, run);
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
    AddRestatements(RunDir(arm.name) / "completions", curve);
    results_.curves.push_back(std::move(curve));
    return tokens;
  }

  // Trains a model by loop(model, optimizer, run), keeps it in the arm's directory and evaluates it. Returns the number
  // of tokens trained on.
  template <class Loop>
  std::int64_t Train(const Arm& arm, const char* stage, std::int64_t steps, const OptimizerOptions& optimizer_options,
                     const Loop& loop) {
    nlohmann::ordered_json config = settings_.json[stage];
    config["stage"] = stage;
    config["model"] = arm.from.filename().string();
    config["seed"] = seed_;
    config["window"] = arm.attention.window;
    config["sinks"] = arm.attention.sinks;
    config["task"] = settings_.json["task"];
    config["steps"] = steps;
    config["device"] = Name(options_.device);
    const ModelPtr model = LoadWith(arm.from, arm.attention, /*with_gradients=*/true);
    Optimizer optimizer(model->parameters(), optimizer_options);
    TrainingRun run({.output_dir = RunDir(arm.name),
                     .resume = again_ ? "" : "auto",
                     .overwrite = again_,
                     .inputs = {{"model", arm.from}},
                     .interrupted = options_.interrupted,
                     .saving = options_.saving,
                     .warn = options_.progress},
                    config, *model, optimizer, tokenizer_);
    loop(*model, optimizer, run);
    run.Finish();
    for (const auto& [step, text] : WarningsOf(run.output_dir())) {
      Announce(arm.name, "warning at step ", step, ": ", text);
      results_.checks.warnings.push_back({.arm = arm.name, .seed = seed_, .step = step, .text = text});
    }
    EvaluateArm(arm.name, *model);
    return run.num_tokens();
  }

  // Adds the restatements per step of the sampled trajectories. RL keeps one file of completions for each of its steps.
  void AddRestatements(const fs::path& completions, LearningCurve& curve) const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(completions)) files.push_back(entry.path());
    std::ranges::sort(files);
    for (std::size_t i = 0; i < curve.points.size(); ++i) {
      std::vector<TraceMeasures> traces;
      ForEachJsonLine(files.at(i), [&](int, const nlohmann::json& row) {
        const auto prompt = row["prompt"].get<std::string>(), completion = row["completion"].get<std::string>();
        traces.push_back(MeasureTrace(ParsePrompt(prompt), completion));
      });
      curve.points[i].restatement_rate = SummarizeMechanism(traces, settings_.attention.window).restatement_rate;
    }
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
    const std::int64_t reach = ReachOf(model.config().layers, settings_.attention.window);
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
           .facts_in_window = FactsInWindow(trace, settings_.attention.window),
           .distance_sum = std::accumulate(trace.distances.begin(), trace.distances.end(), std::int64_t{0}),
           .in_reach = InReach(trace, reach)});
    }
    Aggregate(run, StepRanges(settings_.task.n_min, settings_.task.n_max));
    if (const AttentionSpec& spec = model.config().attention[0]; spec.window > 0 && spec.sinks == 0) {
      run.ceiling = MeanMemorylessCeiling(model.config().layers, spec.window, run.restatement_rate,
                                          settings_.task.n_min, settings_.task.n_max);
      run.reach_bound = ReachBound(run.in_reach);
    }
    Announce(arm, "accuracy ", run.accuracy, ", restatements per step ", run.restatement_rate, ", traces in reach ",
             run.in_reach);
    results_.runs.push_back(std::move(run));
  }

  Context& ctx_;
  const StudyOptions& options_;
  const StudySettings& settings_;
  const bool again_;
  const std::uint64_t seed_ = settings_.task.seed;
  StudyResults& results_;
  const fs::path base_dir_ = options_.data_dir / settings_.base_model;
  const Tokenizer tokenizer_ = Tokenizer::Load(base_dir_);
  const ChainTask sft_task_{Split::kSft, settings_.task};
  const ChainTask rl_task_{Split::kRl, settings_.task};
  const ChainTask eval_task_{Split::kEval, settings_.task};
};

constexpr int kCostRepeats = 15;

// Median milliseconds of one forward step of one sequence whose newest token is at position length - 1.
double DecodeMilliseconds(Context& ctx, const Transformer& model, int length) {
  const KvCache cache(model.config(), model.dtype(), /*slots=*/1, length, /*max_chunk=*/1, MemoryOf(ctx.device()));
  std::array<std::int32_t, 3> token = {0, length - 1, 0};
  const auto one = [&](std::size_t i) { return Tensor(&token[i], DType::kI32, {1}); };
  std::vector<double> times;
  for (int i = 0; i < kCostRepeats; ++i) {
    const StepTimer timer;
    StepScope scope(ctx);
    model.Forward(ctx, {.ids = one(0), .positions = one(1), .documents = {}, .slots = one(2)}, cache);
    Wait(ctx);
    times.push_back(1e3 * timer.Seconds());
  }
  std::nth_element(times.begin(), times.begin() + kCostRepeats / 2, times.end());
  return times[kCostRepeats / 2];
}

// Measures one forward pass, or a second one if the first is so short that its page faults would show.
double ForwardTokensPerSecond(Context& ctx, const Transformer& model, int length) {
  constexpr double kLongSeconds = 0.2;
  const std::vector<std::int32_t> tokens(static_cast<std::size_t>(length), 0);
  double seconds = 0;
  for (int i = 0; i < 2 && seconds < kLongSeconds; ++i) {
    ResetStep(ctx);
    const StepTimer timer;
    model.Forward(ctx, PackDocuments(ctx.HostArena(), {&tokens, 1}));
    Wait(ctx);
    seconds = timer.Seconds();
  }
  return length / seconds;
}

// What a sequence costs with and without the window. Measures, by its length, the cache bytes of one sequence, the
// median time of decoding one more token, and the speed of a forward pass over the whole sequence. The model has this
// shape, once with full attention ("sa") and once with the window in every layer ("swa"). Nothing depends on the
// weights or on what the cache holds, so weights are random and nothing is prefilled. The quick preset's lengths take
// about two seconds.
std::vector<CostPoint> MeasureCost(Context& ctx, const StudyOptions& options, const StudySettings& settings,
                                   const ModelConfig& shape) {
  ModelConfig config = shape;
  config.max_positions = settings.longest_cost;
  std::vector<CostPoint> points;
  for (const auto& [arm, spec] : {std::pair{"sa", AttentionSpec{}}, std::pair{"swa", settings.attention}}) {
    config.attention.assign(static_cast<std::size_t>(config.layers), spec);
    const Transformer model(config, DType::kF32, /*with_gradients=*/false, MemoryOf(ctx.device()));
    InitializeParameters(model.parameters(), config.layers, /*seed=*/0);
    for (const int share : {64, 16, 4, 1}) {
      const int length = settings.longest_cost / share;
      StopIfAsked(options);
      points.push_back({.arm = arm,
                        .length = length,
                        .kv_bytes = static_cast<std::int64_t>(KvBytesPerSequence(config, DType::kF32, length)),
                        .decode_ms_per_token = DecodeMilliseconds(ctx, model, length),
                        .forward_tokens_per_second = ForwardTokensPerSecond(ctx, model, length)});
    }
  }
  return points;
}

// Throws Error if a stage needs more memory than there is, or the models of all arms more disk.
void CheckRequirements(const StudyOptions& options, const StudySettings& settings, const ModelConfig& base) {
  const AvailableMemory available(options.device);
  ModelConfig windowed = base;
  windowed.attention.assign(static_cast<std::size_t>(base.layers), settings.attention);
  const auto check = [&](const ModelConfig& config, bool trained, const std::vector<MemoryPart>& stage) {
    std::vector<MemoryPart> parts = ModelParts(config, DType::kF32, trained);
    parts.insert(parts.end(), stage.begin(), stage.end());
    available.Check(parts);
  };
  // A document or a prompt of the task has at least this many tokens.
  constexpr int kPrompt = 10;
  check(base, true, {StepPart(base, DType::kF32, Product({settings.sft.batch_size, kPrompt}), PassKind::kTraining)});
  check(windowed, true, RlParts(windowed, DType::kF32, options.device, kPrompt, settings.rl));
  ModelConfig costly = windowed;
  costly.max_positions = settings.longest_cost;
  check(costly, false, {StepPart(costly, DType::kF32, settings.longest_cost, PassKind::kForward)});

  constexpr std::int64_t kTrainedArms = 5;
  const std::int64_t model = TrainingDisk(base, DType::kF32, options.output_dir, 0, 0, 1, false).model;
  const bool again = fs::exists(options.output_dir / "runs");  // these take the place of what is there
  const std::int64_t models = Product({kTrainedArms, static_cast<std::int64_t>(options.seeds.size()), model});
  CheckDisk({.model = again ? 0 : models}, FreeDiskBytes(options.output_dir), options.output_dir);
}

// Whether the runs in the directory are to be made again: those of a complete study, or of other settings. Then what
// tells that a study is complete goes, so that one that is stopped from here on goes on. Throws if the directory is not
// a study's, or one of other settings that must not be overwritten.
bool MakesAgain(const StudyOptions& options, const nlohmann::ordered_json& settings) {
  const fs::path &dir = options.output_dir, marker = dir / "settings.json";
  bool again = false;
  if (!fs::is_empty(dir)) {
    SWARR_CHECK(fs::exists(marker), dir.string(), " is not empty and no study's output; choose another --output-dir");
    const bool same = ParseJson<nlohmann::ordered_json>(ReadFile(marker), marker.string()) == settings;
    SWARR_CHECK(same || options.overwrite, dir.string(),
                " holds a study of other settings; choose another --output-dir, or replace it with --overwrite");
    again = !same || fs::exists(dir / kResultsFile);
  }
  fs::remove(dir / kResultsFile);
  WriteFileAtomically(marker, settings.dump(2) + "\n");
  return again;
}

}  // namespace

StudyResults RunStudy(const StudyOptions& options) {
  if (options.seeds.empty()) throw UsageError("a study needs at least one seed");
  if (options.output_dir.empty()) throw UsageError("--output-dir is empty; name a directory");
  const StepTimer timer;
  StudySettings settings = ReadStudySettings(options.data_dir, options.preset);
  const ModelConfig base = ReadModelConfig(options.data_dir / settings.base_model);
  CheckRequirements(options, settings, base);
  std::error_code error;
  fs::create_directories(options.output_dir, error);
  SWARR_CHECK(!error, "can't create the output directory ", options.output_dir.string(), ": ", error.message());
  const DirectoryLock lock(options.output_dir);
  RecoverEntries(options.output_dir);
  const bool again = MakesAgain(options, settings.json);

  const ChainOptions& task = settings.task;
  StudyResults results{
      .preset = options.preset,
      .device = options.device == Device::kCpu ? Concat("cpu, ", options.threads, " threads")
                                               : Concat("cuda, ", CudaDeviceName()),
      .command_line = options.command_line,
      .source_revision = BuildRevision(),
      .task = {.layers = base.layers,
               .window = settings.attention.window,
               .n_min = task.n_min,
               .n_max = task.n_max,
               .data_restatement_rate = task.restate_probability,
               .data_ceiling = MeanMemorylessCeiling(base.layers, settings.attention.window, task.restate_probability,
                                                     task.n_min, task.n_max)},
      .settings = settings.json};
  StepMemory memory(options.device);
  Context ctx;
  memory.GiveTo(ctx);
  ctx.threads = options.threads;
  for (const std::uint64_t seed : options.seeds) {
    settings.task.seed = settings.rl.seed = seed;
    SeedStudy(ctx, options, settings, again, results).Run();
  }
  if (options.progress) options.progress("cost by length");
  results.cost = MeasureCost(ctx, options, settings, base);
  results.summary = Summarize(results.runs);
  results.wall_seconds = timer.Seconds();
  WriteReport(results, options.output_dir);
  return results;
}

}  // namespace swarr
