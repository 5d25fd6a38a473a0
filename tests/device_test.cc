// SPDX-License-Identifier: Apache-2.0
// What holds on every device that this build and this machine have: movement, parameters, training, decoding.
#include <doctest/doctest.h>

#include <algorithm>

#include "model/decoder.h"
#include "model/model_files.h"
#include "temp_directory.h"
#include "test_models.h"
#include "train/sft.h"

namespace swarr {
namespace {

TEST_CASE("a tensor comes back from the device as it went there, also of no rows") {
  for (const Device device : TestDevices()) {
    INFO(Name(device));
    TestContext t(device);
    for (const std::int64_t rows : {0, 1, 1000}) {
      const Tensor sent = Random(t.ctx.HostArena(), DType::kF64, {rows, 3}, 1);
      const Tensor there = ToDevice(t.ctx, sent);
      CHECK(SameBits(OnHost(t.ctx, there), sent));
      const Tensor copy = t.ctx.arena->NewLike(there);
      Copy(t.ctx, copy, there);
      CHECK(SameBits(HostView(copy, MemoryOf(device)).view(), sent));
      FillZero(t.ctx, copy);
      CHECK(SameBits(OnHost(t.ctx, copy), ZeroLike(t.ctx.HostArena(), DType::kF64, sent)));
      ResetStep(t.ctx);
    }
    CHECK(ToDevice(t.ctx, Tensor{}).empty());
    CHECK(ToHost(t.ctx, Tensor{}).empty());
  }
}

TEST_CASE("memory of every device begins as zeros, and what the host writes arrives there") {
  for (const Device device : TestDevices()) {
    INFO(Name(device));
    TestContext t(device);
    const OwnedTensor owned(DType::kF32, {5, 7}, MemoryOf(device));
    const HostView view(owned.view(), MemoryOf(device));
    CHECK(SameBits(view.view(), t.ctx.HostArena().NewZero(DType::kF32, {5, 7})));
    Fill(view.view(), 3);
    view.WriteBack();
    CHECK(SameBits(HostView(owned.view(), MemoryOf(device)).view(), view.view()));
  }
}

TEST_CASE("initial weights, and the files they are saved in, are the same on every device") {
  const TempDirectory directory;
  const ModelConfig config = TextConfig();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Transformer expected(config, dtype, /*with_gradients=*/false);
    InitializeParameters(expected.parameters(), config.layers, 7);
    for (const Device device : TestDevices()) {
      INFO(Name(device) << " " << Name(dtype));
      const Transformer model(config, dtype, /*with_gradients=*/false, MemoryOf(device));
      InitializeParameters(model.parameters(), config.layers, 7);
      SaveModel(directory / Name(device), model, TextTokenizer());
      const auto loaded = LoadModel(directory / Name(device), dtype, false, MemoryOf(device));
      for (const Transformer* m : {&model, static_cast<const Transformer*>(loaded.get())}) {
        CHECK(SameBits(HostView(m->parameters().master(), MemoryOf(device)).view(), expected.parameters().master()));
        for (std::size_t i = 0; i < m->parameters().all().size(); ++i) {
          const Tensor value = m->parameters().all()[i].var.value;
          CHECK(SameBits(HostView(value, MemoryOf(device)).view(), expected.parameters().all()[i].var.value));
        }
      }
    }
  }
}

TEST_CASE("ids, positions and targets out of range are refused on every device") {
  for (const Device device : TestDevices()) {
    INFO(Name(device));
    TestContext t(device);
    const ModelConfig config = TinyConfig();
    const Transformer model(config, DType::kF32, /*with_gradients=*/false, MemoryOf(device));
    const auto forward = [&](const Tokens& tokens) {
      return model.Forward(t.ctx, PackDocuments(t.ctx.HostArena(), {&tokens, 1}));
    };
    CHECK_THROWS_WITH_AS(forward({1, 11}), "token id 11 is outside the vocabulary of 11", Error);
    CHECK_THROWS_AS(forward({-1}), Error);
    CHECK_THROWS_WITH_AS(forward(Tokens(65, 1)), doctest::Contains("position 64 is outside the model's context"),
                         Error);
    const Var hidden = forward({1, 2});
    CHECK_THROWS_WITH_AS(model.Logprob(t.ctx, hidden, Ints(t.ctx.HostArena(), {0, 11})),
                         "target id 11 is outside the vocabulary of 11", Error);
  }
}

// The rate of a step must not depend on how many steps are to come.
OptimizerOptions ConstantRate() {
  OptimizerOptions options;
  options.schedule = Schedule::kConstant;
  return options;
}

TEST_CASE("a training run that was interrupted goes on to the same bits on every device") {
  const TableTask task({{"ab?", "abab", "x"}, {"cd?", "cd", "y"}, {"ba?", "babaab", "z"}});
  const OptimizerOptions options = ConstantRate();
  for (const Device device : TestDevices()) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      INFO(Name(device) << " " << Name(dtype));
      const TempDirectory directory;
      const auto train = [&](Trainee& t, const std::string& resume, std::int64_t steps, const char* name) {
        const RunOptions run_options{.output_dir = directory / name, .save_every = 3, .resume = resume};
        TrainingRun run(run_options, {}, t.model, t.optimizer, t.tokenizer);
        RunSft(t.ctx, t.model, t.tokenizer, task, nullptr, {.steps = steps, .batch_size = 2, .grad_accum = 2},
               t.optimizer, run);
        Wait(t.ctx);
      };
      Trainee whole(TextConfig(), dtype, options, 1, device);
      train(whole, "", 6, "whole");
      Trainee first(TextConfig(), dtype, options, 1, device);
      train(first, "", 3, "parts");
      Trainee second(TextConfig(), dtype, options, 1, device);
      train(second, "auto", 6, "parts");
      CHECK(SameState(second, whole));
    }
  }
}

// Of different lengths, so that slots change hands and steps have ever other numbers of rows and draws.
std::vector<Request> ManyRequests(const ModelConfig& config) {
  std::vector<Request> requests;
  for (std::uint32_t i = 0; i < 40; ++i) {
    requests.push_back({RandomTokens(1 + static_cast<int>(i * 7 % 23), config.vocab, i), 3 + static_cast<int>(i % 29),
                        i % 5 == 0 ? 0.0 : 1.0, StreamKey(9, Purpose::kSample, 0, i)});
  }
  return requests;
}

TEST_CASE("on every device a sampled log-probability is that of the training pass, whatever the slots (P8)") {
  ModelConfig config = TinyConfig();
  config.attention = {{}, {7, 2}};
  const std::vector<Request> requests = ManyRequests(config);
  for (const Device device : TestDevices()) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      INFO(Name(device) << " " << Name(dtype));
      TestContext t(device);
      const Transformer model(config, dtype, /*with_gradients=*/false, MemoryOf(device));
      Randomize(model);
      std::vector<Completion> expected;
      for (const int slots : {40, 1, 7}) {
        Decoder decoder(model, slots, 64, /*max_chunk=*/slots == 7 ? 1 : 16);
        for (int time = 0; time < 2; ++time) {  // the second time, all sizes have been recorded
          const std::vector<Completion> got = decoder.Generate(t.ctx, requests);
          if (expected.empty()) expected = got;
          for (std::size_t i = 0; i < requests.size(); ++i) {
            CHECK(got[i].tokens == expected[i].tokens);
            CHECK(got[i].logprobs == expected[i].logprobs);
          }
        }
      }
      std::vector<Tokens> documents;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        documents.push_back(requests[i].prompt);
        documents[i].insert(documents[i].end(), expected[i].tokens.begin(), expected[i].tokens.end());
      }
      const Pass training = RunForward(t.ctx, model, documents);
      std::int64_t row = 0, different = 0;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        row += static_cast<std::int64_t>(requests[i].prompt.size()) - 1;
        for (const double logp : expected[i].logprobs) different += logp != ValueAt(training.logp, row++);
        ++row;  // the last token's
      }
      CHECK(row == training.logp.size());
      CHECK(different == 0);
    }
  }
}

}  // namespace
}  // namespace swarr
