// SPDX-License-Identifier: Apache-2.0
#include "model/weight_files.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/files.h"
#include "base/utf8.h"
#include "model/parameters.h"
#include "tensor/memory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
// Elements that are read at a time.
constexpr std::int64_t kBlock = 1 << 16;

// A name of a file in the index's own directory, and of no other kind of file.
void CheckShardName(const std::string& name, const std::string& where) {
  const bool plain = name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos && !name.starts_with('.');
  SWARR_CHECK(plain && name.ends_with(".safetensors"), where, ": weight_map names the file ",
              Excerpt(json(name).dump()),
              "; a shard must be a .safetensors file in the same directory, named without a path");
}

// weight_map of the index, each value a shard's name.
std::map<std::string, std::string> ReadWeightMap(const fs::path& index) {
  const std::string where = index.string();
  const auto content = ParseJson<json>(ReadFile(index, kMostJsonBytes), where);
  SWARR_CHECK(content.is_object() && content.contains("weight_map") && content["weight_map"].is_object() &&
                  !content["weight_map"].empty(),
              where, " has no weight_map from tensors to files");
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : content["weight_map"].items()) {
    SWARR_CHECK(file.is_string(), where, ": weight_map gives ", Excerpt(file.dump()), " for ", Excerpt(tensor),
                " where a file name is needed");
    map[tensor] = file.get<std::string>();
    CheckShardName(map[tensor], where);
  }
  return map;
}

// Not a parameter: transformers computes the frequencies from config.json, and so does this program.
bool IsRotaryBuffer(const std::string& name) { return name.ends_with("rotary_emb.inv_freq"); }

std::string ShapeText(const std::vector<std::int64_t>& shape) { return json(shape).dump(); }

std::string LowerCase(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// Whether two tensors of the same shape hold the same numbers, whatever their dtypes.
bool SameNumbers(const SafetensorsFile& file_a, const char* a, const SafetensorsFile& file_b, const char* b) {
  const std::int64_t size = file_a.shape(a)[0] * file_a.shape(a)[1];
  const OwnedTensor block_a(DType::kF64, {std::min(kBlock, size)}), block_b(block_a.view());
  for (std::int64_t at = 0; at < size; at += kBlock) {
    const std::int64_t n = std::min(kBlock, size - at);
    const Tensor part_a = block_a.view().Rows(0, n), part_b = block_b.view().Rows(0, n);
    file_a.ReadAs(a, at, part_a);
    file_b.ReadAs(b, at, part_b);
    if (std::memcmp(part_a.raw(), part_b.raw(), part_a.bytes()) != 0) return false;
  }
  return true;
}

// Values of f32 that are NaN or infinite in bf16.
std::int64_t CountNonFiniteInBF16(const Tensor& t) {
  const float* x = t.data<float>();
  return std::count_if(x, x + t.size(), [](float value) { return !std::isfinite(float(BFloat16(value))); });
}

}  // namespace

WeightFiles::WeightFiles(const fs::path& dir) : where_((dir / kWeightsFile).string()) {
  std::error_code ignored;
  if (!fs::exists(dir / kWeightsFile, ignored) && fs::exists(dir / kIndexFile, ignored)) {
    OpenShards(dir);
    return;
  }
  SWARR_CHECK(fs::exists(dir / kWeightsFile, ignored), dir.string(), " holds neither ", kWeightsFile, " nor ",
              kIndexFile, "; other formats must be converted to safetensors");
  file_names_ = {kWeightsFile};
  const SafetensorsFile& file = files_.emplace(kWeightsFile, dir / kWeightsFile).first->second;
  for (const std::string& name : file.names()) file_of_[name] = kWeightsFile;
}

void WeightFiles::OpenShards(const fs::path& dir) {
  where_ = (dir / kIndexFile).string();
  file_names_ = {kIndexFile};
  file_of_ = ReadWeightMap(dir / kIndexFile);
  for (const auto& [tensor, shard] : file_of_) {
    if (files_.contains(shard)) continue;
    file_names_.push_back(shard);
    const SafetensorsFile& file = files_.emplace(shard, dir / shard).first->second;
    for (const std::string& name : file.names()) {
      const auto listed = file_of_.find(name);
      SWARR_CHECK(listed != file_of_.end(), where_, " does not list the tensor ", Excerpt(name), ", which ",
                  Excerpt(shard), " holds");
      SWARR_CHECK(listed->second == shard, where_, " says that ", Excerpt(listed->second), " holds the tensor ",
                  Excerpt(name), ", but ", Excerpt(shard), " does");
    }
  }
  for (const auto& [tensor, shard] : file_of_) {
    SWARR_CHECK(files_.at(shard).Contains(tensor), where_, " says that ", Excerpt(shard), " holds the tensor ",
                Excerpt(tensor), ", but it does not");
  }
}

const SafetensorsFile& WeightFiles::FileOf(const std::string& name) const {
  const auto found = file_of_.find(name);
  SWARR_CHECK(found != file_of_.end(), where_, " has no tensor ", name, ", which config.json asks for");
  return files_.at(found->second);
}

void WeightFiles::Check(const ModelConfig& config) const {
  std::set<std::string> expected;
  for (const ParameterShape& p : ParameterShapes(config)) {
    const SafetensorsFile& file = FileOf(p.name);
    SWARR_CHECK(file.shape(p.name) == p.shape, where_, ": the tensor ", p.name, " is ",
                Excerpt(ShapeText(file.shape(p.name))), " where config.json asks for ", ShapeText(p.shape));
    SWARR_CHECK(file.IsFloating(p.name), where_, ": the tensor ", p.name, " is ", LowerCase(file.stored_dtype(p.name)),
                "; weights are read as f32, bf16, f16 or f64");
    expected.insert(p.name);
  }
  if (config.tied && file_of_.contains(kHead)) {
    CheckHead();
    expected.insert(kHead);
  }
  for (const auto& [name, file] : file_of_) {
    SWARR_CHECK(expected.contains(name) || IsRotaryBuffer(name), where_, " holds a tensor ", Excerpt(name),
                " that the model of config.json does not have");
  }
}

void WeightFiles::CheckHead() const {
  const SafetensorsFile &head = FileOf(kHead), &embedding = FileOf(kEmbedding);
  SWARR_CHECK(head.shape(kHead) == embedding.shape(kEmbedding) && head.IsFloating(kHead) &&
                  SameNumbers(head, kHead, embedding, kEmbedding),
              where_, ": ", kHead, " differs from the embedding, but config.json ties them (tie_word_embeddings)");
}

std::string WeightFiles::dtype() const { return LowerCase(FileOf(kEmbedding).stored_dtype(kEmbedding)); }

void WeightFiles::Read(const std::string& name, const Tensor& to, DType values) const {
  FileOf(name).ReadAs(name, 0, to);
  const std::int64_t count =
      values == DType::kBF16 && to.dtype() == DType::kF32 ? CountNonFiniteInBF16(to) : swarr::CountNonFinite(to);
  if (count > 0) RefuseNonFinite(name, count, 0, Concat(" in ", Name(values)));
}

std::map<std::string, std::int64_t> WeightFiles::CountNonFinite(const ModelConfig& config) const {
  std::map<std::string, std::int64_t> counts;
  const OwnedTensor block(DType::kF64, {kBlock});
  for (const ParameterShape& p : ParameterShapes(config)) {
    const SafetensorsFile& file = FileOf(p.name);
    std::int64_t size = 1, count = 0;
    for (const std::int64_t n : p.shape) size *= n;
    for (std::int64_t at = 0; at < size; at += kBlock) {
      const Tensor part = block.view().Rows(0, std::min(kBlock, size - at));
      file.ReadAs(p.name, at, part);
      count += swarr::CountNonFinite(part);
    }
    if (count > 0) counts[p.name] = count;
  }
  return counts;
}

void WeightFiles::CheckFinite(const ModelConfig& config) const {
  const std::map<std::string, std::int64_t> counts = CountNonFinite(config);
  if (!counts.empty()) RefuseNonFinite(counts.begin()->first, counts.begin()->second, counts.size() - 1);
}

void WeightFiles::RefuseNonFinite(const std::string& name, std::int64_t count, std::size_t others,
                                  const std::string& in_dtype) const {
  const std::string more = others == 0 ? "" : Concat(" (and ", others, others == 1 ? " tensor" : " tensors", " more)");
  throw Error(Concat(where_, ": ", count, count == 1 ? " value" : " values", " of the tensor ", Excerpt(name),
                     count == 1 ? " is" : " are", " NaN or infinite", in_dtype, more,
                     "; fetch or write the weights again, or take an earlier checkpoint"));
}

}  // namespace swarr
