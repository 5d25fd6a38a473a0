// SPDX-License-Identifier: Apache-2.0
// swarr data TASK: problems of a built-in task as JSON Lines.
#include <utility>

#include "cli/task_options.h"
#include "train/requirements.h"

namespace swarr {
namespace {

struct DataCommand {
  DataCommand(OptionSet& options, BuiltInTask built_in) : task(std::move(built_in)) {
    options.Group("Rows");
    options
        .Add("count", count, "rows; beyond the split's size its problems come again with new traces; 0 is each once",
             AtLeast(0))
        ->required();
    options.AddOutput("out", out, "file to write")->required();
    options.Add("split", split, "which of the three disjoint sets of problems")->type_name(OneOf(kNames<Split>));
    options.Group("Problems");
    for (const TaskParameter& p : task.parameters) AddParameter(options, p);
    options.Add("seed", seed, "seed of what the completions draw");
  }

  void Run() const {
    constexpr std::int64_t kShortestRow = 64;  // bytes; the names of the fields alone take more
    const MemoryPart rows{.name = "rows",
                          .asked = Product({count, kShortestRow}),
                          .written = Product({count, kShortestRow}),
                          .option = "--count",
                          .value = count};
    AvailableMemory(Device::kCpu).Check({&rows, 1});
    out.Write(DataRows(*task.make(ParseName<Split>("split", split), seed), count));
  }

  BuiltInTask task;
  std::int64_t count = 0;
  std::uint64_t seed = 0;
  std::string split = "sft";
  OutputFile out;
};

}  // namespace

void AddData(const CommandGroup& program) {
  const CommandGroup data = program.AddGroup("data", "Write data sets");
  for (const BuiltInTask& task : BuiltInTasks()) {
    data.Add<DataCommand>(task.name,
                          Concat("Problems and traces of the ", task.name,
                                 " task: {prompt, completion, answer, and what states the problem} a line"),
                          Concat("  swarr data ", task.name, " --count 1000 --out rows.jsonl"), task);
  }
}

}  // namespace swarr
