// SPDX-License-Identifier: Apache-2.0
// The SWARR study on the chain task: the same base weights, SFT data, prompts, sampler and budgets for every arm.
//
//   base (SA) --- SFT --> sa_sft --- RL --> sa_rl
//      `- convert (swa_converted) --- SFT --> swa_sft --- RL --> swa_rl
//                                                `------ SFT, as many more tokens as RL sampled --> swa_sft_more
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "study/results.h"
#include "tensor/context.h"

namespace swarr {

struct StudyOptions {
  std::string preset = "quick";    // the settings of all stages: data_dir/presets/<preset>.json
  std::filesystem::path data_dir;  // holds presets/ and the base models they name
  std::filesystem::path output_dir;
  std::vector<std::uint64_t> seeds;  // each runs a full set of arms
  Device device = Device::kCpu;
  int threads = 1;
  std::string command_line;  // for the report
  std::function<bool()> interrupted;
  std::function<void(const std::string&)> progress;  // one line of what is being done
};

// Runs all arms for all seeds. Writes runs/<arm>-seed<k>/ (metrics.jsonl, model, trajectories) and the report
// (report.h) into output_dir. The runs of an earlier study there are replaced; a directory that holds anything else is
// refused. Throws UsageError for an unknown preset or no seed.
StudyResults RunStudy(const StudyOptions& options);

}  // namespace swarr
