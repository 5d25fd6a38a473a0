// SPDX-License-Identifier: Apache-2.0
#include "train/sft.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "train/data.h"
#include "train/evaluate.h"
#include "train/step_timer.h"
#include "train/watch.h"

namespace swarr {
namespace {

// Of a micro-batch, or of a step.
struct Sums {
  double logp = 0;           // over the rows in the loss
  double entropy = 0;        // over the same rows
  double kl = 0;             // from the teacher, over the same rows
  std::int64_t in_loss = 0;  // how many these are
  std::int64_t rows = 0;     // fed to the model

  Sums& operator+=(const Sums& other) {
    logp += other.logp;
    entropy += other.entropy;
    kl += other.kl;
    in_loss += other.in_loss;
    rows += other.rows;
    return *this;
  }
};

// Over all micro-batches of a step, from those of this rank.
Sums OfStep(const Ranks& ranks, const std::vector<Sums>& own) {
  const std::vector<Sums> all = ranks.GatherAll(own);
  return std::accumulate(all.begin(), all.end(), Sums{}, [](Sums sum, const Sums& s) { return sum += s; });
}

// The first row of a document that is in the loss; all later ones are.
std::int64_t FirstInLoss(const Document& d, const SftOptions& options) {
  return options.train_on_prompt ? 0 : d.first_predicting_row();
}

// The documents of some micro-batches of a run, counted from its start.
std::vector<Document> DocumentsOf(std::int64_t first, int micro_batches, const Transformer& model,
                                  const Tokenizer& tokenizer, const Task& task, const SftOptions& options,
                                  ProblemOrder& order) {
  std::vector<Document> documents;
  const std::int64_t size = options.batch_size;
  for (std::int64_t i = first * size; i < (first + micro_batches) * size; ++i) {
    const ProblemOrder::Item item = order.At(i);
    documents.push_back(EncodeDocument(tokenizer, task.Get(item.problem, item.epoch), model.config().eos_id));
    const auto length = static_cast<std::int64_t>(documents.back().tokens.size());
    SWARR_CHECK(options.max_length == 0 || length <= options.max_length, "problem ", item.problem, " has ", length,
                " tokens, more than the ", options.max_length,
                " that --max-seq-len, the model's context and that of a teacher allow");
  }
  return documents;
}

// A micro-batch whose forward and backward have been handed to the device.
struct MicroBatch {
  std::span<const Document> documents{};
  PackedPass pass{};
  Var kl{};  // of each row, if there is a teacher
};

// The weights of cross-entropy and KL in the loss.
double WeightOfCrossEntropy(const Distillation& d) { return d.teacher ? 1 - d.weight : 1; }
double WeightOfKl(const Distillation& d) {
  return d.teacher ? d.weight * d.options.temperature * d.options.temperature : 0;
}

// Calls f(n) for each row n in the loss.
template <class F>
void ForRowsInLoss(const MicroBatch& batch, const SftOptions& options, F&& f) {
  for (std::size_t d = 0; d < batch.documents.size(); ++d) {
    const PackedBatch& packed = batch.pass.packed;
    const std::int64_t first = packed.first_row(d) + FirstInLoss(batch.documents[d], options);
    for (std::int64_t n = first; n < packed.first_row(d + 1); ++n) f(n);
  }
}

// The teacher's hidden states [N, E], and nothing else left in the arena; empty without a teacher.
Tensor HiddenOfTeacher(Context& ctx, const Distillation& d, const PackedBatch& packed) {
  if (d.teacher == nullptr) return {};
  const Transformer& teacher = *d.teacher;
  const Tensor hidden = ctx.arena->New(teacher.dtype(), {packed.rows(), teacher.config().hidden});
  const ArenaScope scope(*ctx.arena);
  Copy(ctx, hidden, teacher.Forward(ctx, packed.batch).value);
  return hidden;
}

// The loss's derivative by log p or by the KL of every row in the loss.
void FillGradient(const Tensor& grad, const MicroBatch& batch, double derivative, const SftOptions& options) {
  DispatchSum(grad.dtype(), [&]<class T>() {
    ForRowsInLoss(batch, options, [&](std::int64_t n) { grad.data<T>()[n] = static_cast<T>(derivative); });
  });
}

// Forward and backward. With n tokens in the loss of the whole step, dL/dlog p = -(1 - A) / n and dL/dKL = A T^2 / n,
// which needs neither log p nor KL: the device is not waited for.
MicroBatch Accumulate(Context& ctx, const Transformer& model, std::span<const Document> documents, std::int64_t in_loss,
                      const SftOptions& options) {
  ResetStep(ctx);
  const Distillation& d = options.distill;
  const PackedBatch packed = Pack(ctx.HostArena(), documents);
  const Tensor hidden_of_teacher = HiddenOfTeacher(ctx, d, packed);
  Tape tape;
  const TapeScope recording(ctx, &tape);
  MicroBatch batch{documents, ForwardPacked(ctx, model, packed, options.checkpoint_blocks)};
  const auto tokens = static_cast<double>(in_loss);
  FillGradient(batch.pass.result.logp.grad, batch, -WeightOfCrossEntropy(d) / tokens, options);
  if (d.teacher) {
    batch.kl = DistillKl(ctx, batch.pass.hidden, model.head(), hidden_of_teacher, d.teacher->head().value, d.options);
    FillGradient(batch.kl.grad, batch, WeightOfKl(d) / tokens, options);
  }
  tape.Backward(ctx);
  return batch;
}

void CheckDistillation(const Distillation& d, const Transformer& model) {
  if (d.teacher == nullptr) return;
  SWARR_CHECK(d.weight >= 0 && d.weight <= 1, "the weight of distillation is ", d.weight,
              ", which must be between 0 and 1");
  const int vocab = model.config().vocab, teachers = d.teacher->config().vocab;
  SWARR_CHECK(teachers == vocab, "the teacher has a vocabulary of ", teachers, " tokens, the model one of ", vocab,
              "; distillation needs two models of the same tokenizer");
}

// Waits for a micro-batch, and adds up what the report of the step needs of it.
void AddSums(const Context& ctx, const MicroBatch& batch, const SftOptions& options, Sums& sums) {
  Wait(ctx);
  const LogprobResult& result = batch.pass.result;
  DispatchSum(result.entropy.value.dtype(), [&]<class T>() {
    ForRowsInLoss(batch, options, [&](std::int64_t n) {
      sums.logp += static_cast<double>(result.logp.value.data<T>()[n]);
      sums.entropy += static_cast<double>(result.entropy.value.data<T>()[n]);
      if (options.distill.teacher) sums.kl += static_cast<double>(batch.kl.value.data<T>()[n]);
    });
  });
  sums.rows += batch.pass.packed.rows();
}

}  // namespace

std::vector<MemoryPart> SftParts(const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                                 const SftOptions& options) {
  constexpr std::int64_t kMostEncoded = 4096;  // documents; of more, each counts like the shortest of these
  ProblemOrder order(task.size(), options.seed);
  const std::int64_t encoded = std::min<std::int64_t>(options.batch_size, kMostEncoded);
  std::int64_t rows = 0, shortest = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t i = 0; i < encoded; ++i) {
    const ProblemOrder::Item item = order.At(i);
    const Document d = EncodeDocument(tokenizer, task.Get(item.problem, item.epoch), model.config().eos_id);
    const std::int64_t fed = static_cast<std::int64_t>(d.tokens.size()) - 1;
    rows += fed;
    shortest = std::min(shortest, fed);
  }
  rows = Sum({rows, Product({options.batch_size - encoded, shortest})});
  const Transformer* teacher = options.distill.teacher;
  MemoryPart step = StepPart(model.config(), model.dtype(), rows,
                             options.checkpoint_blocks ? PassKind::kCheckpointedTraining : PassKind::kTraining,
                             teacher ? &teacher->config() : nullptr);
  step.option = "--batch-size";
  step.value = options.batch_size;
  const std::int64_t documents = Product({options.batch_size, options.grad_accum, sizeof(Document)});
  const std::int64_t sums = Product({SumsHeld(options.grad_accum), ParameterCount(model.config()),
                                     static_cast<std::int64_t>(SizeOf(AccumulatorOf(model.dtype())))});
  return {step,
          {.name = "sums of gradients",
           .asked = sums,
           .written = sums,
           .option = "--grad-accum",
           .value = options.grad_accum},
          {.name = "documents of a step",
           .asked = documents,
           .written = documents,
           .option = "--grad-accum",
           .value = options.grad_accum,
           .on_host = true}};
}

void RunSft(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task, const Task* eval_task,
            const SftOptions& options, Optimizer& optimizer, TrainingSteps& run) {
  const Distillation& distill = options.distill;
  CheckDistillation(distill, model);
  ProblemOrder order(task.size(), options.seed);
  const ChunkRange own = optimizer.ranks().ChunksOf(options.grad_accum);
  const auto size = static_cast<std::size_t>(options.batch_size);
  Watch watch = run.MakeWatch();
  while (run.step() < options.steps) {
    const StepTimer timer;
    const std::int64_t step = run.step();
    const std::vector<Document> documents =
        DocumentsOf(step * options.grad_accum + own.begin, own.size(), model, tokenizer, task, options, order);
    const auto documents_of = [&](std::size_t m) { return std::span(documents).subspan(m * size, size); };
    std::vector<Sums> of_batches(static_cast<std::size_t>(own.size()));
    for (std::size_t m = 0; m < of_batches.size(); ++m) {
      for (const Document& d : documents_of(m)) {
        of_batches[m].in_loss += static_cast<std::int64_t>(d.tokens.size()) - 1 - FirstInLoss(d, options);
      }
    }
    const std::int64_t all_in_loss = OfStep(optimizer.ranks(), of_batches).in_loss;
    MicroBatch last;
    optimizer.SumGradients(ctx, options.grad_accum, [&](int chunk) {
      run.StopIfAsked();
      const auto m = static_cast<std::size_t>(chunk - own.begin);
      if (m > 0) AddSums(ctx, last, options, of_batches[m - 1]);
      last = Accumulate(ctx, model, documents_of(m), all_in_loss, options);
    });
    const double grad_norm = optimizer.GradientNorm(ctx);  // the processor waits here, once in a step
    AddSums(ctx, last, options, of_batches.back());
    const Sums sums = OfStep(optimizer.ranks(), of_batches);
    const double in_loss = static_cast<double>(sums.in_loss);
    const double cross_entropy = -sums.logp / in_loss, kl = sums.kl / in_loss;
    const double loss = WeightOfCrossEntropy(distill) * cross_entropy + WeightOfKl(distill) * kl;
    run.CheckFinite("loss", loss);
    const double lr = LearningRate(optimizer.options(), step, options.steps);
    run.CheckFinite("gradient norm", grad_norm);
    optimizer.Step(ctx, lr, grad_norm);
    const double seconds = timer.Seconds();
    nlohmann::ordered_json record = {
        {"epoch", static_cast<double>((step + 1) * std::int64_t{options.batch_size} * options.grad_accum) /
                      static_cast<double>(task.size())},
        {"loss", loss},
        {"learning_rate", lr},
        {"grad_norm", grad_norm},
        {"entropy", sums.entropy / in_loss},
        {"step_time", seconds},
        {"tokens_per_second", static_cast<double>(sums.rows) / seconds},
        {"peak_memory_mb", PeakMemoryMb()}};
    if (distill.teacher) record.update({{"cross_entropy", cross_entropy}, {"kl", kl}});
    if (eval_task && options.eval_every > 0 && (step + 1) % options.eval_every == 0) {
      const std::vector<EvaluatedCompletion> done =
          Evaluate(ctx, model, tokenizer, *eval_task,
                   {.problems = options.eval_problems,
                    .max_completion_length = options.eval_max_completion_length,
                    .seed = options.seed,
                    .step = static_cast<std::uint32_t>(step + 1),
                    .ranks = optimizer.ranks()});
      record["eval/accuracy"] = Summarize(done, 1).accuracy;
    }
    watch.AddTo(record);
    run.EndStep(sums.rows, record);
  }
}

}  // namespace swarr
