// SPDX-License-Identifier: Apache-2.0
#include "study/study.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "model/hf_config.h"
#include "model/model_files.h"
#include "study/cost.h"
#include "study/report.h"
#include "study/settings.h"
#include "study/statistics.h"
#include "task/ceiling.h"
#include "task/chain_trace.h"
#include "tensor/files.h"
#include "tensor/philox.h"
#include "tensor/version.h"
#include "train/evaluate.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using ModelPtr = std::unique_ptr<Transformer>;

// All arms of one seed.
class SeedStudy {
 public:
  SeedStudy(const StudyOptions& options, const StudySettings& settings, std::uint64_t seed, StudyResults& results)
      : options_(options),
        settings_(settings),
        seed_(seed),
        results_(results),
        base_dir_(options.data_dir / settings.base_model),
        tokenizer_(Tokenizer::Load(base_dir_)),
        sft_task_(Split::kSft, WithSeed(settings.task, seed)),
        rl_task_(Split::kRl, WithSeed(settings.task, seed)),
        eval_task_(Split::kEval, WithSeed(settings.task, seed)),
        memory_(options.device) {
    memory_.GiveTo(ctx_);
    ctx_.threads = options.threads;
  }

  void Run() {
    const AttentionSpec full{}, windowed = settings_.attention;
    EvaluateArm("swa_converted", *LoadWith(base_dir_, windowed));
    const std::int64_t sft_tokens = TrainSft("sa_sft", base_dir_, full, settings_.sft.steps);
    TrainSft("swa_sft", base_dir_, windowed, settings_.sft.steps);
    TrainRl("sa_rl", RunDir("sa_sft"), full);
    const std::int64_t rl_tokens = TrainRl("swa_rl", RunDir("swa_sft"), windowed);
    // As many steps as hold as many tokens as RL used, at SFT's tokens per step.
    const std::int64_t more = (rl_tokens * settings_.sft.steps + sft_tokens - 1) / sft_tokens;
    TrainSft("swa_sft_more", RunDir("swa_sft"), windowed, more);
  }

 private:
  static ChainOptions WithSeed(ChainOptions options, std::uint64_t seed) {
    options.seed = seed;
    return options;
  }

  fs::path RunDir(const std::string& arm) const {
    return options_.output_dir / "runs" / (arm + "-seed" + std::to_string(seed_));
  }

  ModelPtr LoadWith(const fs::path& dir, AttentionSpec spec, bool with_gradients = false) const {
    ModelPtr model = LoadModel(dir, DType::kF32, with_gradients, MemoryOf(options_.device));
    model->SetAttention(std::vector<AttentionSpec>(static_cast<std::size_t>(model->config().layers), spec));
    return model;
  }

  void Say(const std::string& what) const {
    if (options_.progress) options_.progress(Concat("seed ", seed_, ": ", what));
  }

  RunOptions RunOptionsOf(const std::string& arm) const {
    return {.output_dir = RunDir(arm), .interrupted = options_.interrupted};
  }

  nlohmann::ordered_json ConfigOf(const char* stage, const fs::path& from, AttentionSpec spec,
                                  std::int64_t steps) const {
    nlohmann::ordered_json config = settings_.json[stage];
    config["stage"] = stage;
    config["model"] = from.filename().string();
    config["seed"] = seed_;
    config["window"] = spec.window;
    config["sinks"] = spec.sinks;
    config["task"] = settings_.json["task"];
    config["steps"] = steps;
    return config;
  }

  // Both return the tokens trained on.
  std::int64_t TrainSft(const std::string& arm, const fs::path& from, AttentionSpec spec, std::int64_t steps) {
    Say(Concat(ArmName(arm), ": ", steps, " steps of SFT"));
    const ModelPtr model = LoadWith(from, spec, /*with_gradients=*/true);
    Optimizer optimizer(model->parameters(), settings_.sft_optimizer);
    TrainingRun run(RunOptionsOf(arm), ConfigOf("sft", from, spec, steps), *model, optimizer, tokenizer_);
    SftOptions options = settings_.sft;
    options.steps = steps;
    // The second stretch of swa_sft_more reads the problems on in a new order, not the same batches again.
    options.seed = arm == "swa_sft_more" ? StreamKey(seed_, Purpose::kOrder, 1) : seed_;
    RunSft(ctx_, *model, tokenizer_, sft_task_, nullptr, options, optimizer, run);
    run.Finish();
    EvaluateArm(arm, *model);
    return run.num_tokens();
  }

  std::int64_t TrainRl(const std::string& arm, const fs::path& from, AttentionSpec spec) {
    Say(Concat(ArmName(arm), ": ", settings_.rl.steps, " steps of RL"));
    const ModelPtr model = LoadWith(from, spec, /*with_gradients=*/true);
    Optimizer optimizer(model->parameters(), settings_.rl_optimizer);
    RunOptions run_options = RunOptionsOf(arm);
    LearningCurve curve{.arm = arm, .seed = seed_};
    run_options.on_step = [&](const nlohmann::ordered_json& row) {
      curve.step.push_back(row["step"].get<double>());
      curve.reward.push_back(row["reward"].get<double>());
    };
    TrainingRun run(run_options, ConfigOf("rl", from, spec, settings_.rl.steps), *model, optimizer, tokenizer_);
    RlOptions options = settings_.rl;
    options.seed = seed_;
    const OnPolicyCheck check = RunRl(ctx_, *model, tokenizer_, rl_task_, options, optimizer, run);
    run.Finish();
    results_.checks.rollout_logprob_max_abs_diff =
        std::max(results_.checks.rollout_logprob_max_abs_diff, check.max_abs_diff);
    results_.checks.rollout_logprob_tokens += check.tokens;
    curve.restatement_rate = RestatementCurve(run.output_dir());
    results_.curves.push_back(std::move(curve));
    EvaluateArm(arm, *model);
    return run.num_tokens();
  }

  // Restatements per step of the sampled trajectories, for each step of RL, from the kept completions.
  std::vector<double> RestatementCurve(const fs::path& run_dir) const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(run_dir / "completions")) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    std::vector<double> curve;
    for (const fs::path& file : files) {
      std::vector<TraceMeasures> traces;
      ForEachJsonLine(file, [&](int, const nlohmann::json& row) {
        const auto prompt = row["prompt"].get<std::string>(), completion = row["completion"].get<std::string>();
        traces.push_back(MeasureTrace(ParsePrompt(prompt), completion));
      });
      curve.push_back(SummarizeMechanism(traces, settings_.attention.window).restatement_rate);
    }
    return curve;
  }

  // One sample at temperature 1 and one greedy completion of each evaluation problem.
  void EvaluateArm(const std::string& arm, const Transformer& model) {
    Say(Concat(ArmName(arm), ": evaluation"));
    EvaluateOptions options{.problems = settings_.evaluation_problems,
                            .max_completion_length = ChainTokenLimit(settings_.task.n_max),
                            .seed = seed_};
    const std::vector<EvaluatedCompletion> sampled = Evaluate(ctx_, model, tokenizer_, eval_task_, options);
    options.temperature = 0;
    const std::vector<EvaluatedCompletion> greedy = Evaluate(ctx_, model, tokenizer_, eval_task_, options);
    ArmRun run{.arm = arm, .seed = seed_};
    for (std::size_t i = 0; i < sampled.size(); ++i) {
      const ChainProblem& problem = eval_task_.problem(sampled[i].problem);
      const TraceMeasures trace = MeasureTrace(problem, sampled[i].text);
      run.outcomes.push_back(
          {.problem = sampled[i].problem,
           .steps = problem.n,
           .correct_sampled = sampled[i].reward == 1.0,
           .correct_greedy = greedy[i].reward == 1.0,
           .length = sampled[i].tokens,
           .truncated = !sampled[i].finished,
           .steps_written = trace.steps,
           .restatements = trace.restatements,
           .facts = static_cast<int>(trace.distances.size()),
           .facts_in_window = FactsInWindow(trace, settings_.attention.window),
           .distance_sum = std::accumulate(trace.distances.begin(), trace.distances.end(), std::int64_t{0})});
    }
    Aggregate(run, StepRanges(settings_.task.n_min, settings_.task.n_max));
    if (model.config().attention[0].window > 0) {
      run.ceiling = ReceptiveFieldCeiling(model.config().layers, settings_.attention.window, run.restatement_rate,
                                          settings_.task.n_min, settings_.task.n_max);
    }
    Say(Concat(ArmName(arm), ": accuracy ", run.accuracy, ", restatements per step ", run.restatement_rate));
    results_.runs.push_back(std::move(run));
  }

  const StudyOptions& options_;
  const StudySettings& settings_;
  const std::uint64_t seed_;
  StudyResults& results_;
  const fs::path base_dir_;
  const Tokenizer tokenizer_;
  const ChainTask sft_task_, rl_task_, eval_task_;
  StepMemory memory_;
  Context ctx_;
};

// Makes room for the runs. What an earlier study wrote there is replaced, anything else is left alone and refused.
void PrepareOutput(const fs::path& dir, const nlohmann::ordered_json& settings) {
  const fs::path marker = dir / "settings.json";
  if (fs::exists(dir) && !fs::is_empty(dir)) {
    SWARR_CHECK(fs::exists(marker), dir.string(), " is not empty and no study's output; choose another --output-dir");
    fs::remove_all(dir / "runs");
  }
  std::error_code error;
  fs::create_directories(dir, error);
  SWARR_CHECK(!error, "can't create the output directory ", dir.string(), ": ", error.message());
  WriteFileAtomically(marker, settings.dump(2) + "\n");
}

}  // namespace

StudyResults RunStudy(const StudyOptions& options) {
  if (options.seeds.empty()) throw UsageError("a study needs at least one seed");
  const auto start = std::chrono::steady_clock::now();
  const StudySettings settings = ReadStudySettings(options.data_dir, options.preset);
  const ModelConfig base = ReadModelConfig(options.data_dir / settings.base_model);
  PrepareOutput(options.output_dir, settings.json);

  StudyResults results{.preset = options.preset,
                       .device = options.device == Device::kCpu ? Concat("cpu, ", options.threads, " threads")
                                                                : Concat("cuda, ", CudaDeviceName()),
                       .command_line = options.command_line,
                       .source_revision = BuildRevision()};
  results.settings = settings.json;
  results.task = {base.layers,
                  settings.attention.window,
                  settings.task.n_min,
                  settings.task.n_max,
                  settings.task.restate_probability,
                  ReceptiveFieldCeiling(base.layers, settings.attention.window, settings.task.restate_probability,
                                        settings.task.n_min, settings.task.n_max)};
  for (const std::uint64_t seed : options.seeds) SeedStudy(options, settings, seed, results).Run();
  if (options.progress) options.progress("cost by length");
  StepMemory memory(options.device);
  Context ctx;
  memory.GiveTo(ctx);
  ctx.threads = options.threads;
  results.cost = MeasureCost(ctx, base, settings.attention);
  results.summary = Summarize(results.runs);
  results.wall_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  WriteReport(results, options.output_dir);
  return results;
}

}  // namespace swarr
