// SPDX-License-Identifier: Apache-2.0
// A model as a Hugging Face directory: config.json, the weights, tokenizer.json, and files that other programs want.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "model/transformer.h"

namespace swarr {

// What a model directory that we write always holds, by name.
std::vector<std::string> ModelFileNames();

// Files of a model directory that stay as they are whatever is done to the weights: those of the tokenizer beside
// tokenizer.json, and generation_config.json. By name; a directory has some of them.
using SideFiles = std::map<std::string, std::string>;  // name to content
std::vector<std::string> SideFileNames();
SideFiles ReadSideFiles(const std::filesystem::path& dir);  // those that are there

// All names that a model directory of ours may hold: those above, and `more` (AtomicDirectory wants to know).
std::vector<std::string> AllFileNames(std::vector<std::string> more = {});

// Reads config.json and the weights, which must be those of the config (WeightFiles::Check), and rounds them to the
// master of `dtype`; a value that is NaN or infinite then is refused. They are read in place: there is no second copy.
// `check`, if given, sees the config before memory for the weights is allocated, and may throw.
std::unique_ptr<Transformer> LoadModel(const std::filesystem::path& dir, DType dtype, bool with_gradients,
                                       MemoryKind kind = MemoryKind::kHost,
                                       const std::function<void(const ModelConfig&)>& check = {});

// Reads tokenizer.json for the model of `config` (Tokenizer::ForModel). Throws if it has ids that the config's
// vocabulary lacks; fewer are common, since embeddings are often padded.
Tokenizer LoadTokenizer(const std::filesystem::path& dir, const ModelConfig& config);

// Writes the files into an existing directory; the weights as the master holds them, in one file.
void WriteModelFiles(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer,
                     const SideFiles& side_files = {});

}  // namespace swarr
