// SPDX-License-Identifier: Apache-2.0
#include "train/run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "base/files.h"
#include "base/paths.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kMetricsFile = "metrics.jsonl";
constexpr const char* kConfigFile = "resolved_config.json";
constexpr const char* kRunFile = "run.json";
constexpr const char* kCompletions = "completions";
constexpr const char* kCompletionsPrefix = "step-";

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

void AppendLine(const fs::path& path, const std::string& line) {
  const FileHandle file(std::fopen(path.c_str(), "ab"));
  const bool written =
      file && std::fwrite(line.data(), 1, line.size(), file.get()) == line.size() && std::fflush(file.get()) == 0;
  SWARR_CHECK(written, "can't append to ", path.string(), "; is the disk full or the directory read-only?");
}

// The files of sampled completions that a run has written.
std::vector<fs::path> CompletionsOf(const fs::path& run) {
  std::vector<fs::path> found;
  if (!Exists(run / kCompletions)) return found;
  for (const fs::directory_entry& e : fs::directory_iterator(run / kCompletions)) {
    const std::string name = e.path().filename().string();
    if (name.starts_with(kCompletionsPrefix) && name.ends_with(".jsonl")) found.push_back(e.path());
  }
  return found;
}

// A field of a line of metrics; -1 if there is none, or no integer.
std::int64_t CountIn(const ordered_json& record, const char* field) {
  const bool there = record.is_object() && record.contains(field) && record[field].is_number_integer();
  return there ? record[field].get<std::int64_t>() : -1;
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// Throws unless both hold the same, but for the keys of `changeable`, which are added to `changed` with both values.
void Compare(const ordered_json& before, const ordered_json& now, const std::vector<std::string>& changeable,
             const std::string& where, ordered_json& changed) {
  ordered_json all = before;
  all.update(now);
  for (const auto& [key, unused] : all.items()) {
    const ordered_json was = before.value(key, ordered_json()), is = now.value(key, ordered_json());
    if (was == is) continue;
    SWARR_CHECK(Contains(changeable, key), where, " was written with another '", key, "' (", was.dump(), ", not ",
                is.dump(), "); go on with the same options and inputs, ",
                Contains(ChangeableOptions(), key) ? "or say with --change " + key + " that it changes on purpose"
                                                   : "or choose another --output-dir");
    changed[key] = {was, is};
  }
}

}  // namespace

fs::path CompletionsPath(const fs::path& run, std::int64_t step) {
  return run / kCompletions / (StepName(kCompletionsPrefix, step) + ".jsonl");
}

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
  WriteFileAtomically(dir / kConfigFile, state_.config.dump(2) + "\n");
}

void TrainingRun::Warn(const std::string& sentence) const {
  if (options_.warn) options_.warn(sentence);
}

// Throws if anything under a name that a run writes is a link or, unless the directory is a run's, if there is any.
void TrainingRun::RequireUnused(bool a_run) const {
  const auto names = AllFileNames({kMetricsFile, kConfigFile, kRunFile, kCompletions, "model.safetensors.index.json"});
  for (const fs::directory_entry& e : fs::directory_iterator(options_.output_dir)) {
    const std::string name = e.path().filename().string();
    if (!Contains(names, name) && !name.starts_with("checkpoint-")) continue;
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
}

// Makes a state that was found the run's, if it is one of this run.
void TrainingRun::TakeOver(TrainerState state, const fs::path& where) {
  ordered_json changed;
  // What the run reads is known by its content; where it lies may change.
  for (const auto& [name, unused] : state_.inputs.items()) {
    if (state_.config.contains(name)) state.config[name] = state_.config[name];
  }
  const std::int64_t steps = state_.config.value("max-steps", state.step);
  SWARR_CHECK(steps >= state.step, where.string(), " has done ", state.step, " steps, more than --max-steps ", steps,
              "; give at least as many");
  Compare(state.config, state_.config, options_.changes, where.string(), changed);
  Compare(state.inputs, state_.inputs, {}, where.string(), changed);
  state.config = state_.config;
  if (!changed.empty()) {
    ordered_json change = {{"step", state.step}};
    change.update(changed);
    state.changes.push_back(std::move(change));
  }
  state_ = std::move(state);
}

void TrainingRun::ResumeLatest() {
  const fs::path& dir = options_.output_dir;
  if (ResumeComplete()) return;
  const std::vector<fs::path> checkpoints = CheckpointsOf(dir);
  for (auto c = checkpoints.rbegin(); c != checkpoints.rend(); ++c) {
    TrainerState state;
    try {
      state = VerifyCheckpoint(*c);
    } catch (const Error& e) {
      Warn(Concat(e.what(), "; trying the checkpoint before"));
      continue;
    }
    return ResumeFrom(*c, std::move(state));
  }
  SWARR_CHECK(checkpoints.empty(), "no checkpoint in ", dir.string(),
              " is whole; start that run again elsewhere, or here with --overwrite");
  bool complete = false;
  TrainerState state = VerifyState(dir / kRunFile, dir, &complete);
  SWARR_CHECK(!complete && options_.changes.empty(), dir.string(),
              " has no checkpoint to go on from with other options; start the run again with --overwrite");
  TakeOver(std::move(state), dir / kRunFile);
  state_.step = state_.num_tokens = state_.optimizer_steps = 0;
  state_.changes = ordered_json::array();
}

// If the run is complete, with these options and with its model as it was written, that is the state.
bool TrainingRun::ResumeComplete() {
  const fs::path& dir = options_.output_dir;
  if (!options_.changes.empty()) return false;
  bool complete = false;
  TrainerState state;
  try {
    state = VerifyState(dir / kRunFile, dir, &complete);
  } catch (const Error& e) {
    if (CheckpointsOf(dir).empty()) throw Error(Concat(e.what(), "; start that run again with --overwrite"));
    Warn(e.what());
    return false;
  }
  if (!complete) return false;
  TakeOver(std::move(state), dir / kRunFile);
  LoadWeights(dir, model_);
  begun_ = complete_ = true;
  return true;
}

void TrainingRun::ResumeFrom(const fs::path& checkpoint, TrainerState state) {
  const fs::path& dir = options_.output_dir;
  const bool own = fs::equivalent(fs::weakly_canonical(checkpoint).parent_path(), dir);
  SWARR_CHECK(own || !Exists(dir / kRunFile), dir.string(), " holds another run than ", checkpoint.string(),
              "; choose another --output-dir");
  const std::int64_t step = state.step;
  TakeOver(std::move(state), checkpoint);
  LoadCheckpoint(checkpoint, state_, trained());
  if (own) SetAside(step);
}

// Moves the checkpoints after `step` to a new directory, with a copy of the metrics and the completions of later steps:
// the newest first, so that those that a killed process leaves are the run's as it was.
void TrainingRun::SetAside(std::int64_t step) const {
  const fs::path& dir = options_.output_dir;
  std::vector<fs::path> later = CheckpointsOf(dir);
  std::erase_if(later, [&](const fs::path& c) { return c.filename() <= CheckpointPath(dir, step).filename(); });
  if (later.empty()) return;
  fs::path aside;
  for (int n = 1; aside.empty() || Exists(aside); ++n) aside = dir / Concat("set-aside-", n);
  fs::create_directory(aside);
  if (Exists(dir / kMetricsFile)) CopyFile(dir / kMetricsFile, aside / kMetricsFile);
  for (auto c = later.rbegin(); c != later.rend(); ++c) Rename(*c, aside / c->filename());
  for (const fs::path& file : CompletionsOf(dir)) {
    if (file.filename() <= CompletionsPath(dir, step).filename()) continue;
    fs::create_directories(aside / kCompletions);
    Rename(file, aside / kCompletions / file.filename());
  }
  Warn(Concat("what is later than step ", step, " is now in ", aside.string()));
}

// Keeps the lines of the steps that the state has seen, and drops a line that a killed run left unfinished.
void TrainingRun::TrimMetrics() const {
  const fs::path path = options_.output_dir / kMetricsFile;
  std::string kept;
  std::int64_t steps = 0, tokens = 0;
  if (fs::exists(path)) {
    std::istringstream lines(ReadFile(path));
    for (std::string line; std::getline(lines, line);) {
      const auto record = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
      const std::int64_t step = CountIn(record, "step");
      if (step < 1 || step > state_.step) continue;
      kept += line + "\n";
      ++steps;
      tokens = CountIn(record, "num_tokens");
    }
  }
  if (steps != state_.step || tokens != state_.num_tokens) {
    Warn(Concat(path.string(), " tells of ", steps, " steps and ", tokens, " tokens, the checkpoint of ", state_.step,
                " and ", state_.num_tokens, "; the run is not affected, but its metrics are not whole, or another's"));
  }
  WriteFileAtomically(path, kept);
}

std::string TrainingRun::WhereToGoBack() const {
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

void TrainingRun::EndStep(std::int64_t tokens, const ordered_json& record) {
  Begin();
  ++state_.step;
  state_.num_tokens += tokens;
  state_.optimizer_steps = optimizer_.steps_taken();
  Prune();  // a checkpoint of the step before has proved good
  ordered_json line = {{"step", step()}, {"num_tokens", num_tokens()}};
  line.update(record);
  AppendLine(options_.output_dir / kMetricsFile, line.dump() + "\n");
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
  RequireFiniteState();
  if (options_.saving) options_.saving(true);
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
  RequireFiniteState();
  const fs::path& dir = options_.output_dir;
  SyncFile(dir / kMetricsFile);
  StagedFiles files(dir);
  WriteModelFiles(files.path(), model_, tokenizer_, side_files_);
  const std::vector<std::string> names = AllFileNames();
  const auto written = [&](const std::string& name) { return fs::exists(files.path() / name); };
  std::vector<std::string> stale;
  std::ranges::copy_if(names, std::back_inserter(stale), std::not_fn(written));
  if (options_.saving) options_.saving(true);
  files.Commit();
  for (const std::string& name : stale) fs::remove(dir / name);  // side files of an earlier run's model
  WriteState(dir / kRunFile, state_, dir, names);
  Prune();
  if (options_.saving) options_.saving(false);
}

}  // namespace swarr
