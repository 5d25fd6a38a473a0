// SPDX-License-Identifier: Apache-2.0
// The oracle of rollouts before the product's decoder.
#include <doctest/doctest.h>

#include <sstream>

#include "model/decoder.h"
#include "oracle/suites/small_models.h"
#include "oracle_candidates.h"
#include "tensors.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

// What the case asks of the decoder, whose noise comes from the keys.
std::vector<Request> RequestsOf(const Case& c) {
  std::istringstream keys(c.parameters.at("noise_keys").get<std::string>());
  const Value& prompts = c.inputs.at("prompts");
  std::vector<Request> requests;
  for (std::int64_t n = 0; n < prompts.dim(0); ++n) {
    Request& request = requests.emplace_back();
    keys >> request.key;
    request.temperature = c.parameters.at("temperature");
    request.max_new_tokens = c.parameters.at("max_new_tokens");
    for (std::int64_t i = 0; i < prompts.dim(1); ++i) {
      if (prompts(n, i) >= 0) request.prompt.push_back(static_cast<std::int32_t>(prompts(n, i)));
    }
  }
  return requests;
}

// All cases by the product's decoder, which keeps a cache, in a dtype.
Candidate DecodedIn(const Suite& suite, DType dtype, const Precision& precision) {
  Candidate candidate;
  for (const Case& c : suite.families.front().cases) {
    TestContext test;
    const ModelConfig config = ConfigOf(c);
    const auto model = ModelWith(config, c.inputs, false, dtype);
    const std::vector<Completion> completions =
        Decoder(*model, 2, config.max_positions, 4).Generate(test.ctx, RequestsOf(c));
    const std::int64_t B = c.inputs.at("noise").dim(0), M = c.inputs.at("noise").dim(1);
    Value tokens = Zeros({B, M}), logp = Zeros({B, M}), length = Zeros({B});
    tokens.integer = length.integer = true;
    std::fill(tokens.data.begin(), tokens.data.end(), -1);
    for (std::size_t n = 0; n < completions.size(); ++n) {
      const auto row = static_cast<std::int64_t>(n);
      std::ranges::copy(completions[n].tokens, tokens.Row(row).begin());
      std::ranges::copy(completions[n].logp, logp.Row(row).begin());
      length(n) = static_cast<double>(completions[n].tokens.size());
    }
    candidate[c.name + ".tokens"] = {tokens, "I32"};
    candidate[c.name + ".length"] = {length, "I32"};
    candidate[c.name + ".logp"] = {logp, std::string(precision.stored)};
  }
  return candidate;
}

}  // namespace

TEST_CASE("the product's decoder in f64, f32 and bf16, given the keys of the noise, passes the oracle of rollouts") {
  const Suite suite = RolloutSuite();
  Expectations expectations(suite);
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const std::string name = Name(dtype);
    CAPTURE(name);
    const oracle::Verdict verdict = Judge(expectations, DecodedIn(suite, dtype, PrecisionNamed(name)));
    CHECK(verdict.failures() == 0);
    CHECK(verdict.unknown.empty());
    if (dtype != DType::kF64) CHECK(LargestExcess(verdict) > 0.01);
  }
}

TEST_CASE("rollouts of the oracle end in all ways: by the end of text, early and late, and at the most tokens") {
  const Suite suite = RolloutSuite();
  Expectations expectations(suite);
  int ended = 0, cut = 0;
  for (const Case& c : suite.families.front().cases) {
    const Values& outputs = expectations.Outputs(suite.families.front(), c, "");
    const Value& tokens = outputs.at("tokens");
    for (std::int64_t n = 0; n < tokens.dim(0); ++n) {
      const auto length = static_cast<std::int64_t>(outputs.at("length")(n));
      if (tokens(n, length - 1) == c.Number("eos_token_id")) {
        ++ended;
      } else {
        ++cut;
        CHECK(length == tokens.dim(1));
      }
    }
  }
  CHECK(ended >= 5);
  CHECK(cut >= 5);
}
