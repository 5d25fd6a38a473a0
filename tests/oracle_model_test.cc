// SPDX-License-Identifier: Apache-2.0
// The oracle of models: the product before it, and whether its mistakes are what they are called.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "oracle/small_models.h"
#include "oracle_candidates.h"
#include "test_models.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

std::vector<std::vector<std::int32_t>> DocumentsOf(const Case& c) {
  const std::vector<double>&tokens = c.inputs.at("tokens").data, &document = c.inputs.at("document").data;
  std::vector<std::vector<std::int32_t>> documents(static_cast<std::size_t>(document.back()) + 1);
  for (std::size_t n = 0; n < tokens.size(); ++n) {
    documents[static_cast<std::size_t>(document[n])].push_back(static_cast<std::int32_t>(tokens[n]));
  }
  return documents;
}

// All cases by the product's model in a dtype.
Candidate ProductOf(const Suite& suite, DType dtype, const Precision& precision) {
  Candidate candidate;
  for (const Case& c : suite.families.front().cases) {
    TestContext test;
    Context& ctx = test.ctx;
    const ModelConfig config = ConfigOf(c.parameters);
    const auto model = ModelWith(config, WeightsIn(c.inputs, config), true, dtype);
    Tape tape;
    const TapeScope recording(ctx, &tape);
    const Var hidden = model->Forward(ctx, PackDocuments(test.arena, DocumentsOf(c)));
    const Var logp = model->Logprob(ctx, hidden, InArena(ctx, c.inputs.at("targets"))).logp;
    const Tensor logits = test.arena.New(AccumulatorOf(dtype), {hidden.value.dim(0), config.vocab});
    LinearForward(ctx, logits, hidden.value, model->head().value, {});
    candidate[c.name + ".logits"] = CandidateOf(logits, precision);
    candidate[c.name + ".logp"] = CandidateOf(logp.value, precision);
    const std::vector<double>& d_logp = c.inputs.at("d_logp").data;
    DispatchSum(logp.grad.dtype(), [&]<class T>() {
      std::transform(d_logp.begin(), d_logp.end(), logp.grad.data<T>(), [](double x) { return static_cast<T>(x); });
    });
    tape.Backward(ctx);
    for (const Parameter& p : model->parameters().all()) {
      candidate[c.name + ".grad." + p.name] = CandidateOf(p.var.grad, precision);
    }
  }
  return candidate;
}

const Case& CaseNamed(const Family& family, std::string_view name) {
  return *std::find_if(family.cases.begin(), family.cases.end(), [&](const Case& c) { return c.name == name; });
}

// --- a decoder in plain loops: one document, full attention, no biases, no norm of queries and keys ---

using Vector = std::vector<double>;

struct PlainRule {
  bool interleaved = false;       // pairs (2i, 2i + 1) turn together
  bool keys_interleaved = false;  // query head h reads key head h mod G
};

class PlainDecoder {
 public:
  PlainDecoder(const ModelConfig& config, const Values& weights, PlainRule rule)
      : c_(config), weights_(weights), rule_(rule) {}

  Vector Logits(const std::vector<std::int32_t>& tokens) const {
    std::vector<Vector> rows;
    for (const std::int32_t id : tokens) {
      const double* row = weights_.at("model.embed_tokens.weight").data.data() + id * c_.hidden;
      rows.emplace_back(row, row + c_.hidden);
    }
    for (int i = 0; i < c_.layers; ++i) Layer(rows, "model.layers." + std::to_string(i) + ".");
    Vector logits;
    for (const Vector& x : rows) {
      const Vector z = Product("lm_head.weight", Norm("model.norm.weight", x));
      logits.insert(logits.end(), z.begin(), z.end());
    }
    return logits;
  }

 private:
  Vector Product(const std::string& name, const Vector& x) const {
    const Value& w = weights_.at(name);
    Vector y(static_cast<std::size_t>(w.dim(0)));
    for (std::size_t i = 0; i < y.size(); ++i) {
      for (std::size_t j = 0; j < x.size(); ++j) y[i] += w.data[i * x.size() + j] * x[j];
    }
    return y;
  }

  Vector Norm(const std::string& name, Vector x) const {
    double squares = 0;
    for (const double element : x) squares += element * element;
    const double r = 1 / std::sqrt(squares / static_cast<double>(x.size()) + c_.rms_eps);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= r * weights_.at(name).data[i];
    return x;
  }

  void Turn(Vector& heads, std::size_t position) const {
    const auto D = static_cast<std::size_t>(c_.head_dim);
    for (std::size_t head = 0; head < heads.size(); head += D) {
      for (std::size_t i = 0; i < D / 2; ++i) {
        double& a = heads[head + (rule_.interleaved ? 2 * i : i)];
        double& b = heads[head + (rule_.interleaved ? 2 * i + 1 : i + D / 2)];
        const double angle = static_cast<double>(position) *
                             std::pow(c_.rope_theta, -2 * static_cast<double>(i) / static_cast<double>(D));
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }

  void Layer(std::vector<Vector>& rows, const std::string& layer) const {
    std::vector<Vector> queries, keys, values;
    for (const Vector& x : rows) {
      const Vector n = Norm(layer + "input_layernorm.weight", x);
      queries.push_back(Product(layer + "self_attn.q_proj.weight", n));
      keys.push_back(Product(layer + "self_attn.k_proj.weight", n));
      values.push_back(Product(layer + "self_attn.v_proj.weight", n));
      Turn(queries.back(), keys.size() - 1);
      Turn(keys.back(), keys.size() - 1);
    }
    for (std::size_t t = 0; t < rows.size(); ++t) {
      AddTo(rows[t], Product(layer + "self_attn.o_proj.weight", Attended(queries[t], keys, values, t)));
      const Vector n = Norm(layer + "post_attention_layernorm.weight", rows[t]);
      Vector gate = Product(layer + "mlp.gate_proj.weight", n);
      const Vector up = Product(layer + "mlp.up_proj.weight", n);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      AddTo(rows[t], Product(layer + "mlp.down_proj.weight", gate));
    }
  }

  static void AddTo(Vector& x, const Vector& y) {
    std::transform(x.begin(), x.end(), y.begin(), x.begin(), std::plus<>());
  }

  Vector Attended(const Vector& q, const std::vector<Vector>& keys, const std::vector<Vector>& values,
                  std::size_t t) const {
    const auto D = static_cast<std::size_t>(c_.head_dim), G = static_cast<std::size_t>(c_.kv_heads);
    const auto H = static_cast<std::size_t>(c_.heads);
    Vector out(q.size());
    for (std::size_t h = 0; h < H; ++h) {
      const std::size_t g = rule_.keys_interleaved ? h % G : h / (H / G);
      Vector weights;
      double sum = 0;
      for (std::size_t j = 0; j <= t; ++j) {
        double score = 0;
        for (std::size_t d = 0; d < D; ++d) score += q[h * D + d] * keys[j][g * D + d];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(D))));
        sum += weights.back();
      }
      for (std::size_t j = 0; j <= t; ++j) {
        for (std::size_t d = 0; d < D; ++d) out[h * D + d] += weights[j] / sum * values[j][g * D + d];
      }
    }
    return out;
  }

  const ModelConfig& c_;
  const Values& weights_;
  PlainRule rule_;
};

}  // namespace

TEST_CASE("the product's models in f32 and bf16 pass the oracle of models") {
  const Suite suite = ModelSuite();
  Expectations expectations(suite);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::string name = Name(dtype);
    CAPTURE(name);
    const oracle::Verdict verdict = Judge(expectations, ProductOf(suite, dtype, PrecisionNamed(name)));
    CHECK(verdict.failures() == 0);
    // As far from the truth as the dtype makes it, or it would not be the dtype's.
    CHECK(LargestExcess(verdict) > 0.01);
  }
}

TEST_CASE(
    "a decoder in plain loops gives the truth, interleaved RoPE and interleaved key heads of the oracle of models") {
  const Suite suite = ModelSuite();
  Expectations expectations(suite);
  const Family& family = suite.families.front();
  const Case& c = CaseNamed(family, "gqa");
  const ModelConfig config = ConfigOf(c.parameters);
  const auto compare = [&](const std::string& mistake, PlainRule rule) {
    CAPTURE(mistake);
    const Values weights = WeightsIn(c.inputs, config);
    const Value& logits = expectations.Outputs(family, c, mistake).at("logits");
    const Value plain{logits.shape, PlainDecoder(config, weights, rule).Logits(DocumentsOf(c).front()), false};
    CHECK(Distance(plain, logits) < 1e-12);  // logits of some units, sums of some hundred terms
  };
  compare("", {});
  compare("RoPE of interleaved pairs (2i, 2i + 1)", {true, false});
  compare("key heads interleaved: query head h reads key head h mod G", {false, true});
}

TEST_CASE("gradients of a mistaken model in the oracle are those of its own log-probabilities") {
  const Suite suite = ModelSuite();
  const Family& family = suite.families.front();
  const Case& c = CaseNamed(family, "all_at_once");
  TestContext test;
  test.ctx.cpu = Cpu::kPortable;
  // These are wrong in the gradient alone.
  const std::set<std::string> wrong_gradients = {"the gradient of a tied embedding without the head's part",
                                                 "the gradient of a tied embedding from the head alone"};
  for (const std::vector<ModelMistake>* mistakes : {&AttentionMistakes(), &LayerMistakes()}) {
    for (const ModelMistake& mistake : *mistakes) {
      if (wrong_gradients.contains(mistake.name)) continue;
      CAPTURE(std::string(mistake.name));
      Values inputs = c.inputs;
      const auto evaluate = [&] {
        const ArenaScope scope(test.arena);
        Noise none;
        return family.evaluate(test.ctx, c, inputs, mistake.name, none);
      };
      const auto loss = [&] {
        const Values outputs = evaluate();
        double sum = 0;
        for (std::size_t n = 0; n < outputs.at("logp").data.size(); ++n) {
          sum += inputs.at("d_logp").data[n] * outputs.at("logp").data[n];
        }
        return sum;
      };
      const Values exact = evaluate();
      for (const ParameterShape& shape : ParameterShapes(ConfigOf(c.parameters))) {
        CAPTURE(shape.name);
        std::vector<double>& data = inputs.at(shape.name).data;
        const std::size_t i = data.size() / 3;
        const double at = data[i], h = 1e-5;
        data[i] = at + h;
        const double above = loss();
        data[i] = at - h;
        const double below = loss();
        data[i] = at;
        // Third derivatives times h^2, and 1e-16 / h of rounding.
        CHECK(exact.at("grad." + shape.name).data[i] == doctest::Approx((above - below) / (2 * h)).epsilon(1e-6));
      }
    }
  }
}
