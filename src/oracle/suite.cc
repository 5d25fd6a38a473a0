// SPDX-License-Identifier: Apache-2.0
#include "oracle/suite.h"

#include <algorithm>

namespace swarr::oracle {
namespace {

constexpr std::pair<const char*, Suite (*)()> kSuites[] = {
    {"ops", OpsSuite},   {"attention", AttentionSuite}, {"loss", LossSuite},      {"distill", DistillSuite},
    {"step", StepSuite}, {"model", ModelSuite},         {"rollout", RolloutSuite}};

}  // namespace

double Noise::Disturbed(double x, double most) {
  if (u_ == 0) return x;
  const double u = std::min(u_, most);
  return (random_.NextWord() & 1U) != 0 ? x * (1 + u) : x * (1 - u);
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
