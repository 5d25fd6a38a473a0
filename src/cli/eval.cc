// SPDX-License-Identifier: Apache-2.0
// swarr eval: accuracy by generation.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "base/directories.h"
#include "base/files.h"
#include "cli/generation.h"
#include "page/run_output.h"
#include "study/statistics.h"
#include "task/registry.h"
#include "train/data.h"
#include "train/evaluate.h"
#include "train/run_files.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string CompletionLines(const std::vector<EvaluatedCompletion>& completions, const Task& task) {
  std::string lines;
  for (const EvaluatedCompletion& c : completions) {
    const Example example = task.Get(c.problem, 0);
    const ordered_json line = {{"problem", c.problem},   {"prompt", example.prompt}, {"completion", c.text},
                               {"gold", example.answer}, {"extracted", c.answer},    {"reward", c.reward},
                               {"tokens", c.tokens()},   {"finished", c.finished}};
    lines += line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + '\n';
  }
  return lines;
}

struct EvalCommand {
  explicit EvalCommand(OptionSet& set) : options(set) {
    generation.AddTo(options, "model to evaluate", "completions per problem: the k of pass@k and maj@k");
    options.Group("Measurement");
    options.Add("greedy", greedy, "measure one greedy completion per problem beside the sampled ones");
    options.Add(
        "full-attention-decode", full_attention_decode,
        "a counter-example: sample with full attention in all layers, whatever window the model has, and tell how "
        "far the log-probabilities are from those of a training pass with the window");
    generation.task.prompt.AddExamplesTo(options);
    options.Add(
        "lm-eval", lm_eval,
        "GSM8K as lm-evaluation-harness measures it, beside --reward: greedy, Question: ... Answer: prompts with "
        "--few-shot-data, cut completions judged as they stand by gsm8k-strict-match and "
        "gsm8k-flexible-extract");
    options.HaveNoEffect({"samples", "temperature", "instruction"}, "with --lm-eval, which sets it",
                         [this] { return lm_eval; });
    options.HaveNoEffect({"shots"}, "without --few-shot-data",
                         [this] { return task.prompt.few_shot_data.empty() && !lm_eval; });
    options.Group("Output");
    options.AddOutput("completions-out", completions_out, "JSON Lines file for all completions and their rewards");
    output_dir_option = options
                            .AddUnrecorded("output-dir", output_dir,
                                           Concat("for ", kEvaluationFile, ", ", kEvaluatedFile, " and ", kConfigFile,
                                                  ", which swarr report puts beside those of runs"))
                            ->type_name("DIR");
    options.AddUnrecorded("json", json, "print one JSON object");
    compute.AddTo(options, ComputeOptions::kSeedOfDraws);
  }

  void Run() {
    if (output_dir.empty() && output_dir_option->count() > 0) {
      throw UsageError("--output-dir is empty; name a directory");
    }
    if (!output_dir.empty()) PrepareDirectory();
    if (lm_eval) FollowHarness();
    const GenerationOptions::Loaded loaded = generation.Load(Split::kEval);
    const auto& [problems, model, tokenizer] = loaded;
    const std::vector<AttentionSpec> attention = model->config().attention;
    const int window = model->config().smallest_window();
    if (full_attention_decode) LiftWindow(*model);
    compute.Need(EvaluateParts(model->config(), model->dtype(), compute.ResolveDevice(), *problems.task, evaluate));
    StepMemory steps(compute.ResolveDevice());
    Context ctx = compute.MakeContext(steps);
    ordered_json config = options.Resolved();  // before --greedy takes other values
    config.update(RunEnvironment(&ctx));
    const auto lines_of = [&](const auto& drawn) { return CompletionLines(drawn, *loaded.problems.task); };
    const OutputFile in_directory = EvaluatedIn(output_dir);
    const OutputFile& kept = completions_out.path.empty() ? in_directory : completions_out;
    const std::vector<EvaluatedCompletion> completions = generation.Draw(ctx, loaded, {kept, lines_of});
    if (!completions_out.path.empty()) completions_out.Write(lines_of(completions));
    AddResults(completions, problems, tokenizer, window);
    if (greedy) {
      const int samples = std::exchange(evaluate.samples, 1);
      evaluate.temperature = 0;
      // The part holds the sampled ones, which are finished, unless --completions-out has them already.
      const auto sampled = [&](const auto&) { return completions_out.path.empty() ? lines_of(completions) : ""; };
      const std::vector<EvaluatedCompletion> once =
          generation.Draw(ctx, loaded, {kept, sampled}, "problems with --greedy");
      evaluate.samples = samples;
      AddShare("accuracy_greedy", Summarize(once, 1).accuracy, once.size());
    }
    if (full_attention_decode) {
      model->SetAttention(attention);
      AddGap(CompareWithTraining(ctx, *model, tokenizer, *problems.task, completions));
    }
    if (!output_dir.empty()) WriteDirectory(config, lines_of(completions));
    model->NoteMemory(compute.memory);
    if (json && compute.memory_report) results["memory"] = compute.memory.ToJson(steps.arena());
    Report();
    if (!json) compute.PrintMemory(steps.arena());
  }

  void PrepareDirectory() {
    const fs::path dir = output_dir;
    SWARR_CHECK(!fs::exists(dir) || fs::is_directory(dir), "--output-dir names ", output_dir, ", which is a file");
    for (const char* mark : {"config.json", kRunFile}) {
      SWARR_CHECK(!fs::exists(dir / mark), "--output-dir names ", output_dir,
                  ", the directory of a model or a run; give the evaluation one of its own");
    }
    std::error_code error;
    fs::create_directories(dir, error);
    SWARR_CHECK(!error, "can't create the output directory ", output_dir, ": ", error.message());
    directory_lock.emplace(dir);
    RequireFree(dir, options.overwrite());
  }

  // Where in --output-dir completions go; that the directory may be used is known.
  static OutputFile EvaluatedIn(const fs::path& dir) {
    return {.path = dir.empty() ? "" : (dir / kEvaluatedFile).string(), .overwrite = true, .in_parts = true};
  }

  // The settings come last: where they are, all is.
  void WriteDirectory(const ordered_json& config, const std::string& lines) const {
    const fs::path dir = output_dir;
    EvaluatedIn(dir).Write(lines);
    WriteFileAtomically(dir / kEvaluationFile, results.dump(2) + "\n");
    WriteFileAtomically(dir / kConfigFile, config.dump(2) + "\n");
  }

  // Gives all layers full attention.
  static void LiftWindow(Transformer& model) {
    if (model.config().smallest_window() == 0) {
      throw UsageError("--full-attention-decode needs a model with a window; all layers of this one are full already");
    }
    model.SetAttention(std::vector<AttentionSpec>(model.config().attention.size()));
  }

  void AddGap(const LogprobGap& gap) {
    results["logprob_abs_diff_mean"] = gap.mean;
    results["logprob_abs_diff_max"] = gap.largest;
    results["logprob_tokens"] = gap.tokens;
  }

  // The settings of the harness's task gsm8k. The harness looks for its stops in the text.
  void FollowHarness() {
    if (task.prompt.few_shot_data.empty() && task.prompt.shots > 0) {
      throw UsageError("--lm-eval needs --few-shot-data FILE, rows of the training set, or --shots 0");
    }
    for (const char* score : {"strict-match", "flexible-extract"}) {
      harness_scores.emplace_back(Concat("exact_match,", score), RewardByName(Concat("gsm8k-", score)));
    }
    constexpr int kHarnessTokens = 256;
    task.prompt.instruction = "question-answer";
    if (task.prompt.chat_template == "auto") task.prompt.chat_template = "plain";
    evaluate.samples = 1;
    evaluate.temperature = 0;
    if (evaluate.max_completion_length == 0) evaluate.max_completion_length = kHarnessTokens;
    evaluate.stop_texts = {"Question:", "</s>", "<|im_end|>"};
  }

  // A mean over problems of values in [0, 1], with Wilson's interval for as many trials. Zeros and ones vary most among
  // the values of a given mean, so where a problem has several samples the interval is too wide, never too narrow.
  void AddShare(const std::string& name, double share, std::size_t problems) {
    const auto successes = static_cast<std::int64_t>(std::llround(share * static_cast<double>(problems)));
    const Interval interval = WilsonInterval(successes, static_cast<std::int64_t>(problems));
    results[name] = share;
    results[name + "_ci95"] = {interval.low, interval.high};
  }

  void AddResults(const std::vector<EvaluatedCompletion>& completions, const LoadedTask& problems,
                  const Tokenizer& tokenizer, int window) {
    const AccuracySummary summary = Summarize(completions, evaluate.samples);
    const std::size_t count = completions.size() / static_cast<std::size_t>(evaluate.samples);
    results = {{"problems", count}, {"samples", evaluate.samples}, {"temperature", evaluate.temperature}};
    const auto add_share = [&](const std::string& name, double share) { AddShare(name, share, count); };
    add_share("accuracy", summary.accuracy);
    for (int k = 1; k < evaluate.samples; k *= 2) {
      add_share(Concat("pass@", k), PassAtK(completions, evaluate.samples, k));
    }
    add_share("pass@k", PassAtK(completions, evaluate.samples, evaluate.samples));
    add_share("maj@k", summary.majority_at_k);
    add_share("extracted", summary.extracted);
    add_share("truncated", summary.truncated);
    for (const auto& [name, rule] : harness_scores) add_share(name, ShareRight(completions, *problems.task, rule));
    AddLength(completions, summary.mean_length);
    if (problems.reward.traces.count) AddMeasures(completions, problems, tokenizer, window);
    if (problems.file == nullptr) return;
    for (const DroppedRows& d : problems.file->dropped()) results["dropped"][d.reason] = d.count;
  }

  // The mean length, with a normal interval from the spread of the problems' means. Without a spread, as of one problem
  // or where all completions are cut, the interval has no numbers: it would claim that no other length is possible.
  void AddLength(const std::vector<EvaluatedCompletion>& completions, double mean) {
    const auto k = static_cast<std::size_t>(evaluate.samples);
    const double count = static_cast<double>(completions.size()) / static_cast<double>(k);
    double squares = 0;
    std::set<std::int64_t> lengths;  // of a problem's completions together
    for (std::size_t begin = 0; begin < completions.size(); begin += k) {
      std::int64_t sum = 0;
      for (std::size_t i = begin; i < begin + k; ++i) sum += completions[i].tokens();
      const double distance = static_cast<double>(sum) / static_cast<double>(k) - mean;
      squares += distance * distance;
      lengths.insert(sum);
    }
    const double margin = lengths.size() > 1 ? kZ95 * std::sqrt(squares / (count - 1) / count) : kUndefined;
    results["mean_length"] = mean;
    results["mean_length_ci95"] = {mean - margin, mean + margin};
  }

  // What the completions show beside their rewards.
  void AddMeasures(const std::vector<EvaluatedCompletion>& completions, const LoadedTask& problems,
                   const Tokenizer& tokenizer, int window) {
    const TraceRule& rule = problems.reward.traces;
    constexpr std::int64_t kAnyReach = 0;  // what is in reach is not reported
    std::vector<std::int64_t> sums(rule.counts.size());
    for (const EvaluatedCompletion& c : completions) {
      const auto counts =
          CountTrace(rule, *problems.task, tokenizer, c.problem, c.text, c.drawn.tokens, window, kAnyReach);
      if (!counts) return;  // the file's rows do not state their problems
      std::ranges::transform(sums, counts->counts, sums.begin(), std::plus());
    }
    for (const TraceMeasure& measure : rule.measures) results[measure.name] = measure.Of(sums);
  }

  void Report() const {
    if (json) return PrintJson(results);
    for (const auto& [name, value] : results.items()) {
      if (name.ends_with("_ci95") || (evaluate.samples == 1 && name.ends_with("@k"))) continue;  // of one: the accuracy
      if (value.is_object()) {
        for (const auto& [reason, count] : value.items()) PrintLine(Concat(name, ": ", reason), count, {});
      } else {
        PrintLine(name, value, results.value(name + "_ci95", ordered_json()));
      }
    }
  }

  // A value and, unless there is none or it has no numbers, its interval.
  static void PrintLine(const std::string& name, const ordered_json& value, const ordered_json& interval) {
    const auto text = [](const ordered_json& number) {
      if (!number.is_number_float()) return number.dump();
      if (std::isnan(number.get<double>())) return std::string("-");
      return (std::ostringstream() << std::setprecision(4) << number.get<double>()).str();  // --json has all digits
    };
    std::printf("%-26s %-10s", name.c_str(), text(value).c_str());
    if (interval.is_array() && text(interval[0]) != "-") {
      std::printf("95%%: %s to %s", text(interval[0]).c_str(), text(interval[1]).c_str());
    }
    std::printf("\n");
  }

  OptionSet& options;
  OutputFile completions_out{.in_parts = true};
  const CLI::Option* output_dir_option = nullptr;
  std::string output_dir;
  std::optional<DirectoryLock> directory_lock;  // of output_dir
  bool greedy = false, lm_eval = false, full_attention_decode = false;
  std::vector<std::pair<std::string, RewardRule>> harness_scores;  // with --lm-eval
  GenerationOptions generation;
  TaskOptions& task = generation.task;
  EvaluateOptions& evaluate = generation.evaluate;
  ComputeOptions& compute = generation.compute;
  bool json = false;
  ordered_json results;
};

}  // namespace

void AddEval(const CommandGroup& program) {
  program.Add<EvalCommand>("eval", "Measure accuracy by generation, with 95% intervals",
                           "  swarr eval --model out/swa --task chain --samples 8 --json");
}

}  // namespace swarr
