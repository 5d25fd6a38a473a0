// SPDX-License-Identifier: Apache-2.0
// The suite `distill`: the loss that brings a student near to a teacher, from hidden states and LM heads of both to the
// loss and the student's gradients.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/suite.h"
#include "plain/ops.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace distill_suite {

// The numbers of a case.
struct Setup {
  KlDirection direction;
  double temperature, weight;
};
Setup SetupOf(const Case& c) {
  return {ParseName<KlDirection>("direction", c.parameters.at("direction").get<std::string>()), c.Number("temperature"),
          c.Number("weight")};
}

struct Rule {
  bool swapped = false;  // the directions of the KL
  bool detached = true;  // the teacher is a constant
  double square = 2;     // the power of T before the KL
  bool student_softened = true, teacher_softened = true, targets_softened = false;
  bool squares_all = false;  // T^2 before the cross-entropy too
  bool weights_exchanged = false, cross_entropy_whole = false;
  bool masked = true, counts_masked = false;
  bool over_vocabulary = false;  // the mean over it too
  bool teacher_entropy = true;   // in KL(q || p) = -sum q log p - H(q)
  bool reverse_centred = true;   // p (log p - log q - KL), not p (log p - log q)
  int shift = 0;                 // whose teacher a row takes
};

constexpr Mistake<Rule> kMistakes[] = {
    {"the KL's directions swapped: KL(p || q) for forward, KL(q || p) for reverse", [](Rule& r) { r.swapped = true; }},
    {"the teacher not detached: the gradients of its hidden states and head added to the student's",
     [](Rule& r) { r.detached = false; }},
    {"T^2 forgotten", [](Rule& r) { r.square = 0; }},
    {"T in place of T^2", [](Rule& r) { r.square = 1; }},
    {"T^2 before the cross-entropy too", [](Rule& r) { r.squares_all = true; }},
    {"the temperature missing in both softmaxes", [](Rule& r) { r.student_softened = r.teacher_softened = false; }},
    {"the temperature missing in the student's softmax", [](Rule& r) { r.student_softened = false; }},
    {"the temperature missing in the teacher's softmax", [](Rule& r) { r.teacher_softened = false; }},
    {"the cross-entropy at the temperature", [](Rule& r) { r.targets_softened = true; }},
    {"A and 1 - A exchanged", [](Rule& r) { r.weights_exchanged = true; }},
    {"the cross-entropy not weighted by 1 - A", [](Rule& r) { r.cross_entropy_whole = true; }},
    {"masked rows in the loss", [](Rule& r) { r.masked = false; }},
    {"masked rows counted in the mean", [](Rule& r) { r.counts_masked = true; }},
    {"the KL averaged over the vocabulary too", [](Rule& r) { r.over_vocabulary = true; }},
    {"the teacher's entropy left out of the forward KL: -sum q log p", [](Rule& r) { r.teacher_entropy = false; }},
    {"the reverse KL's gradient without its mean: p (log p - log q)", [](Rule& r) { r.reverse_centred = false; }},
    {"the teacher's row of the next token (shifted by one)", [](Rule& r) { r.shift = 1; }},
};

std::vector<double> LogitsOf(const Value& x, const Value& w, std::int64_t n, double divisor) {
  std::vector<double> z;
  for (std::int64_t v = 0; v < w.dim(0); ++v) {
    z.push_back(std::inner_product(x.Row(n).begin(), x.Row(n).end(), w.Row(v).begin(), 0.0) / divisor);
  }
  return z;
}

// KL(a || b), its term of entry v, and its derivatives by the logits of a and of b.
struct Divergence {
  Divergence(const plain::Softmax& of_a, const plain::Softmax& of_b) : a(of_a), b(of_b) {
    for (int v = 0; v < a.V(); ++v) value += a.P(v) * Gap(v);
  }
  double Gap(int v) const { return a.LogP(v) - b.LogP(v); }
  double ByA(int v, bool centred) const { return a.P(v) * (Gap(v) - (centred ? value : 0)); }
  double ByB(int v) const { return b.P(v) - a.P(v); }

  const plain::Softmax &a, &b;
  double value = 0;
};

// dx += dz w, dw += dz^T x for row n.
void AddHead(Values& to, const std::vector<double>& dz, const Value& x, const Value& w, std::int64_t n) {
  Value &dx = to.at("dx"), &dw = to.at("dw");
  for (std::int64_t v = 0; v < w.dim(0); ++v) {
    for (std::int64_t i = 0; i < x.dim(1); ++i) {
      dx(n, i) += dz[static_cast<std::size_t>(v)] * w(v, i);
      dw(v, i) += dz[static_cast<std::size_t>(v)] * x(n, i);
    }
  }
}

// The weights of a row's cross-entropy and KL in the loss.
struct Shares {
  double cross_entropy, kl;
};
Shares SharesOf(const Setup& setup, const Value& mask, std::int64_t V, const Rule& rule) {
  const double A = rule.weights_exchanged ? 1 - setup.weight : setup.weight;
  const double counted = std::accumulate(mask.data.begin(), mask.data.end(), 0.0);
  const double rows = rule.masked && !rule.counts_masked ? counted : static_cast<double>(mask.size());
  const double square = std::pow(setup.temperature, rule.square);
  Shares shares{(rule.cross_entropy_whole ? 1 : 1 - A) / rows, A * square / rows};
  if (rule.squares_all) shares.cross_entropy *= square;
  if (rule.over_vocabulary) shares.kl /= static_cast<double>(V);
  return shares;
}

Values Plain(const Values& inputs, const Setup& setup, const Rule& rule) {
  const Value &x = inputs.at("x"), &w = inputs.at("w"), &mask = inputs.at("mask");
  const Value &teacher_x = inputs.at("teacher_x"), &teacher_w = inputs.at("teacher_w");
  const std::int64_t N = x.dim(0), V = w.dim(0);
  Values to = {{"kl", Zeros({N})}, {"loss", Scalar(0)}, {"dx", Zeros(x.shape)}, {"dw", Zeros(w.shape)}};
  const Shares shares = SharesOf(setup, mask, V, rule);
  const double T = setup.temperature, student_T = rule.student_softened ? T : 1,
               teacher_T = rule.teacher_softened ? T : 1, target_T = rule.targets_softened ? T : 1;
  const bool forward = (setup.direction == KlDirection::kForward) != rule.swapped;
  for (std::int64_t n = 0; n < N; ++n) {
    const std::int64_t row = (n + rule.shift) % N;
    const plain::Softmax p(LogitsOf(x, w, n, student_T)), q(LogitsOf(teacher_x, teacher_w, row, teacher_T)),
        hard(LogitsOf(x, w, n, target_T));
    const Divergence kl(forward ? q : p, forward ? p : q);
    to.at("kl")(n) = kl.value + (forward && !rule.teacher_entropy ? q.entropy : 0);
    if (rule.masked && mask(n) == 0) continue;
    const int target = static_cast<int>(inputs.at("targets")(n));
    to.at("loss")(0) += shares.kl * to.at("kl")(n) - shares.cross_entropy * hard.LogP(target);
    std::vector<double> dz, teacher_dz;
    for (int v = 0; v < p.V(); ++v) {
      const double by_target = shares.cross_entropy * (hard.P(v) - (v == target ? 1 : 0)) / target_T;
      const double by_p = forward ? kl.ByB(v) : kl.ByA(v, rule.reverse_centred);
      dz.push_back(by_target + shares.kl * by_p / student_T);
      teacher_dz.push_back(shares.kl * (forward ? kl.ByA(v, true) : kl.ByB(v)) / teacher_T);
    }
    AddHead(to, dz, x, w, n);
    if (!rule.detached && teacher_x.dim(1) == x.dim(1)) AddHead(to, teacher_dz, teacher_x, teacher_w, n);
  }
  return to;
}

// A log-sum-exp is stored, and all log-probabilities of its row move with it: by its own change, so does the KL.
void DisturbNormalisers(const DistillResults& r, KlDirection direction, Noise& noise) {
  const double sign = direction == KlDirection::kForward ? 1 : -1;
  for (std::int64_t n = 0; n < r.kl.size(); ++n) {
    double &lse = r.lse.data<double>()[n], &teacher_lse = r.teacher_lse.data<double>()[n];
    const double stored = noise.Disturbed(lse), teacher_stored = noise.Disturbed(teacher_lse);
    r.kl.data<double>()[n] += sign * ((stored - lse) - (teacher_stored - teacher_lse));
    lse = stored;
    teacher_lse = teacher_stored;
  }
}

Values Kernel(const Context& ctx, const Values& inputs, const Setup& setup, Noise& noise) {
  const TensorsOf in{ctx, inputs};
  const Tensor x = in("x"), w = in("w"), logp = InArena(ctx, Zeros({x.dim(0)}));
  const auto column = [&] { return ZerosLike(ctx, logp); };
  const Tensor lse = column(), entropy = column(), dlogp = column(), dkl = column();
  const DistillResults results{column(), column(), column()};
  const LogprobInputs head{x, w, in("targets")};
  const DistillInputs heads{x, w, in("teacher_x"), in("teacher_w"), {setup.direction, setup.temperature}};
  TokenLogprobForward(ctx, logp, lse, entropy, head);
  DistillForward(ctx, results, heads);
  DisturbNormalisers(results, setup.direction, noise);
  const Value& mask = inputs.at("mask");
  const Shares shares = SharesOf(setup, mask, w.dim(0), Rule());
  double loss = 0;
  for (std::int64_t n = 0; n < mask.size(); ++n) {
    if (mask(n) == 0) continue;
    const double of_kl = shares.kl * results.kl.data<double>()[n],
                 of_logp = shares.cross_entropy * logp.data<double>()[n];
    loss += noise.Disturbed(of_kl) - noise.Disturbed(of_logp);
    dlogp.data<double>()[n] = -shares.cross_entropy;
    dkl.data<double>()[n] = shares.kl;
  }
  const Tensor dx = ZerosLike(ctx, x), dw = ZerosLike(ctx, w);
  TokenLogprobBackward(ctx, dx, dw, dlogp, {}, lse, entropy, head);
  DistillBackward(ctx, dx, dw, dkl, results, heads);
  return {{"kl", ValueOf(results.kl)}, {"loss", Scalar(loss)}, {"dx", ValueOf(dx)}, {"dw", ValueOf(dw)}};
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  if (mistake.empty()) return Kernel(ctx, inputs, SetupOf(c), noise);
  return Plain(inputs, SetupOf(c), WithMistake(Rule(), kMistakes, mistake));
}

struct Setting {
  const char* name;
  const char* meaning;
  std::int64_t C, E, V;
  const char* mask;  // a letter for each row: x is in the loss, . is not
  double temperature = 1, weight = 1;
  double scale = 0.5;  // of weights
};

const Setting kSettings[] = {
    {"one", "one row, two tokens", 4, 4, 2, "x"},
    {"widths", "a teacher of another width, every row in the loss", 7, 11, 13, "xxxxxxx"},
    {"masked", "a prompt and a second document's prompt out of the loss", 8, 8, 11, "..xxx.xx", 1, 0.5},
    {"hot", "a temperature above 1, targets beside", 8, 8, 17, "x.xxx", 2, 0.75},
    {"cool", "a temperature below 1, targets beside", 8, 6, 11, "xx.x", 0.75, 0.25},
    {"hot_alone", "a temperature above 1 that is no power of 2, no targets", 8, 8, 7, "xxxxx.", 1.5},
    {"peaked", "logits of some tens: student and teacher nearly certain, of different tokens", 8, 8, 7, "xxx.x", 4, 0.5,
     2},
    {"vocab", "a vocabulary of 101", 8, 8, 101, "xx.x", 2},
};

Case MakeCase(const Setting& s, KlDirection direction) {
  const std::string name = Name(direction) + "_" + s.name, mask = s.mask;
  const auto N = std::ssize(mask);
  PhiloxStream random = StreamOf("distill", name);
  Case c{name,
         s.meaning,
         {{"direction", Name(direction)},
          {"temperature", s.temperature},
          {"weight", s.weight},
          {"rows", N},
          {"masked_rows", std::ranges::count(mask, '.')},
          {"channels", s.C},
          {"teacher_channels", s.E},
          {"vocab", s.V}},
         {{"x", RandomNormal(random, {N, s.C})},
          {"w", RandomNormal(random, {s.V, s.C}, s.scale)},
          {"teacher_x", RandomNormal(random, {N, s.E})},
          {"teacher_w", RandomNormal(random, {s.V, s.E}, s.scale)},
          {"targets", RandomIntegers(random, {N}, s.V)}},
         std::max({N, s.C, s.E, s.V})};
  std::vector<std::int32_t> in_loss;
  for (const char row : mask) in_loss.push_back(row == 'x');
  c.inputs["mask"] = Integers(in_loss);
  return c;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse}) {
    for (const Setting& s : kSettings) cases.push_back(MakeCase(s, direction));
  }
  return cases;
}

}  // namespace distill_suite

Suite DistillSuite() {
  using namespace distill_suite;
  Family f{
      .name = "distill",
      .semantics = {"loss = (1 - A) CE + A T^2 KL, each a mean over the rows with mask 1; A is weight, T temperature.",
                    "p = softmax(x w^T / T) is the student's distribution, q = softmax(teacher_x teacher_w^T / T) the "
                    "teacher's, each over the whole vocabulary.",
                    "direction forward: KL(q || p) = sum_v q (log q - log p). reverse: KL(p || q) = sum_v p (log p - "
                    "log q). Natural logarithms.",
                    "CE = -log softmax(x w^T)[target]: at temperature 1, whatever T.",
                    "The teacher is a constant: dx and dw are the gradients of loss through the student alone, also "
                    "where both would share weights."},
      .inputs = {{"x", "[N, C]", "last hidden states of the student"},
                 {"w", "[V, C]", "LM head of the student"},
                 {"teacher_x", "[N, E]", "last hidden states of the teacher, which has read the same tokens"},
                 {"teacher_w", "[V, E]", "LM head of the teacher"},
                 {"targets", "[N]", "token of each row"},
                 {"mask", "[N]", "1 for a row in the loss, 0 for one of a prompt"}},
      .outputs = {{"kl", "[N]", "the KL of every row, masked ones too, before T^2"},
                  {"loss", "[1]", "the loss"},
                  {"dx", "[N, C]", "gradient of x", true},
                  {"dw", "[V, C]", "gradient of w", true}},
      .roundings = {{"logits", "logits over T", "log-probabilities", "teacher's logits", "teacher's logits over T",
                     "teacher's log-probabilities", "their difference", "terms of the KL"},
                    {"probabilities", "gradient of the KL", "dlogits over T", "dlogits"}},
      .mistakes = NamesOf(kMistakes),
      .cases = Cases(),
      .evaluate = Evaluate};
  return {
      "distill", "Distillation: the KL from a teacher over the whole vocabulary, in both directions.", {std::move(f)}};
}

}  // namespace swarr::oracle
