// SPDX-License-Identifier: Apache-2.0
// A checkpoint: a directory with all that a run needs to go on, and what tells whether it is whole.
//
//   model files                the weights as trained (the master)
//   optimizer.safetensors      the moments m and v
//   trainer_state.json         TrainerState, with the hash of each other file and of itself
//
// Random numbers are pure functions of (seed, step, ...), so weights, moments and the step are all the state there is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/model_files.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "train/optimizer.h"

namespace swarr {

// What a checkpoint says of the run. `config` holds every option that decides the result; `inputs` the hash of what
// the run reads, by option (HashOfInput); `changes` the options that a resume has changed:
// [{"step": 40, "lr": [old, new]}].
struct TrainerState {
  std::int64_t step = 0, num_tokens = 0, optimizer_steps = 0;  // completed steps, tokens trained on, updates
  nlohmann::ordered_json config, inputs, changes = nlohmann::ordered_json::array();
};

// "step-00000001" for the prefix "step-" and step 1: names sort by step.
std::string StepName(const std::string& prefix, std::int64_t step);

// Where the checkpoint of a step is.
std::filesystem::path CheckpointPath(const std::filesystem::path& run, std::int64_t step);

// The checkpoints of a run directory, oldest first.
std::vector<std::filesystem::path> CheckpointsOf(const std::filesystem::path& run);

// The model and the optimizer that are trained, and what is written beside them.
struct TrainedModel {
  const Transformer& model;
  Optimizer& optimizer;
  const Tokenizer& tokenizer;
  const SideFiles& side_files;
};

// Names the first tensor among weights, moments and gradients that holds a value that is not finite, and how many it
// holds; "" if all are finite. Of several ranks rank 0 may ask, after Optimizer::Collect.
std::string FindNonFinite(const TrainedModel& trained);

// Writes a state file: the state, and the hashes of the files of `dir` with these names.
void WriteState(const std::filesystem::path& path, const TrainerState& state, const std::filesystem::path& dir,
                const std::vector<std::string>& names);
// Reads one, and checks the files of `dir` that it names. Throws, saying which file is missing or differs from what was
// written, the state file itself included, or that the format is another version's. `complete`, if not null, is set to
// whether it names any file.
TrainerState VerifyState(const std::filesystem::path& path, const std::filesystem::path& dir, bool* complete = nullptr);

// Throws unless the file is a state of a run, as it was written. The files that it names are not looked at.
void RequireState(const std::filesystem::path& path);

// Writes run/checkpoint-STEP; it appears when it is complete.
void WriteCheckpoint(const std::filesystem::path& run, const TrainerState& state, const TrainedModel& trained);

// VerifyState of a checkpoint. Also throws if the directory is named for another step.
TrainerState VerifyCheckpoint(const std::filesystem::path& checkpoint);

// Restores weights and moments from a checkpoint that VerifyCheckpoint has found whole.
void LoadCheckpoint(const std::filesystem::path& checkpoint, const TrainerState& state, const TrainedModel& trained);

// Whether a checkpoint holds nothing but its own files.
bool HoldsOnlyItsFiles(const std::filesystem::path& checkpoint);

// Restores the weights alone, from the directory of a model.
void LoadWeights(const std::filesystem::path& dir, const Transformer& model);

// The hash of a file, or of the model in a directory: of its config.json, its tokenizer and its weights.
std::string HashOfInput(const std::filesystem::path& path);

}  // namespace swarr
