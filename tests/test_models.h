// SPDX-License-Identifier: Apache-2.0
// The small models, texts and passes that the tests of models, decoding and training share.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "model/transformer.h"
#include "task/task.h"
#include "tensors.h"
#include "train/optimizer.h"

namespace swarr {

using Tokens = std::vector<std::int32_t>;

// Two layers of full attention with two query heads a key head, an untied head, and sizes that are multiples of
// nothing.
ModelConfig TinyConfig();
// Sizes at which every kernel has several blocks of work for each of three threads.
ModelConfig WideConfig();

struct ModelCase {
  std::string name;
  ModelConfig config;
};
// Every way in which models differ: attention of all kinds, grouped heads, q/k norm, biases, a tied head, all at once.
std::vector<ModelCase> ModelCases();

// Weights large enough for attention and predictions far from uniform; norm weights are not 1 and biases not 0. The
// numbers are the same for f32 and f64, and those of bf16 are their rounding.
void Randomize(const Transformer& model, std::uint32_t stream = 0);

Tokens RandomTokens(int count, int vocab, std::uint32_t stream);
std::vector<Tokens> RandomDocuments(const std::vector<int>& lengths, int vocab);

// The lengths of what counts as the documents' prompts: a third of each.
std::vector<int> PromptsOf(const std::vector<Tokens>& documents);

// For each row of packed documents, the token after it in its document; the first token after the last.
Tensor NextTokens(Arena& arena, const std::vector<Tokens>& documents);

// A forward pass over packed documents, on the context's device; the results on the host.
struct Pass {
  Tensor hidden;  // [N, C]
  Tensor logp;    // [N], of NextTokens
};
Pass RunForward(Context& ctx, const Transformer& model, const std::vector<Tokens>& documents);

// Leaves in the model the gradient of sum_n c_n log p_n over packed documents with targets NextTokens; plus that of
// sum_n e_n H_n, if e is given.
void RunBackward(Context& ctx, const Transformer& model, const std::vector<Tokens>& documents,
                 std::span<const double> c, bool checkpoint = false, std::span<const double> e = {});
// c_n without a pattern, in (-1, 1).
std::vector<double> Coefficients(const std::vector<Tokens>& documents);

// Texts over "abcd?", one token a character. Token 0 is the end of text.
Tokenizer TextTokenizer();
// TinyConfig for these texts.
ModelConfig TextConfig();

// A fixed list of problems. A completion is right if it is the example's, and finished.
class TableTask : public Task {
 public:
  explicit TableTask(std::vector<Example> examples) : examples_(std::move(examples)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(examples_.size()); }
  Example Get(std::int64_t index, std::uint64_t) const override { return examples_[static_cast<std::size_t>(index)]; }
  double Reward(const Example& example, std::string_view completion, bool finished) const override {
    return finished && completion == example.completion ? 1.0 : 0.0;
  }
  std::string Extract(std::string_view completion) const override { return std::string(completion); }

 private:
  std::vector<Example> examples_;
};

// The model as a directory that appears when it is complete.
void SaveModel(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer);

// A model to be trained, from fixed initial weights, and what training it takes.
struct Trainee {
  Trainee(const ModelConfig& config, DType dtype, const OptimizerOptions& options, int threads = 1,
          Device device = Device::kCpu);
  TestContext memory;
  Context& ctx;
  Transformer model;
  Optimizer optimizer;
  Tokenizer tokenizer;
};

// Weights, both moments and the number of steps.
bool SameState(const Trainee& a, const Trainee& b);

// The gradient of the one step that a trainee with these options took is then its first moment: no clipping, beta1 0.
OptimizerOptions GradientProbe();

// The rows of a run's metrics.jsonl without the fields that measure this machine (time, memory).
std::vector<nlohmann::ordered_json> MetricsWithoutTimes(const std::filesystem::path& run);

}  // namespace swarr
