// SPDX-License-Identifier: Apache-2.0
// swarr sample: a model's completions as rows that sft reads.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/generation.h"
#include "task/registry.h"
#include "train/samples.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

struct SampleCommand {
  explicit SampleCommand(OptionSet& options) {
    evaluate.samples = 4;
    evaluate.purpose = Purpose::kSample;
    generation.AddTo(options, "model to sample from", "completions per problem");
    options.Group("Problems");
    options.Add("split", split, "with --task, which of the three disjoint sets of problems")
        ->type_name(OneOf(kNames<Split>));
    options.HaveNoEffect({"split"}, "with --data",
                         [this] { return generation.task.task.empty() && !generation.task.data.empty(); });
    options.Group("Output");
    options.Add("keep", keep, "which completions become rows; shortest is the shortest correct one of each problem")
        ->type_name(OneOf(kNames<Keep>));
    options.AddOutput("output", output, "JSON Lines file to write, for sft --data")->required();
    options.AddUnrecorded("json", json, "print one JSON object");
    generation.compute.AddTo(options, ComputeOptions::kSeedOfDraws);
  }

  void Run() {
    const Keep kept = ParseName<Keep>("keep", keep);
    const GenerationOptions::Loaded loaded = generation.Load(ParseName<Split>("split", split));
    const auto& [problems, model, tokenizer] = loaded;
    // A built-in task's problems stand as they are, whatever the model's chat template.
    const PromptFormat format =
        problems.file ? generation.task.prompt.MakeFormat(generation.model_dir) : PromptFormat();
    ComputeOptions& compute = generation.compute;
    compute.Need(EvaluateParts(model->config(), model->dtype(), compute.ResolveDevice(), *problems.task, evaluate));
    StepMemory steps(compute.ResolveDevice());
    Context ctx = compute.MakeContext(steps);
    const SampleSource source{.task = *problems.task,
                              .tokenizer = tokenizer,
                              .format = format,
                              .eos_id = model->config().eos_id,
                              .model = std::filesystem::canonical(generation.model_dir).filename().string(),
                              .seed = evaluate.seed,
                              .samples = evaluate.samples};
    const auto rows_of = [&](const std::vector<EvaluatedCompletion>& drawn) {
      return RowsToLearn(drawn, source, kept);
    };
    const std::vector<EvaluatedCompletion> completions =
        generation.Draw(ctx, loaded, {output, [&](const auto& drawn) { return rows_of(drawn).lines; }});
    const SampledRows rows = rows_of(completions);
    const auto cut = std::ranges::count(completions, false, &EvaluatedCompletion::finished);
    SWARR_CHECK(rows.rows > 0, "none of the ", completions.size(), " completions can be kept (", cut,
                " are cut at --max-completion-length, ", rows.not_read_back,
                " can't be read back as the tokens that were drawn); raise that, --samples, or take a better model");
    output.Write(rows.lines);
    Report(completions, rows);
    model->NoteMemory(compute.memory);
    compute.PrintMemory(steps.arena());
  }

  void Report(const std::vector<EvaluatedCompletion>& completions, const SampledRows& rows) const {
    std::int64_t tokens = 0;
    double reward = 0;
    for (const EvaluatedCompletion& c : completions) {
      tokens += c.tokens();
      reward += c.reward;
    }
    const ordered_json summary = {{"problems", completions.size() / static_cast<std::size_t>(evaluate.samples)},
                                  {"samples", completions.size()},
                                  {"mean_reward", reward / static_cast<double>(completions.size())},
                                  {"tokens", tokens},
                                  {"not_read_back", rows.not_read_back},
                                  {"kept", rows.rows},
                                  {"kept_tokens", rows.tokens}};
    if (json) return PrintJson(summary);
    for (const auto& [name, value] : summary.items()) std::printf("%-14s %s\n", name.c_str(), value.dump().c_str());
  }

  GenerationOptions generation;
  EvaluateOptions& evaluate = generation.evaluate;
  std::string split = "rl", keep = "correct";
  OutputFile output{.in_parts = true};
  bool json = false;
};

}  // namespace

void AddSample(const CommandGroup& program) {
  program.Add<SampleCommand>("sample", "Write a model's completions, with their rewards, as rows that sft reads",
                             "  swarr sample --model out/swa --task chain --samples 8 --keep shortest \\\n"
                             "      --output rows.jsonl");
}

}  // namespace swarr
