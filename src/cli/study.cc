// SPDX-License-Identifier: Apache-2.0
// swarr study: the whole recipe with its controls, and the report.
#include "study/study.h"

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>

#include "cli/commands.h"
#include "cli/terminal/progress.h"
#include "study/report.h"

namespace swarr {
namespace {

// Where presets and base models are: beside an installed program, else in the source tree that it was built from.
std::string DefaultDataDir() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path installed = program.parent_path().parent_path() / SWARR_INSTALLED_DATA_DIR;
  return !error && std::filesystem::is_directory(installed, error) ? installed.string() : SWARR_DATA_DIR;
}

struct StudyCommand {
  explicit StudyCommand(OptionSet& set) : options(set) {
    options.Group("Study");
    options.Add("preset", study.preset, "settings of all stages: a file of presets/ in --data-dir, without .json");
    options.Add("seeds", study.seeds,
                "how many full sets of arms, each with its own seed, from --seed on; 0 is the preset's",
                Between(0, 1000));
    options.Add("seed", compute.seed, "first seed");
    options.Add("output-dir", output_dir, "for runs, results.json and report.html")->required()->type_name("DIR");
    options.Add("base-model", base_model, "start from this model in place of the preset's")->type_name("DIR");
    options.Add("arms", study.arms, "make these arms only, separated by commas, and those whose weights they need")
        ->delimiter(',')
        ->type_name("NAME,...");
    options.Add("data-dir", data_dir, "presets and base models")->type_name("DIR");
    options.Group("Computation");
    compute.AddDeviceTo(options);
    compute.AddThreadsTo(options);
    options.Group("Study");
    options.Add("overwrite", study.overwrite,
                "replace a study in --output-dir that is complete, or of other settings or inputs");
    options.Add("keep-models", study.keep_models,
                "keep the weights of all arms in --output-dir/runs; else they go when a seed's arms are all measured");
    options.Add("report-only", study.report_only,
                "write the report again from the records in --output-dir, without training or measuring");
    options.Group(kGeneralGroup);
    options.Add("quiet", quiet, "show no progress");
  }

  void Run() {
    study.device = compute.ResolveDevice();
    study.threads = ResolveThreads(compute.threads);
    study.data_dir = data_dir;
    study.output_dir = output_dir;
    study.base_model = base_model;
    study.seed = compute.seed;
    study.command_line = options.environment().command_line;
    const Stopping stopping = options.environment().watch_signals();
    study.interrupted = stopping.requested;
    study.saving = stopping.saving;
    std::optional<Progress> stage;  // of what the last line has begun, or a part of it
    std::int64_t shown = 0;
    if (!quiet) {
      study.progress = [&](const std::string& line) {
        stage.reset();
        std::fprintf(stderr, "%s\n", line.c_str());
      };
      study.working = [&](const char* unit, std::int64_t done, std::int64_t of) {
        if (!stage || done <= shown) stage.emplace(unit);
        stage->Show(shown = done, of);
      };
    }
    const StudyResults results = RunStudy(study);
    stage.reset();
    if (const std::size_t missing = results.missing.size(); missing > 0) {
      std::cout << "Not complete: " << missing << " of " << missing + results.runs.size() << " runs are missing.\n\n";
    }
    std::cout << TerminalReport(results) << "report: " << (study.output_dir / "report.html").string() << '\n';
  }

  OptionSet& options;
  StudyOptions study;
  ComputeOptions compute;
  std::string output_dir, base_model, data_dir = DefaultDataDir();
  bool quiet = false;
};

}  // namespace

void AddStudy(const CommandGroup& program) {
  program.Add<StudyCommand>("study", "Run the whole recipe with its controls and write the report",
                            "  swarr study --preset quick --output-dir out/quick");
}

}  // namespace swarr
