// SPDX-License-Identifier: Apache-2.0
// The cosines and sines of rotary position embedding (ops.h, RopeForward), and the stretching of its wavelengths.
#pragma once

#include <optional>

#include "tensor/tensor.h"

namespace swarr {

// RoPE scaling of type `llama3` (Llama 3.1; transformers, modeling_rope_utils). n = original_positions / wavelength is
// how many turns a frequency made within the context of pretraining. Frequencies of more than high_freq_factor turns
// stay, those of fewer than low_freq_factor are divided by `factor`, those between are blended linearly in n.
struct Llama3Scaling {
  double factor = 1;  // at least 1
  double low_freq_factor = 1;
  double high_freq_factor = 4;  // above low_freq_factor, which is above 0
  int original_positions = 8192;

  constexpr bool operator==(const Llama3Scaling&) const = default;
};

// The angle by which pair i of D/2 turns from one position to the next: theta^(-2i/D), scaled.
double RopeFrequency(std::int64_t i, std::int64_t D, double theta, const std::optional<Llama3Scaling>& scaling);

// Fills table[P, D]: row p holds the cosines (first half) and sines (second half) of p times the frequencies. Computed
// in f64 whatever the table's dtype.
void FillRopeTable(const Tensor& table, double theta, const std::optional<Llama3Scaling>& scaling = std::nullopt);

}  // namespace swarr
