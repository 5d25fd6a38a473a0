// SPDX-License-Identifier: Apache-2.0
#include "study/records/gather.h"

#include <algorithm>

#include "base/check.h"
#include "base/files.h"
#include "base/hash.h"
#include "study/measure_arm.h"
#include "study/report.h"

namespace swarr {

std::string StudyId(const StudySettings& settings) { return HashOf(WithoutLooks(settings.json).dump()); }

std::string MakingId(const StudySettings& settings) {
  return HashOf(StudyId(settings) + HashesOf(settings.inputs).dump());
}

std::optional<ArmRecord> FindRecord(const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm) {
  const std::filesystem::path path = RecordPath(options.output_dir, arm.name, settings.seed);
  std::optional<ArmRecord> record = ReadRecord(path, StudyId(settings), settings.task.reward.traces);
  const std::string why = record ? WhyOtherInputs(path, record->inputs, settings.inputs) : "";
  SWARR_CHECK(why.empty(), why);
  return record;
}

void AddRecord(const StudySettings& settings, const ArmPlan& arm, int layers, ArmRecord record, StudyResults& results) {
  CompleteRun(record.run, settings, arm, layers);
  results.wall_seconds += record.seconds;
  StudyChecks& checks = results.checks;
  checks.rollout_logprob_max_abs_diff =
      std::max(checks.rollout_logprob_max_abs_diff, record.checks.rollout_logprob_max_abs_diff);
  checks.rollout_logprob_tokens += record.checks.rollout_logprob_tokens;
  checks.warnings.insert(checks.warnings.end(), record.checks.warnings.begin(), record.checks.warnings.end());
  if (!record.curve.points.empty()) results.curves.push_back(std::move(record.curve));
  results.runs.push_back(std::move(record.run));
}

void GatherSeed(const StudyOptions& options, const StudySettings& settings, int layers, StudyResults& results) {
  const std::uint64_t seed = settings.seed;
  for (const ArmPlan& arm : settings.arms) {
    std::optional<ArmRecord> record = FindRecord(options, settings, arm);
    if (record) {
      AddRecord(settings, arm, layers, std::move(*record), results);
    } else {
      results.missing.push_back(Concat(ArmName(settings.looks, arm.name), " (seed ", seed, ")"));
    }
  }
}

std::vector<CostPoint> CostOfReport(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / kResultsFile;
  if (!std::filesystem::exists(file)) return {};
  const auto report = ParseJson<nlohmann::ordered_json>(ReadFile(file), file.string());
  std::vector<CostPoint> cost;
  for (const auto& c : report.value("cost", nlohmann::ordered_json::array())) {
    cost.push_back({.arm = c.at("arm"),
                    .length = c.at("length"),
                    .kv_bytes = c.at("kv_bytes"),
                    .decode_ms_per_token = c.at("decode_ms_per_token"),
                    .forward_tokens_per_second = c.at("forward_tokens_per_second")});
  }
  return cost;
}

}  // namespace swarr
