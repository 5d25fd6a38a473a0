// SPDX-License-Identifier: Apache-2.0
#include "oracle/expectations.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace swarr::oracle {

double LargestFinite(const Value& value) {
  double largest = 0;
  for (const double x : value.data) largest = std::isfinite(x) ? std::max(largest, std::abs(x)) : largest;
  return largest;
}

const Precision* FindPrecision(std::string_view stored) {
  const auto found = std::ranges::find(kPrecisions, stored, &Precision::stored);
  return found == std::end(kPrecisions) ? nullptr : found;
}

double Distance(const Value& other, const Value& truth) {
  double largest = 0;
  for (std::size_t i = 0; i < truth.data.size(); ++i) {
    const double a = other.data[i], b = truth.data[i];
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;  // so are equal infinities
    const double difference = std::abs(a - b);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

Value OverflownInF16(Value value) {
  constexpr double kBeyondF16 = 65520;  // half a spacing above 65504
  for (double& x : value.data) x = std::abs(x) >= kBeyondF16 ? std::copysign(HUGE_VAL, x) : x;
  return value;
}

// One set of kernels for all: truths have the same bits on all machines of one compiler's baseline.
Expectations::Expectations(const Suite& suite, int threads, std::vector<std::string> accepted)
    : suite_(suite), accepted_(std::move(accepted)), ctx_{.arena = &arena_, .threads = threads, .cpu = Cpu::kPortable} {
  for (const std::string& name : accepted_) {
    const auto knows = [&](const Family& family) { return std::ranges::count(family.mistakes, name) > 0; };
    if (std::ranges::any_of(suite.families, knows)) continue;
    throw UsageError(Concat("the suite ", suite.name, " knows no mistake '", name,
                            "' that could be accepted; `known_mistakes` of its manifest lists them"));
  }
}

Values Expectations::Evaluate(const Family& family, const Case& c, const std::string& mistake, Noise& noise) {
  Values inputs = c.inputs;
  for (auto& [name, value] : inputs) noise.Disturb(value);
  std::vector<std::string> made;
  for (const std::string& name : accepted_) {
    if (std::ranges::count(family.mistakes, name) > 0) made.push_back(name);
  }
  if (!mistake.empty() || made.empty()) made.push_back(mistake);
  const ArenaScope scope(arena_);
  return family.evaluate(ctx_, c, inputs, Together(made), noise);
}

bool Expectations::IsBent(const Family& family, const Case& c) {
  if (accepted_.empty()) return false;
  Noise none;
  const ArenaScope scope(arena_);
  const Values exact = family.evaluate(ctx_, c, c.inputs, kNoMistake, none);
  return std::ranges::any_of(Outputs(family, c, kNoMistake),
                             [&](const auto& item) { return Distance(item.second, exact.at(item.first)) > 0; });
}

const Values& Expectations::Outputs(const Family& family, const Case& c, const std::string& mistake) {
  const Key key(&c, mistake, 0);
  if (const auto known = outputs_.find(key); known != outputs_.end()) return known->second;
  Noise none;
  return outputs_.emplace(key, Evaluate(family, c, mistake, none)).first->second;
}

const Expectations::Sensitivity& Expectations::SensitivityOf(const Family& family, const Case& c,
                                                             const std::string& mistake, const Precision& precision,
                                                             int patterns) {
  Sensitivity& known = sensitivities_[Key(&c, mistake, precision.probe)];
  if (known.patterns >= patterns) return known;
  const Values& exact = Outputs(family, c, mistake);
  for (; known.patterns < patterns; ++known.patterns) {
    Noise noise(precision.probe, precision.least,
                StreamKey(static_cast<std::uint32_t>(known.patterns), Purpose::kBootstrap));
    const Values disturbed = Evaluate(family, c, mistake, noise);
    for (const auto& [name, value] : exact) {
      double& largest = known.largest[name];
      largest = std::max(largest, Distance(disturbed.at(name), value));
    }
  }
  return known;
}

double Expectations::Tolerance(const Family& family, const Case& c, const std::string& mistake,
                               const std::string& output, const Precision& precision) {
  const double own = OwnTolerance(family, c, mistake, output, precision);
  return mistake.empty() ? own : std::max(own, OwnTolerance(family, c, "", output, precision));
}

bool Expectations::Tolerates(double error, const Family& family, const Case& c, const std::string& mistake,
                             const std::string& output, const Precision& precision) {
  if (error <= OwnTolerance(family, c, "", output, precision)) return true;
  // Patterns move an output by about as much as each other. One alone may move a single number by less, since its
  // roundings cancel, but hardly by less than a hundredth.
  constexpr double kFar = 100;
  if (error > kFar * OwnTolerance(family, c, mistake, output, precision, 1)) return false;
  return error <= OwnTolerance(family, c, mistake, output, precision);
}

double Expectations::OwnTolerance(const Family& family, const Case& c, const std::string& mistake,
                                  const std::string& output, const Precision& precision, int patterns) {
  const Value& exact = Outputs(family, c, mistake).at(output);
  if (exact.integer) return 0;
  std::size_t roundings = 1 + family.roundings.forward.size();
  if (family.Output(output).gradient) roundings += family.roundings.backward.size();
  if (precision.sums) roundings += static_cast<std::size_t>(c.longest_sum);
  const double sensitivity =
      SensitivityOf(family, c, mistake, precision, patterns).largest.at(output) * (precision.u / precision.probe);
  return static_cast<double>(roundings) * sensitivity + std::max(precision.u * LargestFinite(exact), precision.least);
}

}  // namespace swarr::oracle
