// SPDX-License-Identifier: Apache-2.0
// A study of a few steps.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"

namespace swarr {

// The arms of the quick study.
inline nlohmann::json QuickArms() {
  const std::filesystem::path quick = std::filesystem::path(SWARR_TEST_DATA) / "../../data/presets/quick.json";
  return nlohmann::json::parse(ReadFile(quick)).at("arms");
}

// Its preset, but for the arms: `base` is its base model.
inline nlohmann::json SmallPreset(const nlohmann::json& arms) {
  return {{"base_model", "base"},
          {"task", {{"n_min", 1}, {"n_max", 2}, {"restate_probability", 0.15}}},
          {"attention", {{"window", 16}, {"sinks", 0}}},
          {"evaluation", {{"problems", 4}}},
          {"cost", {{"longest", 64}}},
          {"sft",
           {{"steps", 3},
            {"batch_size", 2},
            {"lr", 1e-3},
            {"lr_schedule", "cosine"},
            {"min_lr_ratio", 0.1},
            {"warmup_steps", 1},
            {"weight_decay", 0.1},
            {"beta1", 0.9},
            {"beta2", 0.95},
            {"max_grad_norm", 1.0}}},
          {"rl",
           {{"steps", 2},
            {"prompts_per_step", 2},
            {"num_generations", 4},
            {"objective", "grpo"},
            {"epsilon", 0.2},
            {"scale_rewards", "group"},
            {"normalizer", "token-mean"},
            {"lr", 1e-4},
            {"lr_schedule", "constant"},
            {"min_lr_ratio", 1.0},
            {"warmup_steps", 0},
            {"weight_decay", 0.0},
            {"beta1", 0.9},
            {"beta2", 0.95},
            {"max_grad_norm", 1.0}}},
          {"arms", arms}};
}

// A folder with a base model and the preset `tiny`.
inline void WriteData(const std::filesystem::path& dir, const nlohmann::json& arms = QuickArms()) {
  std::filesystem::copy(TinyModel(), dir / "base");
  std::filesystem::create_directories(dir / "presets");
  WriteFileAtomically(dir / "presets" / "tiny.json", SmallPreset(arms).dump());
}

inline std::vector<std::string> Study(const std::filesystem::path& data, const std::filesystem::path& out,
                                      bool keep_models = true) {
  std::vector<std::string> arguments = {"study",     "--preset", "tiny",    "--data-dir",   data.string(),
                                        "--threads", "1",        "--quiet", "--output-dir", out.string()};
  if (keep_models) arguments.emplace_back("--keep-models");
  return arguments;
}

}  // namespace swarr
