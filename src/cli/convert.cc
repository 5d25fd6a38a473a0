// SPDX-License-Identifier: Apache-2.0
// swarr convert: full attention to a sliding window.
#include "model/convert.h"

#include <set>

#include "cli/commands.h"
#include "cli/terminal/progress.h"
#include "model/hf_config.h"

namespace swarr {
namespace {

struct ConvertCommand {
  explicit ConvertCommand(OptionSet& set) : options(set) {
    options.Group("Model");
    options.Add("model", model_dir, "model to convert")->required()->type_name("DIR");
    options.AddUnrecorded("output-dir", output_dir, "for the converted model; weights and tokenizer files are copied")
        ->required()
        ->type_name("DIR");
    options.AddUnrecorded("overwrite", overwrite, "replace a model in --output-dir");
    options.Group("Attention");
    options.Add("window", window, "visible tokens including the current one, at least 1")->required();
    options.Add("sinks", sinks,
                "first tokens that stay visible outside the window: a number, or prompt, which keeps each text's own "
                "prompt visible");
    learned_option = options
                         .Add("learned-sinks", learned_sinks,
                              "give every query head a learned sink of this value (without the flag there are none): "
                              "exp(INIT) is added to the softmax's denominator, so that 0 counts as a key of score 0 "
                              "without a value, and -100 changes nothing",
                              Between(-kMostSink, kMostSink))
                         ->expected(0, 1)
                         ->default_str("0")
                         ->type_name("INIT");
    options.Add("full-layers", full_layers, "layers that keep full attention, counted from 0, like 0,3")
        ->type_name(kListType);
    options.Add("full-every", full_every,
                "instead of --full-layers: every K-th layer keeps full attention, layer i, counted from 0, if "
                "(i + 1) % K is 0; 0 is none",
                AtLeast(0));
    options.Group(kGeneralGroup);
    options.AddUnrecorded("quiet", quiet, "show no progress");
  }

  void Run() const {
    std::vector<int> full = ParseIntegers(full_layers, "--full-layers");
    if (full_every > 0 && !full.empty()) throw UsageError("give --full-layers or --full-every, not both");
    if (output_dir.empty()) throw UsageError("--output-dir is empty; name a directory");
    // ConvertModel itself refuses to convert in place, and to replace what is no model's.
    std::error_code ignored;
    if (!std::filesystem::equivalent(model_dir, output_dir, ignored)) RequireFree(output_dir, overwrite);
    const int layers = ReadModelConfig(model_dir).layers;
    if (full_every > 0) full = EveryLayer(layers, full_every);
    if (static_cast<int>(std::set<int>(full.begin(), full.end()).size()) >= layers) {
      throw UsageError("no layer would have a window; leave one out of --full-layers");
    }
    nlohmann::ordered_json config = options.Resolved();
    config.update(RunEnvironment());
    const auto megabytes = [](std::int64_t bytes) { return (bytes + 999'999) / 1'000'000; };
    Progress progress("MB", quiet);
    ConvertModel(model_dir, WindowedAttention(layers, Windowed(), full), output_dir,
                 {{"resolved_config.json", config.dump(2) + "\n"}}, LearnedSinks(),
                 overwrite ? Existing::kReplaced : Existing::kKept,
                 [&](std::int64_t done, std::int64_t total) { progress.Show(megabytes(done), megabytes(total)); });
  }

  AttentionSpec Windowed() const {
    if (sinks == "prompt") return {.window = window, .prompt = true};
    const std::vector<int> numbers = ParseIntegers(sinks, "--sinks");
    if (numbers.size() != 1) throw UsageError(Concat("--sinks is '", sinks, "'; give a number, or prompt"));
    return {window, numbers[0]};
  }

  std::optional<double> LearnedSinks() const {
    if (learned_option->count() > 0 && learned_sinks.empty()) {
      throw UsageError("--learned-sinks is empty; give a number");
    }
    return learned_sinks.empty() ? std::nullopt : std::optional(std::stod(learned_sinks));
  }

  OptionSet& options;
  static constexpr double kMostSink = 1e4;  // far beyond any score, and a number in every dtype

  std::string model_dir, output_dir, full_layers, learned_sinks, sinks = "0";
  int window = 0;
  int full_every = 0;
  const CLI::Option* learned_option = nullptr;
  bool overwrite = false, quiet = false;
};

}  // namespace

void AddConvert(const CommandGroup& program) {
  program.Add<ConvertCommand>("convert", "Give a model sliding-window attention; its weights stay as they are",
                              "  swarr convert --model data/chain-base --window 16 --output-dir out/swa");
}

}  // namespace swarr
