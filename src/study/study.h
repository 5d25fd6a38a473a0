// SPDX-License-Identifier: Apache-2.0
// The SWARR study on a built-in task: the same base weights, SFT data, prompts, sampler and budgets for every arm. A
// file says which task it is, and which arms there are (study/arms.h). Those of the quick study:
//
//   base (SA) --- SFT --> sa_sft --- RL --> sa_rl
//      `- convert (swa_converted) --- SFT --> swa_sft --- RL --> swa_rl
//                                                `------ SFT, as many more tokens as RL sampled --> swa_sft_more
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attn/spec.h"
#include "rl/rl.h"
#include "study/arms.h"
#include "study/records/inputs.h"
#include "study/results.h"
#include "task/registry.h"
#include "tensor/context.h"
#include "train/optimizer.h"
#include "train/sft.h"

namespace swarr {

struct StudyOptions {
  std::string preset = "quick";    // the settings of all stages: data_dir/presets/<preset>.json
  std::filesystem::path data_dir;  // holds presets/ and the base models they name
  std::filesystem::path output_dir;
  std::uint64_t seed = 0;  // of the first set of arms; each set has its own
  int seeds = 0;           // sets of arms; 0: as many as the preset says
  Device device = Device::kCpu;
  int threads = 1;
  std::string command_line;           // for the report
  bool overwrite = false;             // replace a study in output_dir that is complete or another one
  std::string base_model;             // a directory in place of the preset's base models; its name stands for it
  std::vector<std::string> arms;      // the arms to make now; empty: all
  bool report_only = false;           // from the records that are there; trains and measures nothing
  bool keep_models = false;           // of all arms; else a set's weights go when all of its arms are measured
  std::function<bool()> interrupted;  // as in RunOptions
  std::function<void(bool)> saving;
  std::function<void(const std::string&)> progress;  // one line of what is being done
  // How many of what that line begins are done, of how many: steps, or completions several times.
  std::function<void(const char* unit, std::int64_t done, std::int64_t of)> working{};

  bool Wants(const std::string& arm) const { return arms.empty() || std::ranges::find(arms, arm) != arms.end(); }
};

// Runs all arms for all seeds. Writes runs/<arm>-seed<k>/ (metrics.jsonl, trajectories, and the model if asked for),
// results/<arm>-seed<k>.json (record.h) and the report (report.h) into output_dir. If a study of the same settings was
// stopped there, this one goes on where that stopped, also from results/ and settings.json alone;
// if it is complete but for seeds or records, those are added. A directory that holds a complete study, or one of other
// settings or inputs (inputs.h), is refused unless `overwrite`, which makes all runs anew; one that holds anything else
// always. What no study wrote is left alone. Throws UsageError for an unknown
// preset, and with `report_only` Error where there is no study of these settings and inputs, or no record. Runs and
// samples that an interrupted overwriting has left from others are made again.
StudyResults RunStudy(const StudyOptions& options);

// The settings of a study, read from one JSON file: data/presets/<name>.json.
struct StudySettings {
  // Pretrained full-attention models of one shape: directories, from data_dir unless they are absolute.
  std::vector<std::string> base_models;
  DType dtype = DType::kF32;  // of weights and activations
  int completion_limit = 0;   // tokens of a completion; 0: the task's own, which counts tokens of its own
  BuiltInTask task;           // with the file's parameters
  std::uint64_t seed = 0;     // of a set of arms; as that of rl, it is set for each
  AttentionSpec attention;    // in every layer of the SWA arms
  std::int64_t evaluation_problems = 0;
  std::optional<BuiltInTask> longer{};  // problems of more steps than those of training, evaluated beside; as many
  int longest_cost = 0;  // cost is measured for sequences of a 64th, a 16th, a quarter and all of these tokens
  SftOptions sft;
  OptimizerOptions sft_optimizer;
  RlOptions rl;
  OptimizerOptions rl_optimizer;
  std::vector<ArmPlan> arms;  // in the order in which they are run
  std::vector<ArmLook> looks{};
  int seeds = 1;                     // sets of arms that the study has unless more are asked for
  nlohmann::ordered_json json;       // the file's content
  std::vector<StudyInput> inputs{};  // read when the study runs

  // Tokens of a completion of the task, which is `task` or `longer`.
  int CompletionLimit(const Task& of) const { return completion_limit > 0 ? completion_limit : of.completion_limit(); }
};

// The directory of the base model that the sets of arms of this seed start from: the seed's remainder by the number of
// base models counts them.
std::filesystem::path BaseModelOf(const StudyOptions& options, const StudySettings& settings, std::uint64_t seed);

// The task that the fields of `json` describe: "name" (chain), and all parameters of that task. Throws Error, opening
// with `where`.
BuiltInTask ReadTask(const std::string& where, nlohmann::ordered_json json);

// Throws UsageError if data_dir has no such preset, naming those it has. Throws Error for a field that is missing,
// unknown or of the wrong type, naming file and field.
StudySettings ReadStudySettings(const std::filesystem::path& data_dir, const std::string& preset);

}  // namespace swarr
