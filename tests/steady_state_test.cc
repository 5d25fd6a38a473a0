// SPDX-License-Identifier: Apache-2.0
// No allocation in the steady state: from the second step of the same shape on, neither the arena asks the system for
// memory nor does a forward, backward or update ask operator new.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <nlohmann/json.hpp>

#include "model/decoder.h"
#include "rl/rl.h"
#include "temp_directory.h"
#include "tensor/memory_report.h"
#include "test_models.h"
#include "train/run.h"
#include "train/sft.h"

namespace {

std::atomic<std::int64_t> news{0};  // calls of operator new in this program

}  // namespace

// Not inlined: g++ would take malloc and free for a mismatch with the operators.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++news;
  if (void* p = std::malloc(bytes > 0 ? bytes : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++news;
  return std::malloc(bytes > 0 ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace swarr {
namespace {

// Problems of one shape: all prompts and all completions have the same length.
class SameShapeTask : public TableTask {
 public:
  SameShapeTask()
      : TableTask({{"ab?", "abab", "x"}, {"cd?", "cdcd", "y"}, {"ba?", "baba", "z"}, {"dc?", "dcdc", "w"}}) {}
  // Something that samples of one prompt differ in, so that all are learned from.
  double Reward(const Example&, std::string_view text, bool) const override {
    return static_cast<double>(std::count(text.begin(), text.end(), 'a')) / 100.0 +
           static_cast<double>(std::count(text.begin(), text.end(), 'b')) / 1000.0;
  }
};

// Notes how many blocks the arena has asked for at the end of every step.
RunOptions CountingRun(const TempDirectory& directory, const Arena& arena, std::vector<std::int64_t>& blocks) {
  RunOptions options;
  options.output_dir = directory / "run";
  options.on_step = [&](const nlohmann::ordered_json&) { blocks.push_back(arena.blocks_allocated()); };
  return options;
}

void CheckSteadyFromSecond(const std::vector<std::int64_t>& blocks) {
  REQUIRE(blocks.size() == 6);
  CHECK(blocks[0] >= 1);
  for (std::size_t i = 2; i < blocks.size(); ++i) CHECK(blocks[i] == blocks[1]);
}

std::vector<Request> Requests(int count, int new_tokens) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back({RandomTokens(5, 6, static_cast<std::uint32_t>(i)), new_tokens, 1.0,
                        StreamKey(9, Purpose::kSample, static_cast<std::uint32_t>(i))});
  }
  return requests;
}

// TextConfig without an end of text, so that all samples have the same length.
ModelConfig EndlessConfig() {
  ModelConfig config = TextConfig();
  config.eos_id = -1;
  return config;
}

}  // namespace

TEST_CASE("SFT: from the second step of a shape on, the arena allocates nothing") {
  const TempDirectory directory;
  Trainee t(TextConfig(), DType::kF32, {});
  std::vector<std::int64_t> blocks;
  TrainingRun run(CountingRun(directory, t.memory.arena, blocks), {}, t.model, t.optimizer, t.tokenizer);
  RunSft(t.ctx, t.model, t.tokenizer, SameShapeTask(), nullptr, {.steps = 6, .batch_size = 256}, t.optimizer, run);
  CheckSteadyFromSecond(blocks);
}

TEST_CASE("RL: from the second step of a shape on, the arena allocates nothing") {
  const TempDirectory directory;
  Trainee t(EndlessConfig(), DType::kF32, {});
  RlOptions options;
  options.steps = 6;
  options.prompts_per_step = 4;
  options.num_generations = 16;
  options.max_completion_length = 40;
  options.micro_batch = 64;
  std::vector<std::int64_t> blocks;
  TrainingRun run(CountingRun(directory, t.memory.arena, blocks), {}, t.model, t.optimizer, t.tokenizer);
  RunRl(t.ctx, t.model, t.tokenizer, SameShapeTask(), options, t.optimizer, run);
  CheckSteadyFromSecond(blocks);
}

TEST_CASE("decoding: from the second time on, the arena allocates nothing") {
  TestContext t;
  const Transformer model(EndlessConfig(), DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  Decoder decoder(model, /*slots=*/64, /*max_length=*/32);
  std::vector<std::int64_t> blocks;
  for (int i = 0; i < 4; ++i) {
    t.arena.Reset();
    decoder.Generate(t.ctx, Requests(64, 27));
    blocks.push_back(t.arena.blocks_allocated());
  }
  CHECK(blocks[2] == blocks[1]);
  CHECK(blocks[3] == blocks[1]);
}

TEST_CASE("a training step in the steady state calls operator new not once") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool checkpoint : {false, true}) {
      CAPTURE(Name(dtype));
      CAPTURE(checkpoint);
      Trainee t(TextConfig(), dtype, {});
      const std::vector<Tokens> documents = RandomDocuments({20, 7, 33}, t.model.config().vocab);
      const auto step = [&] {
        t.memory.arena.Reset();
        Tape tape;
        const TapeScope recording(t.ctx, &tape);
        const Batch batch = PackDocuments(t.memory.arena, documents);
        const LogprobResult result = t.model.Logprob(t.ctx, t.model.Forward(t.ctx, batch, checkpoint), batch.ids);
        std::fill_n(result.logp.grad.data<float>(), result.logp.grad.size(), -0.01f);
        tape.Backward(t.ctx);
        t.optimizer.Step(t.ctx, 1e-3, t.optimizer.GradientNorm(t.ctx));
      };
      step();
      step();
      const std::int64_t before = news;
      step();
      CHECK(news == before);
    }
  }
}

TEST_CASE("a decode step in the steady state calls operator new not once") {
  TestContext t;
  const Transformer model(EndlessConfig(), DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  Decoder decoder(model, /*slots=*/4, /*max_length=*/50);
  const std::vector<Request> requests = Requests(4, 32);
  decoder.Generate(t.ctx, requests);
  // Completions grow as vectors do: at 17 tokens for the last time.
  std::vector<std::int64_t> at(32 * 4);
  std::size_t drawn = 0;
  decoder.Generate(t.ctx, requests, [&](std::size_t, std::int32_t) { at[drawn++] = news; });
  REQUIRE(drawn == at.size());
  CHECK(at[18 * 4] == at.back());
}

TEST_CASE("the arena knows who held its memory at the high-water mark") {
  Arena arena;
  arena.New(DType::kF32, {16});
  {
    const ArenaLabel outer(arena, "outer");
    arena.New(DType::kF32, {32});
    {
      const ArenaLabel inner(arena, "inner");
      ArenaScope scope(arena);
      arena.New(DType::kF32, {64});
    }
    arena.New(DType::kF32, {16});  // less than the inner label gave back
  }
  using Sums = std::vector<std::pair<std::string, std::size_t>>;
  CHECK(arena.HighWaterByLabel() == Sums{{"inner", 256}, {"outer", 128}, {"other", 64}});
  arena.Reset();
  arena.New(DType::kF32, {256});  // a new mark that has not been left yet
  CHECK(arena.HighWaterByLabel() == Sums{{"other", 1024}});
}

TEST_CASE("a memory report names what is held, the largest of each name, and the arena's parts add up") {
  Trainee t(TextConfig(), DType::kBF16, {});
  MemoryReport report;
  t.model.NoteMemory(report);
  t.optimizer.NoteMemory(report);
  t.ctx.memory = &report;
  Decoder(t.model, 2, 20).Generate(t.ctx, Requests(2, 5));
  Decoder(t.model, 1, 20).Generate(t.ctx, Requests(2, 5));
  const nlohmann::ordered_json json = report.ToJson(t.memory.arena);
  const auto count = static_cast<std::size_t>(t.model.parameters().count());
  CHECK(json["held"]["parameters"] == 2 * count);
  CHECK(json["held"]["parameters, f32 master"] == 4 * count);
  CHECK(json["held"]["gradients"] == 4 * count);
  CHECK(json["held"]["optimizer moments"] == 8 * count);
  CHECK(json["held"]["key/value cache"] == KvCache(t.model.config(), DType::kBF16, 2, 20, 16).bytes());
  CHECK(json["held"].contains("packed weights"));
  CHECK(json["held"].contains("rope table"));
  std::size_t sum = 0;
  for (const auto& [label, bytes] : json["arena"]["by_op"].items()) sum += bytes.get<std::size_t>();
  CHECK(sum == json["arena"]["high_water"].get<std::size_t>());
  CHECK(json["arena"]["high_water"] == t.memory.arena.high_water_bytes());
  CHECK(json["peak_resident"].get<std::size_t>() > count);
  const std::string text = report.ToText(t.memory.arena);
  for (const char* name : {"gradients", "step arena, high-water mark", "linear", "peak resident size"}) {
    CHECK(text.find(name) != std::string::npos);
  }
}

}  // namespace swarr
