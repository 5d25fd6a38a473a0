// SPDX-License-Identifier: Apache-2.0
// The oracle's tables: what is computed, on which inputs, and which mistakes are known.
//
// A suite is a list of families, a family is one computation: its formula, its named tensors, the mistakes that people
// make in it, one evaluator for the truth and for every mistake, and the cases that it is tried on. Export, judgement,
// tolerance and diagnosis are the same for all (export.h, judge.h, expectations.h, diagnosis.h).
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "oracle/values.h"

namespace swarr::oracle {

// Simulates that what is computed is stored in a dtype of unit roundoff u: multiplies each element by 1 + u or 1 - u,
// at random. With u = 0 it does nothing. An evaluator calls it on each intermediate result that it has in hand, and the
// framework on the inputs; what it can't reach is counted in Family::roundings.
class Noise {
 public:
  Noise() : random_(0) {}
  Noise(double u, std::uint64_t key) : u_(u), random_(key) {}

  void Disturb(Value& value);     // integers stay
  void Disturb(const Tensor& t);  // f64
  // `most` is for what nobody stores more coarsely, like the angles of RoPE.
  double Disturbed(double x, double most = 1);

 private:
  double u_ = 0;
  PhiloxStream random_;
};

struct TensorInfo {
  std::string name;
  std::string shape;  // in letters of the glossary (tensor/tensor.h), "[N, H, D]"
  std::string meaning;
  bool gradient = false;  // of outputs: a candidate may leave all gradients out (judge.h)
};

struct Case {
  std::string name;     // unique in the suite: tensors are "<case>.<tensor>"
  std::string meaning;  // why it is there
  // Flat, numbers and texts: what the evaluator needs beside tensors, and by what the diagnosis tells cases apart.
  nlohmann::ordered_json parameters;
  Values inputs;
  int longest_sum = 1;  // terms of the longest sum on the way to any output (expectations.h)
};

// The roundings that a plain implementation makes on the way to its results, beyond that of inputs and results: one
// phrase for each tensor that it stores. Those of gradients come on top of those of values.
struct Roundings {
  std::vector<std::string> forward, backward;
};

// A name for no mistake, evaluated as mistakes are: tests hold that evaluation to the truth.
inline constexpr const char* kNoMistake = "no mistake";

struct Family {
  std::string name;                    // "attention", "rmsnorm"
  std::vector<std::string> semantics;  // sentences: the formulas, and what is easily misread
  std::vector<TensorInfo> inputs, outputs;
  Roundings roundings;
  std::vector<std::string> mistakes;  // as the user reads them, after "matches"
  std::vector<Case> cases;
  // The outputs that the case has (all of `outputs`, or those that have a meaning in it), computed from `inputs`, which
  // have the names and shapes of the case's. `mistake` is "" for the truth, one of `mistakes`, or kNoMistake; where a
  // mistake changes nothing, as a window's does in full attention, it gives the truth. Step memory is the framework's
  // to give back.
  std::function<Values(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake,
                       Noise& noise)>
      evaluate;

  const TensorInfo& Output(const std::string& output) const;
};

struct Suite {
  std::string name;
  std::string summary;
  std::vector<Family> families;
};

// "attention, ops": the suites that there are.
std::string SuiteNames();
// Throws UsageError on an unknown name.
Suite MakeSuite(const std::string& name);

// The suites. A new one is a function here and a line in suite.cc.
Suite AttentionSuite();
Suite OpsSuite();
Suite LossSuite();
Suite StepSuite();
Suite ModelSuite();
Suite RolloutSuite();

}  // namespace swarr::oracle
