// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "fuzz/harnesses.h"
#include "oracle/verdict_text.h"

namespace swarr::fuzz {
namespace {

// The smallest suite: y = 2 x, its gradient, and a mistake.
oracle::Suite Doubling() {
  oracle::Case one{.name = "one", .meaning = "the only one", .parameters = {{"size", 2}}, .longest_sum = 2};
  one.inputs["x"] = {{2}, {1, -3}};
  one.inputs["ids"] = oracle::Integers({4, 5});
  oracle::Family family{
      .name = "doubling", .semantics = {"y = 2 x"}, .mistakes = {"three times"}, .cases = {one}, .evaluate = {}};
  family.inputs = {{"x", "[N]", "numbers"}, {"ids", "[N]", "integers"}};
  family.outputs = {{"y", "[N]", "twice"}, {"ids", "[N]", "the same"}, {"dx", "[N]", "the gradient", true}};
  family.roundings = {{"y"}, {"dx"}};
  family.evaluate = [](const Context&, const oracle::Case&, const oracle::Values& inputs, const std::string& mistake,
                       oracle::Noise&) {
    const double factor = mistake == "three times" ? 3 : 2;
    return oracle::Values{
        {"y", oracle::Scaled(inputs.at("x"), factor)}, {"ids", inputs.at("ids")}, {"dx", {{2}, {factor, factor}}}};
  };
  return {"doubling", "a suite of one family", {family}};
}

}  // namespace

void FuzzCandidate(std::string_view input) {
  static const oracle::Suite suite = Doubling();
  static oracle::Expectations expectations(suite);
  Write(oracle::CandidateFile(suite.name), input);
  const oracle::Candidate candidate = oracle::ReadCandidate(Scratch(), suite.name);
  for (const bool forward_only : {false, true}) {
    const oracle::Verdict verdict = oracle::Judge(expectations, candidate, {.forward_only = forward_only});
    const auto diagnoses = oracle::Diagnose(expectations, candidate, verdict);
    oracle::Text(verdict, diagnoses, forward_only);
    oracle::ToJson(verdict, diagnoses, forward_only).dump();
  }
}

}  // namespace swarr::fuzz
