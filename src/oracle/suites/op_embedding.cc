// SPDX-License-Identifier: Apache-2.0
// The embedding.
#include <algorithm>
#include <cmath>

#include "oracle/suites/op_families.h"
#include "tensor/ops.h"

namespace swarr::oracle {
namespace embedding_op {

enum class Repeated : std::uint8_t { kSum, kFirst, kLast, kMean };

struct Tampering {
  std::int64_t first_id = 0;
  bool scaled = false;
  bool padding_frozen = false;
  Repeated repeated = Repeated::kSum;
};

constexpr Mistake<Tampering> kMistakes[] = {
    {"ids counted from 1", [](Tampering& t) { t.first_id = 1; }},
    {"embeddings multiplied by sqrt(C), as Gemma does", [](Tampering& t) { t.scaled = true; }},
    {"no gradient for id 0, as if it were padding", [](Tampering& t) { t.padding_frozen = true; }},
    {"the gradient of a repeated id overwritten by its last row", [](Tampering& t) { t.repeated = Repeated::kLast; }},
    {"the gradient of a repeated id from its first row alone", [](Tampering& t) { t.repeated = Repeated::kFirst; }},
    {"the gradient of a repeated id averaged over its rows", [](Tampering& t) { t.repeated = Repeated::kMean; }},
};

// d_y with the rows of repeated ids weighted as the mistake does.
Value Weighted(Value dy, const Value& ids, Repeated repeated) {
  for (std::int64_t n = 0; n < ids.size(); ++n) {
    const auto before = std::count(ids.data.begin(), ids.data.begin() + n, ids(n));
    const auto all = std::count(ids.data.begin(), ids.data.end(), ids(n));
    double weight = 1;
    if (repeated == Repeated::kFirst) weight = before == 0 ? 1 : 0;
    if (repeated == Repeated::kLast) weight = before == all - 1 ? 1 : 0;
    if (repeated == Repeated::kMean) weight = 1 / static_cast<double>(all);
    for (double& x : dy.Row(n)) x *= weight;
  }
  return dy;
}

Values Evaluate(const Context& ctx, const Case&, const Values& inputs, const std::string& mistake, Noise&) {
  const Tampering t = WithMistake(Tampering(), kMistakes, mistake);
  Value ids_used = inputs.at("ids");
  for (double& id : ids_used.data) id = std::max(0.0, id - static_cast<double>(t.first_id));
  const Tensor w = InArena(ctx, inputs.at("w")), ids = InArena(ctx, ids_used);
  const Tensor dy = InArena(ctx, Weighted(inputs.at("d_y"), ids_used, t.repeated));
  const Tensor y = ZerosLike(ctx, dy), dw = ZerosLike(ctx, w);
  GatherRows(ctx, y, w, ids);
  EmbeddingBackward(ctx, dw, dy, ids);
  if (t.padding_frozen) FillZero(dw.Rows(0, 1));
  const double factor = t.scaled ? std::sqrt(static_cast<double>(w.dim(1))) : 1;
  return {{"y", Scaled(ValueOf(y), factor)}, {"dw", Scaled(ValueOf(dw), factor)}};
}

Case MakeCase(const std::string& name, const std::string& meaning, std::int64_t V, std::int64_t C,
              const std::vector<std::int32_t>& ids) {
  const auto N = static_cast<std::int64_t>(ids.size());
  PhiloxStream random = StreamOf("ops", name);
  return {name,
          meaning,
          {{"rows", N}, {"vocab", V}, {"channels", C}},
          {{"w", RandomNormal(random, {V, C})}, {"d_y", RandomNormal(random, {N, C})}, {"ids", Integers(ids)}},
          N};
}

}  // namespace embedding_op

Family EmbeddingFamily() {
  using namespace embedding_op;
  return {
      .name = "embedding",
      .semantics = {"y[n] = w[ids[n]], ids from 0.",
                    "dw is the gradient of sum(y * d_y): row v is the sum of d_y over all rows n with ids[n] = v."},
      .inputs = {{"w", "[V, C]", "embeddings"},
                 {"ids", "[N]", "tokens"},
                 {"d_y", "[N, C]", "gradient of the loss with respect to y"}},
      .outputs = {{"y", "[N, C]", "rows of w"}, {"dw", "[V, C]", "gradient of w", true}},
      .mistakes = NamesOf(kMistakes),
      .cases = {MakeCase("embedding_one", "one token", 3, 4, {1}),
                MakeCase("embedding_repeated", "ids that occur two and three times", 11, 7, {3, 10, 3, 0, 7, 3, 0, 10}),
                MakeCase("embedding_same", "one id throughout", 5, 8, {2, 2, 2, 2, 2})},
      .evaluate = Evaluate};
}

}  // namespace swarr::oracle
