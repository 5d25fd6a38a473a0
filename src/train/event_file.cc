// SPDX-License-Identifier: Apache-2.0
#include "train/event_file.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "train/run_files.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEventPrefix = "events.out.tfevents.";  // readers look for "tfevents" and sort by name

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  constexpr std::uint32_t kPolynomial = 0x82F63B78;  // Castagnoli's, its bits reversed
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) * kPolynomial);
    table[i] = crc;
  }
  return table;
}();

// The value's bytes, the least significant first, whatever the machine's order is.
template <class Unsigned>
std::string LittleEndian(Unsigned value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

// A record's checksum: rotated, so that the checksum of bytes that hold checksums stays a good one.
std::string Masked(std::string_view bytes) {
  const std::uint32_t crc = Crc32c(bytes);
  return LittleEndian((crc >> 15 | crc << 17) + 0xA282EAD8U);
}

std::string Framed(const std::string& event) {
  const std::string length = LittleEndian(std::uint64_t{event.size()});
  return length + Masked(length) + event + Masked(event);
}

// Protocol buffers: a field is its number and kind, then the value.
enum class Wire : std::uint8_t { kVarint = 0, k64 = 1, kBytes = 2, k32 = 5 };

std::string Varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string Key(std::uint64_t field, Wire wire) { return Varint(field << 3 | static_cast<std::uint64_t>(wire)); }
std::string Bytes(std::uint64_t field, const std::string& value) {
  return Key(field, Wire::kBytes) + Varint(value.size()) + value;
}
std::string Integer(std::uint64_t field, std::int64_t value) {
  return Key(field, Wire::kVarint) + Varint(static_cast<std::uint64_t>(value));
}

template <class Unsigned, class Float>
Unsigned BitsOf(Float value) {
  static_assert(sizeof(Unsigned) == sizeof(Float));
  Unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Event: wall_time = 1 (double), step = 2, and one of file_version = 3, summary = 5, session_log = 7.
std::string Event(std::int64_t step, const std::string& what) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return Framed(Key(1, Wire::k64) + LittleEndian(BitsOf<std::uint64_t>(now)) + Integer(2, step) + what);
}

// Summary.value = 1, repeated: tag = 1, simple_value = 2 (float).
std::string Scalar(const std::string& name, double value) {
  const auto bits = BitsOf<std::uint32_t>(static_cast<float>(value));
  return Bytes(1, Bytes(1, name) + Key(2, Wire::k32) + LittleEndian(bits));
}

// Names sort by the time at which the files were begun.
std::string NewName() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  char name[64];
  std::snprintf(name, sizeof name, "%010lld.%06lld.swarr", static_cast<long long>(microseconds / 1'000'000),
                static_cast<long long>(microseconds % 1'000'000));
  return std::string(kEventPrefix) + name;
}

}  // namespace

std::uint32_t Crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

bool IsEventFile(const std::string& name) { return name.starts_with(kEventPrefix); }

std::vector<fs::path> EventFilesOf(const fs::path& dir) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& e : fs::directory_iterator(dir)) {
    if (IsEventFile(e.path().filename().string())) files.push_back(e.path());
  }
  std::ranges::sort(files);
  return files;
}

EventFile::EventFile(const fs::path& dir, std::int64_t first_step) : path_(dir / NewName()) {
  std::string begin = Event(0, Bytes(3, "brain.Event:2"));
  const std::string start = Integer(1, 1);  // SessionLog.status = START
  if (first_step > 1) begin += Event(first_step, Bytes(7, start));
  Append(path_, begin);
}

void EventFile::Add(const nlohmann::ordered_json& row) const {
  std::string summary;
  for (const auto& [name, value] : row.items()) {
    if (!value.is_number() || name == "step") continue;
    summary += Scalar(name.starts_with("eval/") ? name : "train/" + name, value.get<double>());
  }
  Append(path_, Event(row.at("step").get<std::int64_t>(), Bytes(5, summary)));
}

}  // namespace swarr
