// SPDX-License-Identifier: Apache-2.0
// The safetensors format (huggingface/safetensors, README and safetensors/src/tensor.rs): 8 bytes little-endian header
// length N; N bytes JSON {name: {"dtype", "shape", "data_offsets": [begin, end)}, "__metadata__": {string: string}};
// then the tensors' bytes, row-major and little-endian, without holes; offsets count from the end of the header.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "tensor/tensor.h"

namespace swarr {

// A file open for reading. Nothing in it is believed: opening it makes every check of the format's reference reader,
// and refuses duplicate names besides; each failure is an Error with a sentence of its own, naming file and tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  std::vector<std::string> names() const;  // ascending
  bool Contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  // The format allows rank 0 (one element) and dimensions of 0. Throws if there is no such tensor, as do the next two.
  const std::vector<std::int64_t>& shape(std::string_view name) const { return Find(name).shape; }
  // The element type by the format's name, like "F16".
  const std::string& stored_dtype(std::string_view name) const { return Find(name).dtype; }
  // Throws if the tensor's dtype is one that Tensor does not have.
  DType dtype(std::string_view name) const;
  // Reads the tensor into `to`, which must have its dtype and shape.
  void CopyTo(std::string_view name, const Tensor& to) const;
  // Whether ReadAs can read it: F64, F32, BF16 or F16.
  bool IsFloating(std::string_view name) const;
  // Reads elements [first, first + to.size()), counted in row-major order, into `to`, rounding to its floating dtype.
  // It needs little memory of its own. Throws unless IsFloating and the tensor has these elements.
  void ReadAs(std::string_view name, std::int64_t first, const Tensor& to) const;

  // All elements of a tensor that is stored as I32 or I64. Throws if it is not.
  std::vector<std::int64_t> Integers(std::string_view name) const;

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    std::string dtype;  // the format's name
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0;  // bytes from the end of the header
    std::uint64_t end = 0;
  };
  struct HeaderReader;

  const Entry& Find(std::string_view name) const;
  void CheckLayout() const;

  std::string path_;
  InputFile file_;
  std::uint64_t data_start_ = 0;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// Writes the tensors, atomically (files.h), in the order of the reference writer: widest dtype first, then by name; the
// header is padded so that every tensor is aligned to its element. `metadata` is added to {"format": "pt"}, without
// which Hugging Face's loaders refuse a file.
void WriteSafetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

// The value of an element of dtype F16, IEEE 754 binary16, which nothing here computes in: 1 sign bit, 5 bits of
// exponent with bias 15, 10 of fraction. Every value is an f32, so this is exact; a NaN keeps its bits.
inline float HalfToFloat(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16, exponent = (half >> 10) & 0x1FU, fraction = half & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: fraction units of 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign == 0 ? magnitude : -magnitude;
  }
  constexpr std::uint32_t kSpecial = 0xFF, kBiasDifference = 127 - 15;
  const std::uint32_t wide = exponent == 0x1F ? kSpecial : exponent + kBiasDifference;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

}  // namespace swarr
