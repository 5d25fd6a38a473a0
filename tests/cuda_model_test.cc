// SPDX-License-Identifier: Apache-2.0
// Whole models on a CUDA device beside the processor. Decoding and training are in decoder_test.cc, training_test.cc
// and rl_test.cc, beside what they require of the processor.
#include <cmath>

#include "cuda_report.h"
#include "op_runs.h"
#include "test_models.h"

using namespace swarr;

namespace {

std::vector<ModelCase> AllModels() {
  std::vector<ModelCase> models = ModelCases();
  models.push_back({"wide", WideConfig()});
  return models;
}

// Documents of more and of fewer tokens than a tile, and of one; the wide model's longest needs several blocks of
// queries.
std::vector<Tokens> DocumentsFor(const ModelConfig& config) {
  const std::vector<int> lengths =
      config.max_positions > 64 ? std::vector<int>{200, 1, 350, 77} : std::vector<int>{40, 1, 64, 17};
  return RandomDocuments(lengths, config.vocab);
}

// What one training pass leaves, on the host.
struct Trained {
  double loss;                    // -mean log p
  std::vector<Tensor> gradients;  // of each parameter
};
Trained Train(TestContext& t, const ModelConfig& config, DType dtype, bool checkpoint) {
  const MemoryKind kind = MemoryOf(t.ctx.device());
  const Transformer model(config, dtype, /*with_gradients=*/true, kind);
  Randomize(model);
  const std::vector<Tokens> documents = DocumentsFor(config);
  RunBackward(t.ctx, model, documents, Coefficients(documents), checkpoint);
  const Pass pass = RunForward(t.ctx, model, documents);
  Trained trained{0, {}};
  for (std::int64_t n = 0; n < pass.logp.size(); ++n) trained.loss -= ValueAt(pass.logp, n);
  trained.loss /= static_cast<double>(pass.logp.size());
  const HostView gradients(model.parameters().flat_gradients(), kind);
  for (const Parameter& p : model.parameters().all()) {
    trained.gradients.push_back(CopyOf(t.ctx.HostArena(), p.PartOf(gradients.view())));
  }
  return trained;
}

double LargestOf(const std::vector<Tensor>& tensors) {
  double largest = 0;
  for (const Tensor& t : tensors) largest = std::max(largest, swarr::LargestOf(t));
  return largest;
}

}  // namespace

TEST_CASE("CUDA: model: loss and every gradient are the processor's to 1e-11 in f64, for all kinds of models") {
  if (SkippedWithoutCuda()) return;
  Report report("model parity f64 <= 1e-11");
  for (const ModelCase& c : AllModels()) {
    for (bool checkpoint : {false, true}) {
      const std::string name = c.name + (checkpoint ? ", checkpointed" : "");
      INFO(name);
      TestContext processor, device(Device::kCuda);
      const Trained expected = Train(processor, c.config, DType::kF64, checkpoint);
      const Trained got = Train(device, c.config, DType::kF64, checkpoint);
      const double loss = std::fabs(got.loss / expected.loss - 1), all = LargestOf(expected.gradients);
      double gradients = 0;
      for (std::size_t i = 0; i < expected.gradients.size(); ++i) {
        gradients = std::max(gradients, ErrorBeside(got.gradients[i], expected.gradients[i], all));
      }
      CHECK(all > 1e-3);
      CHECK(loss <= 1e-11);
      CHECK(gradients <= 1e-11);
      report.Line(name, {{"loss", loss}, {"gradients", gradients}});
    }
  }
}

TEST_CASE("CUDA: model: gradient checkpointing and a second pass change no bit of any gradient (P3)") {
  if (SkippedWithoutCuda()) return;
  for (const ModelCase& c : AllModels()) {
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      INFO(c.name << " " << Name(dtype));
      TestContext t(Device::kCuda);
      const Trained plain = Train(t, c.config, dtype, false), again = Train(t, c.config, dtype, false),
                    checkpointed = Train(t, c.config, dtype, true);
      CHECK(again.loss == plain.loss);
      for (std::size_t i = 0; i < plain.gradients.size(); ++i) {
        CHECK(SameBits(again.gradients[i], plain.gradients[i]));
        CHECK(SameBits(checkpointed.gradients[i], plain.gradients[i]));
      }
    }
  }
}

TEST_CASE("CUDA: model: documents packed into one row give the same bits as alone (P8)") {
  if (SkippedWithoutCuda()) return;
  for (const ModelCase& c : AllModels()) {
    const std::vector<Tokens> documents = DocumentsFor(c.config);
    for (DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      INFO(c.name << " " << Name(dtype));
      const Transformer model(c.config, dtype, /*with_gradients=*/false, MemoryKind::kDevice);
      Randomize(model);
      TestContext t(Device::kCuda);
      const Pass packed = RunForward(t.ctx, model, documents);
      std::int64_t row = 0;
      for (const Tokens& d : documents) {
        const Pass alone = RunForward(t.ctx, model, {d});
        const std::int64_t end = row + static_cast<std::int64_t>(d.size());
        CHECK(SameBits(alone.hidden, packed.hidden.Rows(row, end)));
        CHECK(SameBits(alone.logp, packed.logp.Rows(row, end)));
        row = end;
      }
    }
  }
}
