// SPDX-License-Identifier: Apache-2.0
#include "study/records/record.h"

#include "base/check.h"
#include "base/files.h"
#include "study/traces.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Json OutcomesJson(const std::vector<ProblemOutcome>& outcomes, const TraceRule& traces) {
  Json rows = Json::array();
  for (const ProblemOutcome& o : outcomes) {
    Json row = Json::object();
    VisitOutcome(o, traces.counts, [&](const char* name, const auto& value) { row[name] = value; });
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<ProblemOutcome> OutcomesOf(const Json& rows, const TraceRule& traces) {
  std::vector<ProblemOutcome> outcomes;
  for (const Json& row : rows) {
    ProblemOutcome& o = outcomes.emplace_back();
    o.counts.resize(traces.counts.size());
    VisitOutcome(o, traces.counts, [&](const char* name, auto& value) { row.at(name).get_to(value); });
  }
  return outcomes;
}

// The numbers of a run beside its outcomes, by name.
template <class Run, class Visit>
void VisitRun(Run& run, Visit&& visit) {
  visit("arm", run.arm);
  visit("seed", run.seed);
  visit("window", run.window);
  visit("base_model", run.base_model);
  visit("device", run.device);
  visit("revision", run.revision);
  visit("optimizer_steps", run.optimizer_steps);
  visit("trained_tokens", run.trained_tokens);
  visit("sampled_tokens", run.sampled_tokens);
  visit("teacher_tokens", run.teacher_tokens);
  visit("longer_problems", run.longer.traces);
  visit("longer_right", run.longer.right);
}

Json ToJson(const std::string& study, const ArmRecord& record, const TraceRule& traces) {
  Json json = {{"study", study}, {"inputs", record.inputs}};
  VisitRun(record.run, [&](const char* name, const auto& value) { json[name] = value; });
  json["seconds"] = record.seconds;
  json["rollout_logprob_max_abs_diff"] = record.checks.rollout_logprob_max_abs_diff;
  json["rollout_logprob_tokens"] = record.checks.rollout_logprob_tokens;
  json["warnings"] = Json::array();
  for (const TrainingWarning& w : record.checks.warnings) json["warnings"].push_back({w.step, w.text});
  json["curve"] = Json::array();
  for (const CurvePoint& p : record.curve.points) json["curve"].push_back({p.step, p.reward, p.repeat_rate});
  json["training"] = TrainingJson(record.run.training);
  json["traces"] = TracesJson(record.run.traces);
  if (!record.run.attention.layers.empty()) json["attention"] = AttendedJson(record.run.attention);
  json["outcomes"] = OutcomesJson(record.run.outcomes, traces);
  return json;
}

ArmRecord FromJson(const Json& json, const TraceRule& traces) {
  ArmRecord record;
  ArmRun& run = record.run;
  VisitRun(run, [&](const char* name, auto& value) { json.at(name).get_to(value); });
  record.inputs = json.value("inputs", Json::object());
  record.seconds = json.at("seconds");
  record.checks.rollout_logprob_max_abs_diff = json.at("rollout_logprob_max_abs_diff");
  record.checks.rollout_logprob_tokens = json.at("rollout_logprob_tokens");
  for (const Json& w : json.at("warnings")) {
    record.checks.warnings.push_back({.arm = run.arm, .seed = run.seed, .step = w.at(0), .text = w.at(1)});
  }
  record.curve.arm = run.arm;
  for (const Json& p : json.at("curve")) {
    record.curve.points.push_back({.step = p.at(0), .reward = p.at(1), .repeat_rate = p.at(2)});
  }
  run.training = TrainingOf(json.value("training", Json::object()));
  run.traces = TracesOf(json.value("traces", Json::array()));
  if (json.contains("attention")) run.attention = AttendedOf(json.at("attention"));
  run.outcomes = OutcomesOf(json.at("outcomes"), traces);
  return record;
}

}  // namespace

fs::path RecordPath(const fs::path& output_dir, const std::string& arm, std::uint64_t seed) {
  return output_dir / "results" / Concat(arm, "-seed", seed, ".json");
}

void WriteRecord(const fs::path& path, const std::string& study, const ArmRecord& record, const TraceRule& traces) {
  fs::create_directories(path.parent_path());
  WriteFileAtomically(path, ToJson(study, record, traces).dump() + "\n");
}

std::optional<ArmRecord> ReadRecord(const fs::path& path, const std::string& study, const TraceRule& traces) {
  if (!fs::exists(path)) return std::nullopt;
  const Json json = ParseJson<Json>(ReadFile(path), path.string());
  try {
    if (json.at("study") != study) return std::nullopt;
    return FromJson(json, traces);
  } catch (const Json::exception& e) {
    throw Error(Concat(path.string(), " is no record of an arm: ", e.what(), "; remove it, and the arm is made again"));
  }
}

}  // namespace swarr
