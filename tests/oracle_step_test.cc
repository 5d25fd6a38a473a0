// SPDX-License-Identifier: Apache-2.0
// The oracle of steps: the product before it, and the plain loops that its mistakes are made of.
#include <doctest/doctest.h>

#include "oracle_candidates.h"
#include "test_models.h"
#include "train/optimizer.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

constexpr double kRounding = 1e-14;  // some tens of roundings of numbers about 1

const Family& AdamW(const Suite& suite) { return suite.families.front(); }

// A case by the product's kernels in f32.
void RunInF32(const Case& c, const Precision& precision, Candidate& candidate) {
  TestContext test;
  std::map<std::string, Tensor> tensors;
  std::vector<std::string> names;
  std::int64_t count = 0;
  for (const auto& [name, value] : c.inputs) {
    const Tensor exact = InArena(test.ctx, value);
    tensors[name] = NewTensor(test.arena, DType::kF32, value.shape);
    std::transform(exact.data<double>(), exact.data<double>() + exact.size(), tensors[name].data<float>(),
                   [](double x) { return static_cast<float>(x); });
    if (!name.starts_with("g.")) continue;
    names.push_back(name.substr(2));
    count += exact.size();
  }
  const Tensor flat = test.arena.New(DType::kF32, {count});
  float* end = flat.data<float>();
  for (const std::string& name : names) {
    const Tensor& g = tensors.at("g." + name);
    end = std::copy_n(g.data<float>(), g.size(), end);
  }
  const double norm = GlobalNorm(test.ctx, flat), most = c.Number("max_grad_norm");
  const double scale = most > 0 && norm > most ? most / norm : 1;
  candidate[c.name + ".grad_norm"] = {{{1}, {norm}, false}, std::string(precision.stored)};
  for (const std::string& name : names) {
    const Tensor &w = tensors.at("w." + name), &m = tensors.at("m." + name), &v = tensors.at("v." + name);
    const double decay = w.rank() < 2 ? 0 : c.Number("weight_decay");
    const AdamWOptions adamw = {c.Number("beta1"), c.Number("beta2"), c.Number("eps"), decay};
    AdamWStep(test.ctx, w, m, v, tensors.at("g." + name), {c.Number("lr"), c.Integer("t"), scale, adamw});
    for (const auto& [which, t] : {std::pair{"w.", w}, {"m.", m}, {"v.", v}}) {
      candidate[c.name + "." + which + name] = CandidateOf(t, precision);
    }
  }
}

}  // namespace

TEST_CASE("the product's AdamW in f32 passes the oracle of steps, also stored in bf16 and f16") {
  const Suite suite = StepSuite();
  Expectations expectations(suite);
  for (const char* name : {"f32", "bf16", "f16"}) {
    CAPTURE(std::string(name));
    const Precision& precision = PrecisionNamed(name);
    Candidate candidate = TruthIn(expectations, precision);  // of the rates, which are not of tensors
    for (const Case& c : AdamW(suite).cases) RunInF32(c, precision, candidate);
    for (auto& item : candidate) {
      for (double& x : item.second.value.data) x = RoundedTo(precision, x);
    }
    const Verdict verdict = Judge(expectations, candidate);
    CHECK(verdict.failures() == 0);
    CHECK(LargestExcess(verdict) > 0.01);
  }
}

TEST_CASE("the plain loops of the oracle of steps give the truth where they make no mistake") {
  const Suite suite = StepSuite();
  Expectations expectations(suite);
  for (const Case& c : AdamW(suite).cases) {
    CAPTURE(c.name);
    const Values& plain = expectations.Outputs(AdamW(suite), c, kNoMistake);
    for (const auto& item : expectations.Outputs(AdamW(suite), c, "")) {
      CAPTURE(item.first);
      CHECK(Distance(plain.at(item.first), item.second) < kRounding);
    }
  }
}

TEST_CASE("the oracle's steps are those of the product's optimizer on a model") {
  OptimizerOptions options;
  options.max_grad_norm = 1.5;
  options.adamw = {0.9, 0.99, 1e-6, 0.25};
  ModelConfig config = TinyConfig();
  config.qkv_bias = true;
  Trainee trainee(config, DType::kF64, options);
  const ParameterStore& parameters = trainee.model.parameters();
  const Suite suite = StepSuite();
  PhiloxStream random(StreamKey(7, Purpose::kData));
  for (int t = 1; t <= 3; ++t) {
    CAPTURE(t);
    const Tensor flat = parameters.flat_gradients();
    // The second norm is below the clip.
    for (std::int64_t i = 0; i < flat.size(); ++i) flat.data<double>()[i] = random.NextNormal() * (t == 2 ? 0.01 : 1);
    Case c{"", "", {{"t", t}, {"lr", 0.1}, {"beta1", 0.9}, {"beta2", 0.99}, {"eps", 1e-6}}, {}, 1};
    c.parameters["weight_decay"] = 0.25;
    c.parameters["max_grad_norm"] = 1.5;
    for (const Parameter& p : parameters.all()) {
      c.inputs["w." + p.name] = ValueOf(p.master);
      c.inputs["g." + p.name] = ValueOf(p.var.grad);
      c.inputs["m." + p.name] = ValueOf(p.PartOf(trainee.optimizer.first_moment()));
      c.inputs["v." + p.name] = ValueOf(p.PartOf(trainee.optimizer.second_moment()));
    }
    Noise none;
    const Values oracle = AdamW(suite).evaluate(trainee.ctx, c, c.inputs, "", none);
    const double norm = trainee.optimizer.GradientNorm(trainee.ctx);
    CHECK((norm > 1.5) == (t != 2));
    CHECK(oracle.at("grad_norm").data[0] == doctest::Approx(norm).epsilon(kRounding));
    trainee.optimizer.Step(trainee.ctx, 0.1, norm);
    for (const Parameter& p : parameters.all()) {
      CAPTURE(p.name);
      CHECK(Distance(ValueOf(p.master), oracle.at("w." + p.name)) < kRounding);
      CHECK(Distance(ValueOf(p.PartOf(trainee.optimizer.first_moment())), oracle.at("m." + p.name)) < kRounding);
      CHECK(Distance(ValueOf(p.PartOf(trainee.optimizer.second_moment())), oracle.at("v." + p.name)) < kRounding);
    }
  }
}
