// SPDX-License-Identifier: Apache-2.0
// A training run, SFT or RL: an output directory with the resolved configuration, one metrics.jsonl, checkpoints, exact
// resume, and a way to be interrupted.
//
//   DIR/resolved_config.json    every option of the run
//   DIR/metrics.jsonl           one object a step; after a resume it goes on without a gap or a repeated step
//   DIR/checkpoint-00000100/    model files, optimizer.safetensors, trainer_state.json
//   DIR/config.json, model.safetensors, tokenizer.json    the model, when the run is complete
//
// Random numbers are pure functions of (seed, step, ...), so weights, moments and the step are all the state there is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/model_files.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "tensor/transfer.h"
#include "train/optimizer.h"

namespace swarr {

struct RunOptions {
  std::filesystem::path output_dir;
  std::filesystem::path
      model_dir{};              // the model that training began with; its side files are carried over; may be empty
  std::int64_t save_every = 0;  // steps between checkpoints; 0: none but those of an interrupt
  int keep_checkpoints = 2;     // older ones are removed
  // "": start afresh; "auto": go on from the latest checkpoint in output_dir, if any; else: from this checkpoint
  std::string resume{};
  std::function<bool()> interrupted{};                           // asked after every step
  std::function<void(const nlohmann::ordered_json&)> on_step{};  // sees every metrics record (progress on a terminal)
};

// "step-00000001" for the prefix "step-" and step 1: names sort by step.
std::string StepName(const std::string& prefix, std::int64_t step);

// Thrown after an interrupt, when the checkpoint is on the disk.
class Interrupted : public Error {
 public:
  using Error::Error;
};

class TrainingRun {
 public:
  // Creates the directory, writes resolved_config.json and, on a resume, restores weights, moments and step and cuts
  // metrics.jsonl back to it. Throws if the checkpoint's configuration differs from `config` in anything that matters
  // to the result, or if output_dir already holds another run's metrics and no resume was asked for.
  TrainingRun(const RunOptions& options, const nlohmann::ordered_json& config, const Transformer& model,
              Optimizer& optimizer, const Tokenizer& tokenizer);

  const std::filesystem::path& output_dir() const { return options_.output_dir; }
  std::int64_t step() const { return step_; }              // steps completed
  std::int64_t num_tokens() const { return num_tokens_; }  // tokens trained on so far

  // Ends a step: appends the metrics record (step and num_tokens are put first), saves a checkpoint when one is due,
  // and throws Interrupted, after saving one, if the user asks to stop.
  void EndStep(std::int64_t tokens, const nlohmann::ordered_json& record);

  // If the value is not finite, removes the checkpoint of the weights that gave it, if there is one, and throws, naming
  // the last good checkpoint. To be called before the weights are updated.
  void CheckFinite(const char* what, double value) const;

  // Writes the model into the output directory.
  void Finish();

 private:
  std::vector<std::pair<std::string, HostView>> Moments() const;
  void Restore(const std::filesystem::path& checkpoint);
  void SaveCheckpoint();
  void TrimMetrics() const;
  std::filesystem::path CheckpointPath() const;    // of the present step
  std::filesystem::path LatestCheckpoint() const;  // empty if there is none

  RunOptions options_;
  SideFiles side_files_;
  nlohmann::ordered_json config_;
  const Transformer& model_;
  Optimizer& optimizer_;
  const Tokenizer& tokenizer_;
  std::int64_t step_ = 0, num_tokens_ = 0;
};

}  // namespace swarr
