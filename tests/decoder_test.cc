// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>

#include "cuda_report.h"
#include "decoder_models.h"

namespace swarr {
namespace {

using doctest::Contains;

// log p of every token of the vocabulary after `tokens`.
std::vector<double> Distribution(Context& ctx, const Transformer& model, const Tokens& tokens) {
  const std::int64_t V = model.config().vocab, T = static_cast<std::int64_t>(tokens.size());
  const Pass pass = RunForward(ctx, model, {tokens});
  std::vector<double> logp;
  for (std::int32_t v = 0; v < V; ++v) {
    const Var last{pass.hidden.Rows(T - 1, T), {}};
    logp.push_back(ValueAt(model.Logprob(ctx, last, Ints(*ctx.arena, {v})).logp.value, 0));
  }
  return logp;
}

void CheckPrefill(Device device) {
  ForModels(device, AllAttentions(), [&](const Transformer& model) {
    TestContext t(device);
    const int T = 107;  // more than three tiles and three times the largest window, and no multiple of a chunk
    const Tokens tokens = RandomTokens(T, model.config().vocab, 1);
    const Pass full = RunForward(t.ctx, model, {tokens});
    for (int chunk : {1, 5, 16}) {
      const KvCache cache(model.config(), model.dtype(), /*slots=*/3, T, chunk, MemoryOf(device));
      for (int begin = 0; begin < T; begin += chunk) {
        const StepScope scope(t.ctx);
        const int end = std::min(T, begin + chunk);
        const Pass part = Feed(t.ctx, model, cache, tokens, begin, end, /*slot=*/1);
        INFO("chunk ", chunk, " at position ", begin);
        CHECK(SameBits(part.hidden, full.hidden.Rows(begin, end)));
        CHECK(SameBits(part.logp, full.logp.Rows(begin, end)));
      }
    }
  });
}

TEST_CASE("chunked prefill and ring decode equal the full forward bit for bit at every position") {
  CheckPrefill(Device::kCpu);
}

TEST_CASE("CUDA: decoding: chunked prefill and ring decode equal the full forward bit for bit at every position") {
  if (SkippedWithoutCuda()) return;
  CheckPrefill(Device::kCuda);
}

TEST_CASE("a sequence may arrive in chunks of different sizes") {
  ForModels({{{}, {3, 1}}}, [](const Transformer& model) {
    TestContext t;
    const Tokens tokens = RandomTokens(109, model.config().vocab, 1);
    const Pass full = RunForward(t.ctx, model, {tokens});
    const KvCache cache(model.config(), model.dtype(), 1, 109, 40);
    int begin = 0;
    for (int chunk : {8, 1, 1, 40, 5, 2, 8, 1, 40, 3}) {
      const Pass part = Feed(t.ctx, model, cache, tokens, begin, begin + chunk, 0);
      CHECK(SameBits(part.logp, full.logp.Rows(begin, begin + chunk)));
      begin += chunk;
    }
    CHECK(begin == 109);
  });
}

TEST_CASE("what a cache slot held before leaves no trace") {
  ForModels({{{3, 1}, {2, 0}}}, [](const Transformer& model) {
    TestContext t;
    const Tokens first = RandomTokens(20, model.config().vocab, 1), second = RandomTokens(13, model.config().vocab, 2);
    const KvCache cache(model.config(), model.dtype(), 1, 20, 4);
    for (int begin = 0; begin < 20; begin += 4) Feed(t.ctx, model, cache, first, begin, begin + 4, 0);
    const Pass full = RunForward(t.ctx, model, {second});
    for (int at = 0; at < 13; ++at) {
      CHECK(SameBits(Feed(t.ctx, model, cache, second, at, at + 1, 0).hidden, full.hidden.Rows(at, at + 1)));
    }
  });
}

void CheckChunks(Device device, int threads) {
  ForModels(device, {{{}, {3, 1}}}, [&](const Transformer& model) {
    TestContext one(device), other(device, threads);
    const std::vector<Request> requests = ManyRequests(model.config());
    const std::vector<Completion> expected = Decoder(model, 5, kLongest, 16).Generate(one.ctx, requests);
    for (int chunk : {1, 2, 5, 64}) {
      // So that on a device some prompts are fed whole and others in chunks.
      const int prompt_rows = 8 * chunk;
      const std::vector<Completion> got =
          Decoder(model, 5, 2 * kLongest, chunk, prompt_rows).Generate(other.ctx, requests);
      for (std::size_t i = 0; i < got.size(); ++i) CheckSame(got[i], expected[i]);
    }
  });
}

TEST_CASE("completions do not depend on the chunk, the room for longer sequences or the number of threads") {
  CheckChunks(Device::kCpu, 2);
}

TEST_CASE("CUDA: decoding: completions do not depend on the chunk or the room for longer sequences") {
  if (SkippedWithoutCuda()) return;
  CheckChunks(Device::kCuda, 1);
}

TEST_CASE(
    "threads that decode sequences of their own give the completions of one thread, and call back one at a time") {
  ForModels({{{}, {3, 1}}}, [](const Transformer& model) {
    TestContext one(1);
    const std::vector<Request> requests = ManyRequests(model.config());
    const std::vector<Completion> expected = Decoder(model, 64, kLongest).Generate(one.ctx, requests);
    for (int threads : {2, 3, 5}) {
      TestContext several(threads);
      Decoder decoder(model, 64, kLongest);
      for (int time = 0; time < 2; ++time) {
        std::vector<Tokens> called(requests.size());
        std::atomic<int> inside = 0;
        bool alone = true;
        const std::vector<Completion> got =
            decoder.Generate(several.ctx, requests, [&](std::size_t request, std::int32_t token) {
              alone = alone && ++inside == 1;
              called[request].push_back(token);
              --inside;
            });
        CHECK(alone);
        for (std::size_t i = 0; i < got.size(); ++i) {
          CheckSame(got[i], expected[i]);
          CHECK(called[i] == expected[i].tokens);
        }
      }
    }
  });
}

// A decoder, and what many requests get from it where nothing ends it.
struct Undisturbed {
  Undisturbed(Device device, int threads)
      : model(DecoderConfig({{3, 0}}), DType::kF32, false, MemoryOf(device)), t(device, threads) {
    Randomize(model);
    expected = decoder.Generate(t.ctx, requests);
  }

  Transformer model;
  TestContext t;
  std::vector<Request> requests = ManyRequests(model.config());
  Decoder decoder{model, 64, kLongest};
  std::vector<Completion> expected;
};

void CheckThrowing(Device device, int threads) {
  Undisturbed undisturbed(device, threads);
  auto& [model, t, requests, decoder, expected] = undisturbed;
  for (int tokens : {1, 100}) {
    const auto count = [&](std::size_t, std::int32_t) { SWARR_CHECK(--tokens != 0, "enough"); };
    CHECK_THROWS_WITH_AS(decoder.Generate(t.ctx, requests, count), "enough", Error);
    const std::vector<Completion> again = decoder.Generate(t.ctx, requests);
    for (std::size_t i = 0; i < again.size(); ++i) CheckSame(again[i], expected[i]);
  }
}

TEST_CASE("what a thread's callback throws is thrown by Generate, and the decoder can go on") {
  for (int threads : {3, 5}) CheckThrowing(Device::kCpu, threads);  // 5: of a team of two
}

TEST_CASE("CUDA: decoding: what a callback throws is thrown by Generate, and the decoder can go on") {
  if (SkippedWithoutCuda()) return;
  CheckThrowing(Device::kCuda, 1);
}

void CheckStopping(Device device, int threads) {
  Undisturbed undisturbed(device, threads);
  auto& [model, t, requests, decoder, expected] = undisturbed;
  for (const int steps : {1, 20}) {
    std::atomic<int> asked = 0;
    const std::vector<Completion> got = decoder.Generate(t.ctx, requests, {}, [&] { return ++asked >= steps; });
    REQUIRE(got.size() == requests.size());
    std::size_t complete = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (IsComplete(requests[i], got[i])) {
        CheckSame(got[i], expected[i]);
        ++complete;
      } else {
        CHECK(got[i].tokens.size() < expected[i].tokens.size());
      }
    }
    CHECK(complete < got.size());
    if (steps > 1) CHECK(complete > 0);
    const std::vector<Completion> again = decoder.Generate(t.ctx, requests);
    for (std::size_t i = 0; i < again.size(); ++i) CheckSame(again[i], expected[i]);
  }
}

TEST_CASE("a decoder that is asked to stop gives what is complete with the bits of all, and can go on") {
  for (int threads : {1, 3, 5}) CheckStopping(Device::kCpu, threads);
}

TEST_CASE("CUDA: decoding: a decoder that is asked to stop gives what is complete, and can go on") {
  if (SkippedWithoutCuda()) return;
  CheckStopping(Device::kCuda, 1);
}

void CheckReuse(Device device) {
  ForModels(device, {{{4, 0}, {4, 0}}}, [&](const Transformer& model) {
    TestContext t(device);
    std::vector<Request> requests = ManyRequests(model.config());
    Decoder decoder(model, 4, kLongest);
    const std::vector<Completion> first = decoder.Generate(t.ctx, requests), again = decoder.Generate(t.ctx, requests);
    for (std::size_t i = 0; i < first.size(); ++i) CheckSame(first[i], again[i]);
    for (Request& r : requests) r.key ^= 1;
    const std::vector<Completion> other = decoder.Generate(t.ctx, requests);
    CHECK(std::count_if(requests.begin(), requests.end(), [&](const Request& r) {
            const auto i = static_cast<std::size_t>(&r - requests.data());
            return other[i].tokens != first[i].tokens;
          }) > 15);
  });
}

TEST_CASE("a decoder can be used again, and other keys give other completions") { CheckReuse(Device::kCpu); }

TEST_CASE("CUDA: decoding: a decoder can be used again, and other keys give other completions") {
  if (SkippedWithoutCuda()) return;
  CheckReuse(Device::kCuda);
}

TEST_CASE("a completion ends with the end of text, which it contains, or at its limit") {
  ForModels({{{}, {}}}, [](const Transformer& model) {
    TestContext t;
    const std::vector<Request> requests = ManyRequests(model.config());
    const std::vector<Completion> completions = Decoder(model, 8, kLongest).Generate(t.ctx, requests);
    int finished = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const Completion& c = completions[i];
      const auto eos = std::find(c.tokens.begin(), c.tokens.end(), model.config().eos_id);
      CHECK(c.finished == (eos != c.tokens.end()));
      if (c.finished) CHECK(eos == c.tokens.end() - 1);
      if (!c.finished) CHECK(static_cast<int>(c.tokens.size()) == requests[i].max_new_tokens);
      finished += c.finished;
    }
    CHECK(finished > 0);
    CHECK(finished < static_cast<int>(requests.size()));
  });
}

TEST_CASE("every id that ends texts ends a completion, and ending with another keeps the ids before") {
  ModelConfig config = DecoderConfig({{}});
  config.stop_ids = {5, 9};
  Transformer model(config, DType::kF32, false);
  Randomize(model);
  const auto last_tokens = [&] {
    TestContext t;
    std::set<std::int32_t> last;
    for (const Completion& c : Decoder(model, 8, kLongest).Generate(t.ctx, ManyRequests(config))) {
      for (std::size_t i = 0; i < c.tokens.size(); ++i) {
        CHECK(model.config().Stops(c.tokens[i]) == (c.finished && i + 1 == c.tokens.size()));
      }
      if (c.finished) last.insert(c.tokens.back());
    }
    return last;
  };
  CHECK(last_tokens() == std::set<std::int32_t>{0, 5, 9});
  model.SetEndOfText(7);
  CHECK(model.config().eos_id == 7);
  CHECK(last_tokens() == std::set<std::int32_t>{0, 5, 7, 9});
  CHECK_THROWS_WITH_AS(model.SetEndOfText(37), Contains("eos_token_id 37 is no id"), Error);
}

TEST_CASE("a finished slot takes the next request at once, so that a long sequence holds up nobody") {
  ModelConfig config = DecoderConfig({{3, 0}});
  config.eos_id = -1;  // everything runs to its limit
  Transformer model(config, DType::kF32, false);
  Randomize(model);
  TestContext t;
  std::vector<Request> requests = {{{1}, 20, 1.0, 1}};
  for (std::uint64_t i = 0; i < 4; ++i) requests.push_back({{2}, 4, 1.0, i});
  std::vector<int> drawn(5, 0), drawn_by_long(5, 0);  // tokens so far; the long one's when each of them was complete
  Decoder(model, 2, 32).Generate(t.ctx, requests, [&](std::size_t request, std::int32_t) {
    if (++drawn[request] == requests[request].max_new_tokens) drawn_by_long[request] = drawn[0];
  });
  CHECK(drawn == std::vector<int>{20, 4, 4, 4, 4});
  CHECK(drawn_by_long == std::vector<int>{20, 4, 8, 12, 16});
}

TEST_CASE("what is drawn where a logit is not finite is no completion") {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    TestContext t;
    Transformer model(DecoderConfig({{}, {}}), dtype, /*with_gradients=*/false);
    Randomize(model);
    const std::vector<Request> requests = ManyRequests(model.config());
    CHECK_NOTHROW(CheckFinite(Decoder(model, 8, kLongest).Generate(t.ctx, requests)));
    Fill(model.parameters()["model.layers.1.self_attn.q_proj.weight"].value, 1e30);
    Fill(model.parameters()["model.layers.1.self_attn.k_proj.weight"].value, 1e30);
    CHECK_THROWS_WITH_AS(CheckFinite(Decoder(model, 8, kLongest).Generate(t.ctx, requests)),
                         Contains("of completion 1 is"), Error);
  }
}

TEST_CASE("temperature 0 takes the most probable token at every position") {
  ForModels({{{3, 1}, {}}}, [](const Transformer& model) {
    TestContext t;
    const Tokens prompt = RandomTokens(5, model.config().vocab, 3);
    const std::vector<Request> requests = {{prompt, 30, 0.0, 1}};
    const Completion c = Decoder(model, 1, kLongest).Generate(t.ctx, requests)[0];
    Tokens so_far = prompt;
    for (std::size_t i = 0; i < c.tokens.size(); ++i) {
      const std::vector<double> logp = Distribution(t.ctx, model, so_far);
      CHECK(c.tokens[i] == std::max_element(logp.begin(), logp.end()) - logp.begin());
      CHECK(c.logp[i] == logp[static_cast<std::size_t>(c.tokens[i])]);
      so_far.push_back(c.tokens[i]);
    }
    CHECK(c.tokens.size() > 3);
  });
}

TEST_CASE(
    "tokens are drawn from softmax(logits / temperature), and their log-probabilities are those of temperature 1") {
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kBF16}) {  // of all in a model the sampler knows this alone
    Transformer model(DecoderConfig({{}, {}}), dtype, /*with_gradients=*/false);
    Randomize(model);
    INFO(Name(dtype));
    TestContext t;
    const Tokens prompt = {5, 1, 4};
    const std::vector<double> logp = Distribution(t.ctx, model, prompt);
    for (double temperature : {1.0, 2.5}) {
      const int n = 4000;
      std::vector<Request> requests;
      for (std::uint32_t i = 0; i < n; ++i) {
        requests.push_back({prompt, 1, temperature, StreamKey(1, Purpose::kSample, i)});
      }
      std::vector<int> counts(logp.size(), 0);
      for (const Completion& c : Decoder(model, 500, 4).Generate(t.ctx, requests)) {
        const auto token = static_cast<std::size_t>(c.tokens[0]);
        ++counts[token];
        CHECK(c.logp[0] == logp[token]);
      }
      double normaliser = 0;
      for (double l : logp) normaliser += std::exp(l / temperature);
      for (std::size_t v = 0; v < logp.size(); ++v) {
        const double p = std::exp(logp[v] / temperature) / normaliser;
        // Five standard deviations of a binomial count: one of 10^6 counts would be outside, and the draws are fixed.
        CHECK(std::fabs(counts[v] - n * p) <= 5 * std::sqrt(n * p * (1 - p)) + 1);
      }
    }
  }
}

TEST_CASE("under a window, a cache does not grow with the length of sequences") {
  const ModelConfig windowed = DecoderConfig({{7, 4}, {3, 0}}), hybrid = DecoderConfig({{7, 4}, {}});
  const auto bytes = [](const ModelConfig& c, int length) { return KvCache(c, DType::kF32, 2, length, 5).bytes(); };
  // A tile of 32 tokens of two heads: 6 x 32 numbers of keys, 32 x 32 (whole panels) of values.
  const std::size_t tile = 2 * (6 * 32 + 32 * 32) * sizeof(float);
  const std::size_t first = 1 + 2, second = 2;  // sinks; 7 + 5 - 1 and 3 + 5 - 1 positions touch two tiles at most
  CHECK(bytes(windowed, 1000) == 2 * tile * (first + second));
  CHECK(bytes(windowed, 100000) == bytes(windowed, 1000));
  CHECK(bytes(windowed, 6) == 2 * tile * (1 + 1));  // never more than the sequence
  CHECK(bytes(hybrid, 2000) == 2 * tile * (first + 63));
  CHECK(KvBytesPerSequence(windowed, DType::kF32, 1000) == tile * (first + second));
  CHECK(KvBytesPerSequence(windowed, DType::kF32, 100000) == tile * (first + second));
  CHECK(KvBytesPerSequence(hybrid, DType::kF64, 1000) == 2 * tile * (first + 32));
  // Keys of bf16 are padded to whole cache lines of the head.
  CHECK(KvBytesPerSequence(windowed, DType::kBF16, 1000) == 2 * (32 * 32 + 32 * 32) * 2 * (first + second));
}

TEST_CASE("requests that can't be served are refused before anything is drawn") {
  Transformer model(DecoderConfig({{3, 0}}), DType::kF32, false);
  TestContext t;
  Decoder decoder(model, 2, 20);
  int drawn = 0;
  const auto generate = [&](const std::vector<Request>& requests) {
    return decoder.Generate(t.ctx, requests, [&](std::size_t, std::int32_t) { ++drawn; });
  };
  const Request good = {{1, 2}, 3, 1.0, 1};
  CHECK_THROWS_WITH_AS(generate({good, {{}, 3, 1.0, 1}}), Contains("empty prompt"), Error);
  CHECK_THROWS_WITH_AS(generate({good, {{1, 2}, 19, 1.0, 1}}), Contains("longer than the 20 tokens"), Error);
  CHECK_THROWS_WITH_AS(Decoder(model, 2, 257), Contains("context of 256"), Error);
  CHECK(drawn == 0);
  CHECK_THROWS_AS(generate({{{1, 37}, 3, 1.0, 1}}), Error);  // no such token

  const std::vector<Completion> none = generate({good, {{1}, 0, 1.0, 1}});
  CHECK(none[1].tokens.empty());
  CHECK(!none[1].finished);
  CHECK(generate({}).empty());
}

}  // namespace
}  // namespace swarr
