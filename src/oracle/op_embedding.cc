// SPDX-License-Identifier: Apache-2.0
// The embedding.
#include <algorithm>
#include <cmath>

#include "oracle/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

enum class Repeated : std::uint8_t { kSum, kFirst, kLast, kMean };

struct Tampering {
  std::int64_t first_id = 0;
  bool scaled = false;
  bool padding_frozen = false;
  Repeated repeated = Repeated::kSum;
};

constexpr Switch<Tampering> kMistakes[] = {
    {"ids counted from 1", [](Tampering& t) { t.first_id = 1; }},
    {"embeddings multiplied by sqrt(C), as Gemma does", [](Tampering& t) { t.scaled = true; }},
    {"no gradient for id 0, as if it were padding", [](Tampering& t) { t.padding_frozen = true; }},
    {"the gradient of a repeated id overwritten by its last row", [](Tampering& t) { t.repeated = Repeated::kLast; }},
    {"the gradient of a repeated id from its first row alone", [](Tampering& t) { t.repeated = Repeated::kFirst; }},
    {"the gradient of a repeated id averaged over its rows", [](Tampering& t) { t.repeated = Repeated::kMean; }},
};

// d_y with the rows of repeated ids weighted as the mistake does.
Value Weighted(Value dy, const Value& ids, Repeated repeated) {
  const auto C = static_cast<std::size_t>(dy.dim(1));
  for (std::size_t n = 0; n < ids.data.size(); ++n) {
    const auto same = [&](double id) { return id == ids.data[n]; };
    const auto before = std::count_if(ids.data.begin(), ids.data.begin() + static_cast<std::ptrdiff_t>(n), same);
    const auto all = std::count_if(ids.data.begin(), ids.data.end(), same);
    double weight = 1;
    if (repeated == Repeated::kFirst) weight = before == 0 ? 1 : 0;
    if (repeated == Repeated::kLast) weight = before == all - 1 ? 1 : 0;
    if (repeated == Repeated::kMean) weight = 1 / static_cast<double>(all);
    for (std::size_t i = 0; i < C; ++i) dy.data[n * C + i] *= weight;
  }
  return dy;
}

Values Evaluate(const Context& ctx, const Case&, const Values& inputs, const std::string& mistake, Noise&) {
  const Tampering t = WithMistake(Tampering(), kMistakes, mistake);
  Value ids_used = inputs.at("ids");
  for (double& id : ids_used.data) id = std::max(0.0, id - static_cast<double>(t.first_id));
  const Tensor w = InArena(ctx, inputs.at("w")), ids = InArena(ctx, ids_used);
  const Tensor dy = InArena(ctx, Weighted(inputs.at("d_y"), ids_used, t.repeated));
  const Tensor y = ctx.arena->NewLike(dy), dw = ctx.arena->NewLike(w);
  FillZero(dw);
  GatherRows(ctx, y, w, ids);
  EmbeddingBackward(ctx, dw, dy, ids);
  if (t.padding_frozen) FillZero(dw.Rows(0, 1));
  Values outputs = {{"y", ValueOf(y)}, {"dw", ValueOf(dw)}};
  const double factor = t.scaled ? std::sqrt(static_cast<double>(w.dim(1))) : 1;
  for (auto& [name, value] : outputs) {
    for (double& x : value.data) x *= factor;
  }
  return outputs;
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t V, std::int64_t C,
              const std::vector<std::int32_t>& ids) {
  const auto N = static_cast<std::int64_t>(ids.size());
  Case c{name, meaning, {}, {}, static_cast<int>(N)};
  c.parameters = {{"rows", N}, {"vocab", V}, {"channels", C}};
  PhiloxStream random = StreamOf("ops", name);
  c.inputs = {{"w", RandomNormal(random, {V, C})}, {"d_y", RandomNormal(random, {N, C})}, {"ids", Integers(ids)}};
  return c;
}

}  // namespace

Family EmbeddingFamily() {
  Family f;
  f.name = "embedding";
  f.semantics = {"y[n] = w[ids[n]], ids from 0.",
                 "dw is the gradient of sum(y * d_y): row v is the sum of d_y over all rows n with ids[n] = v."};
  f.inputs = {{"w", "[V, C]", "embeddings", false},
              {"ids", "[N]", "tokens", false},
              {"d_y", "[N, C]", "gradient of the loss with respect to y", false}};
  f.outputs = {{"y", "[N, C]", "rows of w", false}, {"dw", "[V, C]", "gradient of w", true}};
  f.mistakes = NamesOf(kMistakes);
  f.cases = {MakeCase("embedding_one", "one token", 3, 4, {1}),
             MakeCase("embedding_repeated", "ids that occur two and three times", 11, 7, {3, 10, 3, 0, 7, 3, 0, 10}),
             MakeCase("embedding_same", "one id throughout", 5, 8, {2, 2, 2, 2, 2})};
  f.evaluate = Evaluate;
  return f;
}

}  // namespace swarr::oracle
