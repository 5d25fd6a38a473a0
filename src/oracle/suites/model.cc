// SPDX-License-Identifier: Apache-2.0
// The suite `model`: tokens through a small decoder to logits, log-probabilities and gradients of all weights.
#include <algorithm>

#include "oracle/suites/masked_decoder.h"
#include "oracle/suites/small_models.h"

namespace swarr::oracle {
namespace model_suite {

using Documents = std::vector<std::vector<std::int32_t>>;

Documents DocumentsIn(const Values& inputs) {
  const Value &tokens = inputs.at("tokens"), &document = inputs.at("document");
  Documents documents;
  for (std::int64_t n = 0; n < tokens.size(); ++n) {
    if (n == 0 || document(n) != document(n - 1)) documents.emplace_back();
    documents.back().push_back(static_cast<std::int32_t>(tokens(n)));
  }
  return documents;
}

// Hidden states of all rows.
Var Forward(Context& ctx, const Transformer& model, const ModelRule& rule) {
  const Documents documents = DocumentsIn(rule.inputs);
  if (!rule.documents_forgotten) return model.Forward(ctx, PackDocuments(*ctx.arena, documents));
  MaskedRows rows;
  for (const auto& document : documents) {
    const std::vector<std::int32_t> positions = Counting(std::ssize(document));
    rows.tokens.insert(rows.tokens.end(), document.begin(), document.end());
    rows.positions.insert(rows.positions.end(), positions.begin(), positions.end());
  }
  rows.sees = [](const AttentionSpec& spec, std::int64_t row, std::int64_t key) {
    return Visible(static_cast<int>(row), static_cast<int>(key), spec);
  };
  return MaskedForward(ctx, model, rows);
}

// Logits and log-probabilities. Gradients have the names of the weights.
Values RunModel(Context ctx, const ModelRule& rule, Values& gradients) {
  const auto model = ModelWith(rule.config, rule.inputs, true);
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Var hidden = Forward(ctx, *model, rule);
  const Var logp = model->Logprob(ctx, hidden, InArena(ctx, rule.inputs.at("targets"))).logp;
  std::ranges::copy(rule.inputs.at("d_logp").data, logp.grad.data<double>());
  tape.Backward(ctx);
  for (const Parameter& p : model->parameters().all()) gradients[p.name] = ValueOf(p.var.grad);
  return {{"logits", LogitsOf(ctx, *model, hidden.value)}, {"logp", ValueOf(logp.value)}};
}

// Mistakes in what the model is given, not in the model.
constexpr Mistake<ModelRule> kUseMistakes[] = {
    {"documents that see each other, positions counted through the row",
     [](ModelRule& r) { std::ranges::fill(r.inputs.at("document").data, 0); }},
    {"documents that see each other, positions counted anew in each",
     [](ModelRule& r) { r.documents_forgotten = true; }},
    {"log-probabilities of the tokens themselves instead of the targets",
     [](ModelRule& r) { r.inputs.at("targets") = r.inputs.at("tokens"); }},
    {"log-probabilities of the next row's target",
     [](ModelRule& r) {
       std::vector<double>& targets = r.inputs.at("targets").data;
       std::rotate(targets.begin(), targets.begin() + 1, targets.end());
     }},
    {"d_logp ignored: the gradient of the sum of all log-probabilities",
     [](ModelRule& r) { std::ranges::fill(r.inputs.at("d_logp").data, 1); }},
    {"gradients divided by the number of rows",
     [](ModelRule& r) {
       Value& d_logp = r.inputs.at("d_logp");
       for (double& x : d_logp.data) x /= static_cast<double>(d_logp.size());
     }},
    {"gradients of the cross-entropy, -logp",
     [](ModelRule& r) { r.inputs.at("d_logp") = Scaled(r.inputs.at("d_logp"), -1); }},
};

// Scores alone depend on this weight. Where a token sees only itself, the weight's gradient is 0, and the computed one
// is the rounding of two equal sums: no number to compare.
bool EntersScoresAlone(const std::string& weight) {
  return weight.find(".q_") != std::string::npos || weight.find(".k_") != std::string::npos;
}

Values Evaluate(const Context& ctx, const Case& c, const Values& given, const std::string& mistake, Noise& noise) {
  const ModelConfig right = ConfigOf(c);
  ModelRule rule = WithMistake(ModelRule{right, given}, AttentionMistakes(), mistake);
  rule = WithMistake(WithMistake(rule, LayerMistakes(), mistake), kUseMistakes, mistake);
  Values gradients, outputs = RunModel(ctx, rule, gradients);
  if (rule.pull_back) rule.pull_back(right, gradients);
  for (auto& item : outputs) noise.Disturb(item.second);
  const bool sees_itself_alone = given.at("tokens").dim(0) == 1;
  for (const ParameterShape& shape : ParameterShapes(right)) {
    if (sees_itself_alone && EntersScoresAlone(shape.name)) continue;
    const auto gradient = gradients.find(shape.name);
    outputs["grad." + shape.name] = gradient == gradients.end() ? Zeros(given.at(shape.name).shape) : gradient->second;
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
  void (*change)(ModelConfig& config) = [](ModelConfig&) {};
};

void All(ModelConfig& c) { c.tied = c.qk_norm = c.qkv_bias = true; }

const Setting kSettings[] = {
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
    {"tied", "the head is the embedding", {9}, {{}, {4, 0}}, 2, 1, [](auto& c) { c.tied = true; }},
    {"qk_norm", "normed queries and keys", {9}, {{}, {4, 0}}, 4, 2, [](auto& c) { c.qk_norm = true; }},
    {"qkv_bias", "biases of q, k and v", {9}, {{}, {4, 0}}, 4, 2, [](auto& c) { c.qkv_bias = true; }},
    {"large_eps",
     "an eps of the size of the activations' squares",
     {9},
     {{}, {}},
     2,
     2,
     [](auto& c) { c.rms_eps = 0.5; }},
    {"all_at_once", "tied, biases, normed queries and keys, mixed layers, documents", {8, 6}, {{}, {3, 1}}, 4, 2, All},
};

Case MakeCase(const Setting& s) {
  ModelConfig config = SmallConfig(s.attention, s.heads, s.kv_heads);
  s.change(config);
  PhiloxStream random = StreamOf("model", s.name);
  Case c{s.name, s.meaning, ParametersOf(config), RandomWeights(random, config)};
  std::vector<std::int32_t> documents;
  for (std::size_t d = 0; d < s.lengths.size(); ++d) {
    documents.insert(documents.end(), static_cast<std::size_t>(s.lengths[d]), static_cast<std::int32_t>(d));
  }
  const auto N = static_cast<std::int64_t>(documents.size());
  c.inputs["tokens"] = RandomIntegers(random, {N}, config.vocab);
  c.inputs["document"] = Integers(documents);
  c.inputs["targets"] = RandomIntegers(random, {N}, config.vocab);
  c.inputs["d_logp"] = RandomNormal(random, {N});
  c.parameters["rows"] = N;
  c.parameters["documents"] = s.lengths.size();
  c.longest_sum = std::max<std::int64_t>(N * s.heads / s.kv_heads, config.vocab);
  return c;
}

}  // namespace model_suite

Suite ModelSuite() {
  using namespace model_suite;
  Family f{
      .name = "decoder",
      .semantics = Joined(
          ModelSemantics(),
          {"Documents stand one after another in a row, without padding; positions count from 0 in each.",
           "logits[n] = head of the n-th row; logp[n] = log softmax(logits[n])[targets[n]], natural logarithm.",
           "Targets are free: they are not the next tokens.",
           "One-token documents alone: gradients of weights that nothing but scores depends on (q_*, k_*) are 0 but "
           "for rounding, and are not asked for.",
           "In bf16 gradients may err by a good part of their size here, as the weights of so small a model leave "
           "them: judge them in f32 or f64 too.",
           "grad.<weight> is the gradient of sum_n d_logp[n] logp[n]; that of a tied embedding has both parts."}),
      .inputs = Joined(WeightInfos(false), {{"tokens", "[N]", "ids"},
                                            {"document", "[N]", "document of each row"},
                                            {"targets", "[N]", "the token whose log-probability is asked for"},
                                            {"d_logp", "[N]", "gradient of the loss with respect to logp"}}),
      .outputs = Joined<TensorInfo>(
          {{"logits", "[N, V]", "logits"}, {"logp", "[N]", "log-probabilities of the targets"}}, WeightInfos(true)),
      // Disturbed are the weights, which counts as one rounding of each result that they enter into. A layer has 9 (two
      // norms, seven matrices), and a plain implementation stores about 26 tensors in it: per norm the normed x and its
      // product with the weight (4); q, k, v, the two products of RoPE and their sum for q and k (9); scores, scaled
      // scores, two steps of the softmax and weighted values (5); gate, up, silu and its product (4); o, down and two
      // residual sums (4). That is three for each weight. The backward stores a gradient of each.
      .roundings = {{"input of a weight", "output of a weight", "output after RoPE, softmax or the residual sum"},
                    {"gradient of the output after that", "gradient of the output", "gradient of the input"}},
      .mistakes = NamesOf(AttentionMistakes(), LayerMistakes(), kUseMistakes),
      .cases = CasesOf(kSettings, MakeCase),
      .evaluate = Evaluate};
  return {"model",
          "A small decoder with windowed attention: logits, log-probabilities and gradients of all weights.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
