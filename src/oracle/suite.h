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
#include <string_view>
#include <vector>

#include "oracle/values.h"

namespace swarr::oracle {

// Simulates storing numbers in a dtype of unit roundoff u: multiplies each by 1 + u or 1 - u, at random. With u = 0 it
// does nothing. Numbers so small that the dtype's spacing no longer shrinks with them move by `least` instead, half
// that spacing. The framework calls it on the inputs, an evaluator on each intermediate result that it has in hand;
// results that an evaluator can't reach are counted in Family::roundings.
class Noise {
 public:
  Noise() : random_(0) {}
  Noise(double u, double least, std::uint64_t key) : u_(u), least_(least), random_(key) {}

  void Disturb(Value& value);     // integers stay
  void Disturb(const Tensor& t);  // f64
  // `most` bounds u, for numbers that nobody stores more coarsely, like the angles of RoPE.
  double Disturbed(double x, double most = 1);

 private:
  double u_ = 0, least_ = 0;
  PhiloxStream random_;
};

struct TensorInfo {
  std::string name;
  std::string shape;  // in letters of the glossary (tensor/tensor.h), "[N, H, D]"
  std::string meaning;
  bool gradient = false;  // an output's: a candidate may leave all gradients out (judge.h)
  bool sum = false;       // a value's: computations in bf16 keep it in f32, and it is no more exact for it
};

struct Case {
  std::string name;     // unique in the suite: tensors are "<case>.<tensor>"
  std::string meaning;  // why it is there
  // Flat, numbers and texts: what the evaluator needs beside tensors, and by what the diagnosis tells cases apart.
  nlohmann::ordered_json parameters = {};
  Values inputs = {};
  std::int64_t longest_sum = 1;  // terms of the longest sum on the way to any output (expectations.h)

  double Number(const char* parameter) const { return parameters.at(parameter).get<double>(); }
  int Integer(const char* parameter) const { return parameters.at(parameter).get<int>(); }
};

// The tensors that a plain implementation stores, and so rounds, on the way from inputs to results: a phrase for each.
// Gradients suffer those of the forward and of the backward.
struct Roundings {
  std::vector<std::string> forward, backward;
};

// A known mistake: its name, as the user reads it after "matches", and what it makes of the right rule. A rule holds
// whatever an implementation may get wrong; where a mistake is what the case asks for, or has no meaning in it, it
// changes nothing.
template <class Rule>
struct Mistake {
  const char* name;
  void (*make)(Rule& rule);
};

// Several mistakes made at once are named by their names, one a line.
std::string Together(const std::vector<std::string>& mistakes);
// Whether `name` is one of them.
bool IsAmong(std::string_view mistakes, std::string_view name);

// The rule with those mistakes of the table made that are among `mistakes`.
template <class Rule, class Table>
Rule WithMistake(Rule rule, const Table& table, const std::string& mistakes) {
  for (const auto& known : table) {
    if (IsAmong(mistakes, known.name)) known.make(rule);
  }
  return rule;
}

template <class... Table>
std::vector<std::string> NamesOf(const Table&... tables) {
  std::vector<std::string> names;
  const auto add = [&](const auto& table) {
    for (const auto& mistake : table) names.emplace_back(mistake.name);
  };
  (add(tables), ...);
  return names;
}

// The cases that `make` makes of a table of settings.
template <class Table, class Make>
std::vector<Case> CasesOf(const Table& settings, Make make) {
  std::vector<Case> cases;
  for (const auto& setting : settings) cases.push_back(make(setting));
  return cases;
}

template <class T>
std::vector<T> Joined(std::vector<T> a, const std::type_identity_t<std::vector<T>>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A name for no mistake, evaluated as mistakes are: tests hold that evaluation to the truth.
inline constexpr const char* kNoMistake = "no mistake";

struct Family {
  std::string name;                    // "attention", "rmsnorm"
  std::vector<std::string> semantics;  // sentences: the formulas, and what is easily misread
  std::vector<TensorInfo> inputs = {}, outputs = {};
  Roundings roundings = {};
  std::vector<std::string> mistakes;  // names
  std::vector<Case> cases;
  // Computes the case's outputs (all of `outputs`, or those that have a meaning in it) from `inputs`, which have the
  // names and shapes of the case's. `mistake` is "" for the truth, one of `mistakes` or several Together, or
  // kNoMistake. Step memory is the framework's to give back.
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

// The suites, each in the file of its name in suites/, `advantages` and `policy` in loss.cc. A new one is a function
// here and a line in suite.cc.
Suite AttentionSuite();
Suite OpsSuite();
Suite LossSuite();
Suite AdvantagesSuite();
Suite PolicySuite();
Suite DistillSuite();
Suite StepSuite();
Suite ModelSuite();
Suite DecodeSuite();
Suite RolloutSuite();

}  // namespace swarr::oracle
