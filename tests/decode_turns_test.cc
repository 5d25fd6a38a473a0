// SPDX-License-Identifier: Apache-2.0
#include "model/decode_turns.h"

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <thread>

#include "decoder_models.h"

using namespace swarr;

namespace {

std::vector<DecodedSlot> Slots(std::size_t count) {
  std::vector<DecodedSlot> slots;
  for (std::size_t i = 0; i < count; ++i) slots.push_back({i, static_cast<std::int32_t>(i)});
  return slots;
}

std::vector<std::size_t> Requests(const std::vector<DecodedSlot>& slots) {
  std::vector<std::size_t> requests;
  for (const DecodedSlot& slot : slots) requests.push_back(slot.request);
  return requests;
}

using Numbers = std::vector<std::size_t>;

}  // namespace

TEST_CASE("sequences take turns, those that have waited longest first") {
  DecodeTurns turns(Slots(7), /*threads=*/1, /*fewest=*/2);
  std::vector<DecodedSlot> taken;
  turns.Take(taken);
  CHECK(Requests(taken) == Numbers{0, 1, 2});
  taken.erase(taken.begin() + 1);  // it has ended
  turns.Return(taken, 3);
  turns.Take(taken);
  CHECK(Requests(taken) == Numbers{3, 4});
  turns.Return(taken, 2);
  turns.Take(taken);
  CHECK(Requests(taken) == Numbers{5, 6});
  turns.Return(taken, 2);
  turns.Take(taken);
  CHECK(Requests(taken) == Numbers{0, 2});
}

TEST_CASE("a thread takes its part of the sequences, or a fraction of it that is not too small") {
  for (const auto& [left, threads, fewest, count] : {std::array{64, 2, 32, 32},
                                                     {64, 1, 32, 32},
                                                     {64, 2, 20, 32},
                                                     {63, 1, 32, 63},
                                                     {100, 1, 32, 34},
                                                     {5, 2, 32, 3},
                                                     {1, 3, 32, 1}}) {
    DecodeTurns turns(Slots(static_cast<std::size_t>(left)), static_cast<std::size_t>(threads),
                      static_cast<std::size_t>(fewest));
    std::vector<DecodedSlot> taken;
    turns.Take(taken);
    CHECK(static_cast<int>(taken.size()) == count);
  }
}

TEST_CASE("no thread has the last sequences alone, while there are several") {
  DecodeTurns turns(Slots(5), /*threads=*/2, /*fewest=*/100);
  std::vector<DecodedSlot> first, second;
  turns.Take(first);
  turns.Take(second);
  CHECK(Requests(first) == Numbers{0, 1, 2});
  CHECK(Requests(second) == Numbers{3, 4});
  turns.Return({}, 3);
  turns.Return(second, 2);
  turns.Take(first);
  CHECK(Requests(first) == Numbers{3});
}

TEST_CASE("a thread that finds no sequence waits for those of others, and all end when none is left") {
  DecodeTurns turns(Slots(2), /*threads=*/2, /*fewest=*/2);
  std::vector<DecodedSlot> mine, others;
  turns.Take(mine);
  turns.Take(others);
  turns.Return({}, 1);  // of the other thread's
  std::vector<DecodedSlot> late;
  std::thread waiting([&] { turns.Take(late); });
  turns.Return(mine, 1);
  waiting.join();
  CHECK(Requests(late) == Requests(mine));
  std::thread last([&] { turns.Take(others); });
  turns.Return({}, 1);
  last.join();
  CHECK(others.empty());
}

TEST_CASE("nobody takes a sequence when all shall stop, and whoever waits for one goes on") {
  DecodeTurns turns(Slots(3), /*threads=*/1, /*fewest=*/2);
  std::vector<DecodedSlot> taken;
  turns.Take(taken);
  REQUIRE(taken.size() == 3);
  std::vector<DecodedSlot> late;
  std::thread waiting([&] { turns.Take(late); });
  turns.Stop();
  waiting.join();
  CHECK(late.empty());
  turns.Return(taken, taken.size());
  turns.Take(taken);
  CHECK(taken.empty());
}

TEST_CASE("a thread that is slower takes fewer turns") {
  DecodeTurns turns(Slots(8), /*threads=*/2, /*fewest=*/2);
  constexpr int kTurns = 5;  // of each sequence
  const auto work = [&](std::chrono::milliseconds time, int& taken) {
    std::vector<DecodedSlot> slots;
    for (turns.Take(slots); !slots.empty(); turns.Take(slots)) {
      const std::size_t count = slots.size();
      taken += static_cast<int>(count);
      std::this_thread::sleep_for(time);
      std::erase_if(slots, [](DecodedSlot& slot) { return ++slot.fed == kTurns; });
      turns.Return(slots, count);
    }
  };
  int slow = 0, quick = 0;
  std::thread other([&] { work(std::chrono::milliseconds(20), slow); });
  work(std::chrono::milliseconds(1), quick);
  other.join();
  CHECK(slow + quick == 8 * kTurns);
  CHECK(quick > 2 * slow);
}

TEST_CASE("a sequence that is left alone in its turn does not get the turns of those that have ended") {
  ModelConfig config = DecoderConfig({{}, {}});
  config.eos_id = -1;  // none
  const Transformer model(config, DType::kF32, /*with_gradients=*/false);
  Randomize(model);
  TestContext t(1);
  std::vector<Request> requests;  // 32 and 32 are decoded in turns, and of the first one goes on
  for (int i = 0; i < 64; ++i) requests.push_back({{1}, i == 0 ? 200 : i < 32 ? 1 : 20});
  int alone = 0;  // tokens of that one when the others get their first
  bool others = false;
  Decoder(model, 64, 256).Generate(t.ctx, requests, [&](std::size_t request, std::int32_t) {
    others |= request >= 32;
    alone += request == 0 && !others;
  });
  CHECK(alone >= 1);
  CHECK(alone <= 16);
}
