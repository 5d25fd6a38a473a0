// SPDX-License-Identifier: Apache-2.0
#include "train/run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <vector>

#include "model/model_files.h"
#include "tensor/files.h"
#include "tensor/safetensors.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "trainer_state.json";
constexpr const char* kMetricsFile = "metrics.jsonl";
constexpr const char* kConfigFile = "resolved_config.json";
constexpr const char* kCheckpointPrefix = "checkpoint-";

// The checkpoints of a run directory, oldest first.
std::vector<fs::path> CheckpointsOf(const fs::path& dir) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& e : fs::directory_iterator(dir)) {
    if (e.is_directory() && e.path().filename().string().starts_with(kCheckpointPrefix)) found.push_back(e.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void AppendLine(const fs::path& path, const std::string& line) {
  const FileHandle file(std::fopen(path.c_str(), "ab"));
  const bool written =
      file && std::fwrite(line.data(), 1, line.size(), file.get()) == line.size() && std::fflush(file.get()) == 0;
  SWARR_CHECK(written, "can't append to ", path.string(), "; is the disk full or the directory read-only?");
}

}  // namespace

std::string StepName(const std::string& prefix, std::int64_t step) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%08lld", static_cast<long long>(step));
  return prefix + digits;
}

TrainingRun::TrainingRun(const RunOptions& options, const ordered_json& config, const Transformer& model,
                         Optimizer& optimizer, const Tokenizer& tokenizer)
    : options_(options),
      side_files_(options.model_dir.empty() ? SideFiles{} : ReadSideFiles(options.model_dir)),
      config_(config),
      model_(model),
      optimizer_(optimizer),
      tokenizer_(tokenizer) {
  std::error_code error;
  fs::create_directories(options_.output_dir, error);
  SWARR_CHECK(!error, "can't create the output directory ", options_.output_dir.string(), ": ", error.message());
  const fs::path metrics = options_.output_dir / kMetricsFile;
  if (options_.resume.empty()) {
    SWARR_CHECK(!fs::exists(metrics), options_.output_dir.string(),
                " already holds a run; choose another --output-dir, or continue that run with --resume auto");
  } else if (options_.resume == "auto") {
    if (const fs::path latest = LatestCheckpoint(); !latest.empty()) Restore(latest);
  } else {
    Restore(options_.resume);
  }
  TrimMetrics();
  WriteFileAtomically(options_.output_dir / kConfigFile, config_.dump(2) + "\n");
}

fs::path TrainingRun::LatestCheckpoint() const {
  const std::vector<fs::path> all = CheckpointsOf(options_.output_dir);
  return all.empty() ? fs::path() : all.back();
}

// The optimizer's state by its names in a checkpoint, where it can be read and written.
std::vector<std::pair<std::string, HostView>> TrainingRun::Moments() const {
  const MemoryKind kind = model_.parameters().kind();
  std::vector<std::pair<std::string, HostView>> moments;
  moments.emplace_back("m", HostView(optimizer_.first_moment(), kind));
  moments.emplace_back("v", HostView(optimizer_.second_moment(), kind));
  return moments;
}

void TrainingRun::Restore(const fs::path& checkpoint) {
  const fs::path state_path = checkpoint / kStateFile;
  const auto state = ParseJson<ordered_json>(ReadFile(state_path), state_path.string());
  for (const char* field : {"step", "num_tokens", "optimizer_steps", "config"}) {
    SWARR_CHECK(state.contains(field), state_path.string(), " has no field '", field,
                "'; this is no checkpoint of a run");
  }
  for (const auto& [key, value] : config_.items()) {
    SWARR_CHECK(state["config"].contains(key) && state["config"][key] == value, "the checkpoint ", checkpoint.string(),
                " was written with another '", key, "'; a resume needs the same options (see its ", kStateFile, ")");
  }
  const std::unique_ptr<Transformer> saved = LoadModel(checkpoint, model_.dtype(), /*with_gradients=*/false);
  model_.parameters().Set(
      [&](const Parameter& p, const Tensor& master) { Copy(master, p.PartOf(saved->parameters().master())); });
  const SafetensorsFile moments(checkpoint / kOptimizerFile);
  for (const auto& [name, moment] : Moments()) {
    moments.CopyTo(name, moment.view());
    moment.WriteBack();
  }
  step_ = state["step"].get<std::int64_t>();
  num_tokens_ = state["num_tokens"].get<std::int64_t>();
  optimizer_.set_steps_taken(state["optimizer_steps"].get<std::int64_t>());
}

// Keeps the lines of the steps that the restored state has seen, and drops a line that a killed run left unfinished.
void TrainingRun::TrimMetrics() const {
  const fs::path path = options_.output_dir / kMetricsFile;
  std::string kept;
  if (fs::exists(path)) {
    std::istringstream lines(ReadFile(path));
    for (std::string line; std::getline(lines, line);) {
      const auto record = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (record.is_object() && record.value("step", std::int64_t{0}) <= step_) kept += line + "\n";
    }
  }
  WriteFileAtomically(path, kept);
}

// The present weights are bad even if all their values are finite. A checkpoint of them goes, so that --resume auto
// finds the one before.
void TrainingRun::CheckFinite(const char* what, double value) const {
  if (std::isfinite(value)) return;
  fs::remove_all(CheckpointPath());
  const fs::path latest = LatestCheckpoint();
  throw Error(Concat("the ", what, " is not finite at step ", step_ + 1, "; try a smaller --lr; ",
                     latest.empty() ? std::string("there is no good checkpoint from before (--save-every)")
                                    : "the last good checkpoint is " + latest.string()));
}

void TrainingRun::EndStep(std::int64_t tokens, const ordered_json& record) {
  ++step_;
  num_tokens_ += tokens;
  ordered_json line = {{"step", step_}, {"num_tokens", num_tokens_}};
  line.update(record);
  AppendLine(options_.output_dir / kMetricsFile, line.dump() + "\n");
  if (options_.on_step) options_.on_step(line);
  const bool stop = options_.interrupted && options_.interrupted();
  if (stop || (options_.save_every > 0 && step_ % options_.save_every == 0)) SaveCheckpoint();
  if (stop) {
    throw Interrupted(Concat("interrupted after step ", step_, "; saved ", LatestCheckpoint().string(),
                             ", continue with --resume auto"));
  }
}

fs::path TrainingRun::CheckpointPath() const { return options_.output_dir / StepName(kCheckpointPrefix, step_); }

void TrainingRun::SaveCheckpoint() {
  AtomicDirectory out(CheckpointPath(), AllFileNames({kOptimizerFile, kStateFile}));
  WriteModelFiles(out.path(), model_, tokenizer_, side_files_);
  std::vector<NamedTensor> tensors;
  const auto moments = Moments();
  for (const auto& [name, moment] : moments) tensors.push_back({name, moment.view()});
  WriteSafetensors(out.path() / kOptimizerFile, tensors);
  const ordered_json state = {
      {"step", step_}, {"num_tokens", num_tokens_}, {"optimizer_steps", optimizer_.steps_taken()}, {"config", config_}};
  WriteFileAtomically(out.path() / kStateFile, state.dump(2) + "\n");
  out.Commit();
  std::vector<fs::path> all = CheckpointsOf(options_.output_dir);
  for (std::size_t i = 0; i + static_cast<std::size_t>(options_.keep_checkpoints) < all.size(); ++i)
    fs::remove_all(all[i]);
}

void TrainingRun::Finish() {
  for (const std::string& name : AllFileNames()) fs::remove(options_.output_dir / name);
  WriteModelFiles(options_.output_dir, model_, tokenizer_, side_files_);
}

}  // namespace swarr
