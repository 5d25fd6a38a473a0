// SPDX-License-Identifier: Apache-2.0
// A model in bf16: its master in f32, what is rounded from it and when, and its files.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/gradient_check.h"
#include "base/files.h"
#include "cuda_report.h"
#include "model/model_files.h"
#include "resume_checks.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "train/run.h"
#include "train/sft.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr DType kDType = DType::kBF16;

// The values that the model computes with are the rounding of its master, element by element.
void CheckRounded(const Transformer& model) {
  REQUIRE(model.dtype() == kDType);
  REQUIRE(model.parameters().master().dtype() == DType::kF32);
  std::int64_t wrong = 0, inexact = 0;
  for (const Parameter& p : model.parameters().all()) {
    REQUIRE(p.var.value.dtype() == kDType);
    REQUIRE(p.master.dtype() == DType::kF32);
    REQUIRE(p.master.size() == p.var.value.size());
    for (std::int64_t i = 0; i < p.master.size(); ++i) {
      const BFloat16 value = p.var.value.data<BFloat16>()[i];
      wrong += value.bits != BFloat16(p.master.data<float>()[i]).bits;
      inexact += static_cast<float>(value) != p.master.data<float>()[i];
    }
  }
  CHECK(wrong == 0);
  CHECK(inexact > model.parameters().count() / 2);  // the master is no copy of the values
}

ModelConfig WindowedConfig() {
  ModelConfig config = TextConfig();
  config.attention = {{}, {3, 1}};
  return config;
}

TableTask SmallTask() { return TableTask({{"a?", "b", "b"}, {"b?", "c", "c"}, {"c?", "d", "d"}, {"d?", "a", "a"}}); }

SftOptions Steps(std::int64_t steps) {
  SftOptions options;
  options.steps = steps;
  options.batch_size = 4;
  options.seed = 3;
  return options;
}

void Train(Trainee& t, const SftOptions& options, const RunOptions& run_options) {
  const TableTask task = SmallTask();
  TrainingRun run(run_options, {{"steps", options.steps}}, t.model, t.optimizer, t.tokenizer);
  RunSft(t.ctx, t.model, t.tokenizer, task, &task, options, t.optimizer, run);
  run.Finish();
}

TEST_CASE("values are the rounding of the master from the start, after a step and after a load") {
  Trainee t(WindowedConfig(), kDType, {});
  CheckRounded(t.model);
  CHECK(t.model.parameters().flat_gradients().dtype() == DType::kF32);
  CHECK(t.optimizer.first_moment().dtype() == DType::kF32);
  CHECK(t.optimizer.second_moment().dtype() == DType::kF32);

  const OwnedTensor before(DType::kF32, {t.model.parameters().count()});
  Copy(before.view(), t.model.parameters().master());
  Copy(t.model.parameters().flat_gradients(), Random(t.memory.arena, DType::kF32, {t.model.parameters().count()}, 1));
  t.optimizer.Step(t.ctx, 1e-3, 1);
  CHECK(!SameBits(before.view(), t.model.parameters().master()));
  CheckRounded(t.model);

  const TempDirectory dir;
  SaveModel(dir / "model", t.model, TextTokenizer());
  const auto loaded = LoadModel(dir / "model", kDType, /*with_gradients=*/true);
  CHECK(SameBits(loaded->parameters().master(), t.model.parameters().master()));
  CheckRounded(*loaded);
}

TEST_CASE("steps too small for bf16 are not lost: the master adds them up") {
  Trainee t(TextConfig(), kDType, {});
  const Tensor gradients = t.model.parameters().flat_gradients();
  const Var& norm = t.model.parameters()["model.norm.weight"];  // of ones; no decay
  for (int step = 0; step < 100; ++step) {
    Fill(gradients, 1.0);
    t.optimizer.Step(t.ctx, 1e-4, 1);  // AdamW moves by 1e-4 a step, of bf16's 2^-8 = 4e-3 below 1
  }
  CHECK(ValueAt(norm.value, 0) == doctest::Approx(0.99).epsilon(0x1p-8));
  CHECK(ValueAt(norm.value, 0) < 1);
}

TEST_CASE("SFT in bf16 learns, its files hold the f32 master, and it resumes to the same bits") {
  const TempDirectory dir;
  OptimizerOptions options;
  options.lr = 0.02;
  options.warmup_steps = 5;
  Trainee t(WindowedConfig(), kDType, options);
  SftOptions sft = Steps(300);
  sft.eval_every = 150;
  sft.eval_max_completion_length = 4;
  RunOptions run = In(dir / "run");
  run.save_every = 150;
  Train(t, sft, run);
  const auto metrics = MetricsWithoutTimes(dir / "run");
  REQUIRE(metrics.size() == 300);
  CHECK(metrics[19]["loss"].get<double>() < 0.9 * metrics[0]["loss"].get<double>());
  CHECK(metrics.back()["loss"].get<double>() < 0.05);
  CHECK(metrics.back()["eval/accuracy"] == 1.0);
  CheckRounded(t.model);

  for (const fs::path& where : {dir / "run", dir / "run" / "checkpoint-00000300"}) {
    INFO(where);
    const SafetensorsFile file(where / "model.safetensors");
    for (const Parameter& p : t.model.parameters().all()) {
      CHECK(file.dtype(p.name) == DType::kF32);
      const OwnedTensor held(DType::kF32, {p.master.size()});
      const Tensor shaped =
          p.master.rank() == 2 ? held.view().Reshape({p.master.dim(0), p.master.dim(1)}) : held.view();
      file.CopyTo(p.name, shaped);
      CHECK(SameBits(shaped, p.master));
    }
  }

  Trainee rest(WindowedConfig(), kDType, options);
  Randomize(rest.model, /*stream=*/99);
  run.resume = (dir / "run" / "checkpoint-00000150").string();
  Train(rest, sft, run);
  CHECK(SameState(rest, t));
  CheckRounded(rest.model);
  CHECK(MetricsWithoutTimes(dir / "run") == metrics);
}

// Cosine between the gradient of a bf16 model with random weights and that of its f64 twin, and the ratio of their
// norms.
struct Agreement {
  double cosine, ratio;
};
Agreement CompareWithF64(const ModelConfig& config, Device device, Cpu cpu, std::uint32_t stream) {
  const std::vector<Tokens> documents = RandomDocuments({40, 1, 17}, config.vocab);
  Transformer narrow(config, kDType, true, MemoryOf(device)), wide(config, DType::kF64, true);
  Randomize(narrow, stream);
  for (std::size_t i = 0; i < wide.parameters().all().size(); ++i) {
    const Tensor& to = wide.parameters().all()[i].master;
    const HostView from(narrow.parameters().all()[i].var.value, MemoryOf(device));
    for (std::int64_t e = 0; e < to.size(); ++e) to.data<double>()[e] = ValueAt(from.view(), e);
  }
  TestContext t(device, 1, cpu), exact(1, cpu);
  RunBackward(t.ctx, narrow, documents, Coefficients(documents));
  RunBackward(exact.ctx, wide, documents, Coefficients(documents));
  const HostView gradients(narrow.parameters().flat_gradients(), MemoryOf(device));
  const Tensor a = gradients.view(), b = wide.parameters().flat_gradients();
  double ab = 0, aa = 0, bb = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    ab += ValueAt(a, i) * ValueAt(b, i);
    aa += ValueAt(a, i) * ValueAt(a, i);
    bb += ValueAt(b, i) * ValueAt(b, i);
  }
  return {ab / std::sqrt(aa * bb), std::sqrt(aa / bb)};
}

// Activations and their gradients are rounded by 2^-9 some thirty times on the way, which is a percent or two; a
// forgotten term or a wrong formula is a multiple of that. Residuals of 7 channels now and then nearly cancel before a
// norm, and then a model amplifies every rounding: what counts is the median of fifteen.
void CheckAgreement(const ModelCase& c, Device device, Cpu cpu) {
  constexpr int kModels = 15;
  INFO(c.name << " " << Name(device) << " " << Name(cpu));
  std::vector<double> angles, ratios;
  for (std::uint32_t stream = 0; stream < kModels; ++stream) {
    const Agreement agreement = CompareWithF64(c.config, device, cpu, stream);
    angles.push_back(1 - agreement.cosine);
    ratios.push_back(std::fabs(agreement.ratio - 1));
  }
  for (auto* values : {&angles, &ratios}) std::sort(values->begin(), values->end());
  CHECK(angles[kModels / 2] < 1e-3);
  CHECK(ratios[kModels / 2] < 0.03);
}

TEST_CASE("the gradient of a bf16 model is that of its f64 twin but for roundings") {
  for (const ModelCase& c : ModelCases()) {
    for (Cpu cpu : SupportedCpus()) CheckAgreement(c, Device::kCpu, cpu);
  }
}

TEST_CASE("CUDA: the gradient of a bf16 model is that of its f64 twin but for roundings") {
  if (SkippedWithoutCuda()) return;
  for (const ModelCase& c : ModelCases()) CheckAgreement(c, Device::kCuda, BestCpu());
}

TEST_CASE("model files that hold bf16 are read, in every dtype, as the numbers that they hold") {
  Transformer model(WindowedConfig(), kDType, false);
  Randomize(model);
  const TempDirectory dir;
  SaveModel(dir / "model", model, TextTokenizer());
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.var.value});
  WriteSafetensors(dir / "model" / "model.safetensors", tensors);
  REQUIRE(SafetensorsFile(dir / "model" / "model.safetensors").dtype("model.norm.weight") == kDType);
  for (DType dtype : {DType::kF64, DType::kF32, kDType}) {
    INFO(Name(dtype));
    const auto loaded = LoadModel(dir / "model", dtype, false);
    for (const Parameter& p : model.parameters().all()) {
      CHECK(RelativeError(loaded->parameters()[p.name].value, p.var.value) == 0);
    }
    CHECK(loaded->parameters().master().dtype() == AccumulatorOf(dtype));
    const auto& all = loaded->parameters().all();
    CHECK(std::all_of(all.begin(), all.end(),
                      [](const Parameter& p) { return RelativeError(p.master, p.var.value) == 0; }));
  }
}

TEST_CASE("a model in f32 that goes through bf16 and back keeps its bits: the master holds them") {
  Transformer model(WindowedConfig(), DType::kF32, false);
  Randomize(model);
  const TempDirectory dir;
  SaveModel(dir / "first", model, TextTokenizer());
  SaveModel(dir / "second", *LoadModel(dir / "first", kDType, false), TextTokenizer());
  for (const std::string& name : ModelFileNames()) {
    CHECK(ReadFile(dir / "first" / name) == ReadFile(dir / "second" / name));
  }
}

}  // namespace
}  // namespace swarr
