// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {
namespace {

constexpr std::int64_t kChunk = 4096;  // elements one thread takes at a time; fixes the order of GlobalNorm's sum

std::int64_t Chunks(std::int64_t n) { return (n + kChunk - 1) / kChunk; }

}  // namespace

void AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g, double lr,
               std::int64_t t, double grad_scale, const AdamWOptions& options) {
  SWARR_CHECK(w.SameShape(m) && w.SameShape(v) && w.SameShape(g), "AdamW moments or gradients differ from the weight ",
              w.ShapeString());
  Dispatch(w.dtype(), [&]<class T>() {
    const T b1 = static_cast<T>(options.beta1), b2 = static_cast<T>(options.beta2);
    const T correct1 = static_cast<T>(1 / (1 - std::pow(options.beta1, static_cast<double>(t))));
    const T correct2 = static_cast<T>(1 / (1 - std::pow(options.beta2, static_cast<double>(t))));
    const T scale = static_cast<T>(grad_scale), rate = static_cast<T>(lr), eps = static_cast<T>(options.eps);
    const T decay = static_cast<T>(lr * options.weight_decay);
    T *weight = w.data<T>(), *first = m.data<T>(), *second = v.data<T>();
    const T* gradient = g.data<T>();
    ForRows(ctx, Chunks(w.size()), kChunk, [&](std::int64_t chunk) {
      const std::int64_t end = std::min(w.size(), (chunk + 1) * kChunk);
      for (std::int64_t i = chunk * kChunk; i < end; ++i) {
        const T grad = gradient[i] * scale;
        first[i] = b1 * first[i] + (1 - b1) * grad;
        second[i] = b2 * second[i] + (1 - b2) * grad * grad;
        const T step = rate * (first[i] * correct1) / (std::sqrt(second[i] * correct2) + eps);
        weight[i] = weight[i] - step - decay * weight[i];
      }
    });
  });
}

double GlobalNorm(const Context& ctx, const Tensor& flat) {
  ArenaScope scope(*ctx.arena);
  const std::int64_t chunks = Chunks(flat.size());
  double* partial = ctx.arena->New(DType::kF64, {std::max<std::int64_t>(1, chunks)}).data<double>();
  Dispatch(flat.dtype(), [&]<class T>() {
    ForRows(ctx, chunks, kChunk, [&](std::int64_t chunk) {
      const std::int64_t end = std::min(flat.size(), (chunk + 1) * kChunk);
      double sum = 0;
      for (std::int64_t i = chunk * kChunk; i < end; ++i) {
        const double x = static_cast<double>(flat.data<T>()[i]);
        sum += x * x;
      }
      partial[chunk] = sum;
    });
  });
  double sum = 0;
  for (std::int64_t i = 0; i < chunks; ++i) sum += partial[i];
  return std::sqrt(sum);
}

}  // namespace swarr
