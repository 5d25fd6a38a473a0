// SPDX-License-Identifier: Apache-2.0
// Prompts that stay visible beside a window: each document has its own number of sinks.
#include <doctest/doctest.h>

#include <algorithm>

#include "attention_pass.h"
#include "autograd/gradient_check.h"
#include "cuda_report.h"
#include "decoder_models.h"
#include "plain/attention.h"
#include "train/data.h"

namespace swarr {
namespace {

using doctest::Contains;

constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kBF16};
const std::vector<int> kLengths = {5, 1, 40, 3, 90, 7}, kPrompts = {2, 0, 9, 3, 50, 20};

// prompts [N] of documents of kLengths.
Tensor Prompts(Arena& arena) {
  std::vector<std::int32_t> rows;
  for (std::size_t d = 0; d < kLengths.size(); ++d)
    rows.insert(rows.end(), static_cast<std::size_t>(kLengths[d]), kPrompts[d]);
  return Ints(arena, rows);
}

AttentionPass OnDeviceOf(const Context& ctx, AttentionPass p) {
  for (Tensor* t : {&p.q, &p.k, &p.v, &p.dout, &p.sink_logits, &p.q_pos, &p.documents, &p.prompts, &p.out, &p.lse,
                    &p.dq, &p.dk, &p.dv, &p.dsink_logits}) {
    *t = ToDevice(ctx, *t);
  }
  return p;
}

void CheckAgainstSinks(Device device, Heads h, DType dtype, LearnedSinks learned) {
  TestContext t(device);
  Arena& host = t.ctx.HostArena();
  AttentionPass inputs = MakePass(host, dtype, kLengths, h, learned);
  inputs.prompts = Prompts(host);
  const AttentionPass packed = OnDeviceOf(t.ctx, inputs);
  for (const int window : {1, 3, 20}) {
    RunAttention(t.ctx, packed, {window, 0, true});
    std::int64_t begin = 0;
    for (std::size_t d = 0; d < kLengths.size(); ++d) {
      INFO(Name(dtype) << " W=" << window << " document " << d << " H=" << h.H << " D=" << h.D);
      const auto rows = [&](const Tensor& x) { return x.Rows(begin, begin + kLengths[d]); };
      AttentionPass own;
      own.q = rows(inputs.q), own.dout = rows(inputs.dout), own.sink_logits = inputs.sink_logits;
      own.k = rows(inputs.k), own.v = rows(inputs.v);
      const AttentionPass alone = OnDeviceOf(t.ctx, MakePass(host, dtype, {kLengths[d]}, h, learned, &own));
      RunAttention(t.ctx, alone, {window, kPrompts[d]});
      for (const auto& [both, one] : {std::pair{packed.out, alone.out},
                                      {packed.lse, alone.lse},
                                      {packed.dq, alone.dq},
                                      {packed.dk, alone.dk},
                                      {packed.dv, alone.dv}}) {
        CHECK(SameBits(OnHost(t.ctx, rows(both)), OnHost(t.ctx, one)));
      }
      begin += kLengths[d];
    }
  }
}

TEST_CASE("with prompts kept, each packed document has the bits that as many sinks give it, forward and backward") {
  for (const DType dtype : kDTypes) {
    for (const Heads& h : kHeads) CheckAgainstSinks(Device::kCpu, h, dtype, LearnedSinks::kWithout);
    CheckAgainstSinks(Device::kCpu, kHeads[1], dtype, LearnedSinks::kWith);
  }
}

TEST_CASE("CUDA: with prompts kept, each packed document has the bits that as many sinks give it") {
  if (SkippedWithoutCuda()) return;
  for (const DType dtype : kDTypes) {
    for (const Heads& h : {kHeads[1], Heads{9, 3, 64}, {6, 2, 128}}) {
      for (const LearnedSinks learned : kWithAndWithout) CheckAgainstSinks(Device::kCuda, h, dtype, learned);
    }
  }
}

TEST_CASE("attention with prompts kept agrees with its O(T^2) definition") {
  for (const Heads& h : kHeads) {
    TestContext t;
    AttentionPass p = MakePass(t.arena, DType::kF64, kLengths, h);
    p.prompts = Prompts(t.arena);
    for (const int window : {1, 3, 20}) {
      const AttentionSpec spec{window, 0, true};
      RunAttention(t.ctx, p, spec);
      const Tensor out = ZeroLike(t.arena, DType::kF64, p.out), lse = ZeroLike(t.arena, DType::kF64, p.lse);
      plain::AttentionForward(out, lse, {p.q, p.k, p.v, plain::WithinDocuments(p.documents, p.q_pos, spec, p.prompts)});
      CHECK(RelativeError(p.out, out) <= 4 * 17 * 20 * 0x1p-53);  // as in attention_test.cc
      CHECK(RelativeError(p.lse, lse) <= 4 * 17 * 20 * 0x1p-53);
    }
  }
}

// What a decoder samples, and the training pass over the same texts: prompts of many lengths, some of several tiles.
void CheckSampling(Device device) {
  for (const bool learned : {false, true}) {
    for (const DType dtype : kDTypes) {
      ModelConfig config = DecoderConfig({{}, {3, 0, true}, {20, 0, true}}, 16, learned);
      const Transformer model(config, dtype, /*with_gradients=*/false, MemoryOf(device));
      Randomize(model);
      TestContext t(device, 2);
      const std::vector<Request> requests = ManyRequests(config);
      const std::vector<Completion> completions = Decoder(model, 5, kLongest).Generate(t.ctx, requests);
      std::vector<Document> documents;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        Document& d = documents.emplace_back(requests[i].prompt, static_cast<int>(requests[i].prompt.size()));
        d.tokens.insert(d.tokens.end(), completions[i].tokens.begin(), completions[i].tokens.end());
      }
      const PackedPass pass = ForwardPacked(t.ctx, model, documents, false);
      Wait(t.ctx);
      std::int64_t compared = 0, different = 0;
      for (std::size_t i = 0; i < documents.size(); ++i) {
        const std::int64_t first = pass.packed.first_row(i) + documents[i].first_predicting_row();
        for (std::size_t n = 0; n < completions[i].logp.size(); ++n, ++compared) {
          different += completions[i].logp[n] != ValueAt(pass.result.logp.value, first + static_cast<std::int64_t>(n));
        }
      }
      INFO(Name(dtype));
      CHECK(compared > 100);
      CHECK(different == 0);
    }
  }
}

TEST_CASE("what is sampled with the prompt kept has the log-probabilities of the training pass, bit for bit (P8)") {
  CheckSampling(Device::kCpu);
}

TEST_CASE("CUDA: decoding: what is sampled with the prompt kept has the log-probabilities of the training pass (P8)") {
  if (SkippedWithoutCuda()) return;
  CheckSampling(Device::kCuda);
}

TEST_CASE("a token sees all of its prompt beside the window, and no more of the rest than the window") {
  TestContext t;
  ModelConfig config = DecoderConfig({{3, 0, true}});
  const Transformer model(config, DType::kF64, false);
  Randomize(model);
  Tokens text = RandomTokens(60, config.vocab, 1);
  const auto last_row = [&](int prompt) {
    const int prompts[] = {prompt};
    const Tensor hidden = model.Forward(t.ctx, PackDocuments(t.arena, {&text, 1}, prompts)).value;
    return CopyOf(t.arena, hidden.Rows(59, 60));
  };
  const Tensor with_4 = last_row(4), with_40 = last_row(40);
  text[10] = (text[10] + 1) % config.vocab;  // inside the longer prompt alone
  CHECK(SameBits(last_row(4), with_4));
  CHECK(!SameBits(last_row(40), with_40));
}

TEST_CASE("a model that keeps prompts is not run without knowing them, nor with two in one document") {
  TestContext t;
  const Transformer model(DecoderConfig({{3, 0, true}}), DType::kF32, false);
  const Tokens text = RandomTokens(9, 37, 1);
  Batch batch = PackDocuments(t.arena, {&text, 1});
  CHECK_THROWS_WITH_AS(model.Forward(t.ctx, batch), Contains("it is not said here how long the prompt is"), Error);
  batch.prompts = Ints(t.arena, {4, 4, 4, 4, 4, 4, 4, 4, 4});
  CHECK_NOTHROW(model.Forward(t.ctx, batch));
  batch.prompts = Ints(t.arena, {4, 4, 4, 4, 5, 4, 4, 4, 4});
  CHECK_THROWS_WITH_AS(model.Forward(t.ctx, batch), "row 4 has a prompt of 5 tokens where document 0 has one of 4",
                       Error);
  ModelConfig both = DecoderConfig({{3, 2, true}}), full = DecoderConfig({{0, 0, true}});
  for (const ModelConfig& c : {both, full}) {
    CHECK_THROWS_WITH_AS(c.Validate(), Contains("layer 0 keeps the prompt visible, which goes with a window"), Error);
  }
}

}  // namespace
}  // namespace swarr
