// SPDX-License-Identifier: Apache-2.0
// Prompts that are fed whole, into the slots of all requests that share them.
#include <doctest/doctest.h>

#include <span>
#include <utility>

#include "cuda_report.h"
#include "decoder_models.h"

namespace swarr {
namespace {

void CheckWholePrompts(Device device) {
  ForModels(device, AllAttentions(), [&](const Transformer& model) {
    TestContext t(device);
    const Tokens first = RandomTokens(107, model.config().vocab, 1), second = RandomTokens(61, model.config().vocab, 2);
    constexpr int kFirst = 90, kSecond = 40;  // tokens of the prompts
    const Pass all_first = RunForward(t.ctx, model, {first}), all_second = RunForward(t.ctx, model, {second});
    const KvCache cache(model.config(), model.dtype(), /*slots=*/3, 107, /*max_chunk=*/1, MemoryOf(device));
    {
      const StepScope scope(t.ctx);
      const std::vector<Tokens> prompts = {{first.begin(), first.begin() + kFirst},
                                           {second.begin(), second.begin() + kSecond}};
      Tokens slots(kFirst, 2);
      for (const auto& [count, slot] : {std::pair{kSecond, 0}, {kFirst, 1}, {kSecond, -1}}) {
        slots.insert(slots.end(), static_cast<std::size_t>(count), slot);
      }
      Batch batch = PackDocuments(t.ctx.HostArena(), prompts, std::vector<int>{kFirst, kSecond});
      batch.slots = Ints(t.ctx.HostArena(), slots).Reshape({2, kFirst + kSecond});
      const Tensor hidden = OnHost(t.ctx, model.Forward(t.ctx, batch, cache).value);
      CHECK(SameBits(hidden.Rows(0, kFirst), all_first.hidden.Rows(0, kFirst)));
      CHECK(SameBits(hidden.Rows(kFirst, kFirst + kSecond), all_second.hidden.Rows(0, kSecond)));
    }
    const auto go_on = [&](const Tokens& tokens, const Pass& all, int begin, int slot) {
      for (int at = begin; at < static_cast<int>(tokens.size()); ++at) {
        const StepScope scope(t.ctx);
        INFO("slot ", slot, " at position ", at);
        CHECK(SameBits(Feed(t.ctx, model, cache, tokens, at, at + 1, slot).hidden, all.hidden.Rows(at, at + 1)));
      }
    };
    go_on(first, all_first, kFirst, 2);
    go_on(first, all_first, kFirst, 1);
    go_on(second, all_second, kSecond, 0);
  });
}

TEST_CASE("prompts fed whole, one into two slots, go on with the bits of the full forward in each of them") {
  CheckWholePrompts(Device::kCpu);
}

TEST_CASE("CUDA: decoding: prompts fed whole, one into two slots, go on with the bits of the full forward in each") {
  if (SkippedWithoutCuda()) return;
  CheckWholePrompts(Device::kCuda);
}

TEST_CASE("documents that go on after their prompts, or are longer than the cache, are not stored") {
  TestContext t;
  const Transformer model(TinyConfig(), DType::kF32, /*with_gradients=*/false);
  const KvCache cache(model.config(), model.dtype(), /*slots=*/1, /*max_length=*/4, /*max_chunk=*/1);
  const auto store = [&](const Tokens& text, int prompt) {
    Batch batch = PackDocuments(t.arena, std::vector<Tokens>{{1, 2}, text}, std::vector<int>{2, prompt});
    batch.slots = Ints(t.arena, Tokens(static_cast<std::size_t>(batch.ids.dim(0)), 0)).Reshape({1, batch.ids.dim(0)});
    model.Forward(t.ctx, batch, cache);
  };
  store({3, 1, 2, 0}, 4);
  CHECK_THROWS_WITH_AS(store({3, 1, 2}, 2), "document 1 of 3 tokens has a prompt of 2; only whole prompts are stored",
                       Error);
  CHECK_THROWS_WITH_AS(store({3, 1, 2, 0, 1}, 5), "a prompt of 5 tokens is longer than the cache's 4", Error);
}

TEST_CASE("CUDA: decoding: requests that share their prompts' passes get the completions that each gets alone") {
  if (SkippedWithoutCuda()) return;
  ForModels(Device::kCuda, {{{}, {3, 1}}}, [&](const Transformer& model) {
    TestContext t(Device::kCuda);
    std::vector<Request> requests;
    for (const Request& r : ManyRequests(model.config())) {
      for (std::uint64_t i = 0; i < 1 + r.key % 20; ++i) {  // also more than share one pass
        requests.push_back(r);
        requests.back().key += i;
      }
    }
    const std::vector<Completion> together = Decoder(model, 40, kLongest).Generate(t.ctx, requests);
    Decoder alone(model, 1, kLongest);
    for (std::size_t i = 0; i < requests.size(); i += 7) {
      CheckSame(together[i], alone.Generate(t.ctx, std::span(requests).subspan(i, 1))[0]);
    }
  });
}

}  // namespace
}  // namespace swarr
