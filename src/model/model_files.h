// SPDX-License-Identifier: Apache-2.0
// A model as a Hugging Face directory: config.json, model.safetensors, tokenizer.json.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "model/transformer.h"

namespace swarr {

// What a model directory holds, by name (AtomicDirectory wants to know).
std::vector<std::string> ModelFileNames();

// Reads config.json and model.safetensors. Every parameter must be there with its shape, as f64, f32 or bf16 (converted
// to the master of `dtype`), and nothing else; a tied model may carry lm_head.weight if it equals the embedding. Throws
// Error otherwise.
std::unique_ptr<Transformer> LoadModel(const std::filesystem::path& dir, DType dtype, bool with_gradients,
                                       MemoryKind kind = MemoryKind::kHost);

// Writes the three files into an existing directory; weights as the master holds them.
void WriteModelFiles(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer);
// The same as a directory of its own that appears when it is complete.
void SaveModel(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer);

}  // namespace swarr
