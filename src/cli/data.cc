// SPDX-License-Identifier: Apache-2.0
// swarr data chain: problems and traces of the chain task as JSON Lines.
#include "cli/commands.h"
#include "cli/options.h"
#include "task/rewards.h"
#include "tensor/files.h"

namespace swarr {
namespace {

struct ChainCommand {
  explicit ChainCommand(CLI::App& app) : options(app) {
    options
        .Add("count", count, "rows; beyond the split's size its problems come again with new traces; 0 is each once")
        ->required()
        ->check(AtLeast(0));
    options.Add("out", out, "file to write")->required();
    options.Add("split", split, "which of the three disjoint sets of problems: sft, rl or eval");
    options.Add("n-min", chain.n_min, "fewest steps of a problem");
    options.Add("n-max", chain.n_max, "most steps of a problem");
    options.Add("restate", chain.restate_probability, "probability of restating the facts before a step");
    options.Add("seed", chain.seed, "seed of the restatements");
  }

  void Run() const { WriteFileAtomically(out, ChainRowsText(ParseSplit(split), chain, count)); }

  OptionSet options;
  std::int64_t count = 0;
  std::string out, split = "sft";
  ChainOptions chain;
};

}  // namespace

void AddData(CLI::App& program) {
  CLI::App* data = program.add_subcommand("data", "Write data sets");
  data->require_subcommand(1);
  AddCommand<ChainCommand>(*data, "chain",
                           "Problems and traces of the chain task: {prompt, completion, answer, a, b, n, x0} a line");
}

}  // namespace swarr
