// SPDX-License-Identifier: Apache-2.0
// From full attention to a sliding window: a new config.json beside the same weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attn/spec.h"
#include "base/directories.h"

namespace swarr {

// `spec` for every layer but those in `full_layers` (counted from 0), which keep full attention. Throws UsageError if a
// layer does not exist or is named twice, or if spec.window < 1 or spec.sinks < 0.
std::vector<AttentionSpec> WindowedAttention(int layers, AttentionSpec spec, const std::vector<int>& full_layers);

// Every `every`-th of the layers, as Gemma 3 and gpt-oss count: layer i, from 0, if (i + 1) % every == 0. Throws
// UsageError if these are none of the layers or all.
std::vector<int> EveryLayer(int layers, int every);

// Writes the model of directory `from` to `to` with this attention, one spec a layer: weights, tokenizer and other side
// files (model_files.h) byte for byte, config.json with the new attention, and `more` files beside them (name to
// content). The tokenizer need not be one that this program can read. `to` appears when it is complete and, unless
// `existing` says otherwise, replaces a model that stands there. With `learned_sinks` the model gets a learned sink of
// this value for every query head of every layer, in one more file of weights; an index beside it then names the file
// of each tensor. Throws if `from` is damaged, weights that are NaN or infinite included, if `to` is `from`, or if
// `from` has learned sinks already or is of a kind to which no Hugging Face model type gives them. Needs little memory.
// on_progress(done, total) is told of the bytes that are copied.
void ConvertModel(const std::filesystem::path& from, const std::vector<AttentionSpec>& attention,
                  const std::filesystem::path& to, const std::map<std::string, std::string>& more = {},
                  std::optional<double> learned_sinks = {}, Existing existing = Existing::kReplaced,
                  const std::function<void(std::int64_t, std::int64_t)>& on_progress = {});

}  // namespace swarr
