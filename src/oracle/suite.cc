// SPDX-License-Identifier: Apache-2.0
#include "oracle/suite.h"

#include <algorithm>
#include <cmath>

namespace swarr::oracle {
namespace {

constexpr std::pair<const char*, Suite (*)()> kSuites[] = {
    {"attention", AttentionSuite}, {"ops", OpsSuite},         {"loss", LossSuite}, {"advantages", AdvantagesSuite},
    {"policy", PolicySuite},       {"distill", DistillSuite}, {"step", StepSuite}, {"model", ModelSuite},
    {"decode", DecodeSuite},       {"rollout", RolloutSuite}};

}  // namespace

double Noise::Disturbed(double x, double most) {
  if (u_ == 0) return x;
  const bool away = (random_.NextWord() & 1U) != 0;  // from 0
  const double u = std::min(u_, most);
  if (u == u_ && x != 0 && u * std::abs(x) < least_) return away == (x > 0) ? x + least_ : x - least_;
  return away ? x * (1 + u) : x * (1 - u);
}

void Noise::Disturb(Value& value) {
  if (value.integer) return;
  for (double& x : value.data) x = Disturbed(x);
}

void Noise::Disturb(const Tensor& t) {
  for (std::int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = Disturbed(t.data<double>()[i]);
}

const TensorInfo& Family::Output(const std::string& output) const {
  const auto found = std::ranges::find(outputs, output, &TensorInfo::name);
  SWARR_CHECK(found != outputs.end(), "the oracle's family ", name, " has no output ", output);
  return *found;
}

std::string Together(const std::vector<std::string>& mistakes) {
  std::string names;
  for (const std::string& mistake : mistakes) names += (&mistake == &mistakes.front() ? "" : "\n") + mistake;
  return names;
}

bool IsAmong(std::string_view mistakes, std::string_view name) {
  while (!mistakes.empty()) {
    const std::size_t end = std::min(mistakes.find('\n'), mistakes.size());
    if (mistakes.substr(0, end) == name) return true;
    mistakes.remove_prefix(std::min(end + 1, mistakes.size()));
  }
  return false;
}

std::string SuiteNames() {
  std::string names;
  for (const auto& suite : kSuites) names += (names.empty() ? "" : ", ") + std::string(suite.first);
  return names;
}

Suite MakeSuite(const std::string& name) {
  for (const auto& [known, make] : kSuites) {
    if (name == known) return make();
  }
  throw UsageError(Concat("there is no suite '", name, "'; there are ", SuiteNames()));
}

}  // namespace swarr::oracle
