// SPDX-License-Identifier: Apache-2.0
// What holds on every device that this build and this machine have: movement, parameters, and checks. Ops, decoding
// and training are tested in cuda_*_test.cc and beside the processor's tests.
#include <doctest/doctest.h>

#include "model/model_files.h"
#include "temp_directory.h"
#include "test_models.h"

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
    Arena& host = t.ctx.HostArena();
    const Tensor ids = Ints(host, {1, 2}), positions = Ints(host, {0, 1});
    CHECK_THROWS_WITH_AS(model.Forward(t.ctx, {ids, positions, Ints(host, {0, 1}), {}}),
                         "attention documents must begin at row 0 and end at row 2", Error);
    const KvCache cache(config, DType::kF32, /*slots=*/2, /*max_length=*/8, /*max_chunk=*/2, MemoryOf(device));
    CHECK_THROWS_WITH_AS(model.Forward(t.ctx, {ids, positions, {}, Ints(host, {1, 2})}, cache),
                         "slot 2 is outside a cache of 2", Error);
  }
}

}  // namespace
}  // namespace swarr
