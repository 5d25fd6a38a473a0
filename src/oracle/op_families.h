// SPDX-License-Identifier: Apache-2.0
// The families of the suite `ops`. Their truths are the kernels of tensor/ops.h; mistakes are made in plain loops with
// a switch for each, or by running the kernels on inputs, or passing on outputs, that were tampered with.
#pragma once

#include "oracle/suite.h"

namespace swarr::oracle {

Family LinearFamily();
Family EmbeddingFamily();
Family RmsNormFamily();
Family RopeFamily();
Family SwiGluFamily();
Family LogprobFamily();

// A mistake in a family whose plain evaluator has the switches `Rule`.
template <class Rule>
struct Switch {
  const char* name;
  void (*make)(Rule& rule);
};

// The rule with one mistake made, or with none.
template <class Rule, std::size_t n>
Rule WithMistake(Rule rule, const Switch<Rule> (&mistakes)[n], const std::string& mistake) {
  for (const Switch<Rule>& m : mistakes) {
    if (mistake == m.name) m.make(rule);
  }
  return rule;
}

template <class Rule, std::size_t n>
std::vector<std::string> NamesOf(const Switch<Rule> (&mistakes)[n]) {
  std::vector<std::string> names;
  for (const Switch<Rule>& m : mistakes) names.emplace_back(m.name);
  return names;
}

}  // namespace swarr::oracle
