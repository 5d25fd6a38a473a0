// SPDX-License-Identifier: Apache-2.0
#include "tensor/rope_table.h"

#include <cmath>
#include <numbers>
#include <vector>

namespace swarr {

double RopeFrequency(std::int64_t i, std::int64_t D, double theta, const std::optional<Llama3Scaling>& scaling) {
  const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
  if (!scaling) return frequency;
  const double turns = scaling->original_positions * frequency / (2 * std::numbers::pi);
  if (turns > scaling->high_freq_factor) return frequency;
  if (turns < scaling->low_freq_factor) return frequency / scaling->factor;
  const double kept = (turns - scaling->low_freq_factor) / (scaling->high_freq_factor - scaling->low_freq_factor);
  return (1 - kept) * frequency / scaling->factor + kept * frequency;
}

void FillRopeTable(const Tensor& table, double theta, const std::optional<Llama3Scaling>& scaling) {
  const std::int64_t P = table.dim(0), D = table.dim(1), half = D / 2;
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < half; ++i) frequencies.push_back(RopeFrequency(i, D, theta, scaling));
  DispatchSum(table.dtype(), [&]<class T>() {
    for (std::int64_t p = 0; p < P; ++p) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(p) * frequencies[static_cast<std::size_t>(i)];
        table.data<T>()[p * D + i] = static_cast<T>(std::cos(angle));
        table.data<T>()[p * D + half + i] = static_cast<T>(std::sin(angle));
      }
    }
  });
}

}  // namespace swarr
