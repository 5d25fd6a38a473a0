// SPDX-License-Identifier: Apache-2.0
// Distillation: the op against PyTorch and TRL, on the file that tools/make_distill_fixtures.py writes (its head says
// what it holds), and what it promises beside; then SFT with a teacher.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/gradient_check.h"
#include "autograd/ops.h"
#include "cuda_report.h"
#include "resume_checks.h"
#include "temp_directory.h"
#include "tensor/safetensors.h"
#include "test_models.h"
#include "train/data.h"
#include "train/requirements.h"
#include "train/run.h"
#include "train/sft.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr KlDirection kDirections[] = {KlDirection::kForward, KlDirection::kReverse};

// Both sides compute in f64: some hundred roundings of 1e-16 each. A wrong formula shows at 1e-3.
constexpr double kBound = 1e-12;

// The loss of SFT with a teacher over the rows that the mask has, by the ops: its value, and the gradients of x and w.
struct Distilled {
  Tensor kl, dx, dw;
  double loss = 0, mean_kl = 0;
};
struct Heads {
  Tensor x, w, teacher_x, teacher_w, targets, mask;
};
Distilled Distil(Context& ctx, const Heads& h, double weight, const DistillOptions& options) {
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Var x{h.x, ZeroLike(*ctx.arena, DType::kF64, h.x)}, w{h.w, ZeroLike(*ctx.arena, DType::kF64, h.w)};
  const Var logp = TokenLogprob(ctx, x, w, h.targets).logp;
  const Var kl = DistillKl(ctx, x, w, h.teacher_x, h.teacher_w, options);
  const auto counts = [&](std::int64_t n) { return h.mask.data<std::int32_t>()[n] != 0; };
  double rows = 0;
  for (std::int64_t n = 0; n < h.mask.size(); ++n) rows += counts(n);
  Distilled result{.kl = kl.value, .dx = x.grad, .dw = w.grad};
  const double of_kl = weight * options.temperature * options.temperature;
  for (std::int64_t n = 0; n < h.mask.size(); ++n) {
    if (!counts(n)) continue;
    logp.grad.data<double>()[n] = -(1 - weight) / rows;
    kl.grad.data<double>()[n] = of_kl / rows;
    result.mean_kl += ValueAt(kl.value, n) / rows;
    result.loss += (of_kl * ValueAt(kl.value, n) - (1 - weight) * ValueAt(logp.value, n)) / rows;
  }
  tape.Backward(ctx);
  return result;
}

Tensor Scaled(Arena& arena, const Tensor& t, double factor) {
  const Tensor scaled = arena.NewLike(t);
  std::transform(t.data<double>(), t.data<double>() + t.size(), scaled.data<double>(),
                 [&](double x) { return factor * x; });
  return scaled;
}

TEST_CASE("distillation: KL, loss and gradients of both directions agree with PyTorch and with TRL") {
  const SafetensorsFile file(SWARR_TEST_DATA "/distill.safetensors");
  const auto fixture = ordered_json::parse(file.metadata().at("fixture"));
  CHECK(fixture.at("script") == "tools/make_distill_fixtures.py");
  CHECK(fixture.at("versions").at("torch").get<std::string>().starts_with("2."));
  CHECK(fixture.at("versions").at("trl").get<std::string>().starts_with("1."));
  std::set<std::string> unread;
  for (const std::string& name : file.names()) unread.insert(name);
  TestContext t;
  const auto read = [&](const std::string& name) {
    unread.erase(name);
    const Tensor tensor = NewTensor(t.arena, file.dtype(name), file.shape(name));
    file.CopyTo(name, tensor);
    return tensor;
  };
  const auto scalar = [&](double x) {
    const Tensor tensor = t.arena.New(DType::kF64, {1});
    *tensor.data<double>() = x;
    return tensor;
  };
  const ordered_json& cases = fixture.at("cases");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const ordered_json& c = cases[i];
    INFO(c.at("name").get<std::string>());
    const std::string batch = c.at("batch"), of_case = std::to_string(i);
    const Heads heads{read(batch + ".x"),         read(batch + ".w"),       read(batch + ".teacher_x"),
                      read(batch + ".teacher_w"), read(batch + ".targets"), read(batch + ".mask")};
    const DistillOptions options{ParseName<KlDirection>("direction", c.at("direction")), c.at("temperature")};
    const Distilled ours = Distil(t.ctx, heads, c.at("weight"), options);
    CHECK(RelativeError(ours.kl, read(of_case + ".kl")) <= kBound);
    CHECK(RelativeError(ours.dx, read(of_case + ".dx")) <= kBound);
    CHECK(RelativeError(ours.dw, read(of_case + ".dw")) <= kBound);
    CHECK(RelativeError(scalar(ours.loss), scalar(c.at("loss"))) <= kBound);
    const Distilled alone = Distil(t.ctx, heads, 1, options);
    CHECK(RelativeError(scalar(ours.mean_kl), read(of_case + ".trl_kl")) <= kBound);
    const Tensor dx = Scaled(t.arena, alone.dx, 1 / (options.temperature * options.temperature));
    CHECK(RelativeError(dx, read(of_case + ".trl_dx")) <= kBound);
  }
  CHECK(cases.size() == 18);
  CHECK(unread.empty());
}

TEST_CASE("distillation: logits of the teacher's bits give a KL and gradients of exactly 0, on every processor") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
      for (const KlDirection direction : kDirections) {
        TestContext t(2, cpu);
        const std::int64_t N = 61, C = 40, V = 77;
        const Tensor x = Random(t.arena, dtype, {N, C}, 1, 2), w = Random(t.arena, dtype, {V, C}, 2);
        const Tensor dx = ZeroLike(t.arena, dtype, x), dw = ZeroLike(t.arena, AccumulatorOf(dtype), w);
        const auto column = [&] { return t.arena.NewZero(AccumulatorOf(dtype), {N}); };
        const DistillResults results{column(), column(), column()};
        const DistillInputs inputs{x, w, x, w, {direction, 1.7}};
        DistillForward(t.ctx, results, inputs);
        CHECK(SameBits(results.kl, column()));
        DistillBackward(t.ctx, dx, dw, Random(t.arena, AccumulatorOf(dtype), {N}, 3), results, inputs);
        for (const Tensor& grad : {dx, dw}) {
          for (std::int64_t i = 0; i < grad.size(); ++i) CHECK(ValueAt(grad, i) == 0);
        }
      }
    }
  }
}

TEST_CASE("distillation: logits of any size give a finite KL, at any temperature") {
  TestContext t;
  const auto logits = [&](std::vector<double> z) {
    const Tensor w = t.arena.New(DType::kF64, {3, 1});
    std::copy(z.begin(), z.end(), w.data<double>());
    return w;
  };
  const Tensor one = t.arena.New(DType::kF64, {1, 1});
  Fill(one, 1);
  for (const double temperature : {1e-3, 1.0, 1e3}) {
    for (const KlDirection direction : kDirections) {
      const Tensor mask = Ints(t.arena, {1});
      const Heads heads{one, logits({1e4, -1e4, 0}), one, logits({-1e4, 1e4, 3}), mask, mask};
      const Distilled d = Distil(t.ctx, heads, 1, {direction, temperature});
      CHECK(std::isfinite(d.loss));
      CHECK(d.loss > 0);
      for (std::int64_t i = 0; i < 3; ++i) CHECK(std::isfinite(ValueAt(d.dw, i)));
    }
  }
}

TEST_CASE("distillation: step memory holds one chunk of both models' logits, however many rows there are") {
  const auto bytes = [](std::int64_t rows, std::int64_t V) {
    TestContext t;
    const auto real = [&](std::int64_t n, std::int64_t c) { return Random(t.arena, DType::kF32, {n, c}, 1); };
    Tape tape;
    const TapeScope recording(t.ctx, &tape);
    const Var x{real(rows, 2), t.arena.NewZero(DType::kF32, {rows, 2})}, w{real(V, 2), {}};
    const Var kl = DistillKl(t.ctx, x, w, real(rows, 3), real(V, 3), {});
    Fill(kl.grad, 1);
    tape.Backward(t.ctx);
    return static_cast<double>(t.arena.high_water_bytes());
  };
  constexpr double kChunk = 1024;
  CHECK(bytes(4096, 700) - bytes(1024, 700) == bytes(4096, 100) - bytes(1024, 100));
  // A twentieth more for what grows with V alone: the weights, and how products read them.
  CHECK(bytes(4096, 700) - bytes(4096, 100) <= 1.05 * kChunk * 600 * 2 * sizeof(float));
}

// --- SFT with a teacher ---

TableTask SmallTask() {
  return TableTask({{"a?", "b", "b"},
                    {"b?", "cc", "c"},
                    {"abc?", "d", "d"},
                    {"dd?", "abcd", "d"},
                    {"c?", "", ""},
                    {"bbbb?", "ab", "b"}});
}

SftOptions With(const Transformer* teacher, double weight, const DistillOptions& options) {
  SftOptions sft;
  sft.steps = 1;
  sft.batch_size = 3;
  sft.grad_accum = 2;
  sft.distill = {teacher, weight, options};
  return sft;
}

void Train(Trainee& t, const SftOptions& options, const RunOptions& run_options, const Task& task = SmallTask()) {
  TrainingRun run(run_options, {{"steps", options.steps}}, t.model, t.optimizer, t.tokenizer);
  RunSft(t.ctx, t.model, t.tokenizer, task, nullptr, options, t.optimizer, run);
  run.Finish();
}

// A model of full attention, another width and other weights than a Trainee's.
Transformer Teacher(DType dtype, MemoryKind kind = MemoryKind::kHost) {
  ModelConfig config = TextConfig();
  config.hidden += 2;
  Transformer teacher(config, dtype, /*with_gradients=*/false, kind);
  Randomize(teacher, 9);
  return teacher;
}

// The loss of all of SmallTask in one pass, and its gradient left in the model; without the library's loop.
double LossAndGradient(const Transformer& model, const SftOptions& options) {
  const Distillation& d = options.distill;
  const TableTask task = SmallTask();
  TestContext t;
  std::vector<Document> documents;
  std::int64_t in_loss = 0;
  for (std::int64_t i = 0; i < task.size(); ++i) {
    documents.push_back(EncodeDocument(TextTokenizer(), task.Get(i, 0), 0));
    in_loss += std::ssize(documents.back().tokens) - documents.back().prompt_length;
  }
  const PackedBatch packed = Pack(t.arena, documents);
  const Tensor hidden = d.teacher->Forward(t.ctx, packed.batch).value;
  Tape tape;
  const TapeScope recording(t.ctx, &tape);
  const PackedPass pass = ForwardPacked(t.ctx, model, packed, false);
  const Var kl = DistillKl(t.ctx, pass.hidden, model.head(), hidden, d.teacher->head().value, d.options);
  const double n = static_cast<double>(in_loss), squared = d.options.temperature * d.options.temperature;
  double loss = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    for (std::int64_t row = packed.first_row(i) + documents[i].prompt_length - 1; row < packed.first_row(i + 1);
         ++row) {
      loss += (d.weight * squared * ValueAt(kl.value, row) - (1 - d.weight) * ValueAt(pass.result.logp.value, row)) / n;
      pass.result.logp.grad.data<double>()[row] = -(1 - d.weight) / n;
      kl.grad.data<double>()[row] = d.weight * squared / n;
    }
  }
  tape.Backward(t.ctx);
  return loss;
}

TEST_CASE(
    "SFT with a teacher: loss, its parts and gradient are those of (1 - A) CE + A T^2 KL over completion tokens") {
  const Transformer teacher = Teacher(DType::kF64);
  for (const KlDirection direction : kDirections) {
    for (const double weight : {0.0, 0.3, 1.0}) {
      const TempDirectory dir;
      const SftOptions sft = With(&teacher, weight, {direction, 2});
      Trainee t(TextConfig(), DType::kF64, GradientProbe());
      Transformer same(TextConfig(), DType::kF64, true);
      Copy(same.parameters().master(), t.model.parameters().master());
      const double loss = LossAndGradient(same, sft);
      Train(t, sft, In(dir / "run"));
      const ordered_json row = MetricsWithoutTimes(dir / "run")[0];
      const double cross_entropy = row["cross_entropy"], kl = row["kl"];
      CHECK(row["loss"].get<double>() == doctest::Approx(loss).epsilon(1e-13));
      CHECK(row["loss"] == (1 - weight) * cross_entropy + weight * 4 * kl);
      CHECK(kl > 0.01);
      CHECK(RelativeError(t.optimizer.first_moment(), same.parameters().flat_gradients()) < 1e-12);
    }
  }
}

// A student that is its teacher has a loss and a gradient of exactly 0 at A = 1.
void CheckOwnTeacher(Device device, DType dtype, KlDirection direction, bool checkpoint) {
  const TempDirectory dir;
  Trainee t(TextConfig(), dtype, {}, 1, device), teacher(TextConfig(), dtype, {}, 1, device);
  Randomize(t.model);
  Randomize(teacher.model);
  SftOptions sft = With(&teacher.model, 1, {direction, 1.5});
  sft.checkpoint_blocks = checkpoint;
  Train(t, sft, In(dir / "run"));
  const ordered_json row = MetricsWithoutTimes(dir / "run")[0];
  CHECK(row["loss"] == 0.0);
  CHECK(row["kl"] == 0.0);
  CHECK(row["grad_norm"] == 0.0);
  CHECK(row["cross_entropy"] > 1.0);
}

void CheckOwnTeacher(Device device) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    for (const KlDirection direction : kDirections) {
      for (const bool checkpoint : {false, true}) CheckOwnTeacher(device, dtype, direction, checkpoint);
    }
  }
}

TEST_CASE("SFT with a teacher: a student that is its teacher has a loss and a gradient of exactly 0 at A = 1") {
  CheckOwnTeacher(Device::kCpu);
}

TEST_CASE("CUDA: SFT with a teacher: a student that is its teacher has a loss and a gradient of exactly 0 at A = 1") {
  if (SkippedWithoutCuda()) return;
  CheckOwnTeacher(Device::kCuda);
}

TEST_CASE("SFT with a teacher of weight 0 changes the weights as SFT without one does, but for the sign of a zero") {
  const TempDirectory dir;
  const Transformer teacher = Teacher(DType::kF32);
  Trainee with(TextConfig(), DType::kF32, {}), without(TextConfig(), DType::kF32, {});
  Train(with, With(&teacher, 0, {}), In(dir / "with"));
  Train(without, With(nullptr, 0.5, {}), In(dir / "without"));
  CHECK(RelativeError(with.model.parameters().master(), without.model.parameters().master()) == 0);
  CHECK(!MetricsWithoutTimes(dir / "without")[0].contains("kl"));
}

// Six documents a step of six: three steps.
void TrainToResume(Trainee& t, const RunOptions& run) {
  const Transformer teacher = Teacher(t.model.dtype(), MemoryOf(t.ctx.device()));
  SftOptions sft = With(&teacher, 0.5, {KlDirection::kReverse, 2});
  sft.steps = kResumeSteps;
  Train(t, sft, run);
}

TEST_CASE("SFT with a teacher: stop and resume is bit-identical") { CheckExactResume(Device::kCpu, TrainToResume); }

TEST_CASE("CUDA: SFT with a teacher: stop and resume is bit-identical") {
  if (SkippedWithoutCuda()) return;
  CheckExactResume(Device::kCuda, TrainToResume);
}

TEST_CASE("a teacher of another vocabulary, a weight outside 0..1 and a temperature of 0 are refused in a sentence") {
  const TempDirectory dir;
  const Transformer same = Teacher(DType::kF32);
  ModelConfig config = TextConfig();
  ++config.vocab;
  const Transformer other(config, DType::kF32, /*with_gradients=*/false);
  const auto refused = [&](const SftOptions& sft) {
    Trainee t(TextConfig(), DType::kF32, {});
    RunOptions run = In(dir / "run");
    run.overwrite = true;
    try {
      Train(t, sft, run);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(refused(With(&other, 0.5, {})) ==
        "the teacher has a vocabulary of 7 tokens, the model one of 6; distillation needs two models of the same "
        "tokenizer");
  CHECK(refused(With(&same, 1.5, {})) == "the weight of distillation is 1.5, which must be between 0 and 1");
  CHECK(refused(With(&same, 0.5, {KlDirection::kForward, 0})) ==
        "distillation at a temperature of 0, which must be above 0");
}

TEST_CASE("SFT with a teacher: the estimate of its step memory is at most what is used, and most of it") {
  ModelConfig config = TextConfig();
  config.hidden = 64;
  config.ffn = 200;
  config.max_positions = 256;
  const std::string text(200, 'a');
  const TableTask task({{"b?", text, ""}, {"c?", text, ""}, {"d?", text, ""}});
  ModelConfig wide = config;
  wide.hidden = 160;
  const Transformer teacher(wide, DType::kF32, /*with_gradients=*/false);
  const TempDirectory dir;
  for (const bool checkpoint : {false, true}) {
    Trainee t(config, DType::kF32, {});
    SftOptions sft = With(&teacher, 0.5, {});
    sft.grad_accum = 1;
    sft.checkpoint_blocks = checkpoint;
    const std::int64_t asked = SftParts(t.model, t.tokenizer, task, sft)[0].asked;
    Train(t, sft, In(dir / Concat(checkpoint)), task);
    const double share = static_cast<double>(asked) / static_cast<double>(t.ctx.arena->high_water_bytes());
    CHECK(share <= 1);
    CHECK(share >= 0.8);
    sft.distill.teacher = nullptr;
    const std::int64_t rows = 3 * 202, without = SftParts(t.model, t.tokenizer, task, sft)[0].asked;
    CHECK(asked - without >= rows * 160 * 4);  // the teacher's hidden states
  }
}

}  // namespace
}  // namespace swarr
