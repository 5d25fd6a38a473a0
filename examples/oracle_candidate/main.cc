// SPDX-License-Identifier: Apache-2.0
// An attention in C++ judged by the oracle of the installed library, without a file in between. Put yours in the place
// of Forward(); the suite's manifest says in words what is computed.
#include <swarr/oracle/verdict_text.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

namespace {

using namespace swarr::oracle;

// --- yours: it knows nothing of the oracle ---

struct Shape {
  int queries, keys, heads, kv_heads, head_dim, window, sinks;  // window 0: all keys
};

struct Tokens {
  const int *position, *document;  // of each query or key; position -1 is padding
};

// q and out [queries, heads, head_dim], k and v [keys, kv_heads, head_dim], all row-major. A query sees keys of its
// document that are not after it, the last `window` of them with itself, and the first `sinks`.
void Forward(const float* q, const float* k, const float* v, const Tokens& asking, const Tokens& asked, const Shape& s,
             float* out) {
  const int D = s.head_dim;
  const float scale = 1 / std::sqrt(static_cast<float>(D));
  for (int n = 0; n < s.queries; ++n) {
    for (int h = 0; h < s.heads; ++h) {
      const float* query = q + (n * s.heads + h) * D;
      std::vector<float> scores(static_cast<std::size_t>(s.keys), -HUGE_VALF);
      const auto row = [&](const float* x, int j) { return x + (j * s.kv_heads + h / (s.heads / s.kv_heads)) * D; };
      for (int j = 0; j < s.keys; ++j) {
        const int distance = asking.position[n] - asked.position[j];
        const bool near = s.window == 0 || distance < s.window || asked.position[j] < s.sinks;
        if (asking.document[n] != asked.document[j] || asked.position[j] < 0 || distance < 0 || !near) continue;
        float score = 0;
        for (int d = 0; d < D; ++d) score += query[d] * row(k, j)[d];
        scores[static_cast<std::size_t>(j)] = score * scale;
      }
      const float largest = *std::ranges::max_element(scores);
      float* to = out + (n * s.heads + h) * D;
      std::fill_n(to, D, 0.0F);
      if (std::isinf(largest)) continue;  // padding sees nothing
      float sum = 0;
      for (int j = 0; j < s.keys; ++j) {
        const float weight = std::exp(scores[static_cast<std::size_t>(j)] - largest);
        sum += weight;
        for (int d = 0; d < D; ++d) to[d] += weight * row(v, j)[d];
      }
      for (int d = 0; d < D; ++d) to[d] /= sum;
    }
  }
}

// --- the oracle's ---

// The oracle's numbers are row-major doubles, whatever they stand for. Inputs are exact in f32, bf16 and f16.
template <class T>
std::vector<T> As(const Value& value) {
  return {value.data.begin(), value.data.end()};
}

CandidateTensor Out(const Case& c) {
  const auto floats = [&](const char* name) { return As<float>(c.inputs.at(name)); };
  const auto integers = [&](const char* name) { return As<int>(c.inputs.at(name)); };
  const Shape shape{c.Integer("queries"),  c.Integer("keys"),   c.Integer("heads"), c.Integer("kv_heads"),
                    c.Integer("head_dim"), c.Integer("window"), c.Integer("sinks")};
  const std::vector<int> q_position = integers("q_position"), q_document = integers("q_document"),
                         k_position = integers("k_position"), k_document = integers("k_document");
  std::vector<float> out(c.inputs.at("q").data.size());
  Forward(floats("q").data(), floats("k").data(), floats("v").data(), {q_position.data(), q_document.data()},
          {k_position.data(), k_document.data()}, shape, out.data());
  // "F32" is what it was computed in, and so how strictly it is judged.
  return {{c.inputs.at("q").shape, {out.begin(), out.end()}}, "F32"};
}

}  // namespace

int main() {
  const Suite suite = MakeSuite("attention");
  // What this attention has: no learned sinks, one output and no gradient. The verdict says how much was judged.
  const JudgeOptions asked{.skip = {"learned*"}, .outputs = {"out"}};
  Candidate candidate;
  for (const Case& c : suite.families.front().cases) {
    if (!c.name.starts_with("learned")) candidate[c.name + ".out"] = Out(c);
  }
  Expectations expectations(suite);
  const Verdict verdict = Judge(expectations, candidate, asked);
  std::cout << Text(verdict, Diagnose(expectations, candidate, verdict), asked.forward_only);
  return Accepted(verdict, asked.forward_only) ? 0 : 1;
}
