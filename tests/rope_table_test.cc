// SPDX-License-Identifier: Apache-2.0
#include "tensor/rope_table.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "tensors.h"

namespace swarr {
namespace {

// A frequency whose wavelength is `positions`: theta = (2 pi / positions)^-2 gives it to pair i = 1 of D = 4.
double FrequencyOfWavelength(double positions, const std::optional<Llama3Scaling>& scaling) {
  const double frequency = 2 * std::numbers::pi / positions;
  return RopeFrequency(1, 4, 1 / (frequency * frequency), scaling);
}

TEST_CASE("llama3 scaling keeps short waves, stretches long ones by the factor and blends between") {
  const Llama3Scaling scaling{8.0, 1.0, 4.0, 1024};
  const auto stretched = [&](double positions) {
    return FrequencyOfWavelength(positions, std::nullopt) / FrequencyOfWavelength(positions, scaling);
  };
  // A few roundings of f64 on each side.
  const auto close = [](double value) { return doctest::Approx(value).epsilon(1e-14); };
  CHECK(stretched(100) == close(1));
  CHECK(stretched(1024.0 / 4.01) == close(1));
  CHECK(stretched(1024.0 / 0.99) == close(8));
  CHECK(stretched(1e6) == close(8));
  // 2.5 turns are in the middle of 1 to 4: the frequency is the mean of kept and divided.
  CHECK(stretched(1024.0 / 2.5) == close(1 / (0.5 + 0.5 / 8)));
  CHECK(stretched(1024.0 / 1.75) == close(1 / (0.25 + 0.75 / 8)));
  // Continuous at both ends.
  CHECK(stretched(1024.0 / 3.9999999) == doctest::Approx(1).epsilon(1e-6));
  CHECK(stretched(1024.0 / 1.0000001) == doctest::Approx(8).epsilon(1e-6));
}

TEST_CASE("the table holds cosines and sines of positions times scaled frequencies") {
  Arena arena;
  const Tensor table = arena.New(DType::kF64, {50, 6});
  const std::optional<Llama3Scaling> scaling = Llama3Scaling{4.0, 1.0, 4.0, 16};
  FillRopeTable(table, 100.0, scaling);
  for (std::int64_t p = 0; p < 50; ++p) {
    for (std::int64_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(p) * RopeFrequency(i, 6, 100.0, scaling);
      CHECK(table.data<double>()[p * 6 + i] == std::cos(angle));
      CHECK(table.data<double>()[p * 6 + 3 + i] == std::sin(angle));
    }
  }
  CHECK(RopeFrequency(0, 6, 100.0, std::nullopt) == 1.0);
}

}  // namespace
}  // namespace swarr
