// SPDX-License-Identifier: Apache-2.0
#include "train/requirements.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "base/files.h"
#include "model/decoder.h"
#include "rl/rl.h"
#include "rl/rollout.h"
#include "temp_directory.h"
#include "tensor/memory_report.h"
#include "test_models.h"
#include "train/data.h"
#include "train/sft.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

// A made-up /proc and /sys.
class Root {
 public:
  void Write(const std::string& path, const std::string& text) const {
    fs::create_directories((dir_ / path).parent_path());
    WriteFileAtomically(dir_ / path, text);
  }
  std::vector<MemoryRoom> Rooms() const { return HostMemoryRooms(dir_.path()); }
  const fs::path& path() const { return dir_.path(); }

 private:
  TempDirectory dir_;
};

// The sentence with which these parts are refused; empty if they fit.
std::string Refusal(const Root& root, const std::vector<MemoryPart>& parts) {
  try {
    AvailableMemory(Device::kCpu, root.path()).Check(parts);
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

bool Refuses(const DiskNeeds& needs, std::int64_t free) {
  try {
    CheckDisk(needs, free, "out");
  } catch (const Error&) {
    return true;
  }
  return false;
}

ModelConfig Shape(int layers, int hidden, int heads, int ffn, int vocab, int window) {
  ModelConfig c{.layers = layers,
                .hidden = hidden,
                .heads = heads,
                .kv_heads = heads,
                .head_dim = hidden / heads,
                .ffn = ffn,
                .vocab = vocab,
                .max_positions = 512,
                .tied = true};
  c.attention.assign(static_cast<std::size_t>(layers), {window, 0});
  return c;
}

}  // namespace

TEST_CASE("products and sums that exceed an int64 are the largest int64, and 0 times anything is 0") {
  CHECK(Product({3, 4, 5}) == 60);
  CHECK(Product({1 << 20, 1 << 20, 1 << 20, 1 << 20}) == kLargest);
  CHECK(Product({1 << 20, 1 << 20, 1 << 20, 1 << 20, 0}) == 0);
  CHECK(Product({kLargest, 1}) == kLargest);
  CHECK(Product({kLargest, 2, 4}) == kLargest);
  CHECK(Sum({1, 2, 3}) == 6);
  CHECK(Sum({kLargest, 1}) == kLargest);
  CHECK(Sum({kLargest, kLargest, 5}) == kLargest);
}

TEST_CASE("what the machine has is MemAvailable and the free swap; without files there is no limit") {
  const Root root;
  CHECK(root.Rooms().empty());
  root.Write("proc/meminfo", "MemTotal:  900 kB\nMemFree:  1 kB\nMemAvailable:   500 kB\nSwapFree: 20 kB\n");
  const std::vector<MemoryRoom> rooms = root.Rooms();
  REQUIRE(rooms.size() == 1);
  CHECK(rooms[0].bytes == 520 * 1024);
  CHECK_FALSE(rooms[0].counts_unwritten);
}

TEST_CASE("a cgroup of version 2 and all above it limit memory, less what they can't give back") {
  const Root root;
  root.Write("proc/meminfo", "SwapFree: 1 kB\n");
  root.Write("proc/self/cgroup", "0::/a/b\n");
  root.Write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.Write("sys/fs/cgroup/a/b/memory.current", "100\n");
  CHECK(root.Rooms().empty());
  root.Write("sys/fs/cgroup/a/memory.max", "10000\n");
  root.Write("sys/fs/cgroup/a/memory.current", "7000\n");
  root.Write("sys/fs/cgroup/a/memory.stat", "anon 1000\nfile 5000\ninactive_file 3000\nactive_file 200\n");
  const std::vector<MemoryRoom> rooms = root.Rooms();
  REQUIRE(rooms.size() == 1);
  CHECK(rooms[0].bytes == 10000 - 7000 + 3200 + 1024);
  CHECK(rooms[0].source.find("a/memory.max") != std::string::npos);
}

TEST_CASE("a cgroup of version 1 limits memory, also where a container mounts it at the root") {
  const Root root;
  root.Write("proc/self/cgroup", "9:name=systemd:/x\n4:cpuset,memory:/docker/1f\n0::/x\n");
  root.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.Write("sys/fs/cgroup/memory/memory.usage_in_bytes", "10\n");
  CHECK(root.Rooms().empty());
  root.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
  root.Write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 40\n");
  REQUIRE(root.Rooms().size() == 1);
  CHECK(root.Rooms()[0].bytes == 5000 - 10 + 40);
  root.Write("sys/fs/cgroup/memory/memory.usage_in_bytes", "9000\n");
  CHECK(root.Rooms()[0].bytes == 0);
}

TEST_CASE("ulimit's soft limits count what is asked for, less what the process has") {
  const Root root;
  root.Write("proc/self/limits",
             "Limit                     Soft Limit           Hard Limit           Units     \n"
             "Max data size             unlimited            unlimited            bytes     \n"
             "Max address space         4096000              unlimited            bytes     \n");
  root.Write("proc/self/status", "VmPeak: 9 kB\nVmSize:\t  1000 kB\nVmData: 500 kB\n");
  const std::vector<MemoryRoom> rooms = root.Rooms();
  REQUIRE(rooms.size() == 1);
  CHECK(rooms[0].bytes == 4096000 - 1000 * 1024);
  CHECK(rooms[0].counts_unwritten);
}

TEST_CASE("parts that fit to the byte are taken, and one byte more is refused with what would fit") {
  const Root root;
  root.Write("proc/meminfo", "MemAvailable: 1000 kB\n");
  const std::int64_t room = 1000 * 1024;
  const MemoryPart weights{.name = "weights", .asked = 24'000, .written = 24'000};
  const auto batch = [&](std::int64_t size) {
    return MemoryPart{.name = "activations",
                      .asked = 10'000 * size,
                      .written = 10'000 * size,
                      .option = "--batch-size",
                      .value = size};
  };
  CHECK(Refusal(root, {weights, batch(100)}).empty());
  CHECK(Refusal(root, {weights, {.name = "rest", .asked = room - 24'000, .written = room - 24'000}}).empty());
  CHECK_FALSE(Refusal(root, {weights, {.name = "rest", .asked = room, .written = room - 23'999}}).empty());
  CHECK(Refusal(root, {weights, batch(200)}) ==
        "not enough memory: at least 2.02 MB are needed (activations 2.00 MB, weights 24.00 kB) and the machine leaves "
        "1.02 MB; --batch-size can be at most 100 here");
  CHECK(Refusal(root, {{.name = "weights", .asked = 2 * room, .written = 2 * room}, batch(1)})
            .ends_with("even --batch-size 1 would not fit"));
  CHECK(Refusal(root, {{.name = "weights", .asked = kLargest, .written = kLargest}})
            .ends_with("a smaller model is needed"));
  CHECK(Refusal(root, {weights, {.name = "cache", .asked = kLargest, .written = 5}}).empty());  // never written
  CHECK(Refusal(root, {{.name = "a", .asked = kLargest, .written = kLargest}, weights}).find("more than 9e18 bytes") !=
        std::string::npos);
}

TEST_CASE(
    "the estimate of weights, gradients, moments and cache is exact, and that of packed weights no more than it is") {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    for (const auto& [name, config] : ModelCases()) {
      CAPTURE(name);
      const Transformer model(config, dtype, /*with_gradients=*/true);
      const Optimizer optimizer(model.parameters(), {});
      std::int64_t held = 0;
      for (const Tensor& t : {optimizer.first_moment(), optimizer.second_moment(), model.parameters().master(),
                              model.parameters().flat_gradients()}) {
        held += static_cast<std::int64_t>(t.bytes());
      }
      if (dtype == DType::kBF16) held += 2 * model.parameters().count();
      held += static_cast<std::int64_t>(SizeOf(AccumulatorOf(dtype))) * config.max_positions * config.head_dim;
      std::int64_t sum = 0;
      for (const MemoryPart& part : ModelParts(config, dtype, /*trained=*/true)) sum += part.asked;
      CHECK(sum == held);

      const std::vector<MemoryPart> decode =
          DecodeParts(config, dtype, Device::kCpu, {.slots = 3, .requests = 2, .max_length = 40, .value = 3});
      TestContext t;
      MemoryReport report;
      Decoder(model, 3, 40).NoteMemory(report);
      CHECK(report.ToJson(t.arena)["held"]["key/value cache"] == decode[0].asked);
      CHECK(decode[0].written == 2 * static_cast<std::int64_t>(KvBytesPerSequence(config, dtype, 1)));
      PackedWeights packed;
      model.PackWeights(t.ctx, packed, /*sequences=*/1);
      CHECK(decode[1].asked <= static_cast<std::int64_t>(packed.bytes()));
    }
  }
}

TEST_CASE("the estimate of activations is at most the arena's high-water mark, and most of it") {
  struct Setting {
    ModelConfig config;
    int documents, length;
    double least;  // share of the mark: the head's scratch is not counted, nor is what rounds small tensors up
  };
  const std::vector<Setting> settings = {{Shape(4, 128, 4, 352, 64, 16), 4, 120, 0.85},
                                         {Shape(4, 128, 4, 352, 64, 0), 1, 400, 0.85},
                                         {Shape(2, 64, 2, 176, 5000, 0), 3, 90, 0.6},
                                         {ModelCases().back().config, 8, 30, 0.5}};
  for (const auto& [config, count, length, least] : settings) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const PassKind pass : {PassKind::kForward, PassKind::kTraining, PassKind::kCheckpointedTraining}) {
        TestContext t;
        const Transformer model(config, dtype, /*with_gradients=*/true);
        const std::vector<Tokens> documents =
            RandomDocuments(std::vector<int>(static_cast<std::size_t>(count), length), config.vocab);
        if (pass == PassKind::kForward) {
          RunForward(t.ctx, model, documents);
        } else {
          RunBackward(t.ctx, model, documents, Coefficients(documents), pass == PassKind::kCheckpointedTraining);
        }
        const double estimate = static_cast<double>(StepPart(config, dtype, count * length, pass).asked);
        const double share = estimate / static_cast<double>(t.arena.high_water_bytes());
        CAPTURE(config.vocab);
        CAPTURE(Name(dtype));
        CAPTURE(static_cast<int>(pass));
        CHECK(share <= 1);
        CHECK(share >= least);
      }
    }
  }
}

TEST_CASE("the estimate of a step of SFT is that of its first batch; of a batch beyond 4096 all are as short as any") {
  const Transformer model(TextConfig(), DType::kF32, /*with_gradients=*/true);
  const TableTask task({{"a?", "b", ""}, {"b?", "abcd", ""}, {"abc?", "abab", ""}});
  const std::vector<std::int64_t> rows_of = {3, 6, 8};  // the end of text is predicted, and not fed
  for (const int batch : {1, 2, 4, 4096, 4097, 5000}) {
    CAPTURE(batch);
    SftOptions options;
    options.batch_size = batch;
    options.seed = 2;
    ProblemOrder order(task.size(), options.seed);
    const auto rows_at = [&](int i) { return rows_of[static_cast<std::size_t>(order.At(i).problem)]; };
    REQUIRE(rows_at(4096) != 3);  // else one more could not be told
    std::int64_t rows = std::max(0, batch - 4096) * 3;
    for (int i = 0; i < std::min(batch, 4096); ++i) rows += rows_at(i);
    CHECK(SftParts(model, TextTokenizer(), task, options)[0].asked ==
          StepPart(model.config(), model.dtype(), rows, PassKind::kTraining).asked);
  }
}

TEST_CASE(
    "the estimate of RL is a cache for its longest sequences, all completions of a step, and a micro-batch of prompts "
    "with one token each") {
  const ModelConfig config = TextConfig();
  constexpr int kPrompt = 20, kLimit = 40, kSampled = 4 * 6;
  RlOptions options;
  options.prompts_per_step = 4;
  options.num_generations = 6;
  options.max_completion_length = kLimit;
  options.slots = 7;
  for (const int micro_batch : {5, 100}) {  // of 24 completions no more than 24 are packed
    options.micro_batch = micro_batch;
    const std::vector<MemoryPart> parts = RlParts(config, DType::kF32, Device::kCpu, kPrompt, options);
    const auto asked = [&](const std::string& name) {
      const auto part = std::ranges::find(parts, name, &MemoryPart::name);
      REQUIRE(part != parts.end());
      return part->asked;
    };
    MemoryReport report;
    const Transformer model(config, DType::kF32, /*with_gradients=*/false);
    Decoder(model, options.slots, kPrompt + kLimit).NoteMemory(report);
    TestContext t;
    CHECK(report.ToJson(t.arena)["held"]["key/value cache"] == asked("key/value cache"));
    const std::int64_t each = sizeof(Request) + sizeof(Completion) + sizeof(Trajectory);
    CHECK(asked("sampled completions") == kSampled * (each + 2 * 4 + 8));  // a prompt's token, one drawn, its log p
    const std::int64_t packed = std::min(micro_batch, kSampled);
    CHECK(asked("activations") == StepPart(config, DType::kF32, packed * kPrompt, packed, PassKind::kTraining).asked);
  }
}

TEST_CASE("the disk that a run needs is what a run of its saves comes to, and one byte less is refused") {
  constexpr std::int64_t kModel = 7, kCheckpoint = 21;
  for (std::int64_t keep = 1; keep <= 4; ++keep) {
    for (std::int64_t saves = 0; saves <= 6; ++saves) {
      for (std::int64_t standing = 0; standing <= 5; ++standing) {
        CAPTURE(keep);
        CAPTURE(saves);
        CAPTURE(standing);
        std::int64_t there = standing, most = 0;
        for (std::int64_t i = 0; i < saves; ++i) {
          most = std::max(most, (there + 1 - standing) * kCheckpoint);
          there = std::min(there + 1, keep);
        }
        most = std::max(most, (there - standing) * kCheckpoint + kModel);
        const DiskNeeds needs{
            .model = kModel, .checkpoint = kCheckpoint, .keep = keep, .saves = saves, .standing = standing};
        CHECK_FALSE(Refuses(needs, most));
        if (there >= standing) CHECK(Refuses(needs, most - 1));  // else pruning makes room that isn't counted on
      }
    }
  }
}

TEST_CASE("too many checkpoints for the disk are refused with the number that fits, or with what is missing") {
  const DiskNeeds needs{.model = 1000, .checkpoint = 3000, .keep = 2'000'000'000, .saves = 1'000'000};
  CHECK_THROWS_WITH_AS(
      CheckDisk(needs, 100'000, "out/x"),
      "not enough disk for out/x: checkpoints of 3.00 kB and a model of 1.00 kB need up to 3.00 GB and "
      "100.00 kB are free; --keep-checkpoints can be at most 32 here",
      Error);
  CHECK_THROWS_WITH_AS(
      CheckDisk(needs, 5'500, "out/x"),
      "not enough disk for out/x: checkpoints of 3.00 kB and a model of 1.00 kB need up to 3.00 GB and "
      "5.50 kB are free; 500 bytes more are needed even with --keep-checkpoints 1",
      Error);
}

TEST_CASE("a resumed run needs disk only for what is still to be written") {
  const TempDirectory dir;
  const ModelConfig config = TinyConfig();
  const auto needs = [&](bool resumes) { return TrainingDisk(config, DType::kBF16, dir.path(), 100, 10, 2, resumes); };
  fs::create_directories(dir / "checkpoint-00000020");
  fs::create_directories(dir / "checkpoint-00000030");
  CHECK(needs(false).saves == 10);
  CHECK(needs(false).standing == 0);
  CHECK(needs(true).saves == 7);
  CHECK(needs(true).standing == 2);
  CHECK(needs(true).model == 4 * ParameterCount(config));
  CHECK(needs(true).checkpoint == 12 * ParameterCount(config));
  CHECK(FreeDiskBytes(dir / "not" / "yet" / "there") > 0);
}

}  // namespace swarr
