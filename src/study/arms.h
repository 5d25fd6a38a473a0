// SPDX-License-Identifier: Apache-2.0
// The arms of a study, as its file lists them: which model each starts from, under which attention, and how it is
// trained. docs/study.md has the fields.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attn/spec.h"
#include "base/names.h"
#include "rl/rl.h"
#include "train/optimizer.h"
#include "train/samples.h"
#include "train/sft.h"

namespace swarr {

// How an arm is trained.
enum class ArmTraining : std::uint8_t { kNone, kSft, kRl };
template <>
inline constexpr std::array kNames<ArmTraining> = {"none", "sft", "rl"};

constexpr const char* kBaseModel = "base";  // where arms may start, beside other arms

struct ArmAttention {
  AttentionSpec spec{};        // in every layer but those that keep full attention
  int full_every = 0;          // layer i, from 0, keeps it if (i + 1) % full_every == 0; 0: none does
  bool learned_sinks = false;  // a learned sink for every query head, 0 at first
  bool operator==(const ArmAttention&) const = default;
};

// The attention of each of so many layers.
std::vector<AttentionSpec> LayersOf(const ArmAttention& attention, int layers);

struct ArmPlan {
  std::string name{};
  std::string from{};  // kBaseModel, or an arm before this one
  ArmAttention attention{};
  ArmTraining training = ArmTraining::kNone;
  nlohmann::ordered_json stage{};  // the settings of its training as they were merged
  SftOptions sft{};
  RlOptions rl{};
  OptimizerOptions optimizer{};
  nlohmann::ordered_json task{};  // the task's fields, with those that the arm changes in the traces that SFT imitates
  // SFT imitates, in place of these, what `keep` says of `samples` completions of each of RL's first
  // `sample_problems` problems (0: all) by the model of this arm; empty: the task's traces.
  std::string samples_of{};
  int samples = 4;
  std::int64_t sample_problems = 0;
  Keep keep = Keep::kCorrect;
  std::string teacher{};  // an arm that SFT or RL distils from; empty: none
  // SFT takes as many steps as hold this share of the tokens that this arm trained on, rounded up; empty: sft.steps.
  std::string tokens_of{};
  double tokens_share = 1;
};

struct StudySettings;

// The arms of `json`, the list `arms` of the file at `path`, over the stages that `settings` has. Throws Error, naming
// file, arm and field, for an arm that names none before it, and for fields that contradict each other.
std::vector<ArmPlan> ReadArms(const std::string& path, const nlohmann::ordered_json& json,
                              const StudySettings& settings);

// The settings of a stage, "sft" or "rl", from an object of the file; `where` names it. RL's limit of tokens is the
// task's own. What must be there is there in the preset, and may be left out by an arm.
void ReadSftStage(const std::string& where, const nlohmann::ordered_json& object, SftOptions& sft,
                  OptimizerOptions& optimizer);
void ReadRlStage(const std::string& where, const nlohmann::ordered_json& object, int max_completion_length,
                 RlOptions& rl, OptimizerOptions& optimizer);

}  // namespace swarr
