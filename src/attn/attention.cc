// SPDX-License-Identifier: Apache-2.0
#include "attn/attention.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/math.h"
#include "tensor/rows.h"
#include "tensor/vector.h"

namespace swarr {
namespace {

// Calls f(row, count) for the rows of a query's visible keys, in ascending position, as runs of consecutive rows.
template <class F>
void ForKeyRuns(int q_pos, std::int64_t base, int ring, AttentionSpec spec, F&& f) {
  const VisibleKeys visible = VisibleKeysOf(q_pos, spec);
  const int sinks = spec.window == 0 ? 0 : spec.sinks;
  for (KeyRange range : {visible.sinks, visible.recent}) {
    while (range.begin < range.end) {
      // A run ends with its range, where the sink rows end, or where the ring starts again.
      const int left = range.begin < sinks ? sinks - range.begin : ring - (range.begin - sinks) % ring;
      const int count = std::min(range.size(), left);
      f(base + CacheRow(range.begin, sinks, ring), count);
      range.begin += count;
    }
  }
}

// The most keys that any of the queries sees.
std::int64_t MostVisible(const Tensor& q_pos, AttentionSpec spec) {
  int most = 0;
  for (std::int64_t n = 0; n < q_pos.dim(0); ++n) {
    const VisibleKeys v = VisibleKeysOf(q_pos.data<std::int32_t>()[n], spec);
    most = std::max(most, v.sinks.size() + v.recent.size());
  }
  return most;
}

void CheckAttention(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                    const KeyLayout& layout) {
  const std::int64_t N = q.dim(0), H = q.dim(1), D = q.dim(2), G = k.dim(1);
  SWARR_CHECK(G > 0 && H % G == 0, "attention has ", H, " query heads for ", G,
              " key heads; the first must be a multiple");
  CheckShape(out, q.dtype(), {N, H, D}, "attention output");
  CheckShape(lse, q.dtype(), {N, H}, "attention lse");
  CheckShape(k, q.dtype(), {-1, G, D}, "attention keys");
  CheckShape(v, q.dtype(), {k.dim(0), G, D}, "attention values");
  CheckShape(layout.q_pos, DType::kI32, {N}, "attention positions");
  CheckShape(layout.key_base, DType::kI32, {N}, "attention key bases");
}

// A row-major [rows, width] matrix seen with its rows as columns: element (column, row) is at column * stride + row, so
// that one load takes the same element of many rows. The stride leaves room to read a whole vector past the last row.
template <class T>
struct Transposed {
  const T* data;
  std::int64_t stride;
};

template <class T>
Transposed<T> Transpose(const Context& ctx, const Tensor& t) {
  const std::int64_t rows = t.dim(0), width = t.size() / std::max<std::int64_t>(1, rows);
  const std::int64_t stride = rows + kVectorLanes<T>;
  const Tensor copy = ctx.arena->New(t.dtype(), {width, stride});
  ForRows(ctx, width, stride, [&](std::int64_t c) {
    T* to = copy.data<T>() + c * stride;
    for (std::int64_t r = 0; r < rows; ++r) to[r] = t.data<T>()[r * width + c];
    std::fill(to + rows, to + stride, T(0));
  });
  return {copy.data<T>(), stride};
}

// result[j] = sum over d ascending of x[d] m(d, j), j < count. Up to a vector's worth of entries past them is written
// too.
template <class T>
void DotColumns(const T* x, Transposed<T> m, std::int64_t D, std::int64_t count, T* result) {
  for (std::int64_t j = 0; j < count; j += kVectorLanes<T>) {
    Vector<T> sum{}, column;
    for (std::int64_t d = 0; d < D; ++d) {
      Load(column, m.data + d * m.stride + j);
      sum += x[d] * column;
    }
    Store(result + j, sum);
  }
}

// The same sums, in the same order, where the D elements of a row lie together.
template <class T>
void DotRows(const T* x, const T* rows, std::int64_t stride, std::int64_t D, std::int64_t count, T* result) {
  for (std::int64_t j = 0; j < count; ++j) {
    T sum = 0;
    for (std::int64_t d = 0; d < D; ++d) sum += x[d] * rows[j * stride + d];
    result[j] = sum;
  }
}

// y[d] += sum over j ascending of weight[j] rows[j * stride + d].
template <class T>
void AddWeightedRows(T* y, const T* weight, const T* rows, std::int64_t stride, std::int64_t D, std::int64_t count) {
  std::int64_t d = 0;
  for (; d + kVectorLanes<T> <= D; d += kVectorLanes<T>) {
    Vector<T> sum, row;
    Load(sum, y + d);
    for (std::int64_t j = 0; j < count; ++j) {
      Load(row, rows + j * stride + d);
      sum += weight[j] * row;
    }
    Store(y + d, sum);
  }
  for (; d < D; ++d) {
    for (std::int64_t j = 0; j < count; ++j) y[d] += weight[j] * rows[j * stride + d];
  }
}

}  // namespace

void AttentionForward(const Context& ctx, const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                      const Tensor& v, const KeyLayout& layout, AttentionSpec spec) {
  CheckAttention(out, lse, q, k, v, layout);
  const std::int64_t N = q.dim(0), H = q.dim(1), D = q.dim(2), G = k.dim(1);
  const std::int64_t most = MostVisible(layout.q_pos, spec);
  const bool in_batch =
      layout.ring == KeyLayout::kNoRing;  // then many queries share the keys, and transposing them pays
  ArenaScope scope(*ctx.arena);
  Dispatch(q.dtype(), [&]<class T>() {
    const std::int64_t room = most + kVectorLanes<T>;
    T* scratch = ctx.arena->New(q.dtype(), {ctx.threads, room}).template data<T>();
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    const Transposed<T> keys = in_batch ? Transpose<T>(ctx, k) : Transposed<T>{};
    ForRows(ctx, N, H * D * most, [&](std::int64_t n) {
      T* p = scratch + omp_get_thread_num() * room;
      const int q_pos = layout.q_pos.data<std::int32_t>()[n];
      const std::int64_t base = layout.key_base.data<std::int32_t>()[n];
      for (std::int64_t h = 0; h < H; ++h) {
        const std::int64_t g = h / (H / G);
        const T* query = q.data<T>() + (n * H + h) * D;
        T* o = out.data<T>() + (n * H + h) * D;
        std::int64_t count = 0;
        ForKeyRuns(q_pos, base, layout.ring, spec, [&](std::int64_t row, int run) {
          if (in_batch) {
            DotColumns(query, {keys.data + g * D * keys.stride + row, keys.stride}, D, run, p + count);
          } else {
            DotRows(query, k.data<T>() + (row * G + g) * D, G * D, D, run, p + count);
          }
          count += run;
        });
        T largest = -std::numeric_limits<T>::infinity();
        for (std::int64_t j = 0; j < count; ++j) {
          p[j] *= scale;
          largest = std::max(largest, p[j]);
        }
        for (std::int64_t j = 0; j < count; ++j) p[j] = Exp(p[j] - largest);
        T sum = 0;
        for (std::int64_t j = 0; j < count; ++j) sum += p[j];
        std::fill_n(o, D, T(0));
        lse.data<T>()[n * H + h] = largest + std::log(sum);  // log 0 = -infinity for a query that sees nothing
        if (count == 0) continue;
        count = 0;
        ForKeyRuns(q_pos, base, layout.ring, spec, [&](std::int64_t row, int run) {
          AddWeightedRows(o, p + count, v.data<T>() + (row * G + g) * D, G * D, D, run);
          count += run;
        });
        const T inverse = T(1) / sum;
        for (std::int64_t d = 0; d < D; ++d) o[d] *= inverse;
      }
    });
  });
}

// With p_j = exp(scale q.k_j - lse) and delta = dout . out = sum_j p_j (dout . v_j):
//   dv_j += p_j dout;   ds_j = p_j (dout . v_j - delta);   dq += scale ds_j k_j;   dk_j += scale ds_j q.
void AttentionBackward(const Context& ctx, const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                       const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                       const KeyLayout& layout, const Tensor& documents, AttentionSpec spec) {
  CheckAttention(out, lse, q, k, v, layout);
  SWARR_CHECK(layout.ring == KeyLayout::kNoRing && k.dim(0) == q.dim(0),
              "attention has no backward through a cache; train on whole documents");
  const std::int64_t H = q.dim(1), D = q.dim(2), G = k.dim(1), docs = documents.dim(0) - 1;
  const std::int32_t* first_row = documents.data<std::int32_t>();
  const std::int64_t most = MostVisible(layout.q_pos, spec);
  ArenaScope scope(*ctx.arena);
  Dispatch(q.dtype(), [&]<class T>() {
    const std::int64_t room = most + kVectorLanes<T>;
    T* scratch = ctx.arena->New(q.dtype(), {ctx.threads, 2 * room}).template data<T>();
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    const Transposed<T> keys = Transpose<T>(ctx, k), values = Transpose<T>(ctx, v);
    // The gradients come out of one computation; one that nobody wants goes to scratch.
    const auto or_scratch = [&](const Tensor& grad, const Tensor& of) {
      return (grad.empty() ? ctx.arena->NewZero(of.dtype(), {of.size()}) : grad).template data<T>();
    };
    T *to_dq = or_scratch(dq, q), *to_dk = or_scratch(dk, k), *to_dv = or_scratch(dv, v);
    const auto backward_of_query = [&](std::int64_t n, std::int64_t h) {
      T* p = scratch + omp_get_thread_num() * 2 * room;
      T* ds = p + room;
      const std::int64_t g = h / (H / G), at = (n * H + h) * D;
      const T *query = q.data<T>() + at, *grad = dout.data<T>() + at;
      T delta;  // summed as dout . v_j is, so that a query that sees one key gets a gradient of exactly 0
      DotRows(grad, out.data<T>() + at, D, D, 1, &delta);
      const T log_sum = lse.data<T>()[n * H + h];
      ForKeyRuns(layout.q_pos.data<std::int32_t>()[n], layout.key_base.data<std::int32_t>()[n], layout.ring, spec,
                 [&](std::int64_t row, int run) {
                   const std::int64_t column = g * D * keys.stride + row, kv = (row * G + g) * D;
                   DotColumns(query, {keys.data + column, keys.stride}, D, run, p);
                   DotColumns(grad, {values.data + column, values.stride}, D, run, ds);
                   for (int j = 0; j < run; ++j) {
                     p[j] = Exp(scale * p[j] - log_sum);
                     ds[j] = scale * p[j] * (ds[j] - delta);
                   }
                   for (int j = 0; j < run; ++j) {
                     AddScaled(to_dv + kv + j * G * D, p[j], grad, D);
                     AddScaled(to_dk + kv + j * G * D, ds[j], query, D);
                   }
                   AddWeightedRows(to_dq + at, ds, k.data<T>() + kv, G * D, D, run);
                 });
    };
#pragma omp parallel for num_threads(ctx.threads) schedule(dynamic)
    for (std::int64_t task = 0; task < docs * G; ++task) {
      const std::int64_t doc = task / G, g = task % G;
      for (std::int64_t n = first_row[doc]; n < first_row[doc + 1]; ++n) {
        for (std::int64_t h = g * (H / G); h < (g + 1) * (H / G); ++h) backward_of_query(n, h);
      }
    }
  });
}

}  // namespace swarr
