// SPDX-License-Identifier: Apache-2.0
// What a command needs of memory and disk, by name, compared with what there is before anything large is allocated.
//
// No estimate exceeds what is used, so that nothing is refused that would run. Weights, gradients, moments and caches
// are counted exactly. Activations are those that the pass keeps, without the scratch of its ops: nine tenths of the
// arena's high-water mark or more at usual shapes (docs/architecture.md), less where the logits of a large vocabulary
// are most of it. What can't be known beforehand is taken at its least: a sampled completion has one token.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "tensor/device.h"
#include "tensor/tensor.h"
#include "train/memory_room.h"

namespace swarr {

// The most documents, completions, slots and so on that may be asked for at a time: far above what any run uses. The
// product of three fits an int64, and sixteen times one an int.
constexpr int kMostCount = 1 << 20;
// The most steps of a run. Noise is drawn by 32-bit numbers of steps.
constexpr std::int64_t kMostSteps = (std::int64_t{1} << 32) - 1;

// Products and sums of numbers from 0 on. What exceeds an int64 is the largest int64.
std::int64_t Product(std::initializer_list<std::int64_t> factors);
std::int64_t Sum(std::initializer_list<std::int64_t> terms);

// Something that a command holds in memory.
struct MemoryPart {
  std::string name;
  std::int64_t asked = 0;    // bytes asked of the system
  std::int64_t written = 0;  // of these, the bytes that are certainly written
  // The flag that it grows with, and that flag's value; empty if there is none.
  std::string option{};
  std::int64_t value = 0;
  bool on_host = false;  // in the processor's memory even where a device computes
};

// Weights, in bf16 their f32 master too, and the table of RoPE; gradients and moments if the model is trained. `of`
// ends the names.
std::vector<MemoryPart> ModelParts(const ModelConfig& config, DType dtype, bool trained, const std::string& of = "");

// What a pass over rows of packed documents keeps in step memory. With a `teacher` the pass is one of distillation, for
// which its hidden states are kept too, and its logits beside the model's.
enum class PassKind : std::uint8_t { kForward, kTraining, kCheckpointedTraining };
MemoryPart StepPart(const ModelConfig& config, DType dtype, std::int64_t rows, PassKind pass,
                    const ModelConfig* teacher = nullptr);
// The same where `scored` of the rows alone go through the head.
MemoryPart StepPart(const ModelConfig& config, DType dtype, std::int64_t rows, std::int64_t scored, PassKind pass);

// Decoding of `requests` sequences of up to max_length tokens, `slots` at a time, in one slot's share for each
// `option`.
struct DecodeSize {
  std::int64_t slots = 1, requests = 1;  // 0 slots: as many as SlotsFor says (model/decoder.h), at least one
  int max_length = 0;
  std::string option = "--slots";
  std::int64_t value = 1;
};
// The key/value cache, and on the processor the packed weights.
std::vector<MemoryPart> DecodeParts(const ModelConfig& config, DType dtype, Device device, const DecodeSize& size);

// `count` sampled completions, held by the processor. Each is at least an object of `bytes`, the tokens of its prompt
// and one of its own.
MemoryPart CompletionsPart(std::int64_t count, std::int64_t bytes, const std::string& option, std::int64_t value);

class AvailableMemory {
 public:
  // Looks at what there is, so make one before anything large is allocated. `root` is as in HostMemoryRooms.
  explicit AvailableMemory(Device device, const std::filesystem::path& root = "/");

  // Throws Error if the parts together exceed a limit. The sentence names the largest of them, the limit, and what
  // would fit.
  void Check(std::span<const MemoryPart> parts) const;

 private:
  std::vector<MemoryRoom> host_, device_;  // device_ is empty on the processor
};

// The files of a training run.
struct DiskNeeds {
  std::int64_t model = 0, checkpoint = 0;  // bytes of each
  std::int64_t keep = 1;                   // --keep-checkpoints
  std::int64_t saves = 0;                  // checkpoints still to be written
  std::int64_t standing = 0;               // checkpoints that are there already
};
// For a run of `steps` steps with a checkpoint every save_every (0: none) into `dir`. If it resumes, the checkpoints in
// `dir` are taken as they are. Completions and logs are not counted: how long they get, nobody knows.
DiskNeeds TrainingDisk(const ModelConfig& config, DType dtype, const std::filesystem::path& dir, std::int64_t steps,
                       std::int64_t save_every, std::int64_t keep, bool resumes);
// Throws Error if this exceeds `free` bytes, naming `dir` and what would fit.
void CheckDisk(const DiskNeeds& needs, std::int64_t free, const std::filesystem::path& dir);
// Bytes that the file system of `dir`, which need not exist yet, has left for this user. A quota is not seen.
std::int64_t FreeDiskBytes(const std::filesystem::path& dir);

}  // namespace swarr
