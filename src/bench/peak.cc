// SPDX-License-Identifier: Apache-2.0
#include "bench/peak.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "bench/kernels/peak_kernel.h"
#include "tensor/ops.h"
#include "tensor/transfer.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

constexpr int kRuns = 5;
// Calls of one run on a device, between two waits. With so many, neither launching nor waiting counts.
constexpr int kDeviceCalls = 10;

// The shortest time of a call in several runs, in seconds.
template <class F>
double Fastest(const Context& ctx, const F& call) {
  const int calls = ctx.device() == Device::kCpu ? 1 : kDeviceCalls;
  double fastest = 1e300;
  for (int i = 0; i < kRuns; ++i) {
    Wait(ctx);
    const StepTimer timer;
    for (int c = 0; c < calls; ++c) call();
    Wait(ctx);
    fastest = std::min(fastest, timer.Seconds() / calls);
  }
  return fastest;
}

void CopyByThreads(int thread_count, const Buffer& to, const Buffer& from) {
  const auto threads = static_cast<std::size_t>(thread_count);
#pragma omp parallel for num_threads(thread_count) schedule(static)
  for (std::size_t t = 0; t < threads; ++t) {
    const std::size_t begin = t * to.bytes() / threads, end = (t + 1) * to.bytes() / threads;
    std::memcpy(to.data() + begin, from.data() + begin, end - begin);
  }
}

}  // namespace

double MultiplyAddPeak(const Context& ctx) {
  return OnCpu(ctx.cpu, [&]<class Set>() {
    constexpr std::int64_t kSteps = 10'000'000;
    std::vector<float> results(static_cast<std::size_t>(ctx.threads));
    const double seconds = Fastest(ctx, [&] {
#pragma omp parallel num_threads(ctx.threads)
      results[static_cast<std::size_t>(omp_get_thread_num())] = PeakKernel<Set>::MultiplyAdd(kSteps, 0.5f, 1.0f);
    });
    return 1e-9 * static_cast<double>(PeakKernel<Set>::FlopsPerStep() * kSteps * ctx.threads) / seconds;
  });
}

double ProductPeak(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w) {
  Context library = ctx;
  library.gemm = GemmKind::kCublas;
  const double flops = 2.0 * static_cast<double>(y.size()) * static_cast<double>(x.dim(1));
  return 1e-9 * flops / Fastest(ctx, [&] { LinearForward(library, y, x, w); });
}

double CopyBandwidth(const Context& ctx) {
  const std::size_t bytes = std::size_t{ctx.stream ? 1024u : 256u} << 20;
  const Buffer from(bytes, MemoryOf(ctx.device())), to(bytes, MemoryOf(ctx.device()));
  const double seconds = Fastest(ctx, [&] {
    if (ctx.stream) {
      EnqueueCopy(*ctx.stream, to.data(), from.data(), bytes);
    } else {
      CopyByThreads(ctx.threads, to, from);
    }
  });
  return 2e-9 * static_cast<double>(bytes) / seconds;
}

}  // namespace swarr
