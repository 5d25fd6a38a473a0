// SPDX-License-Identifier: Apache-2.0
// The suite `model`: tokens through a small decoder to logits, log-probabilities and gradients of all weights.
#include <algorithm>

#include "oracle/small_models.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

using Documents = std::vector<std::vector<std::int32_t>>;

Documents DocumentsIn(const Values& inputs) {
  const std::vector<double>&tokens = inputs.at("tokens").data, &document = inputs.at("document").data;
  Documents documents;
  for (std::size_t n = 0; n < tokens.size(); ++n) {
    if (n == 0 || document[n] != document[n - 1]) documents.emplace_back();
    documents.back().push_back(static_cast<std::int32_t>(tokens[n]));
  }
  return documents;
}

// Logits, log-probabilities and gradients, these by the names of the weights alone.
struct Pass {
  Value logits, logp;
  Values gradients;
};

Pass RunModel(Context ctx, const Transformer& model, const Documents& documents, const Values& inputs) {
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Var hidden = model.Forward(ctx, PackDocuments(*ctx.arena, documents));
  const Var logp = model.Logprob(ctx, hidden, InArena(ctx, inputs.at("targets"))).logp;
  const Tensor logits = ctx.arena->New(DType::kF64, {hidden.value.dim(0), model.config().vocab});
  LinearForward(ctx, logits, hidden.value, model.head().value, {});
  const Value& d_logp = inputs.at("d_logp");
  std::copy(d_logp.data.begin(), d_logp.data.end(), logp.grad.data<double>());
  tape.Backward(ctx);
  Pass pass{ValueOf(logits), ValueOf(logp.value), {}};
  for (const Parameter& p : model.parameters().all()) pass.gradients[p.name] = ValueOf(p.var.grad);
  return pass;
}

// Mistakes in what the model is given, not in the model.
struct UseMistake {
  const char* name;
  void (*change)(Values& inputs);
};

constexpr UseMistake kUseMistakes[] = {
    {"documents that see each other, positions counted through the row",
     [](Values& inputs) { std::fill(inputs.at("document").data.begin(), inputs.at("document").data.end(), 0); }},
    {"log-probabilities of the tokens themselves instead of the targets",
     [](Values& inputs) { inputs.at("targets") = inputs.at("tokens"); }},
    {"log-probabilities of the next row's target",
     [](Values& inputs) {
       std::vector<double>& targets = inputs.at("targets").data;
       std::rotate(targets.begin(), targets.begin() + 1, targets.end());
     }},
    {"d_logp ignored: the gradient of the sum of all log-probabilities",
     [](Values& inputs) { std::fill(inputs.at("d_logp").data.begin(), inputs.at("d_logp").data.end(), 1); }},
    {"gradients divided by the number of rows",
     [](Values& inputs) {
       std::vector<double>& d_logp = inputs.at("d_logp").data;
       for (double& x : d_logp) x /= static_cast<double>(d_logp.size());
     }},
    {"gradients of the cross-entropy, -logp",
     [](Values& inputs) {
       for (double& x : inputs.at("d_logp").data) x = -x;
     }},
};

const ModelMistake* FindModelMistake(const std::string& name) {
  for (const std::vector<ModelMistake>* mistakes : {&AttentionMistakes(), &LayerMistakes()}) {
    for (const ModelMistake& mistake : *mistakes) {
      if (name == mistake.name) return &mistake;
    }
  }
  return nullptr;
}

// Whether nothing but scores depends on this weight. Where a token sees itself alone its gradient is 0, and what is
// computed is the rounding of two equal sums: no number to compare.
bool EntersScoresAlone(const std::string& weight) {
  return weight.find(".q_") != std::string::npos || weight.find(".k_") != std::string::npos;
}

Values Evaluate(const Context& ctx, const Case& c, const Values& given, const std::string& mistake, Noise& noise) {
  const ModelConfig right = ConfigOf(c.parameters);
  ModelConfig config = right;
  Values inputs = given, weights = WeightsIn(given, right);
  for (const UseMistake& named : kUseMistakes) {
    if (mistake == named.name) named.change(inputs);
  }
  const ModelMistake* in_model = FindModelMistake(mistake);
  if (in_model) in_model->change(config, weights);
  Pass pass = RunModel(ctx, *ModelWith(config, weights, true), DocumentsIn(inputs), inputs);
  if (in_model && in_model->pull_back) in_model->pull_back(right, pass.gradients);
  noise.Disturb(pass.logits);
  noise.Disturb(pass.logp);
  Values outputs = {{"logits", pass.logits}, {"logp", pass.logp}};
  const bool sees_itself_alone = given.at("tokens").dim(0) == 1;
  for (const ParameterShape& shape : ParameterShapes(right)) {
    if (sees_itself_alone && EntersScoresAlone(shape.name)) continue;
    const auto gradient = pass.gradients.find(shape.name);
    outputs["grad." + shape.name] =
        gradient == pass.gradients.end() ? Zeros(weights.at(shape.name).shape) : gradient->second;
  }
  return outputs;
}

// --- the cases ---

struct Setting {
  const char* name;
  const char* meaning;
  std::vector<int> lengths;  // of the documents
  std::vector<AttentionSpec> attention;
  int heads = 4, kv_heads = 2;
  void (*change)(ModelConfig& config) = nullptr;
};

const std::vector<Setting>& Settings() {
  static const std::vector<Setting> settings = {
      {"one_token", "T = 1; gradients of query and key weights, which are 0, are not asked for", {1}, {{}, {}}},
      {"three_tokens", "a text of three tokens", {3}, {{}, {}}},
      {"full", "full attention, a key head for each query head", {13}, {{}, {}}, 2, 2},
      {"gqa", "full attention, two query heads for each key head", {13}, {{}, {}}},
      {"window", "a window in both layers", {14}, {{4, 0}, {4, 0}}},
      {"window_then_full", "a window in the first layer alone", {14}, {{3, 0}, {}}},
      {"full_then_sinks", "a window with sinks in the second layer alone", {14}, {{}, {4, 2}}},
      {"sinks", "windows and sinks of their own in each layer", {17}, {{4, 1}, {6, 2}}},
      {"packed", "three documents in one row", {5, 1, 8}, {{}, {}}},
      {"packed_sinks", "three documents in one row, windows with sinks", {7, 9, 2}, {{3, 1}, {3, 1}}},
      {"tied", "the head is the embedding", {9}, {{}, {4, 0}}, 2, 1, [](ModelConfig& c) { c.tied = true; }},
      {"qk_norm", "normed queries and keys", {9}, {{}, {4, 0}}, 4, 2, [](ModelConfig& c) { c.qk_norm = true; }},
      {"qkv_bias", "biases of q, k and v", {9}, {{}, {4, 0}}, 4, 2, [](ModelConfig& c) { c.qkv_bias = true; }},
      {"large_eps",
       "an eps of the size of the activations' squares",
       {9},
       {{}, {}},
       2,
       2,
       [](ModelConfig& c) { c.rms_eps = 0.5; }},
      {"all_at_once",
       "tied, biases, normed queries and keys, mixed layers, documents",
       {8, 6},
       {{}, {3, 1}},
       4,
       2,
       [](ModelConfig& c) { c.tied = c.qk_norm = c.qkv_bias = true; }},
  };
  return settings;
}

Case MakeCase(const Setting& s) {
  Case c{s.name, s.meaning, {}, {}, 1};
  ModelConfig config = SmallConfig(s.attention, s.heads, s.kv_heads);
  if (s.change) s.change(config);
  PhiloxStream random = StreamOf("model", s.name);
  c.inputs = RandomWeights(random, config);
  std::vector<std::int32_t> documents;
  for (std::size_t d = 0; d < s.lengths.size(); ++d) {
    documents.insert(documents.end(), static_cast<std::size_t>(s.lengths[d]), static_cast<std::int32_t>(d));
  }
  const auto N = static_cast<std::int64_t>(documents.size());
  c.inputs["tokens"] = RandomIntegers(random, {N}, config.vocab);
  c.inputs["document"] = Integers(documents);
  c.inputs["targets"] = RandomIntegers(random, {N}, config.vocab);
  c.inputs["d_logp"] = RandomNormal(random, {N});
  c.parameters = ParametersOf(config);
  c.parameters["rows"] = N;
  c.parameters["documents"] = s.lengths.size();
  c.longest_sum = static_cast<int>(std::max<std::int64_t>(N * s.heads / s.kv_heads, config.vocab));
  return c;
}

Family ModelFamily() {
  Family f;
  f.name = "decoder";
  f.semantics = ModelSemantics();
  for (
      const char* sentence : {
          "Documents stand one after another in a row, without padding; positions count from 0 in each.",
          "logits[n] = head of the n-th row; logp[n] = log softmax(logits[n])[targets[n]], natural logarithm.",
          "Targets are free: they are not the next tokens.",
          "One-token documents alone: gradients of weights that nothing but scores depends on (q_*, k_*) are 0 but for "
          "rounding, and are not asked for.",
          "In bf16 gradients may err by a good part of their size here, as the weights of so small a model leave them: "
          "judge them in f32 or f64 too.",
          "grad.<weight> is the gradient of sum_n d_logp[n] logp[n]; that of a tied embedding has both parts.",
      }) {
    f.semantics.emplace_back(sentence);
  }
  f.inputs = WeightInfos(false);
  for (const TensorInfo& info :
       std::initializer_list<TensorInfo>{{"tokens", "[N]", "ids", false},
                                         {"document", "[N]", "document of each row", false},
                                         {"targets", "[N]", "the token whose log-probability is asked for", false},
                                         {"d_logp", "[N]", "gradient of the loss with respect to logp", false}}) {
    f.inputs.push_back(info);
  }
  f.outputs = {{"logits", "[N, V]", "logits", false}, {"logp", "[N]", "log-probabilities of the targets", false}};
  for (TensorInfo& info : WeightInfos(true)) f.outputs.push_back(std::move(info));
  // Disturbed are the weights, which counts as one rounding of each result that they enter into. A layer has 9 (two
  // norms, seven matrices), and a plain implementation stores about 26 tensors in it: per norm the normed x and its
  // product with the weight (4); q, k, v, the two products of RoPE and their sum for q and k (9); scores, scaled
  // scores, two steps of the softmax and weighted values (5); gate, up, silu and its product (4); o, down and two
  // residual sums (4). That is three for each weight. The backward stores a gradient of each.
  f.roundings = {{"input of a weight", "output of a weight", "output after RoPE, softmax or the residual sum"},
                 {"gradient of the output after that", "gradient of the output", "gradient of the input"}};
  for (const ModelMistake& mistake : AttentionMistakes()) f.mistakes.emplace_back(mistake.name);
  for (const ModelMistake& mistake : LayerMistakes()) f.mistakes.emplace_back(mistake.name);
  for (const UseMistake& mistake : kUseMistakes) f.mistakes.emplace_back(mistake.name);
  for (const Setting& setting : Settings()) f.cases.push_back(MakeCase(setting));
  f.evaluate = Evaluate;
  return f;
}

}  // namespace

Suite ModelSuite() {
  return {"model",
          "A small decoder with windowed attention: logits, log-probabilities and gradients of all weights.",
          {ModelFamily()}};
}

}  // namespace swarr::oracle
