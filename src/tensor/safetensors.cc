// SPDX-License-Identifier: Apache-2.0
#include "tensor/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "base/check.h"
#include "base/utf8.h"
#include "tensor/memory.h"
#include "tensor/ops.h"

namespace swarr {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are copied as they lie in the file");

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's limit
constexpr const char* kMetadata = "__metadata__";

// All element types of the format, and ours for those that a Tensor can hold.
struct Element {
  std::string_view name;
  std::uint64_t bits;
  std::optional<DType> dtype = std::nullopt;
};
constexpr auto kElements = std::to_array<Element>({
    {"BOOL", 8},
    {"F4", 4},
    {"F6_E2M3", 6},
    {"F6_E3M2", 6},
    {"U8", 8},
    {"I8", 8},
    {"F8_E4M3", 8},
    {"F8_E5M2", 8},
    {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8},
    {"I16", 16},
    {"U16", 16},
    {"F16", 16},
    {"BF16", 16, DType::kBF16},
    {"I32", 32, DType::kI32},
    {"U32", 32},
    {"F32", 32, DType::kF32},
    {"C64", 64},
    {"F64", 64, DType::kF64},
    {"I64", 64},
    {"U64", 64},
});

const Element* FindElement(std::string_view name) {
  const auto* found =
      std::find_if(kElements.begin(), kElements.end(), [&](const Element& e) { return e.name == name; });
  return found == kElements.end() ? nullptr : found;
}

std::string_view NameInFile(DType dtype) {
  const auto* found =
      std::find_if(kElements.begin(), kElements.end(), [&](const Element& e) { return e.dtype == dtype; });
  SWARR_CHECK(found != kElements.end(), "safetensors files can't hold ", Name(dtype));
  return found->name;
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (std::int64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return Excerpt("[" + text + "]");
}

std::vector<std::int64_t> ShapeOf(const Tensor& t) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < t.rank(); ++i) shape.push_back(t.dim(i));
  return shape;
}

constexpr std::string_view kHalf = "F16";

}  // namespace

// Turns the header's JSON into entries, one field after the other.
struct SafetensorsFile::HeaderReader {
  const std::string& path;

  Entry ReadEntry(const std::string& name, const json& value) const {
    const std::string where = Concat(path, ": tensor '", Excerpt(name), "'");
    SWARR_CHECK(value.is_object(), where, " is described by no JSON object");
    Entry entry;
    const json& dtype = Field(value, "dtype", where);
    SWARR_CHECK(dtype.is_string() && FindElement(dtype.get<std::string>()) != nullptr, where, " has the unknown dtype ",
                Excerpt(dtype.dump()));
    entry.dtype = dtype.get<std::string>();
    for (std::uint64_t n : Naturals(Field(value, "shape", where), where, "shape")) {
      entry.shape.push_back(static_cast<std::int64_t>(n));
    }
    const auto offsets = Naturals(Field(value, "data_offsets", where), where, "data_offsets");
    SWARR_CHECK(offsets.size() == 2, where, " has ", offsets.size(),
                " data_offsets where a begin and an end are needed");
    entry.begin = offsets[0];
    entry.end = offsets[1];
    CheckSize(entry, where);
    return entry;
  }

  std::map<std::string, std::string> ReadMetadata(const json& value) const {
    SWARR_CHECK(value.is_object(), path, ": ", kMetadata, " is no JSON object");
    std::map<std::string, std::string> metadata;
    for (const auto& [key, text] : value.items()) {
      SWARR_CHECK(text.is_string(), path, ": the entry '", Excerpt(key), "' of ", kMetadata, " is no string");
      metadata[key] = text.get<std::string>();
    }
    return metadata;
  }

  static const json& Field(const json& value, const char* field, const std::string& where) {
    const auto found = value.find(field);
    SWARR_CHECK(found != value.end(), where, " has no field '", field, "'");
    return *found;
  }

  static std::vector<std::uint64_t> Naturals(const json& value, const std::string& where, const char* field) {
    SWARR_CHECK(value.is_array(), where, ": ", field, " is no JSON array");
    std::vector<std::uint64_t> numbers;
    for (const json& n : value) {
      constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
      SWARR_CHECK(n.is_number_unsigned() && n.get<std::uint64_t>() <= kMax, where, ": ", field, " holds ",
                  Excerpt(n.dump()), " where an integer from 0 to 2^63 - 1 is needed");
      numbers.push_back(n.get<std::uint64_t>());
    }
    return numbers;
  }

  static void CheckSize(const Entry& entry, const std::string& where) {
    std::uint64_t bits = FindElement(entry.dtype)->bits;
    for (std::int64_t n : entry.shape) {
      const bool overflows = __builtin_mul_overflow(bits, static_cast<std::uint64_t>(n), &bits);
      SWARR_CHECK(!overflows, where, " of shape ", ShapeText(entry.shape),
                  " has more bits than 64-bit numbers can count");
    }
    SWARR_CHECK(bits % 8 == 0, where, " of ", entry.dtype, " and shape ", ShapeText(entry.shape),
                " fills no whole bytes");
    SWARR_CHECK(entry.begin <= entry.end, where, " ends at byte ", entry.end, ", before it begins at ", entry.begin);
    SWARR_CHECK(entry.end - entry.begin == bits / 8, where, " of ", entry.dtype, " and shape ", ShapeText(entry.shape),
                " needs ", bits / 8, " bytes, but its data_offsets span ", entry.end - entry.begin);
  }
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path.string()), file_(path) {
  SWARR_CHECK(file_.size() >= kLengthBytes, path_, ": ", file_.size(), " bytes are too few for a safetensors file");
  std::uint64_t length = 0;
  file_.ReadAt(0, &length, kLengthBytes);
  SWARR_CHECK(length <= kMaxHeaderBytes, path_, ": a header of ", length,
              " bytes is announced, more than the format allows; this is no safetensors file or a damaged one");
  SWARR_CHECK(length <= file_.size() - kLengthBytes, path_, ": a header of ", length, " bytes is announced, but only ",
              file_.size() - kLengthBytes, " follow; the file is truncated: fetch or write it again");
  data_start_ = kLengthBytes + length;
  std::string text(length, '\0');
  file_.ReadAt(kLengthBytes, text.data(), text.size());

  const auto header = ParseJson<json>(text, path_ + ": header");
  SWARR_CHECK(header.is_object(), path_, ": the header is no JSON object");
  const HeaderReader reader{path_};
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadata) {
      metadata_ = reader.ReadMetadata(value);
    } else {
      entries_.emplace(name, reader.ReadEntry(name, value));
    }
  }
  CheckLayout();
}

// The tensors must tile the bytes behind the header: no byte belongs to two of them, or to none.
void SafetensorsFile::CheckLayout() const {
  using Item = std::pair<const std::string, Entry>;
  std::vector<const Item*> order;
  for (const Item& item : entries_) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
    return std::tie(a->second.begin, a->second.end) < std::tie(b->second.begin, b->second.end);
  });
  std::uint64_t end = 0;
  const Item* previous = nullptr;
  for (const Item* item : order) {
    const std::uint64_t begin = item->second.begin;
    SWARR_CHECK(begin >= end, path_, ": tensors '", Excerpt(previous->first), "' and '", Excerpt(item->first),
                "' overlap");
    SWARR_CHECK(begin == end, path_, ": the ", begin - end, " bytes before tensor '", Excerpt(item->first),
                "' belong to no tensor");
    end = item->second.end;
    previous = item;
  }
  const std::uint64_t available = file_.size() - data_start_;
  SWARR_CHECK(end <= available, path_, ": the tensors need ", end, " bytes, but only ", available,
              " follow the header; the file is truncated: fetch or write it again");
  SWARR_CHECK(end == available, path_, ": ", available - end, " bytes after the last tensor belong to no tensor");
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const SafetensorsFile::Entry& SafetensorsFile::Find(std::string_view name) const {
  const auto found = entries_.find(name);
  SWARR_CHECK(found != entries_.end(), path_, ": there is no tensor '", Excerpt(name), "'");
  return found->second;
}

DType SafetensorsFile::dtype(std::string_view name) const {
  const Entry& entry = Find(name);
  const std::optional<DType> dtype = FindElement(entry.dtype)->dtype;
  SWARR_CHECK(dtype.has_value(), path_, ": tensor '", Excerpt(name), "' is ", entry.dtype,
              ", which this version can't read; convert it to F32");
  return *dtype;
}

void SafetensorsFile::CopyTo(std::string_view name, const Tensor& to) const {
  const Entry& entry = Find(name);
  SWARR_CHECK(to.rank() > 0 && dtype(name) == to.dtype() && entry.shape == ShapeOf(to), path_, ": tensor '", name,
              "' is ", ShapeText(entry.shape), " ", Name(dtype(name)), " where ", to.ShapeString(), " is needed");
  file_.ReadAt(data_start_ + entry.begin, to.raw(), to.bytes());
}

bool SafetensorsFile::IsFloating(std::string_view name) const {
  const Entry& entry = Find(name);
  const std::optional<DType> dtype = FindElement(entry.dtype)->dtype;
  return entry.dtype == kHalf || (dtype.has_value() && *dtype != DType::kI32);
}

void SafetensorsFile::ReadAs(std::string_view name, std::int64_t first, const Tensor& to) const {
  const Entry& entry = Find(name);
  SWARR_CHECK(IsFloating(name), path_, ": tensor '", Excerpt(name), "' is ", entry.dtype,
              ", no floating-point type that this program reads; convert it to F32");
  const bool half = entry.dtype == kHalf;
  const std::size_t width = FindElement(entry.dtype)->bits / 8;
  const auto count = static_cast<std::int64_t>((entry.end - entry.begin) / width);
  SWARR_CHECK(first >= 0 && first <= count && to.size() <= count - first, path_, ": tensor '", Excerpt(name),
              "' of shape ", ShapeText(entry.shape), " has no elements ", first, " to ", first + to.size());
  constexpr std::int64_t kBlock = 1 << 16;
  const OwnedTensor raw(half ? DType::kF32 : *FindElement(entry.dtype)->dtype, {std::min(kBlock, to.size())});
  std::vector<std::uint16_t> halves(half ? static_cast<std::size_t>(raw.view().size()) : 0);
  const Tensor flat = to.Reshape({to.size()});
  for (std::int64_t at = 0; at < to.size(); at += kBlock) {
    const std::int64_t n = std::min(kBlock, to.size() - at);
    const std::uint64_t offset = data_start_ + entry.begin + static_cast<std::uint64_t>(first + at) * width;
    const Tensor block = raw.view().Rows(0, n);
    file_.ReadAt(offset, half ? static_cast<void*>(halves.data()) : block.raw(), static_cast<std::size_t>(n) * width);
    if (half) std::transform(halves.begin(), halves.begin() + n, block.data<float>(), HalfToFloat);
    CastForward({}, flat.Rows(at, at + n), block);
  }
}

std::vector<std::int64_t> SafetensorsFile::Integers(std::string_view name) const {
  const Entry& entry = Find(name);
  SWARR_CHECK(entry.dtype == "I32" || entry.dtype == "I64", path_, ": tensor '", Excerpt(name), "' is ", entry.dtype,
              ", no integers that this program reads; convert it to I32");
  const std::uint64_t offset = data_start_ + entry.begin, bytes = entry.end - entry.begin;
  if (entry.dtype == "I64") {
    std::vector<std::int64_t> integers(bytes / sizeof(std::int64_t));
    file_.ReadAt(offset, integers.data(), bytes);
    return integers;
  }
  std::vector<std::int32_t> integers(bytes / sizeof(std::int32_t));
  file_.ReadAt(offset, integers.data(), bytes);
  return {integers.begin(), integers.end()};
}

void WriteSafetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<NamedTensor> order = tensors;
  // Widest first; among equally wide dtypes in descending order of the format's own list, as the reference writer does.
  const auto rank = [](const NamedTensor& t) { return FindElement(NameInFile(t.tensor.dtype())) - kElements.data(); };
  std::sort(order.begin(), order.end(), [&](const NamedTensor& a, const NamedTensor& b) {
    return rank(a) != rank(b) ? rank(a) > rank(b) : a.name < b.name;
  });

  nlohmann::ordered_json header;
  header[kMetadata]["format"] = "pt";
  for (const auto& [key, text] : metadata) header[kMetadata][key] = text;
  std::vector<std::string_view> parts(2);
  std::uint64_t end = 0;
  for (const NamedTensor& t : order) {
    SWARR_CHECK(t.tensor.rank() > 0, path.string(), ": tensor '", t.name, "' has no shape and can't be written");
    SWARR_CHECK(!header.contains(t.name), path.string(), ": two tensors would have the name '", t.name, "'");
    const std::uint64_t begin = end;
    end += t.tensor.bytes();
    header[t.name] = {
        {"dtype", NameInFile(t.tensor.dtype())}, {"shape", ShapeOf(t.tensor)}, {"data_offsets", {begin, end}}};
    parts.emplace_back(static_cast<const char*>(t.tensor.raw()), t.tensor.bytes());
  }
  // Metadata may hold text from outside, such as a command line: what is no UTF-8 in it is replaced, not fatal.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');
  SWARR_CHECK(text.size() <= kMaxHeaderBytes, path.string(), ": too many tensors for one safetensors file");
  const std::uint64_t length = text.size();
  parts[0] = {reinterpret_cast<const char*>(&length), kLengthBytes};
  parts[1] = text;
  WriteFileAtomically(path, parts);
}

}  // namespace swarr
