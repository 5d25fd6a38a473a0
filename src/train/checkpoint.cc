// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/directories.h"
#include "base/files.h"
#include "base/hash.h"
#include "model/weight_files.h"
#include "tensor/safetensors.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "trainer_state.json";
constexpr const char* kPrefix = "checkpoint-";
constexpr int kFormatVersion = 1;

// The optimizer's state by its names in a checkpoint, where it can be read and written.
std::vector<std::pair<std::string, HostView>> MomentsOf(const TrainedModel& trained) {
  const MemoryKind kind = trained.optimizer.moments_kind();
  std::vector<std::pair<std::string, HostView>> moments;
  moments.emplace_back("m", HostView(trained.optimizer.first_moment(), kind));
  moments.emplace_back("v", HostView(trained.optimizer.second_moment(), kind));
  return moments;
}

// The names of a checkpoint's files, but for the state's.
std::vector<std::string> CheckpointFileNames() { return AllFileNames({kOptimizerFile}); }

ordered_json ToJson(const TrainerState& state, const ordered_json& files) {
  ordered_json json = {{"format_version", kFormatVersion}, {"step", state.step},
                       {"num_tokens", state.num_tokens},   {"optimizer_steps", state.optimizer_steps},
                       {"config", state.config},           {"inputs", state.inputs},
                       {"changes", state.changes},         {"files", files}};
  json["hash"] = HashOf(json.dump());
  return json;
}

// The content of a state file, found to be what was written.
ordered_json ReadState(const fs::path& path) {
  auto json = ParseJson<ordered_json>(ReadFile(path, kMostJsonBytes), path.string());
  SWARR_CHECK(json.is_object() && json.contains("format_version"), path.string(),
              " has no format_version; it is no state of a run, or one of an older version of this program");
  SWARR_CHECK(json["format_version"] == kFormatVersion, path.string(), " has the format version ",
              json["format_version"].dump(), ", and this program reads ", kFormatVersion,
              "; continue the run with the program that wrote it");
  const ordered_json hash = json.value("hash", ordered_json());
  json.erase("hash");
  SWARR_CHECK(hash == ordered_json(HashOf(json.dump())), path.string(),
              " is damaged: its content does not have the hash in it");
  return json;
}

}  // namespace

std::string StepName(const std::string& prefix, std::int64_t step) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%08lld", static_cast<long long>(step));
  return prefix + digits;
}

fs::path CheckpointPath(const fs::path& run, std::int64_t step) { return run / StepName(kPrefix, step); }

std::vector<fs::path> CheckpointsOf(const fs::path& run) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& e : fs::directory_iterator(run)) {
    if (e.is_directory() && e.path().filename().string().starts_with(kPrefix)) found.push_back(e.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string FindNonFinite(const TrainedModel& trained) {
  const ParameterStore& parameters = trained.model.parameters();
  const auto find = [&](const char* what, const Tensor& flat, MemoryKind kind) -> std::string {
    const HostView host(flat, kind);
    for (const Parameter& p : parameters.all()) {
      const std::int64_t bad = CountNonFinite(p.PartOf(host.view()));
      if (bad > 0) return Concat(what, p.name, ": ", bad, " of ", p.size(), " values");
    }
    return "";
  };
  const MemoryKind kind = parameters.kind(), of_moments = trained.optimizer.moments_kind();
  std::string found = find("the weight ", parameters.master(), kind);
  if (found.empty()) found = find("the first moment of ", trained.optimizer.first_moment(), of_moments);
  if (found.empty()) found = find("the second moment of ", trained.optimizer.second_moment(), of_moments);
  if (found.empty()) found = find("the gradient of ", parameters.flat_gradients(), kind);
  return found;
}

void WriteState(const fs::path& path, const TrainerState& state, const fs::path& dir,
                const std::vector<std::string>& names) {
  ordered_json hashes = ordered_json::object();
  for (const std::string& name : names) {
    if (fs::exists(dir / name)) hashes[name] = HashOfFile(dir / name);
  }
  WriteFileAtomically(path, ToJson(state, hashes).dump(2) + "\n");
}

TrainerState VerifyState(const fs::path& path, const fs::path& dir, bool* complete) {
  const ordered_json json = ReadState(path);
  try {
    for (const auto& [name, hash] : json.at("files").items()) {
      SWARR_CHECK(HashOfFile(dir / name) == hash.get<std::string>(), (dir / name).string(),
                  " is damaged, or belongs elsewhere: it does not have the hash that ", path.filename().string(),
                  " tells");
    }
    if (complete) *complete = !json.at("files").empty();
    SWARR_CHECK(json.at("config").is_object() && json.at("inputs").is_object() && json.at("changes").is_array(),
                path.string(), ": config, inputs or changes is of the wrong type");
    const auto count = [&](const char* field) {
      SWARR_CHECK(json.at(field).is_number_unsigned(), path.string(), ": ", field, " is no count");
      return json[field].get<std::int64_t>();
    };
    return {.step = count("step"),
            .num_tokens = count("num_tokens"),
            .optimizer_steps = count("optimizer_steps"),
            .config = json.at("config"),
            .inputs = json.at("inputs"),
            .changes = json.at("changes")};
  } catch (const ordered_json::exception&) {
    throw Error(Concat(path.string(), " lacks a field, or has one of the wrong type; it is no state of a run"));
  }
}

void RequireState(const fs::path& path) { ReadState(path); }

void WriteCheckpoint(const fs::path& run, const TrainerState& state, const TrainedModel& trained) {
  std::vector<std::string> names = CheckpointFileNames();
  names.emplace_back(kStateFile);
  AtomicDirectory out(CheckpointPath(run, state.step), names);
  WriteModelFiles(out.path(), trained.model, trained.tokenizer, trained.side_files);
  std::vector<NamedTensor> tensors;
  const auto moments = MomentsOf(trained);
  for (const auto& [name, moment] : moments) tensors.push_back({name, moment.view()});
  WriteSafetensors(out.path() / kOptimizerFile, tensors);
  WriteState(out.path() / kStateFile, state, out.path(), CheckpointFileNames());
  out.Commit();
}

TrainerState VerifyCheckpoint(const fs::path& checkpoint) {
  TrainerState state = VerifyState(checkpoint / kStateFile, checkpoint);
  const std::string name = StepName(kPrefix, state.step);
  SWARR_CHECK(fs::weakly_canonical(checkpoint).filename() == name, checkpoint.string(), " holds step ", state.step,
              ", which belongs into a directory ", name, "; was it renamed?");
  return state;
}

void LoadWeights(const fs::path& dir, const Transformer& model) {
  const std::unique_ptr<Transformer> saved = LoadModel(dir, model.dtype(), /*with_gradients=*/false);
  model.parameters().Set(
      [&](const Parameter& p, const Tensor& master) { Copy(master, p.PartOf(saved->parameters().master())); });
}

void LoadCheckpoint(const fs::path& checkpoint, const TrainerState& state, const TrainedModel& trained) {
  LoadWeights(checkpoint, trained.model);
  const SafetensorsFile moments(checkpoint / kOptimizerFile);
  for (const auto& [name, moment] : MomentsOf(trained)) {
    moments.CopyTo(name, moment.view());
    moment.WriteBack();
  }
  trained.optimizer.set_steps_taken(state.optimizer_steps);
}

bool HoldsOnlyItsFiles(const fs::path& checkpoint) {
  std::vector<std::string> names = CheckpointFileNames();
  names.emplace_back(kStateFile);
  for (const fs::directory_entry& e : fs::directory_iterator(checkpoint)) {
    if (std::find(names.begin(), names.end(), e.path().filename().string()) == names.end()) return false;
  }
  return true;
}

std::string HashOfInput(const fs::path& path) {
  if (!fs::is_directory(path)) return HashOfFile(path);
  std::vector<std::string> names = AllFileNames();
  const WeightFiles weights(path);
  names.insert(names.end(), weights.file_names().begin(), weights.file_names().end());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string hashes;
  for (const std::string& name : names) {
    if (fs::exists(path / name)) hashes += name + " " + HashOfFile(path / name) + "\n";
  }
  return HashOf(hashes);
}

}  // namespace swarr
