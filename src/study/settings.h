// SPDX-License-Identifier: Apache-2.0
// The settings of a study, read from one JSON file: data/presets/<name>.json.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "attn/spec.h"
#include "rl/rl.h"
#include "task/chain.h"
#include "train/optimizer.h"
#include "train/sft.h"

namespace swarr {

struct StudySettings {
  std::string base_model;   // directory beside presets/: the pretrained full-attention model
  ChainOptions task;        // its seed is set for each run
  AttentionSpec attention;  // in every layer of the SWA arms
  std::int64_t evaluation_problems = 0;
  SftOptions sft;
  OptimizerOptions sft_optimizer;
  RlOptions rl;
  OptimizerOptions rl_optimizer;
  nlohmann::ordered_json json;  // the file's content
};

// Throws UsageError if data_dir has no such preset, naming those it has. Throws Error for a field that is missing,
// unknown or of the wrong type, naming file and field.
StudySettings ReadStudySettings(const std::filesystem::path& data_dir, const std::string& preset);

}  // namespace swarr
