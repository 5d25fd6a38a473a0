// SPDX-License-Identifier: Apache-2.0
// swarr bench: speed on this machine.
#include "bench/bench.h"

#include <cstdio>
#include <utility>

#include "cli/commands.h"

namespace swarr {
namespace {

struct BenchCommand {
  explicit BenchCommand(OptionSet& options) {
    options.Group("Measurement");
    options.Add("suite", bench.suite, "what is measured")->type_name("ops|train|decode|scaling")->required();
    options.Add("rows", bench.rows, "measure only rows whose name contains this; several between commas");
    options.Group("Output");
    options.AddOutput("json", json, "file for the results");
    options.AddOutput("svg", svg, "file for a figure of the suite scaling");
    options.Group("Measurement");
    options.Add("seconds-per-row", bench.seconds_per_row, "how long a measurement is repeated", Between(1e-6, 1e6));
    compute.AddTo(options);
  }

  void Run() {
    if (!svg.path.empty() && bench.suite != "scaling") throw UsageError("--svg is for --suite scaling");
    StepMemory steps(compute.ResolveDevice());
    Context ctx = compute.MakeContext(steps);
    bench.dtype = compute.MakeDType();
    bench.on_row = [&, started = false](const nlohmann::ordered_json& row) mutable {
      if (!std::exchange(started, true)) {
        const bool cuda = ctx.device() == Device::kCuda;
        const std::string how = cuda ? "cuda kernels" : Concat(Name(ctx.cpu), " kernels, ", ctx.threads, " threads");
        std::printf("%s, %s, %s, medians\n", ProcessorName(ctx.device()).c_str(), how.c_str(), compute.dtype.c_str());
      }
      std::printf("%s\n", BenchLine(row).c_str());
      std::fflush(stdout);
    };
    nlohmann::ordered_json results = RunBench(ctx, bench);
    if (compute.memory_report) results["memory"] = compute.memory.ToJson(steps.arena());
    compute.PrintMemory(steps.arena());
    if (!json.path.empty()) json.Write(results.dump(1) + "\n");
    if (!svg.path.empty()) svg.Write(ScalingFigure(results));
  }

  BenchOptions bench;
  OutputFile json, svg;
  ComputeOptions compute;
};

}  // namespace

void AddBench(const CommandGroup& program) {
  program.Add<BenchCommand>("bench", "Measure speed: single kernels, training, decoding, long sequences",
                            "  swarr bench --suite ops --rows attention");
}

}  // namespace swarr
