// SPDX-License-Identifier: Apache-2.0
#include "train/requirements.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>

#include "attn/attention.h"
#include "base/check.h"
#include "model/decoder.h"
#include "model/parameters.h"
#include "tensor/device_memory.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
constexpr int kPrefillChunk = 16;      // of every Decoder that a command makes
constexpr std::size_t kMostNamed = 4;  // parts in a sentence

std::int64_t SizeOfSum(DType dtype) { return static_cast<std::int64_t>(SizeOf(AccumulatorOf(dtype))); }
std::int64_t SizeOfValue(DType dtype) { return static_cast<std::int64_t>(SizeOf(dtype)); }

// "1.50 GB", 10^9 bytes; what is beyond measure is "more than 9e18 bytes".
std::string Shown(std::int64_t bytes) {
  if (bytes == kLargest) return "more than 9e18 bytes";
  double value = static_cast<double>(bytes);
  const char* unit = "bytes";
  for (const char* larger : {"kB", "MB", "GB", "TB", "PB", "EB"}) {
    if (value < 1000) break;
    value /= 1000;
    unit = larger;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.*f %s", bytes < 1000 ? 0 : 2, value, unit);
  return text;
}

MemoryPart Whole(const std::string& name, std::int64_t bytes) {
  return {.name = name, .asked = bytes, .written = bytes};
}

// Elements of one row of a block (autograd/blocks.h): those that its forward leaves, in the model's dtype and in that
// of sums, and those that it or its backward takes for a while, in the model's dtype.
struct RowSize {
  std::int64_t left, left_sums, in_forward, in_backward;
};
RowSize BlockRow(const ModelConfig& c) {
  const std::int64_t C = c.hidden, F = c.ffn, q = std::int64_t{c.heads} * c.head_dim,
                     kv = std::int64_t{c.kv_heads} * c.head_dim;
  const std::int64_t projected = q + 2 * kv, attended = q, results = 2 * C;
  const std::int64_t normed_heads = c.qk_norm ? q + kv : 0, norms = c.qk_norm ? c.heads + c.kv_heads : 0;
  const std::int64_t attention_backward = attended + projected + normed_heads + 2 * C,
                     feed_forward_backward = 3 * F + 2 * C;
  return {.left = projected + normed_heads + attended + results + 2 * F,
          .left_sums = 2 + c.heads + norms,
          .in_forward = F,
          .in_backward = std::max(attention_backward, feed_forward_backward)};
}

std::int64_t StepBytes(const ModelConfig& config, DType dtype, std::int64_t rows, std::int64_t scored, PassKind pass,
                       const ModelConfig* teacher) {
  constexpr std::int64_t kChunk = 1024;  // rows whose logits are held at a time; a device holds more
  const std::int64_t size = SizeOfValue(dtype), sum = SizeOfSum(dtype), C = config.hidden, layers = config.layers;
  const std::int64_t value = size * (pass == PassKind::kForward ? 1 : 2);  // with its gradient
  const RowSize row = BlockRow(config);
  const std::int64_t block = Sum({Product({rows, row.left, size}), Product({rows, row.left_sums, sum})});
  // Where the gradient of logits is rounded, it is a tensor of its own.
  const bool rounds = pass != PassKind::kForward && size != sum;
  const std::int64_t logit = (teacher ? 2 : 1) * sum + (rounds ? size : 0);
  const std::int64_t logits = Product({std::min(scored, kChunk), config.vocab, logit});
  const std::int64_t taught = teacher ? Product({rows, teacher->hidden, size}) : 0;
  // Embedding and last norm; log p, its normaliser and the entropy.
  const std::int64_t ends = Sum({Product({rows, 2 * C, value}), Product({scored, 4, sum}), taught});
  const std::int64_t in_backward = Product({rows, row.in_backward, size});
  switch (pass) {
    case PassKind::kTraining:
      return Sum({Product({layers, block}), ends, std::max(logits, in_backward)});
    case PassKind::kForward:  // the blocks' results, and one block, which holds its own, or the logits at a time
      return Sum({Product({layers - 1, rows, C, value}), ends,
                  std::max(Sum({block, Product({rows, row.in_forward, size})}), logits)});
    case PassKind::kCheckpointedTraining:  // the same, but the block's result is computed again beside the first
      return Sum({Product({layers, rows, C, value}), ends, std::max(Sum({block, in_backward}), logits)});
  }
  throw Error("there is no such pass");
}

// What the products of decoding read: all matrices but an embedding that is no head.
std::int64_t PackedElements(const ModelConfig& config) {
  std::int64_t sum = 0;
  for (const ParameterShape& s : ParameterShapes(config)) sum += s.shape.size() == 2 ? s.size() : 0;
  return config.tied ? sum : sum - std::int64_t{config.vocab} * config.hidden;
}

// Bytes of one sequence's keys and values, in all layers.
std::int64_t CacheBytes(const ModelConfig& c, DType dtype, int length, int chunk) {
  std::size_t sum = 0;
  for (const AttentionSpec& s : c.attention) sum += KeyCacheBytes(dtype, c.kv_heads, c.head_dim, s, length, chunk);
  return static_cast<std::int64_t>(sum);
}

std::int64_t BytesUnder(const MemoryRoom& room, const MemoryPart& part) {
  return room.counts_unwritten ? part.asked : part.written;
}

// The remedy: the value of the option of the largest part that has one at which all parts fit, as far as is known.
std::string Remedy(const std::vector<MemoryPart>& sorted, const MemoryRoom& room, std::int64_t total) {
  for (const MemoryPart& part : sorted) {
    if (part.option.empty() || BytesUnder(room, part) == 0) continue;
    const std::int64_t bytes = BytesUnder(room, part), others = total == kLargest ? 0 : total - bytes;
    const double share = static_cast<double>(room.bytes - others) / static_cast<double>(bytes);
    const auto fits = static_cast<std::int64_t>(share * static_cast<double>(part.value));
    if (others < room.bytes && fits >= 1) return Concat(part.option, " can be at most ", fits, " here");
    return Concat("even ", part.option, " 1 would not fit");
  }
  return "a smaller model is needed";
}

void CheckRoom(std::vector<MemoryPart> parts, const MemoryRoom& room) {
  std::int64_t total = 0;
  for (const MemoryPart& part : parts) total = Sum({total, BytesUnder(room, part)});
  if (total <= room.bytes) return;
  std::ranges::stable_sort(parts, std::ranges::greater(), [&](const auto& part) { return BytesUnder(room, part); });
  std::string named;
  for (std::size_t i = 0; i < std::min(parts.size(), kMostNamed); ++i) {
    named += Concat(i > 0 ? ", " : "", parts[i].name, " ", Shown(BytesUnder(room, parts[i])));
  }
  throw Error(Concat("not enough memory: at least ", Shown(total), " are needed (", named,
                     parts.size() > kMostNamed ? " and less" : "", ") and ", room.source, " leaves ", Shown(room.bytes),
                     "; ", Remedy(parts, room, total)));
}

// Bytes that come to the disk at most, beside what stands there, if so many checkpoints are kept. A new one is whole
// before an old one goes; the model comes last.
std::int64_t PeakBytes(const DiskNeeds& n, std::int64_t keep) {
  const std::int64_t all = Sum({n.standing, n.saves});
  const std::int64_t writing = std::max(std::min(keep + 1, all) - n.standing, std::min<std::int64_t>(n.saves, 1));
  const std::int64_t kept = n.saves > 0 ? std::max<std::int64_t>(std::min(keep, all) - n.standing, 0) : 0;
  return std::max(Product({writing, n.checkpoint}), Sum({Product({kept, n.checkpoint}), n.model}));
}

}  // namespace

std::int64_t Product(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  bool overflows = false;
  for (const std::int64_t factor : factors) {
    if (factor == 0) return 0;
    overflows |= __builtin_mul_overflow(product, factor, &product);
  }
  return overflows ? kLargest : product;
}

std::int64_t Sum(std::initializer_list<std::int64_t> terms) {
  std::int64_t sum = 0;
  for (const std::int64_t term : terms) {
    if (__builtin_add_overflow(sum, term, &sum)) return kLargest;
  }
  return sum;
}

std::vector<MemoryPart> ModelParts(const ModelConfig& config, DType dtype, bool trained, const std::string& of) {
  const std::int64_t count = ParameterCount(config), sum = SizeOfSum(dtype);
  std::vector<MemoryPart> parts = {Whole("weights" + of, Product({count, SizeOfValue(dtype)}))};
  if (AccumulatorOf(dtype) != dtype) parts.push_back(Whole("f32 master weights" + of, Product({count, sum})));
  parts.push_back(Whole("RoPE table" + of, Product({config.max_positions, config.head_dim, sum})));
  if (trained) {
    parts.push_back(Whole("gradients", Product({count, sum})));
    parts.push_back(Whole("moments", Product({2, count, sum})));
  }
  return parts;
}

MemoryPart StepPart(const ModelConfig& config, DType dtype, std::int64_t rows, PassKind pass,
                    const ModelConfig* teacher) {
  return Whole("activations", StepBytes(config, dtype, rows, rows, pass, teacher));
}
MemoryPart StepPart(const ModelConfig& config, DType dtype, std::int64_t rows, std::int64_t scored, PassKind pass) {
  return Whole("activations", StepBytes(config, dtype, rows, scored, pass, /*teacher=*/nullptr));
}

std::vector<MemoryPart> DecodeParts(const ModelConfig& config, DType dtype, Device device, const DecodeSize& size) {
  const auto cache = [&](std::int64_t slots, int length, int chunk) {
    return Product({slots, CacheBytes(config, dtype, length, chunk)});
  };
  const std::int64_t slots = size.slots > 0 ? size.slots : device == Device::kCpu ? kHostSlots : 1;
  // A sequence writes at least the tiles of its first token.
  std::vector<MemoryPart> parts = {{.name = "key/value cache",
                                    .asked = cache(slots, size.max_length, kPrefillChunk),
                                    .written = cache(std::min(slots, size.requests), 1, 1),
                                    .option = size.option,
                                    .value = size.slots > 0 ? size.value : slots}};
  if (device == Device::kCpu) {
    parts.push_back(Whole("packed weights", Product({PackedElements(config), SizeOfValue(dtype)})));
  }
  return parts;
}

MemoryPart CompletionsPart(std::int64_t count, std::int64_t bytes, const std::string& option, std::int64_t value) {
  const std::int64_t tokens = sizeof(std::int32_t) * 2 + sizeof(double);  // one of each, and its log-probability
  const std::int64_t all = Product({count, bytes + tokens});
  return {
      .name = "sampled completions", .asked = all, .written = all, .option = option, .value = value, .on_host = true};
}

AvailableMemory::AvailableMemory(Device device, const fs::path& root) : host_(HostMemoryRooms(root)) {
  if (device == Device::kCuda) {
    device_ = {{.bytes = FreeCudaBytes(), .source = "the CUDA device", .counts_unwritten = true}};
  }
}

void AvailableMemory::Check(std::span<const MemoryPart> parts) const {
  std::vector<MemoryPart> on_host, on_device;
  for (const MemoryPart& part : parts) (part.on_host || device_.empty() ? on_host : on_device).push_back(part);
  for (const MemoryRoom& room : host_) CheckRoom(on_host, room);
  for (const MemoryRoom& room : device_) CheckRoom(on_device, room);
}

DiskNeeds TrainingDisk(const ModelConfig& config, DType dtype, const fs::path& dir, std::int64_t steps,
                       std::int64_t save_every, std::int64_t keep, bool resumes) {
  const std::int64_t model = Product({ParameterCount(config), SizeOfSum(dtype)});
  DiskNeeds needs{.model = model, .checkpoint = Product({3, model}), .keep = keep};
  std::int64_t last = 0;  // the step of the latest checkpoint
  if (resumes && fs::is_directory(dir)) {
    const std::string prefix = "checkpoint-";
    for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
      const std::string name = entry.path().filename().string();
      std::int64_t step = 0;
      if (!name.starts_with(prefix)) continue;
      std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
      last = std::max(last, step);
      ++needs.standing;
    }
  }
  if (save_every > 0) needs.saves = std::max<std::int64_t>(steps / save_every - last / save_every, 0);
  return needs;
}

void CheckDisk(const DiskNeeds& needs, std::int64_t free, const fs::path& dir) {
  const std::int64_t wanted = PeakBytes(needs, needs.keep);
  if (wanted <= free) return;
  std::int64_t fits = 0, too_many = needs.keep;  // checkpoints
  while (too_many - fits > 1) {
    const std::int64_t middle = fits + (too_many - fits) / 2;
    (PeakBytes(needs, middle) <= free ? fits : too_many) = middle;
  }
  const std::string remedy =
      fits > 0 ? Concat("--keep-checkpoints can be at most ", fits, " here")
               : Concat(Shown(PeakBytes(needs, 1) - free), " more are needed even with ", "--keep-checkpoints 1");
  throw Error(Concat("not enough disk for ", dir.string(), ": checkpoints of ", Shown(needs.checkpoint),
                     " and a model of ", Shown(needs.model), " need up to ", Shown(wanted), " and ", Shown(free),
                     " are free; ", remedy));
}

std::int64_t FreeDiskBytes(const fs::path& dir) {
  std::error_code error;
  fs::path there = fs::absolute(dir, error);
  while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  struct statvfs disk {};
  if (::statvfs(there.c_str(), &disk) != 0) return kLargest;  // who can't tell sets no limit
  return Product({static_cast<std::int64_t>(disk.f_bavail), static_cast<std::int64_t>(disk.f_frsize)});
}

}  // namespace swarr
