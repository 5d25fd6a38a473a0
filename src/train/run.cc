// SPDX-License-Identifier: Apache-2.0
#include "train/run.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "base/paths.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// The directory, created if it is not there.
const fs::path& Created(const fs::path& dir) {
  SWARR_CHECK(!dir.empty(), "the output directory has an empty name; say where the run is to be written");
  std::error_code error;
  SWARR_CHECK(!fs::is_symlink(dir, error) || Exists(dir), "the output directory ", dir.string(),
              " is a symbolic link to what does not exist; create that, or remove the link");
  fs::create_directories(dir, error);
  SWARR_CHECK(!error, "can't create the output directory ", dir.string(), ": ", error.message());
  return dir;
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

std::vector<std::string> ChangeableOptions() {
  return {"lr",    "lr-schedule", "warmup-steps", "min-lr-ratio", "weight-decay", "max-grad-norm",
          "beta1", "beta2",       "eps",          "max-steps"};
}

TrainingRun::TrainingRun(const RunOptions& options, const ordered_json& config, const Transformer& model,
                         Optimizer& optimizer, const Tokenizer& tokenizer)
    : options_(options),
      lock_(Created(options.output_dir)),
      side_files_(options.model_dir.empty() ? SideFiles{} : ReadSideFiles(options.model_dir)),
      model_(model),
      optimizer_(optimizer),
      tokenizer_(tokenizer) {
  const fs::path& dir = options_.output_dir;
  RecoverEntries(dir);
  RecoverEntries(dir / kCompletions);
  state_.config = config;
  state_.inputs = ordered_json::object();
  for (const auto& [name, path] : options_.inputs) state_.inputs[name] = HashOfInput(path);

  const bool a_run = Exists(dir / kRunFile);
  RequireUnused(a_run);
  if (options_.resume.empty()) {
    SWARR_CHECK(
        !a_run || options_.overwrite, dir.string(),
        " already holds a run; choose another --output-dir, continue that run with --resume auto, or replace it "
        "with --overwrite");
    if (a_run) RequireReplaceable();
    return;  // nothing is written before the first step has a loss
  }
  if (options_.resume != "auto") {
    ResumeFrom(options_.resume, VerifyCheckpoint(options_.resume));
  } else if (a_run) {
    ResumeLatest();
  }
  Begin();
}

// Makes the directory this run's.
void TrainingRun::Begin() {
  if (begun_) return;
  begun_ = true;
  const fs::path& dir = options_.output_dir;
  WriteState(dir / kRunFile, state_, dir, {});
  if (options_.resume.empty()) RemoveEarlierRun();
  TrimMetrics();
  ordered_json config = state_.config;
  config.update(options_.environment);
  WriteFileAtomically(dir / kConfigFile, config.dump(2) + "\n");
  if (options_.report_to == ReportTo::kTensorBoard) events_.emplace(dir, step() + 1);
}

void TrainingRun::Warn(const std::string& sentence) const {
  if (options_.warn) options_.warn(sentence);
}

// Throws if anything under a name that a run writes is a link or, unless the directory is a run's, if there is any.
void TrainingRun::RequireUnused(bool a_run) const {
  const auto names = AllFileNames({kMetricsFile, kConfigFile, kRunFile, kCompletions, "model.safetensors.index.json"});
  for (const fs::directory_entry& e : fs::directory_iterator(options_.output_dir)) {
    const std::string name = e.path().filename().string();
    if (!Contains(names, name) && !name.starts_with("checkpoint-") && !IsEventFile(name)) continue;
    SWARR_CHECK(
        !e.is_symlink(), e.path().string(),
        " is a symbolic link, and a run would write through it; put what it stands for there, or choose another "
        "--output-dir");
    SWARR_CHECK(a_run, options_.output_dir.string(), " holds ", name,
                ", which no run wrote that could be continued or replaced; choose another --output-dir");
  }
}

// Throws unless all that an earlier run wrote here may go.
void TrainingRun::RequireReplaceable() const {
  const fs::path& dir = options_.output_dir;
  RequireState(dir / kRunFile);
  for (const fs::path& checkpoint : CheckpointsOf(dir)) {
    SWARR_CHECK(HoldsOnlyItsFiles(checkpoint), "won't remove ", checkpoint.string(),
                ": it holds files that are no checkpoint's; move them away");
  }
  const std::string own = fs::weakly_canonical(dir).string() + "/";
  for (const auto& [name, path] : options_.inputs) {
    SWARR_CHECK(!(fs::weakly_canonical(path).string() + "/").starts_with(own), "--overwrite would remove the ", name,
                " that this run reads, ", path.string(), "; choose another --output-dir");
  }
}

// Removes what an earlier run wrote, but for its model.
void TrainingRun::RemoveEarlierRun() const {
  const fs::path& dir = options_.output_dir;
  for (const fs::path& checkpoint : CheckpointsOf(dir)) RemoveDirectory(checkpoint);
  fs::remove(dir / kMetricsFile);
  for (const fs::path& file : CompletionsOf(dir)) fs::remove(file);
  for (const fs::path& file : EventFilesOf(dir)) fs::remove(file);
}

std::string TrainingRun::WhereToGoBack() const {
  if (optimizer_.steps_taken() == 0) {
    return "no weight has changed yet, so the model that the run began with gives it; --trace-nonfinite names the op";
  }
  const std::vector<fs::path> checkpoints = CheckpointsOf(options_.output_dir);
  if (checkpoints.empty()) {
    return "there is no checkpoint to go back to (--save-every); try a smaller --lr";
  }
  return Concat("the last good checkpoint is ", checkpoints.back().string(),
                "; continue from it with --resume auto, --change lr and a smaller --lr");
}

void TrainingRun::CheckFinite(const char* what, double value) {
  if (std::isfinite(value)) return Begin();
  SetAside(step() - 1);  // a checkpoint of the weights that gave it
  const std::string found = FindNonFinite(trained());
  throw Error(Concat("the ", what, " is not finite at step ", step() + 1, ": ",
                     found.empty()
                         ? "all weights and gradients are, so an activation is not (--trace-nonfinite finds it)"
                         : "first in " + found,
                     "; ", WhereToGoBack()));
}

void TrainingRun::RequireFiniteState() const {
  const std::string found = FindNonFinite(trained());
  SWARR_CHECK(found.empty(), "after the update of step ", step(), " not all values are finite: first in ", found,
              "; nothing of this step is saved; ", WhereToGoBack());
}

void TrainingRun::KeepCompletions(std::int64_t step, const std::string& lines) {
  const fs::path path = CompletionsPath(options_.output_dir, step);
  fs::create_directories(path.parent_path());
  WriteFileAtomically(path, lines);
}

void TrainingRun::EndStep(std::int64_t tokens, const Record& record) {
  Begin();
  ++state_.step;
  state_.num_tokens += tokens;
  state_.optimizer_steps = optimizer_.steps_taken();
  Prune();  // a checkpoint of the step before has proved good
  const Record line = Numbered(record);
  Append(options_.output_dir / kMetricsFile, line.dump() + "\n");
  if (events_) events_->Add(line);
  if (options_.on_step) options_.on_step(line);
  if (options_.save_every > 0 && step() % options_.save_every == 0) Save();
  StopIfAsked();
}

void TrainingRun::StopIfAsked() {
  if (!AskedToStop()) return;
  if (step() == 0) throw Interrupted("interrupted in the first step; nothing of it is saved");
  if (saved_step_ != step()) Save();
  throw Interrupted(Concat("interrupted after step ", step(), "; saved ",
                           CheckpointPath(options_.output_dir, step()).string(), ", continue with --resume auto"));
}

// The metrics of the steps before are on the disk before the checkpoint is there.
void TrainingRun::Save() {
  if (options_.saving) options_.saving(true);
  RequireFiniteState();
  SyncFile(options_.output_dir / kMetricsFile);
  WriteCheckpoint(options_.output_dir, state_, trained());
  saved_step_ = step();
  if (options_.saving) options_.saving(false);
}

void TrainingRun::Prune() const {
  const std::vector<fs::path> all = CheckpointsOf(options_.output_dir);
  const auto keep = static_cast<std::size_t>(options_.keep_checkpoints);
  for (std::size_t i = 0; i + keep < all.size(); ++i) {
    if (!HoldsOnlyItsFiles(all[i])) continue;  // somebody keeps something there
    try {
      RemoveDirectory(all[i]);
    } catch (const Error& e) {
      Warn(Concat(e.what(), "; it stays"));
    }
  }
}

void TrainingRun::Finish() {
  if (complete_) return;
  Begin();
  if (options_.saving) options_.saving(true);
  RequireFiniteState();
  const fs::path& dir = options_.output_dir;
  SyncFile(dir / kMetricsFile);
  StagedFiles files(dir);
  WriteModelFiles(files.path(), model_, tokenizer_, side_files_);
  const std::vector<std::string> names = AllFileNames();
  const auto written = [&](const std::string& name) { return fs::exists(files.path() / name); };
  std::vector<std::string> stale;
  std::ranges::copy_if(names, std::back_inserter(stale), std::not_fn(written));
  files.Commit();
  for (const std::string& name : stale) fs::remove(dir / name);  // side files of an earlier run's model
  WriteState(dir / kRunFile, state_, dir, names);
  Prune();
  if (options_.saving) options_.saving(false);
}

}  // namespace swarr
