// SPDX-License-Identifier: Apache-2.0
// The oracle of models: the product before it, and whether its mistakes are what they are called.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "oracle/suites/small_models.h"
#include "oracle_candidates.h"
#include "plain_decoder.h"
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
    const ModelConfig config = ConfigOf(c);
    const auto model = ModelWith(config, c.inputs, true, dtype);
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

}  // namespace

TEST_CASE("the product's models in f32 and bf16 pass the oracle of models") {
  const Suite suite = ModelSuite();
  Expectations expectations(suite);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::string name = Name(dtype);
    CAPTURE(name);
    const Verdict verdict = Judge(expectations, ProductOf(suite, dtype, PrecisionNamed(name)));
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
  const ModelConfig config = ConfigOf(c);
  const auto compare = [&](const std::string& mistake, PlainRule rule) {
    CAPTURE(mistake);
    const Value& logits = expectations.Outputs(family, c, mistake).at("logits");
    const Value plain = PlainDecoder(config, c.inputs, rule).Logits(DocumentsOf(c).front());
    CHECK(plain.shape == logits.shape);
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
  std::vector<std::string> mistakes = NamesOf(AttentionMistakes(), LayerMistakes());
  mistakes.emplace_back("documents that see each other, positions counted anew in each");
  for (const std::string& mistake : mistakes) {
    if (wrong_gradients.contains(mistake)) continue;
    CAPTURE(mistake);
    Values inputs = c.inputs;
    const auto evaluate = [&] {
      const ArenaScope scope(test.arena);
      Noise none;
      return family.evaluate(test.ctx, c, inputs, mistake, none);
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
    for (const ParameterShape& shape : ParameterShapes(ConfigOf(c))) {
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
