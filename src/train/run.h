// SPDX-License-Identifier: Apache-2.0
// A training run, SFT or RL: an output directory with the resolved configuration, one metrics.jsonl, checkpoints, exact
// resume, and a way to be interrupted (docs/reliability.md).
//
//   DIR/resolved_config.json    every option of the run, and by what it was made
//   DIR/metrics.jsonl           one object a step; after a resume it goes on without a gap or a repeated step
//   DIR/checkpoint-00000100/    checkpoint.h
//   DIR/run.json                the TrainerState of the start or, with the hashes of the model's files, of the end; it
//                               marks the directory as a run's
//   DIR/config.json, model.safetensors, tokenizer.json    the model, when the run is complete
//   DIR/events.out.tfevents.*   the same for TensorBoard, if asked for; one file for each start
//   DIR/completions/            what RL sampled (CompletionsPath)
//   DIR/set-aside-1/            checkpoints, metrics and completions of later steps, when a resume went back
//
// What a run writes never replaces what it did not write itself.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/directories.h"
#include "base/names.h"
#include "train/checkpoint.h"
#include "train/event_file.h"
#include "train/run_files.h"
#include "train/training_steps.h"

namespace swarr {

// What gets the metrics beside metrics.jsonl: TensorBoard's event files.
enum class ReportTo : std::uint8_t { kNone, kTensorBoard };
template <>
inline constexpr std::array kNames<ReportTo> = {"none", "tensorboard"};

struct RunOptions {
  std::filesystem::path output_dir;
  std::filesystem::path
      model_dir{};              // the model that training began with; its side files are carried over; may be empty
  std::int64_t save_every = 0;  // steps between checkpoints; 0: none but those of an interrupt
  int keep_checkpoints = 2;     // older ones are removed, when the step after the newest was finite
  // "": start afresh; "auto": go on with what output_dir holds, if anything; else: from this checkpoint
  std::string resume{};
  bool overwrite = false;                                               // replace an earlier run in output_dir
  std::vector<std::string> changes{};                                   // options that a resume takes anew
  std::vector<std::pair<std::string, std::filesystem::path>> inputs{};  // what the run reads, by option
  std::function<bool()> interrupted{};                                  // asked in and after every step
  std::function<void(bool)> saving{};                                   // told when a save begins (true) and has ended
  std::function<void(const nlohmann::ordered_json&)> on_step{};  // sees every metrics record (progress on a terminal)
  ReportTo report_to = ReportTo::kNone;
  std::function<void(const std::string&)> warn{};     // gets a sentence on what was found and mended
  std::function<void(const std::string&)> resumed{};  // gets a sentence on where a resume goes on
  nlohmann::ordered_json environment = nlohmann::ordered_json::object();  // fields of resolved_config.json beside the
                                                                          // options, which decide nothing
};

// The options that RunOptions::changes may name: those of the optimizer, and the number of steps.
std::vector<std::string> ChangeableOptions();

class TrainingRun : public TrainingSteps {
 public:
  // Creates the directory, takes its lock and finishes or undoes what a killed run left half done. Then it starts
  // afresh or goes on:
  //   resume ""       a directory that holds an earlier run, or a file that a run would write, is refused. With
  //                   `overwrite` the earlier run goes: its metrics, completions and checkpoints when the first step
  //                   has a loss, its model when the new one is complete. A model that no run wrote is never replaced.
  //   resume "auto"   from the latest whole checkpoint, if there is one; damaged ones are reported and set aside. If
  //   the
  //                   run is complete, its model is the state and there are no steps left. In a new directory, and
  //                   where no checkpoint was due yet, from the start.
  //   a checkpoint    from this one. Later ones of the same run are set aside with a copy of the metrics.
  // Throws Error if the run there was made with another value of an option that decides the result (but for
  // `changes`), or from other inputs; if a checkpoint is damaged; if another process holds the lock.
  TrainingRun(const RunOptions& options, const nlohmann::ordered_json& config, const Transformer& model,
              Optimizer& optimizer, const Tokenizer& tokenizer);

  std::int64_t step() const override { return state_.step; }
  std::int64_t num_tokens() const override { return state_.num_tokens; }
  Watch MakeWatch() const override { return {options_.output_dir, step()}; }

  // Appends the metrics record, saves a checkpoint when one is due, and throws Interrupted, after saving one, if the
  // user asks to stop. Throws Error, and saves nothing, if a weight or a moment is not finite.
  void EndStep(std::int64_t tokens, const Record& record) override;
  void KeepCompletions(std::int64_t step, const std::string& lines) override;

  bool AskedToStop() const override { return options_.interrupted && options_.interrupted(); }
  // Saves the steps completed before it throws, unless they are saved.
  void StopIfAsked() override;

  // Names the tensor where that began and the last good checkpoint. A checkpoint of the weights that gave it is set
  // aside: it is no good one.
  void CheckFinite(const char* what, double value) override;

  // Writes the model into the output directory, all of its files or none. Throws as EndStep does.
  void Finish();

 private:
  TrainedModel trained() const { return {model_, optimizer_, tokenizer_, side_files_}; }
  void Warn(const std::string& sentence) const;
  void SayResumed(const std::string& sentence) const;
  void RequireUnused(bool a_run) const;
  void RequireReplaceable() const;
  void Begin();
  void RemoveEarlierRun() const;
  void ResumeLatest();
  bool ResumeComplete();
  void ResumeFrom(const std::filesystem::path& checkpoint, TrainerState state);
  void TakeOver(TrainerState state, const std::filesystem::path& where);
  void SetAside(std::int64_t step) const;
  void TrimMetrics() const;
  void Save();
  void Prune() const;
  void RequireFiniteState() const;
  std::string WhereToGoBack() const;

  RunOptions options_;
  DirectoryLock lock_;
  SideFiles side_files_;
  const Transformer& model_;
  Optimizer& optimizer_;
  const Tokenizer& tokenizer_;
  TrainerState state_;
  std::optional<EventFile> events_;
  std::int64_t saved_step_ = -1;  // of the checkpoint that this process wrote last
  bool begun_ = false;
  bool complete_ = false;  // it was when this process came, and nothing is to be written
};

}  // namespace swarr
