// SPDX-License-Identifier: Apache-2.0
// swarr bench: speed on this machine.
#include "bench/bench.h"

#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "base/machine.h"
#include "cli/commands.h"

namespace swarr {
namespace {

struct BenchCommand {
  explicit BenchCommand(OptionSet& options) : environment(options.environment()) {
    options.Group("Measurement");
    options.Add("suite", bench.suite, "what is measured")->type_name("ops|train|decode|scaling")->required();
    options.Add("rows", bench.rows,
                "measure only rows with this in their name, as whole words; several between commas");
    options.Group("Output");
    options.AddOutput("json", json, "file for the results");
    options.AddOutput("svg", svg, "file for a figure of the suite scaling");
    options.Group("Measurement");
    options.Add("seconds-per-row", bench.seconds_per_row, "how long a measurement is repeated", Between(1e-6, 1e6));
    options.Add("on-request", on_request,
                "prepare one row, its whole name given; print the setting as JSON, then measure the row and print "
                "it for each line read");
    compute.AddTo(options);
  }

  void Run() {
    if (!svg.path.empty() && bench.suite != "scaling") throw UsageError("--svg is for --suite scaling");
    if (on_request && bench.suite == "scaling") throw UsageError("--on-request is not for --suite scaling");
    StepMemory steps(compute.ResolveDevice());
    Context ctx = compute.MakeContext(steps);
    bench.dtype = compute.MakeDType();
    Stopping stopping;
    if (on_request) {
      Serve(ctx);
    } else {
      PrintRows(ctx);
      stopping = environment.watch_signals();
      if (json.path.empty() && svg.path.empty()) std::signal(SIGPIPE, SIG_DFL);  // its reader is all that it works for
      bench.stop = stopping.requested;
    }
    nlohmann::ordered_json results = RunBench(ctx, bench);
    if (compute.memory_report) results["memory"] = compute.memory.ToJson(steps.arena());
    compute.PrintMemory(steps.arena());
    const std::string text = results.dump(1) + "\n";
    if (results.contains("stopped")) {
      const auto done = results["stopped"]["rows"].get<std::int64_t>();
      json.StopAfter(done, results["stopped"]["of"], "rows", done > 0 ? text : "", stopping);
    }
    if (!json.path.empty()) json.Write(text);
    if (!svg.path.empty()) svg.Write(ScalingFigure(results));
  }

  // Makes the rows appear as lines of a table, or their names where --rows means one that is not there.
  void PrintRows(const Context& ctx) {
    bench.on_row = [this, &ctx, load = SystemLoad(), started = false](const nlohmann::ordered_json& row) mutable {
      if (!std::exchange(started, true)) {
        const bool cuda = ctx.device() == Device::kCuda;
        const std::string how = cuda ? "cuda kernels" : Concat(Name(ctx.cpu), " kernels, ", ctx.threads, " threads");
        std::printf("%s, %s, %s, load before %.2f, medians (fastest to slowest of so many)\n",
                    ProcessorName(ctx.device()).c_str(), how.c_str(), compute.dtype.c_str(), load);
      }
      PrintLine(BenchLine(row));
    };
    bench.on_no_row = [this](const std::vector<std::string>& names) {
      PrintLine(Concat("The suite ", bench.suite, " has these rows:"));
      for (const std::string& name : names) PrintLine("  " + name);
    };
  }

  // Makes each line on stdin a request for the row. A line tells when the row is ready.
  void Serve(const Context& ctx) {
    bench.await_request = [this, &ctx, ready = false]() mutable {
      if (!std::exchange(ready, true)) PrintLine(BenchSetting(ctx, bench).dump());
      std::string line;
      return bool{std::getline(std::cin, line)};
    };
    bench.on_row = [this](const nlohmann::ordered_json& row) {
      if (row["name"] == bench.rows) PrintLine(row.dump());  // not of peaks
    };
  }

  static void PrintLine(const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  }

  const Environment& environment;
  BenchOptions bench;
  bool on_request = false;
  OutputFile json{.in_parts = true}, svg;
  ComputeOptions compute;
};

}  // namespace

void AddBench(const CommandGroup& program) {
  program.Add<BenchCommand>("bench", "Measure speed: single kernels, training, decoding, long sequences",
                            "  swarr bench --suite ops --rows attention");
}

}  // namespace swarr
