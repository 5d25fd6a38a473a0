// SPDX-License-Identifier: Apache-2.0
// How a run goes on with what its directory holds.
#include <algorithm>
#include <sstream>

#include "base/files.h"
#include "base/paths.h"
#include "train/run.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// A field of a line of metrics; -1 if there is none, or no integer.
std::int64_t CountIn(const ordered_json& record, const char* field) {
  const bool there = record.is_object() && record.contains(field) && record[field].is_number_integer();
  return there ? record[field].get<std::int64_t>() : -1;
}

// What to do where an option differs. A run goes on with another only from a checkpoint, which has its moments.
std::string Advice(const std::string& key, bool has_checkpoint) {
  if (std::ranges::count(ChangeableOptions(), key) == 0) return "choose another --output-dir";
  if (has_checkpoint) return "say with --change " + key + " that it changes on purpose";
  return "start the run again with --overwrite, since it has no checkpoint to go on from with another";
}

// Throws unless both hold the same, but for the keys of `changeable`, which are added to `changed` with both values.
void Compare(const ordered_json& before, const ordered_json& now, const std::vector<std::string>& changeable,
             const std::string& where, bool has_checkpoint, ordered_json& changed) {
  ordered_json all = before;
  all.update(now);
  for (const auto& [key, unused] : all.items()) {
    const ordered_json was = before.value(key, ordered_json()), is = now.value(key, ordered_json());
    if (was == is) continue;
    SWARR_CHECK(std::ranges::count(changeable, key) > 0, where, " was written with another '", key, "' (", was.dump(),
                ", not ", is.dump(), "); go on with the same options and inputs, or ", Advice(key, has_checkpoint));
    changed[key] = {was, is};
  }
}

// Throws if a run that goes on from this state has done more steps than it is now to have.
void RequireSteps(const TrainerState& state, const ordered_json& config, const fs::path& where) {
  const std::int64_t steps = config.value("max-steps", state.step);
  SWARR_CHECK(steps >= state.step, where.string(), " has done ", state.step, " steps, more than --max-steps ", steps,
              "; give at least as many");
}

}  // namespace

void TrainingRun::SayResumed(const std::string& sentence) const {
  if (options_.resumed) options_.resumed(sentence);
}

// Makes a state that was found the run's, if it is one of this run.
void TrainingRun::TakeOver(TrainerState state, const fs::path& where) {
  ordered_json changed;
  // What the run reads is known by its content; where it lies may change.
  for (const auto& [name, unused] : state_.inputs.items()) {
    if (state_.config.contains(name)) state.config[name] = state_.config[name];
  }
  const bool has_checkpoint = where.filename() != kRunFile || !CheckpointsOf(options_.output_dir).empty();
  if (has_checkpoint) RequireSteps(state, state_.config, where);
  Compare(state.config, state_.config, options_.changes, where.string(), has_checkpoint, changed);
  Compare(state.inputs, state_.inputs, {}, where.string(), has_checkpoint, changed);
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

// If the run is complete, with these options and with its model as it was written, that is the state, unless one is to
// change.
bool TrainingRun::ResumeComplete() {
  const fs::path& dir = options_.output_dir;
  const bool has_checkpoint = !CheckpointsOf(dir).empty();
  bool complete = false;
  TrainerState state;
  try {
    state = VerifyState(dir / kRunFile, dir, &complete);
  } catch (const Error& e) {
    if (!has_checkpoint) throw Error(Concat(e.what(), "; start that run again with --overwrite"));
    Warn(e.what());
    return false;
  }
  if (!complete) return false;
  if (!options_.changes.empty()) {  // it goes on, from a checkpoint, which may be of an earlier step
    if (has_checkpoint) RequireSteps(state, state_.config, dir / kRunFile);
    return false;
  }
  TakeOver(std::move(state), dir / kRunFile);
  LoadWeights(dir, model_);
  SayResumed(Concat("the run in ", dir.string(), " is complete; nothing is left to do"));
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
  SayResumed(Concat("resumed from ", checkpoint.string(), ", after step ", step));
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

}  // namespace swarr
