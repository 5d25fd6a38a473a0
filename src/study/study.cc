// SPDX-License-Identifier: Apache-2.0
#include "study/study.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <memory>
#include <numeric>

#include "base/directories.h"
#include "base/files.h"
#include "base/machine.h"
#include "base/version.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/transformer.h"
#include "study/measure_arm.h"
#include "study/records/gather.h"
#include "study/records/record.h"
#include "study/report.h"
#include "study/seed_study.h"
#include "study/statistics.h"
#include "task/ceiling.h"
#include "train/data.h"
#include "train/evaluate.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using ModelPtr = std::unique_ptr<Transformer>;

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
    const Transformer model(config, settings.dtype, /*with_gradients=*/false, MemoryOf(ctx.device()));
    InitializeParameters(model.parameters(), config.layers, /*seed=*/0);
    for (const int share : {64, 16, 4, 1}) {
      const int length = settings.longest_cost / share;
      StopIfAsked(options);
      points.push_back({.arm = arm,
                        .length = length,
                        .kv_bytes = static_cast<std::int64_t>(KvBytesPerSequence(config, settings.dtype, length)),
                        .decode_ms_per_token = DecodeMilliseconds(ctx, model, length),
                        .forward_tokens_per_second = ForwardTokensPerSecond(ctx, model, length)});
    }
  }
  return points;
}

// Throws Error unless all base models have one shape and one vocabulary, which the arms, the files of
// problems and the longest problems fit.
ModelConfig CheckBaseModels(const StudyOptions& options, const StudySettings& settings) {
  const fs::path first = BaseModelOf(options, settings, 0);
  ModelConfig base = ReadModelConfig(first);
  for (std::size_t i = 1; i < settings.base_models.size(); ++i) {
    const fs::path dir = BaseModelOf(options, settings, i);
    for (const char* file : {"config.json", "tokenizer.json"}) {
      SWARR_CHECK(ReadFile(dir / file) == ReadFile(first / file), (dir / file).string(), " is not that of ",
                  first.string(), "; the base models of a study have one shape and one tokenizer");
    }
  }
  for (const ArmPlan& arm : settings.arms) LayersOf(arm.attention, base.layers);
  const Tokenizer tokenizer = Tokenizer::Load(first);
  CheckProblemFiles(settings, tokenizer, base.max_positions);
  const BuiltInTask& longest = settings.longer ? *settings.longer : settings.task;
  const std::unique_ptr<Task> task = longest.make(Split::kEval, 0);
  const int tokens = LongestPrompt(*task, tokenizer) + settings.CompletionLimit(*task);
  SWARR_CHECK(tokens <= base.max_positions, "problems of ", longest.view.sizes().second, ' ', longest.view.step,
              "s take up to ", tokens, " tokens, and ", first.string(), " reads ", base.max_positions,
              "; ask for fewer ", longest.view.step, 's');
  return base;
}

// Throws Error if a stage needs more memory than there is, or the models that are kept more disk.
void CheckRequirements(const StudyOptions& options, const StudySettings& settings, const ModelConfig& base,
                       std::size_t seeds) {
  const AvailableMemory available(options.device);
  ModelConfig windowed = base;
  windowed.attention.assign(static_cast<std::size_t>(base.layers), settings.attention);
  const auto check = [&](const ModelConfig& config, bool trained, const std::vector<MemoryPart>& stage) {
    std::vector<MemoryPart> parts = ModelParts(config, settings.dtype, trained);
    parts.insert(parts.end(), stage.begin(), stage.end());
    available.Check(parts);
  };
  const int prompt =
      ShortestPrompt(*settings.task.make(Split::kEval, 0), Tokenizer::Load(BaseModelOf(options, settings, 0)));
  for (const ArmPlan& arm : settings.arms) {
    ModelConfig config = base;
    config.attention = LayersOf(arm.attention, base.layers);
    switch (arm.training) {
      case ArmTraining::kNone:
        break;
      case ArmTraining::kSft:
        check(config, true,
              {StepPart(config, settings.dtype, Product({arm.sft.batch_size, prompt}), PassKind::kTraining)});
        break;
      case ArmTraining::kRl:
        check(config, true, RlParts(config, settings.dtype, options.device, prompt, arm.rl));
        break;
    }
  }
  ModelConfig costly = windowed;
  costly.max_positions = settings.longest_cost;
  check(costly, false, {StepPart(costly, settings.dtype, settings.longest_cost, PassKind::kForward)});

  const std::int64_t trained =
      std::ranges::count_if(settings.arms, [](const ArmPlan& arm) { return arm.training != ArmTraining::kNone; });
  const std::int64_t model = TrainingDisk(base, settings.dtype, options.output_dir, 0, 0, 1, false).model;
  const bool again = fs::exists(options.output_dir / "runs");  // these take the place of what is there
  const std::int64_t sets = options.keep_models ? static_cast<std::int64_t>(seeds) : 1;
  const std::int64_t models = Product({trained, sets, model});
  CheckDisk({.model = again ? 0 : models}, FreeDiskBytes(options.output_dir), options.output_dir);
}

// StudyTask::data_ceiling.
double DataCeiling(const StudySettings& settings, const StudyTask& of, const Tokenizer& tokenizer) {
  const double planted = of.MemorylessCeiling(of.view().repeat_rate(), of.sizes());
  if (std::isfinite(planted)) return planted;
  const std::unique_ptr<Task> task = settings.task.make(Split::kEval, 0);
  const std::int64_t asked = settings.evaluation_problems, reach = ReachOf(of.layers, of.window);
  const std::int64_t problems = asked == 0 ? task->size() : std::min(task->size(), asked);
  double chances = 0;
  for (std::int64_t i = 0; i < problems; ++i) {
    const std::string trace = task->Get(i, 0).completion;
    chances += CountTrace(of.traces(), *task, tokenizer, i, trace, tokenizer.Encode(trace), of.window, reach)
                   .value()
                   .best_chance;
  }
  return chances / static_cast<double>(problems);
}

// What the arms were made on: this device, or those of the records.
std::string DevicesOf(const StudyResults& results, const StudyOptions& options) {
  const std::vector<std::string> names = DistinctOf(results.runs, &ArmRun::device);
  if (names != std::vector{DeviceName(options.device)}) return Listed(names);
  return options.device == Device::kCpu ? Concat("cpu, ", options.threads, " threads") : Concat("cuda, ", names[0]);
}

// Whether the directory, which is a study's, holds one of these settings.
bool HoldsStudy(const fs::path& dir, const nlohmann::ordered_json& settings) {
  const fs::path marker = dir / "settings.json";
  auto held = ParseJson<nlohmann::ordered_json>(ReadFile(marker), marker.string());
  held.erase("inputs");
  return WithoutLooks(held) == WithoutLooks(settings);
}

// WhyOtherInputs of the directory, which is this study's, as a whole: runs that have no record yet are made of these.
std::string WhyOtherInputsOf(const fs::path& dir, const StudySettings& settings) {
  const fs::path marker = dir / "settings.json";
  const auto held = ParseJson<nlohmann::ordered_json>(ReadFile(marker), marker.string());
  return WhyOtherInputs(dir, held.value("inputs", nlohmann::ordered_json::object()), settings.inputs);
}

// Whether every arm has its record under all these seeds. Throws for a record of other inputs.
bool IsMeasured(const StudyOptions& options, StudySettings settings, const std::vector<std::uint64_t>& seeds) {
  return std::ranges::all_of(seeds, [&](std::uint64_t seed) {
    settings.seed = seed;
    return std::ranges::all_of(settings.arms,
                               [&](const ArmPlan& arm) { return FindRecord(options, settings, arm).has_value(); });
  });
}

// Throws unless the directory, which is this study's, may be gone on with.
void CheckGoesOn(const StudyOptions& options, const StudySettings& settings, const std::vector<std::uint64_t>& seeds) {
  const fs::path& dir = options.output_dir;
  const std::string why = WhyOtherInputsOf(dir, settings);
  SWARR_CHECK(why.empty(), why);
  const bool measured = IsMeasured(options, settings, seeds);
  SWARR_CHECK(!measured || !fs::exists(dir / kResultsFile), dir.string(),
              " already holds this study, complete; choose another --output-dir, write its report again with "
              "--report-only, or make it again with --overwrite");
}

// Whether the runs in the directory are to be made again, as `overwrite` asks: those of a complete study, or of other
// settings or inputs. Then what tells that a study is complete goes, so that one that is stopped from here on goes on.
// Throws if the directory is not a study's, or one that must be overwritten to be written to.
bool MakesAgain(const StudyOptions& options, const StudySettings& settings, const std::vector<std::uint64_t>& seeds) {
  const fs::path &dir = options.output_dir, marker = dir / "settings.json";
  SWARR_CHECK(options.arms.empty() || !fs::exists(dir / kResultsFile), dir.string(),
              " holds a complete study; --arms goes on with one that is not");
  bool again = false;
  if (!fs::is_empty(dir)) {
    SWARR_CHECK(fs::exists(marker), dir.string(), " is not empty and no study's output; choose another --output-dir");
    const bool same = HoldsStudy(dir, settings.json);
    SWARR_CHECK(same || options.overwrite, dir.string(),
                " holds a study of other settings; choose another --output-dir, or replace it with --overwrite");
    if (!options.overwrite) CheckGoesOn(options, settings, seeds);
    again = options.overwrite && (!same || fs::exists(dir / kResultsFile) || !WhyOtherInputsOf(dir, settings).empty());
  }
  fs::remove(dir / kResultsFile);
  if (again) fs::remove_all(RecordPath(dir, "", 0).parent_path());
  nlohmann::ordered_json held = settings.json;
  held["inputs"] = HashesOf(settings.inputs);
  WriteFileAtomically(marker, held.dump(2) + "\n");
  return again;
}

// The command that makes the study, where this one may only have written its report again.
std::string CommandOf(const StudyOptions& options) {
  constexpr std::string_view kFlag = " --report-only";
  std::string command = options.command_line;
  const std::size_t at = command.find(kFlag);
  return options.report_only && at != std::string::npos ? command.erase(at, kFlag.size()) : command;
}

// What is known before any run.
StudyResults EmptyResults(const StudyOptions& options, const StudySettings& settings, int layers) {
  StudyResults results{.preset = options.preset,
                       .command_line = CommandOf(options),
                       .source_revision = BuildRevision(),
                       .machine = ProcessorModel(),
                       .kernels = Name(BestCpu()),
                       .date = UtcText(std::time(nullptr)),
                       .task = {.kind = settings.task, .layers = layers, .window = settings.attention.window},
                       .settings = settings.json,
                       .looks = settings.looks};
  results.task.data_ceiling =
      DataCeiling(settings, results.task, Tokenizer::Load(BaseModelOf(options, settings, options.seed)));
  return results;
}

StudyResults ReportOnly(const StudyOptions& options, StudySettings settings, int layers,
                        const std::vector<std::uint64_t>& seeds) {
  const fs::path& dir = options.output_dir;
  SWARR_CHECK(fs::exists(dir / "settings.json"), dir.string(), " holds no study; without --report-only it is begun");
  SWARR_CHECK(HoldsStudy(dir, settings.json), dir.string(),
              " holds a study of other settings; give the --preset that it is of");
  const std::string why = WhyOtherInputsOf(dir, settings);
  SWARR_CHECK(why.empty(), why);
  StudyResults results = EmptyResults(options, settings, layers);
  for (const std::uint64_t seed : seeds) {
    settings.seed = seed;
    GatherSeed(options, settings, layers, results);
  }
  SWARR_CHECK(!results.runs.empty(), dir.string(), " has no record of an arm yet; try again when one is measured");
  results.device = Listed(DistinctOf(results.runs, &ArmRun::device));
  results.cost = CostOfReport(dir);
  results.summary = Summarize(results.runs);
  WriteReport(results, dir);
  return results;
}

// The study on the model in `dir`, whose name stands for it in the settings: another place is no other study.
StudySettings OnBaseModel(StudySettings settings, const fs::path& dir) {
  const fs::path normal = fs::absolute(dir).lexically_normal(),
                 whole = normal.has_filename() ? normal : normal.parent_path();
  settings.base_models = {whole.string()};
  settings.json["base_model"] = whole.filename().string();
  return settings;
}

// Throws UsageError for an arm that the study does not have.
void CheckWanted(const StudyOptions& options, const StudySettings& settings) {
  for (const std::string& name : options.arms) {
    if (std::ranges::find(settings.arms, name, &ArmPlan::name) != settings.arms.end()) continue;
    std::vector<std::string> names;
    for (const ArmPlan& arm : settings.arms) names.push_back(arm.name);
    throw UsageError(Concat("there is no arm '", name, "' in the preset ", options.preset, "; use ", Listed(names)));
  }
}

}  // namespace

StudyResults RunStudy(const StudyOptions& options) {
  if (options.output_dir.empty()) throw UsageError("--output-dir is empty; name a directory");
  const StudySettings read = ReadStudySettings(options.data_dir, options.preset);
  StudySettings settings = options.base_model.empty() ? read : OnBaseModel(read, options.base_model);
  CheckWanted(options, settings);
  const ModelConfig base = CheckBaseModels(options, settings);
  settings.inputs = InputsOf(options, settings);
  std::vector<std::uint64_t> seeds(static_cast<std::size_t>(options.seeds > 0 ? options.seeds : settings.seeds));
  std::iota(seeds.begin(), seeds.end(), options.seed);
  if (options.report_only) return ReportOnly(options, std::move(settings), base.layers, seeds);
  CheckRequirements(options, settings, base, seeds.size());
  std::error_code error;
  fs::create_directories(options.output_dir, error);
  SWARR_CHECK(!error, "can't create the output directory ", options.output_dir.string(), ": ", error.message());
  const DirectoryLock lock(options.output_dir);
  RecoverEntries(options.output_dir);
  const bool again = MakesAgain(options, settings, seeds);

  StudyResults results = EmptyResults(options, settings, base.layers);
  StepMemory memory(options.device);
  Context ctx;
  memory.GiveTo(ctx);
  ctx.threads = options.threads;
  for (const std::uint64_t seed : seeds) {
    settings.seed = settings.rl.seed = seed;
    RunSeed(ctx, options, settings, again, results);
  }
  if (!options.arms.empty()) return ReportOnly(options, settings, base.layers, seeds);
  results.device = DevicesOf(results, options);
  if (options.progress) options.progress("cost by length");
  const StepTimer timer;
  results.cost = MeasureCost(ctx, options, settings, base);
  results.cost_device =
      options.device == Device::kCpu ? Concat("cpu, ", options.threads, " threads") : DeviceName(options.device);
  results.summary = Summarize(results.runs);
  results.wall_seconds += timer.Seconds();
  WriteReport(results, options.output_dir);
  return results;
}

}  // namespace swarr
