// SPDX-License-Identifier: Apache-2.0
// swarr sft and swarr pretrain: next-token prediction on completions, from a model or from random weights.
#include <cmath>
#include <limits>

#include "cli/task_options.h"
#include "cli/training.h"
#include "model/limits.h"
#include "model/model_files.h"
#include "train/evaluate.h"
#include "train/sft.h"

namespace swarr {
namespace {

struct SupervisedCommand {
  explicit SupervisedCommand(OptionSet& set) : options(set) {}

  void AddOptions() {
    task.AddTo(options, /*with_completions=*/true);
    options.Group("Training");
    options.Add("max-steps", sft.steps, "optimizer steps; 0 is as many as --epochs take", StepsFrom(0));
    options.AddUnrecorded("epochs", epochs, "passes over the problems, if --max-steps is 0",
                          Between(std::numeric_limits<double>::min(), 1e6));
    options.Add("batch-size", sft.batch_size, "documents that are packed into one row", CountFrom(1));
    options.Add("grad-accum", sft.grad_accum,
                "rows of --batch-size documents to a step; several GPUs need one each at least", CountFrom(1));
    options.Add(
        "max-seq-len", sft.max_length,
        "longest document in tokens; longer rows of --data are left out, a longer problem of --task ends the run; 0 is "
        "the model's context",
        AtLeast(0));
    options.Add("train-on-prompt", sft.train_on_prompt, "put prompt tokens into the loss too");
    options.Group("Evaluation");
    options.Add("eval-every", sft.eval_every, "steps between evaluations by generation; 0 is none", AtLeast(0));
    options.AddInput("eval-data", task.eval_data, "JSON Lines file to evaluate on; needed with --data");
    options.Add("eval-examples", sft.eval_problems, "problems of an evaluation; 0 is all", AtLeast(0));
    options.Add("eval-max-completion-length", sft.eval_max_completion_length,
                "tokens of a completion in an evaluation; 0 is the task's own limit or what the context leaves",
                AtLeast(0));
    options.HaveNoEffect({"epochs"}, "with --max-steps", [this] { return sft.steps > 0; });
    options.HaveNoEffect({"eval-data", "eval-examples", "eval-max-completion-length"}, "where --eval-every is 0",
                         [this] { return sft.eval_every == 0; });
    task.AddRewardTo(options);
    training.AddTo(options);
  }

  void AddTeacher() {
    constexpr double kLeastTemperature = 0.1, kMostTemperature = 20;
    options.Group("Teacher");
    teacher_option = options.Add("teacher", teacher_dir, "model to come near to, such as the one with full attention")
                         ->type_name("DIR");
    options.Add("distill-weight", distill.weight,
                "A in the loss (1 - A) cross-entropy + A T^2 KL from the teacher over the whole vocabulary",
                Between(0, 1));
    options.Add("distill-temperature", distill.options.temperature,
                "T, by which the logits of both models are divided, from 0.1, where little but the likeliest token "
                "counts, to 20: beyond, the KL of two nearly uniform distributions drowns in the rounding of f32",
                Between(kLeastTemperature, kMostTemperature));
    options.Add("distill-kl", distill_kl, "forward is KL(teacher || student), reverse KL(student || teacher)")
        ->type_name(OneOf(kNames<KlDirection>));
    options.HaveNoEffect({"distill-weight", "distill-temperature", "distill-kl"}, "without --teacher",
                         [this] { return teacher_dir.empty(); });
  }

  void CheckTeacher() {
    distill.options.direction = ParseName<KlDirection>("--distill-kl", distill_kl);
    if (teacher_dir.empty() && teacher_option->count() > 0) {
      throw UsageError("--teacher is empty; name a model's directory");
    }
  }

  std::unique_ptr<Transformer> LoadTeacher(const Transformer& model, const Tokenizer& tokenizer) {
    if (teacher_dir.empty()) return nullptr;
    auto teacher = training.compute.Load(teacher_dir, /*with_gradients=*/false, " of the teacher");
    RequireSameTexts({"teacher", teacher_dir, teacher->config()}, model_dir, model.config(), tokenizer, task);
    training.run.inputs.emplace_back("teacher", teacher_dir);
    return teacher;
  }

  // From the weights of --model.
  void Run() {
    training.Meet(options);
    training.run.model_dir = model_dir;
    training.run.inputs = {{"model", model_dir}};
    const auto model = training.compute.Load(model_dir, /*with_gradients=*/true);
    Train(*model, LoadTokenizer(model_dir, model->config()));
  }

  void Train(Transformer& model, const Tokenizer& tokenizer) {
    const LoadedTask problems = task.Load(Split::kSft, {.completion = true}, training.compute.seed, model_dir);
    const LoadedTask evaluation = LoadEvaluation();
    if (!task.data.empty()) training.run.inputs.emplace_back("data", task.data);
    if (!task.eval_data.empty()) training.run.inputs.emplace_back("eval-data", task.eval_data);
    const auto teacher = LoadTeacher(model, tokenizer);
    distill.teacher = teacher.get();
    SetEndOfText(problems, tokenizer, model);
    const bool teacher_ends_first = teacher && teacher->config().max_positions < model.config().max_positions;
    const int context = (teacher_ends_first ? *teacher : model).config().max_positions;
    if (sft.max_length == 0) sft.max_length = context + 1;  // end of text is predicted, never read
    if (sft.max_length > context + 1) {
      throw UsageError(Concat("--max-seq-len ", sft.max_length, " exceeds the ",
                              teacher_ends_first ? "teacher" : "model", "'s context of ", context, " tokens"));
    }
    if (problems.file) problems.file->DropLongDocuments(tokenizer, sft.max_length);
    if (evaluation.task) {
      sft.eval_max_completion_length =
          CompletionLimit(sft.eval_max_completion_length, evaluation, tokenizer, model.config());
    }
    if (!training.quiet) ReportDropped(problems);
    if (!training.quiet) ReportDropped(evaluation);
    if (sft.steps == 0) {
      const double documents = epochs * static_cast<double>(problems.task->size());
      sft.steps = static_cast<std::int64_t>(std::ceil(documents / (double{1} * sft.batch_size * sft.grad_accum)));
    }
    sft.seed = training.compute.seed;
    sft.checkpoint_blocks = training.grad_checkpoint;
    training.compute.Need(SftParts(model, tokenizer, *problems.task, sft));
    if (evaluation.task) NeedEvaluation(model, *evaluation.task);
    training.Train(options, sft.steps, model, tokenizer, [&](Context& ctx, Optimizer& optimizer, TrainingSteps& run) {
      RunSft(ctx, model, tokenizer, *problems.task, evaluation.task.get(), sft, optimizer, run);
    });
  }

  void NeedEvaluation(const Transformer& model, const Task& evaluation) {
    std::vector<MemoryPart> parts =
        EvaluateParts(model.config(), model.dtype(), training.compute.ResolveDevice(), evaluation,
                      {.problems = sft.eval_problems, .max_completion_length = sft.eval_max_completion_length});
    for (MemoryPart& part : parts) part.option.clear();  // eval's flags, which this command lacks
    training.compute.Need(parts);
  }

  LoadedTask LoadEvaluation() const {
    if (sft.eval_every == 0) return {};
    if (!task.eval_data.empty()) return task.LoadFile(task.eval_data, {.answer = true}, model_dir);
    if (!task.data.empty()) throw UsageError("--eval-every needs --eval-data FILE beside --data");
    return task.Load(Split::kEval, {.answer = true}, training.compute.seed, model_dir);
  }

  OptionSet& options;
  std::string model_dir;
  TaskOptions task;
  SftOptions sft;
  Distillation& distill = sft.distill;
  std::string teacher_dir, distill_kl = Name(distill.options.direction);
  const CLI::Option* teacher_option = nullptr;
  double epochs = 1;
  TrainingOptions training;
};

struct SftCommand : SupervisedCommand {
  explicit SftCommand(OptionSet& set) : SupervisedCommand(set) {
    training.optimizer.lr = 5e-4;
    options.Group("Model");
    options.Add("model", model_dir, "model to start from")->required()->type_name("DIR");
    AddTeacher();
    AddOptions();
  }

  void Run() {
    CheckTeacher();
    SupervisedCommand::Run();
  }
};

struct PretrainCommand : SupervisedCommand {
  explicit PretrainCommand(OptionSet& set) : SupervisedCommand(set) {
    shape.layers = shape.heads = 4;
    shape.hidden = 128;
    shape.ffn = 352;
    shape.max_positions = 512;
    shape.tied = true;
    options.Group("Model");
    options.Add("model", model_dir, "continue from this model instead of random weights")->type_name("DIR");
    AddShape();
    AddOptions();
  }

  void AddShape() {
    options.Group("Shape of a new model");
    std::vector<std::string> names;
    const auto add = [&](const char* name, auto& value, const char* help, auto... checks) {
      names.push_back(options.Add(name, value, help, checks...)->get_single_name());
    };
    add("layers", shape.layers, "blocks", Between(1, kMostLayers));
    add("hidden-size", shape.hidden, "width of the residual stream", Between(1, kMostWidth));
    add("heads", shape.heads, "query heads", Between(1, kMostWidth));
    add("kv-heads", shape.kv_heads, "key and value heads, a divisor of --heads; 0 is --heads", Between(0, kMostWidth));
    add("head-dim", shape.head_dim, "width of a head, even; 0 is hidden-size / heads", Between(0, kMostWidth));
    add("ffn", shape.ffn, "width of the feed-forward part", Between(1, kMostWidth));
    add("max-positions", shape.max_positions, "longest sequence in tokens", Between(1, kMostPositions));
    add("window", attention.window, "visible tokens including the current one; 0 is full attention", AtLeast(0));
    add("sinks", attention.sinks, "first tokens that stay visible outside the window", AtLeast(0));
    add("rope-theta", shape.rope_theta, "base of the rotary embedding");
    add("initializer-range", deviation,
        "standard deviation of random matrices; smaller where the residual stream is written", AtLeast(0));
    add("tied,!--untied", shape.tied, "the output layer is the embedding");
    options.HaveNoEffect(names, "with --model, whose shape is what it is", [this] { return !model_dir.empty(); });
  }

  // The shape with what was left open filled in: the vocabulary is the tokenizer's.
  void CompleteShape(const Tokenizer& tokenizer) {
    if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
    if (shape.head_dim == 0) {
      if (shape.hidden % shape.heads != 0) {
        throw UsageError(Concat("--hidden-size ", shape.hidden, " is no multiple of --heads ", shape.heads,
                                "; change one or give --head-dim"));
      }
      shape.head_dim = shape.hidden / shape.heads;
    }
    shape.vocab = tokenizer.vocab_size();
    shape.eos_id = tokenizer.IdOf(kEndOfText);
    shape.attention.assign(static_cast<std::size_t>(shape.layers), attention);
    try {
      shape.Validate();
    } catch (const Error& e) {
      throw UsageError(Concat("no model has this shape: ", e.what()));
    }
  }

  void Run() {
    const DType dtype = training.compute.MakeDType();
    if (!model_dir.empty()) return SupervisedCommand::Run();
    training.Meet(options);
    const BuiltInTask& new_task = task.ChosenBuiltIn();
    const Tokenizer tokenizer(new_task.tokenizer(), Concat("the ", new_task.name, " task's tokenizer"));
    CompleteShape(tokenizer);
    training.compute.Need(ModelParts(shape, dtype, /*trained=*/true));
    Transformer model(shape, dtype, /*with_gradients=*/true, MemoryOf(training.compute.ResolveDevice()));
    InitializeParameters(model.parameters(), shape.layers, training.compute.seed, deviation);
    Train(model, tokenizer);
  }

  ModelConfig shape;
  AttentionSpec attention;
  double deviation = 0.02;
};

}  // namespace

void AddSft(const CommandGroup& program) {
  program.Add<SftCommand>("sft", "Fine-tune a model on prompts and completions",
                          "  swarr sft --model out/swa --task chain --max-steps 300 --output-dir out/sft");
}

void AddPretrain(const CommandGroup& program) {
  program.Add<PretrainCommand>("pretrain", "Train a model from random weights on prompts and completions",
                               "  swarr pretrain --task chain --max-steps 1000 --output-dir out/base");
}

}  // namespace swarr
