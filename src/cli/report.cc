// SPDX-License-Identifier: Apache-2.0
// swarr report: a page of runs side by side.
#include <algorithm>
#include <ctime>
#include <filesystem>
#include <iostream>

#include "base/files.h"
#include "base/machine.h"
#include "base/version.h"
#include "cli/commands.h"
#include "page/html.h"
#include "page/run_page.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

// Whether an earlier call has written this page.
bool IsRunPage(const fs::path& path) {
  constexpr std::uint64_t kHead = 256;  // the mark stands before
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  const InputFile file(path);
  std::string head(std::min(file.size(), kHead), '\0');
  file.ReadAt(0, head.data(), head.size());
  return head.find(GeneratorMark(kRunPageGenerator)) != std::string::npos;
}

struct ReportCommand {
  explicit ReportCommand(OptionSet& set) : options(set) {
    options.Group("Page");
    options
        .AddPositional("directories", directories,
                       "what pretrain, sft, rl and eval have written with --output-dir, complete or not; of a study "
                       "all of its runs")
        ->type_name("DIR");
    output.path = "report.html";
    options.AddOutput("output", output, "the page; one that report has written is replaced", IsRunPage);
  }

  void Run() const {
    if (directories.empty()) {
      throw UsageError("report needs a directory that pretrain, sft, rl or eval has written, or several");
    }
    std::vector<fs::path> shown;
    for (const std::string& directory : directories) {
      const std::vector<fs::path> of_it = OutputsIn(directory);
      shown.insert(shown.end(), of_it.begin(), of_it.end());
    }
    const Settings source = {{"written", UtcText(std::time(nullptr))},
                             {"machine that wrote it", ProcessorModel()},
                             {"revision that wrote it", BuildRevision()},
                             {"command", options.environment().command_line}};
    output.Write(RunPage(ReadOutputs(shown), fs::absolute(output.path).parent_path(), source));
    std::cout << "report: " << output.path << '\n';
  }

  OptionSet& options;
  std::vector<std::string> directories;
  OutputFile output;
};

}  // namespace

void AddReport(const CommandGroup& program) {
  program.Add<ReportCommand>("report", "Write a page of runs and evaluations side by side, also while they go on",
                             "  swarr report out/sft out/rl out/eval --output out/report.html");
}

}  // namespace swarr
