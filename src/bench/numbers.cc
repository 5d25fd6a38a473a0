// SPDX-License-Identifier: Apache-2.0
// Random operands, weights and texts for the benchmarks.
#include <algorithm>
#include <cmath>

#include "bench/suites.h"
#include "tensor/transfer.h"

namespace swarr {

namespace {

constexpr std::int64_t kDistinct = 1'000'003;  // a prime: rows of a matrix differ
constexpr double kDeviation = 0.02;            // of weights

}  // namespace

RepeatedNumbers::RepeatedNumbers(DType dtype, MemoryKind kind, const std::function<double()>& draw)
    : numbers_(dtype, {kDistinct}, kind) {
  const HostView host(numbers_.view(), kind);
  Dispatch(dtype, [&]<class T>() {
    std::generate_n(host.view().data<T>(), kDistinct,
                    [&] { return static_cast<T>(static_cast<Accumulator<T>>(draw())); });
  });
  host.WriteBack();
}

void RepeatedNumbers::Fill(const Context& ctx, const Tensor& t) {
  const Tensor flat = t.Reshape({t.size()});
  for (std::int64_t done = 0, count = 0; done < t.size(); done += count) {
    count = std::min(t.size() - done, kDistinct - next_);
    Copy(ctx, flat.Rows(done, done + count), numbers_.view().Rows(next_, next_ + count));
    next_ = (next_ + count) % kDistinct;
  }
}

Tensor BenchRows::Random(DType dtype, std::initializer_list<std::int64_t> shape) {
  const auto place = numbers_.try_emplace(dtype, dtype, kind(), [&] { return random_.NextUniform() - 0.5; }).first;
  const Tensor t = ctx_.arena->New(dtype, shape);
  place->second.Fill(ctx_, t);
  return t;
}

void BenchRows::FillWeights(const Transformer& model) {
  const ParameterStore& parameters = model.parameters();
  const DType dtype = parameters.master().dtype();
  const double into_residual = kDeviation / std::sqrt(2.0 * model.config().layers);
  RepeatedNumbers matrices(dtype, kind(), [&] { return kDeviation * random_.NextNormal(); }),
      to_residual(dtype, kind(), [&] { return into_residual * random_.NextNormal(); }),
      norms(dtype, kind(), [] { return 1.0; });
  for (const Parameter& p : parameters.all()) {
    const bool adds = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    (p.master.rank() == 1 ? norms : adds ? to_residual : matrices).Fill(ctx_, p.master);
  }
  parameters.RoundMaster(ctx_);
  Wait(ctx_);  // the lists end here
}

Documents BenchRows::RandomDocuments(int count, int length, int vocab) {
  Documents documents(static_cast<std::size_t>(count));
  for (auto& d : documents) {
    for (int t = 0; t < length; ++t) {
      d.push_back(static_cast<std::int32_t>(random_.NextBelow(static_cast<std::uint32_t>(vocab))));
    }
  }
  return documents;
}

}  // namespace swarr
