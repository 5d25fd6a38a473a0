// SPDX-License-Identifier: Apache-2.0
// An attention in C++ judged by the oracle of the installed library, without a file in between. Put yours in the place
// of Attention(); the suite's manifest says in words what is computed.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "oracle/verdict_text.h"

using namespace swarr::oracle;

// `out` and `lse` in f32: what is judged. A query sees keys of its document that are not after it, the last `window` of
// them (0: all) with itself, and the first `sinks`.
Values Attention(const Case& c) {
  const Value &q = c.inputs.at("q"), &k = c.inputs.at("k"), &v = c.inputs.at("v");
  const Value &q_position = c.inputs.at("q_position"), &q_document = c.inputs.at("q_document");
  const Value &k_position = c.inputs.at("k_position"), &k_document = c.inputs.at("k_document");
  const std::int64_t heads = q.dim(1), D = q.dim(2), group = heads / k.dim(1);
  const double window = c.Integer("window") > 0 ? c.Integer("window") : HUGE_VAL;
  const float scale = 1 / std::sqrt(static_cast<float>(D));
  Value out = q, lse{{q.dim(0), heads}, std::vector<double>(static_cast<std::size_t>(q.dim(0) * heads))};
  for (std::int64_t n = 0; n < q.dim(0); ++n) {
    for (std::int64_t h = 0; h < heads; ++h) {
      std::vector<float> scores, weighted(static_cast<std::size_t>(D));
      std::vector<std::int64_t> seen;
      for (std::int64_t j = 0; j < k.dim(0); ++j) {
        const double distance = q_position(n) - k_position(j);
        const bool near = distance < window || k_position(j) < c.Integer("sinks");
        if (q_document(n) != k_document(j) || k_position(j) < 0 || distance < 0 || !near) continue;
        float score = 0;
        for (std::int64_t d = 0; d < D; ++d) score += static_cast<float>(q(n, h, d) * k(j, h / group, d));
        scores.push_back(score * scale);
        seen.push_back(j);
      }
      const float largest = scores.empty() ? 0 : *std::ranges::max_element(scores);
      float sum = 0;
      for (std::size_t i = 0; i < seen.size(); ++i) {
        const float weight = std::exp(scores[i] - largest);
        sum += weight;
        for (std::size_t d = 0; d < weighted.size(); ++d) {
          weighted[d] += weight * static_cast<float>(v(seen[i], h / group, d));
        }
      }
      for (std::size_t d = 0; d < weighted.size(); ++d) out(n, h, d) = sum > 0 ? weighted[d] / sum : 0;
      lse(n, h) = largest + std::log(sum);
    }
  }
  return {{"out", out}, {"lse", lse}};
}

int main() {
  const Suite suite = MakeSuite("attention");
  Candidate candidate;
  JudgeOptions asked{.outputs = {"out", "lse"}};
  for (const Case& c : suite.families.front().cases) {
    if (c.Integer("learned_sinks") > 0) {  // this one has none: the verdict says how much was judged
      asked.skip.push_back(c.name);
      continue;
    }
    for (const auto& [name, value] : Attention(c)) candidate[c.name + "." + name] = {value, "F32"};
  }
  Expectations expectations(suite);
  const Verdict verdict = Judge(expectations, candidate, asked);
  std::cout << Text(verdict, Diagnose(expectations, candidate, verdict), asked.forward_only);
  return Accepted(verdict, asked.forward_only) ? 0 : 1;
}
