// SPDX-License-Identifier: Apache-2.0
// The method in one file, with the standard library alone. A tiny transformer learns a task under full attention (SA),
// is converted to sliding-window attention (SWA), fine-tuned (SFT), and adapted by on-policy reinforcement learning
// (RL) under the window. It trains from nothing and prints the finding as a table: conversion costs much, SFT brings a
// part back and stops, RL teaches the model to restate facts before they slide out of its window. Under full attention
// the same RL makes it restate less.
//
//   g++ -std=c++20 -O3 -march=native examples/swarr_in_one_file.cc -o one && ./one [seed]
//
// It leaves out what the program under src/ has: batches, threads, other dtypes and devices, grouped heads, sinks,
// biases, weight decay, other objectives, files. tests/one_file_test.cc holds its numbers against that program's.
//
// T positions of a document, C channels, H heads, D head dim, F ffn, V vocabulary, L layers, W window; dx is dL/dx.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <numeric>
#include <string>
#include <vector>

#ifndef ONE_FILE_REAL
#define ONE_FILE_REAL float  // the test takes double
#endif
namespace one_file {
using Real = ONE_FILE_REAL;
using Rows = std::vector<Real>;  // [T, width], one row after another

constexpr int L = 2, H = 2, D = 32, C = H * D, F = 3 * C, V = 32, W = 12, kMaxT = 128;
enum Purpose { kInit, kSplit, kOrder, kRestate, kToken };

// Uniform in (0, 1), a pure function of what the number is for: there is no state (the mixing of splitmix64).
double Uniform(Purpose purpose, auto... key) {
  std::uint64_t x = purpose;
  for (const std::uint64_t k : {static_cast<std::uint64_t>(key)...}) {
    x = (x ^ k) + 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    x ^= x >> 31;
  }
  return (static_cast<double>(x >> 11) + 0.5) * 0x1p-53;
}

// ---- The task: iterate x -> (a x + b) mod 7 for n steps. Every step needs a and b, which stand at the start of the
// prompt and soon leave the window. A trace may restate them before any step. One character is one token:
//
//   prompt  a3b0n5x1?        trace  1:3,2:2,3:6,[a3b0n5]4:4,5:5,#5$        $ ends the text
const std::string kAlphabet = "0123456789abnx:,[]?#$...........";  // dots: unused ids that round V up
constexpr int kPromptLength = 9;
constexpr double kRestateProbability = 0.2;  // before each step of the traces that SFT imitates

struct Problem {
  int a, b, x, n;
};
int Next(const Problem& p) { return (p.a * p.x + p.b) % 7; }
char Digit(int value) { return kAlphabet[value]; }
int Id(char c) { return static_cast<int>(kAlphabet.find(c)); }
std::string Facts(const Problem& p) { return {'a', Digit(p.a), 'b', Digit(p.b), 'n', Digit(p.n)}; }
std::string Prompt(const Problem& p) { return Facts(p) + 'x' + Digit(p.x) + '?'; }

std::string Trace(Problem p, auto... key) {
  std::string trace;
  for (int step = 1; step <= p.n; ++step) {
    if (Uniform(kRestate, key..., step) < kRestateProbability) trace += '[' + Facts(p) + ']';
    p.x = Next(p);
    trace += {Digit(step), ':', Digit(p.x), ','};
  }
  return trace + '#' + Digit(p.x) + '$';
}

// The problems with a hash in [begin, end), but for those whose x never changes.
std::vector<Problem> Problems(double begin, double end) {
  std::vector<Problem> problems;
  for (int i = 0; i < 8 * 2 * 7 * 7; ++i) {
    const Problem p{.a = 3 + i / 49 % 2 * 2, .b = i / 7 % 7, .x = i % 7, .n = 2 + i / 98};
    const double hash = Uniform(kSplit, i);
    if (Next(p) != p.x && begin <= hash && hash < end) problems.push_back(p);
  }
  return problems;
}

// ---- Linear layers. Inner loops run over independent sums, so that they vectorise as they stand. An element of y
// takes its products in ascending i, however many rows there are: it has the same bits in sampling and in training.
void AddScaled(Real* y, Real a, const Real* x, int n) {
  for (int i = 0; i < n; ++i) y[i] += a * x[i];
}

Real Dot(const Real* a, const Real* b, int n) {  // 16 sums side by side, and then their sum
  Real sum[16] = {};
  for (int i = 0; i < n; i += 16) {
    for (int j = 0; j < 16; ++j) sum[j] += a[i + j] * b[i + j];
  }
  return std::accumulate(sum, sum + 16, Real(0));
}

// x w + residual
template <int I, int O>
Rows Linear(const Rows& x, const Real (&w)[I][O], Rows y = {}) {
  y.resize(x.size() / I * O);
  for (std::size_t i = 0; i < x.size(); ++i) AddScaled(&y[i / I * O], x[i], w[i % I], O);
  return y;
}

// dw += x^T dy; returns dx = dy w^T
template <int I, int O>
Rows LinearBackward(Real (&dw)[I][O], const Rows& dy, const Rows& x, const Real (&w)[I][O]) {
  Rows dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    dx[i] = Dot(&dy[i / I * O], w[i % I], O);
    AddScaled(dw[i % I], x[i], &dy[i / I * O], O);
  }
  return dx;
}

// ---- RMSNorm: y = x r w with r = 1 / sqrt(mean(x^2) + eps), so that dr/dx = -r^3 x / C.
Rows RmsNorm(const Rows& x, const Real* w) {
  Rows y(x.size());
  for (std::size_t t = 0; t < x.size(); t += C) {
    const Real r = 1 / std::sqrt(Dot(&x[t], &x[t], C) / C + Real(1e-6));
    for (int c = 0; c < C; ++c) y[t + c] = x[t + c] * r * w[c];
  }
  return y;
}

void RmsNormBackward(Rows& dx, Real* dw, const Rows& dy, const Rows& x, const Real* w) {
  for (std::size_t t = 0; t < x.size(); t += C) {
    const Real r = 1 / std::sqrt(Dot(&x[t], &x[t], C) / C + Real(1e-6));
    Real dxr[C];
    for (int c = 0; c < C; ++c) dxr[c] = dy[t + c] * w[c];
    for (int c = 0; c < C; ++c) dw[c] += dy[t + c] * x[t + c] * r;
    AddScaled(&dx[t], r, dxr, C);
    AddScaled(&dx[t], -r * r * r / C * Dot(dxr, &x[t], C), &x[t], C);
  }
}

// ---- SwiGLU: y = gate sigmoid(gate) up. A row of x is [gate | up].
Rows SwiGlu(const Rows& x) {
  Rows y(x.size() / 2);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const Real* gate = &x[i / F * F + i];
    y[i] = gate[0] / (1 + std::exp(-gate[0])) * gate[F];
  }
  return y;
}

Rows SwiGluBackward(const Rows& dy, const Rows& x) {
  Rows dx(x.size());
  for (std::size_t i = 0; i < dy.size(); ++i) {
    const std::size_t at = i / F * F + i;
    const Real gate = x[at], up = x[at + F], s = 1 / (1 + std::exp(-gate));
    dx[at] = dy[i] * up * s * (1 + gate * (1 - s));
    dx[at + F] = dy[i] * gate * s;
  }
  return dx;
}

// ---- The model: embedding; per layer x + o(attention(norm(x))), then + down(swiglu(norm)) of that; norm; the
// embedding again as the head. Another Model holds its gradient, two more Adam's moments.
struct Model {
  struct Layer {
    Real qkv[C][3 * C], o[C][C], gate_up[C][2 * F], down[F][C];  // [inputs][outputs]
  } layers[L];
  Real embedding[V][C], norms[2 * L + 1][C];  // two norms a layer, one at the end
  int window[L];                              // positions that a token sees, its own included; 0: all
};
constexpr std::size_t kParameters = (sizeof(Model) - sizeof(Model::window)) / sizeof(Real);
Real* Flat(Model& model) { return reinterpret_cast<Real*>(&model); }

// What a pass computes and its backward reads, a row for each position.
struct Pass {
  struct Layer {
    Rows x, qkv, p, attended, middle, gate_up, gated;
    Rows cache;  // a ring: row t % window is [k | v] of position t, so that sampling takes O(W) memory
    int window;
  } layers[L];
  Rows x, logp;  // logp [T, V] of all next tokens
};

// ---- RoPE: turns the pairs (i, i + D/2) of query and key heads by the angle t * 10000^(-2i/D), in the backward back.
void Rope(Rows& qkv, int begin, Real direction) {
  for (std::size_t row = 0; row < qkv.size(); row += 3 * C, ++begin) {
    for (int i = 0; i < D / 2; ++i) {
      const double angle = begin * std::pow(1e4, -2.0 * i / D);
      const Real cos = static_cast<Real>(std::cos(angle)), sin = static_cast<Real>(std::sin(angle)) * direction;
      for (int at = i; at < 2 * C; at += D) {  // one pair of each of the 2 H heads
        Real *x = &qkv[row + at], *y = x + D / 2, turned = *x * cos - *y * sin;
        *y = *y * cos + *x * sin;
        *x = turned;
      }
    }
  }
}

// ---- Attention: the query at position t sees the keys first .. t. Weights p are the softmax of z = q . k / sqrt(D).
void Attention(Pass::Layer& s, int begin) {
  const int rows = static_cast<int>(s.qkv.size()) / (3 * C);
  s.attended.assign(rows * C, 0);
  s.p.resize(rows * H * kMaxT);
  for (int i = 0; i < rows * H; ++i) {
    const int t = begin + i / H, first = std::max(0, t - s.window + 1), head = i % H * D;
    const auto key = [&](int j) { return &s.cache[j % s.window * 2 * C + head]; };
    const Real* q = &s.qkv[i / H * 3 * C + head];
    Real *p = &s.p[i * kMaxT], largest = -INFINITY, sum = 0;
    if (head == 0) std::copy_n(q + C, 2 * C, key(t));
    for (int j = first; j <= t; ++j) {
      p[j] = Dot(q, key(j), D) / std::sqrt(Real(D));
      largest = std::max(largest, p[j]);
    }
    for (int j = first; j <= t; ++j) sum += p[j] = std::exp(p[j] - largest);
    for (int j = first; j <= t; ++j) AddScaled(&s.attended[i * D], p[j] /= sum, key(j) + C, D);
  }
}

// dL/dz_j = p_j (dy . v_j - dy . y)
Rows AttentionBackward(const Rows& dy, const Pass::Layer& s) {
  Rows dqkv(s.qkv.size());
  for (int i = 0; i < static_cast<int>(dy.size()) / D; ++i) {
    const int t = i / H, row = 3 * C, head = i % H * D;
    const Real *q = &s.qkv[t * row + head], *dout = &dy[i * D], delta = Dot(dout, &s.attended[i * D], D);
    for (int j = std::max(0, t - s.window + 1); j <= t; ++j) {
      const Real p = s.p[i * kMaxT + j], *k = &s.qkv[j * row + C + head], *v = k + C;
      const Real dz = p * (Dot(dout, v, D) - delta) / std::sqrt(Real(D));
      AddScaled(&dqkv[t * row + head], dz, k, D);
      AddScaled(&dqkv[j * row + C + head], dz, q, D);
      AddScaled(&dqkv[j * row + 2 * C + head], p, dout, D);
    }
  }
  return dqkv;
}

// Computes the positions [begin, end) of a document; those before have gone through the same pass.
void Forward(const Model& model, const std::string& text, int begin, int end, Pass& pass) {
  pass.x.clear();
  for (int t = begin; t < end; ++t)
    pass.x.insert(pass.x.end(), model.embedding[Id(text[t])], model.embedding[Id(text[t]) + 1]);
  for (int l = 0; l < L; ++l) {
    const Model::Layer& w = model.layers[l];
    Pass::Layer& s = pass.layers[l];
    s.window = model.window[l] > 0 ? model.window[l] : kMaxT;
    s.cache.resize(s.window * 2 * C);
    s.x = pass.x;
    s.qkv = Linear(RmsNorm(s.x, model.norms[2 * l]), w.qkv);
    Rope(s.qkv, begin, 1);
    Attention(s, begin);
    s.middle = Linear(s.attended, w.o, s.x);
    s.gate_up = Linear(RmsNorm(s.middle, model.norms[2 * l + 1]), w.gate_up);
    s.gated = SwiGlu(s.gate_up);
    pass.x = Linear(s.gated, w.down, s.middle);
  }
  const Rows hidden = RmsNorm(pass.x, model.norms[2 * L]);
  pass.logp.resize((end - begin) * V);
  for (int t = 0; t < end - begin; ++t) {
    Real *z = &pass.logp[t * V], sum = 0;
    for (int v = 0; v < V; ++v) z[v] = Dot(&hidden[t * C], model.embedding[v], C);
    const Real largest = *std::max_element(z, z + V);
    for (int v = 0; v < V; ++v) sum += std::exp(z[v] - largest);
    for (int v = 0; v < V; ++v) z[v] -= largest + std::log(sum);
  }
}

// After the forward of a whole document: adds the gradient of dlogp * log p(completion) to g.
void Backward(const Model& model, const std::string& text, Real dlogp, const Pass& pass, Model& g) {
  const Rows hidden = RmsNorm(pass.x, model.norms[2 * L]);
  Rows dhidden(hidden.size()), dx(hidden.size());
  for (std::size_t i = (kPromptLength - 1) * V; i < pass.logp.size(); ++i) {
    const std::size_t t = i / V, v = i % V;
    const Real dz = dlogp * (Real(text[t + 1] == kAlphabet[v]) - std::exp(pass.logp[i]));
    AddScaled(&dhidden[t * C], dz, model.embedding[v], C);
    AddScaled(g.embedding[v], dz, &hidden[t * C], C);
  }
  RmsNormBackward(dx, g.norms[2 * L], dhidden, pass.x, model.norms[2 * L]);
  for (int l = L - 1; l >= 0; --l) {  // dx goes back along the residual stream, and each branch adds its share
    const Model::Layer& w = model.layers[l];
    const Pass::Layer& s = pass.layers[l];
    Model::Layer& d = g.layers[l];
    const Rows dgate_up = SwiGluBackward(LinearBackward(d.down, dx, s.gated, w.down), s.gate_up);
    const Rows dm = LinearBackward(d.gate_up, dgate_up, RmsNorm(s.middle, model.norms[2 * l + 1]), w.gate_up);
    RmsNormBackward(dx, g.norms[2 * l + 1], dm, s.middle, model.norms[2 * l + 1]);
    Rows dqkv = AttentionBackward(LinearBackward(d.o, dx, s.attended, w.o), s);
    Rope(dqkv, 0, -1);
    const Rows dh = LinearBackward(d.qkv, dqkv, RmsNorm(s.x, model.norms[2 * l]), w.qkv);
    RmsNormBackward(dx, g.norms[2 * l], dh, s.x, model.norms[2 * l]);
  }
  for (std::size_t t = 0; t < dx.size() / C; ++t) AddScaled(g.embedding[Id(text[t])], 1, &dx[t * C], C);
}

// ---- Training. SFT and RL minimise one loss, -(sum of weight * log p(completion)) / (number of its tokens). They
// differ in who wrote the documents and in their weights: the task, and 1; or the model itself, and the advantage.
struct Document {
  std::string text;  // prompt and completion
  double weight = 1;
  Rows logp{};  // of every token but the first, as the sampler has computed it
};

// Samples a completion at temperature 1. Its weight is the reward: 1 if the text has ended and what follows its last
// '#' is exactly the answer, else 0.
Document Sample(const Model& model, const Problem& p, auto... key) {
  Document d{Prompt(p)};
  Pass pass;
  for (int t = 0; t + 1 < kMaxT && d.text.back() != '$'; ++t) {
    Forward(model, d.text, t, t + 1, pass);
    if (t + 1 >= kPromptLength) {
      int id = 0;
      for (double u = Uniform(kToken, key..., t); id + 1 < V && (u -= std::exp(pass.logp[id])) > 0;) ++id;
      d.text += kAlphabet[id];
    }
    d.logp.push_back(pass.logp[Id(d.text[t + 1])]);
  }
  const std::string right = Trace(p);
  d.weight = d.text.ends_with(right.substr(right.size() - 3));
  return d;
}

// What a step trains on: 16 traces of the task, or 16 groups of the model's completions of one prompt.
std::vector<Document> Documents(const Model& model, bool rl, std::uint64_t seed, int step) {
  const int group = rl ? 8 : 0;
  const std::vector<Problem> problems = rl ? Problems(0.5, 0.8) : Problems(0, 0.5);
  std::vector<Document> documents;
  for (int i = 0; i < 16; ++i) {
    const Problem& p = problems[static_cast<std::size_t>(Uniform(kOrder, seed, step, i) * double(problems.size()))];
    if (!rl) documents.push_back({Prompt(p) + Trace(p, seed, step, i)});
    for (int j = 0; j < group; ++j) documents.push_back(Sample(model, p, seed, step, i, j));
    double mean = 0;
    for (int j = 0; j < group; ++j) mean += documents.rbegin()[j].weight / group;
    for (int j = 0; j < group; ++j) documents.rbegin()[j].weight -= mean;
  }
  return documents;
}

void Adam(Model& model, Model& gradient, Model& first, Model& second, double lr) {
  Real *w = Flat(model), *g = Flat(gradient), *m = Flat(first), *v = Flat(second);
  for (std::size_t i = 0; i < kParameters; ++i) {
    m[i] = Real(0.9) * m[i] + Real(0.1) * g[i];
    v[i] = Real(0.95) * v[i] + Real(0.05) * g[i] * g[i];
    w[i] -= static_cast<Real>(lr) * m[i] / (std::sqrt(v[i]) + Real(1e-8));
    g[i] = 0;
  }
}

// Accuracy, and restatements a step, on the problems for evaluation.
void Evaluate(const Model& model, std::uint64_t seed) {
  double n = 0, right = 0, steps = 0, restatements = 0;
  for (const Problem& p : Problems(0.8, 1)) {
    for (int i = 0; i < 3; ++i, ++n) {
      const Document d = Sample(model, p, seed, p.a, p.b, p.x, p.n, i);
      right += d.weight;
      steps += static_cast<double>(std::count(d.text.begin(), d.text.end(), ':'));
      restatements += static_cast<double>(std::count(d.text.begin(), d.text.end(), '['));
    }
  }
  std::printf("%10.3f %10.3f %6.0f s\n", right / n, restatements / steps, double(std::clock()) / CLOCKS_PER_SEC);
}

// Trains, and prints a row of the table. Returns the number of tokens trained on.
double Train(const char* name, Model& model, bool rl, int steps, double lr, std::uint64_t seed) {
  Model gradient{}, first{}, second{};
  Pass pass;
  double trained = 0, difference = 0;
  for (int step = 0; step < steps; ++step) {
    double tokens = 0;
    const std::vector<Document> documents = Documents(model, rl, seed, step);
    for (const Document& d : documents) tokens += static_cast<double>(d.text.size() - kPromptLength);
    for (const Document& d : documents) {
      const int T = static_cast<int>(d.text.size()) - 1;
      Forward(model, d.text, 0, T, pass);
      for (int t = 0; rl && t < T; ++t) {
        difference = std::max(difference, std::abs(double{d.logp[t]} - pass.logp[t * V + Id(d.text[t + 1])]));
      }
      Backward(model, d.text, static_cast<Real>(-d.weight / tokens), pass, gradient);
      trained += T;
    }
    Adam(model, gradient, first, second, lr * std::min((step + 1) / 10.0, 1 - 0.9 * step / steps));
  }
  std::printf("%-24s %8.0f %6g", name, trained, difference);
  Evaluate(model, seed);
  return trained;
}

}  // namespace one_file

int main(int argc, char** argv) {
  using namespace one_file;
  const std::uint64_t seed = argc > 1 ? std::stoull(argv[1]) : 0;
  std::printf("%-24s %8s %6s %10s %10s %8s\n", "arm", "tokens", "dlogp", "accuracy", "restating", "time");
  Model sa{};
  for (std::size_t i = 0; i < kParameters; ++i) Flat(sa)[i] = static_cast<Real>(0.2 * Uniform(kInit, seed, i) - 0.1);
  for (auto& norm : sa.norms) std::fill_n(norm, C, Real(1));
  Train("SA, base", sa, false, 1500, 3e-3, 4 * seed);
  Model swa = sa;
  std::fill_n(swa.window, L, W);
  Train("SWA, converted", swa, false, 0, 0, 0);
  Train("SA, SFT", sa, false, 600, 2e-3, 4 * seed + 1);
  const double sft = Train("SWA, SFT", swa, false, 600, 2e-3, 4 * seed + 1);
  Model longer = swa;
  const double rl = Train("SWA, RL", swa, true, 100, 4e-4, 4 * seed + 2);
  Train("SWA, SFT, equal tokens", longer, false, static_cast<int>(600 * rl / sft), 2e-3, 4 * seed + 3);
  Train("SA, RL", sa, true, 100, 4e-4, 4 * seed + 2);
  return 0;
}
