// SPDX-License-Identifier: Apache-2.0
// Supervised fine-tuning: minimise the mean negative log-probability of completion tokens, or come near to a teacher at
// them. Pretraining is the same loop from random weights.
#pragma once

#include "model/tokenizer.h"
#include "model/transformer.h"
#include "task/task.h"
#include "train/optimizer.h"
#include "train/requirements.h"
#include "train/training_steps.h"

namespace swarr {

// What the loss takes from a teacher (Hinton et al., arXiv 1503.02531): with a weight A and a temperature T it is
//   (1 - A) cross-entropy + A T^2 KL,  both means over the tokens in the loss, the KL as in DistillForward.
struct Distillation {
  const Transformer* teacher = nullptr;  // none: the cross-entropy alone. It reads the documents as the student does
  double weight = 0.5;                   // A, from 0 to 1; without a teacher it counts as 0
  DistillOptions options = {};
};

struct SftOptions {
  std::int64_t steps = 0;
  int batch_size = 16;  // documents of a micro-batch, which are packed
  int grad_accum = 1;   // micro-batches of a step; their gradients are added along a tree, on one rank or several
  Distillation distill = {};
  bool train_on_prompt = false;    // put prompt tokens into the loss too
  int max_length = 0;              // longest document in tokens; longer ones are an error, not cut silently
  bool checkpoint_blocks = false;  // gradient checkpointing
  std::uint64_t seed = 0;
  std::int64_t eval_every = 0;  // steps between evaluations by generation; 0: none
  std::int64_t eval_problems = 0;
  int eval_max_completion_length = 0;
};

// What RunSft will hold in memory beside the model, its gradients and moments, and a teacher. The rows of a micro-batch
// are those of the run's first.
std::vector<MemoryPart> SftParts(const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                                 const SftOptions& options);

// Trains `model` on `task`, evaluating on `eval_task` (may be null). The loss of a step is
//   -(1 / tokens in the loss) * sum of log p, over all documents of all its micro-batches,
// so that accumulation gives the gradient of one large batch; with a teacher, that of Distillation. Records of
// metrics.jsonl: epoch, loss, with a teacher its parts cross_entropy and kl (before A and T^2), learning_rate,
// grad_norm, entropy, step_time, tokens_per_second, peak_memory_mb, eval/accuracy where due, and warnings
// (train/watch.h). Throws Error if the teacher's vocabulary is of another size.
void RunSft(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task, const Task* eval_task,
            const SftOptions& options, Optimizer& optimizer, TrainingSteps& run);

}  // namespace swarr
