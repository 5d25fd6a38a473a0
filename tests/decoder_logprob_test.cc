// SPDX-License-Identifier: Apache-2.0
// What the sampler says of a token is what training says of it.
#include <doctest/doctest.h>

#include <iostream>

#include "cuda_report.h"
#include "decoder_models.h"
#include "tensor/packed_weights.h"

namespace swarr {
namespace {

// Every sampled token's log-probability against that of a training pass over the same tokens; returns how many there
// are.
std::int64_t CheckAgainstTraining(Context& ctx, const Transformer& model, const std::vector<Request>& requests,
                                  const std::vector<Completion>& completions) {
  std::vector<Tokens> documents;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    documents.push_back(requests[i].prompt);
    documents[i].insert(documents[i].end(), completions[i].tokens.begin(), completions[i].tokens.end());
  }
  const Pass training = RunForward(ctx, model, documents);
  std::int64_t row = 0, compared = 0, different = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::int64_t first = row + static_cast<std::int64_t>(requests[i].prompt.size()) - 1;
    REQUIRE(completions[i].logp.size() == completions[i].tokens.size());
    for (std::size_t n = 0; n < completions[i].logp.size(); ++n, ++compared) {
      different += completions[i].logp[n] != ValueAt(training.logp, first + static_cast<std::int64_t>(n));
    }
    row += static_cast<std::int64_t>(documents[i].size());
  }
  CHECK(different == 0);
  return compared;
}

// Returns how many log-probabilities were compared with training's.
std::int64_t CheckSlotsAndOrder(Device device, Cpu cpu) {
  std::int64_t compared = 0;
  std::vector<std::vector<AttentionSpec>> attentions = {{{}, {}},         {{}, {3, 0}, {7, 4}}, {{1, 0}, {1, 1}},
                                                        {{3, 4}, {3, 4}}, {{7, 0}, {7, 0}},     {{40, 4}, {33, 40}}};
  // What a layer sees is decided by code that all sets of kernels share. The others get full attention and windows.
  if (cpu != BestCpu()) attentions.resize(2);
  ForModels(device, attentions, [&](const Transformer& model) {
    INFO(Name(device), " ", Name(cpu));
    TestContext t(device, 1, cpu);
    const std::vector<Request> requests = ManyRequests(model.config());
    const std::vector<Completion> expected = Decoder(model, 64, kLongest).Generate(t.ctx, requests);
    const std::int64_t here = CheckAgainstTraining(t.ctx, model, requests, expected);
    CHECK(here > 100);
    compared += here;
    for (int slots : {1, 7}) {
      // From the last to the first, or going round by a step that has no divisor in common with their number.
      std::vector<Request> reordered;
      std::vector<std::size_t> from;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        from.push_back(slots == 1 ? requests.size() - 1 - i : (i * 9 + 4) % requests.size());
        reordered.push_back(requests[from[i]]);
      }
      const std::vector<Completion> got = Decoder(model, slots, kLongest).Generate(t.ctx, reordered);
      for (std::size_t i = 0; i < got.size(); ++i) CheckSame(got[i], expected[from[i]]);
    }
  });
  return compared;
}

TEST_CASE("sampled log-probabilities equal those of the training pass bit for bit, whatever the slots and the order") {
  for (Cpu cpu : SupportedCpus()) CheckSlotsAndOrder(Device::kCpu, cpu);
}

TEST_CASE("CUDA: decoding: sampled log-probabilities equal those of the training pass, whatever the slots and order") {
  if (SkippedWithoutCuda()) return;
  const std::int64_t compared = CheckSlotsAndOrder(Device::kCuda, BestCpu());
  std::cout << "CUDA decoding: " << compared << " log-probabilities compared with the training pass\n";
}

TEST_CASE("a lone sequence has training's log-probabilities where its weights are more than a core's cache holds") {
  ModelConfig config = DecoderConfig({{}, {7, 4}}, /*head_dim=*/16);
  config.hidden = 256;
  config.ffn = 1000;
  Transformer model(config, DType::kBF16, /*with_gradients=*/false);
  Randomize(model);
  std::vector<Request> requests = ManyRequests(config);
  requests.resize(2);
  for (Cpu cpu : SupportedCpus()) {
    INFO(Name(cpu));
    TestContext t(Device::kCpu, 1, cpu);
    PackedWeights packed;
    model.PackWeights(t.ctx, packed, /*sequences=*/1);
    CHECK(packed.Find(model.head().value)->notes.empty() == (cpu != Cpu::kAmx));
    const std::vector<Completion> completions = Decoder(model, 1, kLongest).Generate(t.ctx, requests);
    CHECK(CheckAgainstTraining(t.ctx, model, requests, completions) > 4);
  }
}

}  // namespace
}  // namespace swarr
