// SPDX-License-Identifier: Apache-2.0
#include "tensor/peak.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "tensor/peak_kernel.h"

namespace swarr {
namespace {

constexpr int kRuns = 5;

// The shortest time of several runs, in seconds.
template <class F>
double Fastest(const F& run) {
  using Clock = std::chrono::steady_clock;
  double fastest = 1e300;
  for (int i = 0; i < kRuns; ++i) {
    const auto start = Clock::now();
    run();
    fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return fastest;
}

}  // namespace

double MultiplyAddPeak(const Context& ctx) {
  return OnCpu(ctx.cpu, [&]<class Set>() {
    constexpr std::int64_t kSteps = 10'000'000;
    std::vector<float> results(static_cast<std::size_t>(ctx.threads));
    const double seconds = Fastest([&] {
#pragma omp parallel num_threads(ctx.threads)
      results[static_cast<std::size_t>(omp_get_thread_num())] = PeakKernel<Set>::MultiplyAdd(kSteps, 0.5f, 1.0f);
    });
    return 1e-9 * static_cast<double>(PeakKernel<Set>::FlopsPerStep() * kSteps * ctx.threads) / seconds;
  });
}

double CopyBandwidth(const Context& ctx) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  const Buffer from(kBytes), to(kBytes);
  const auto threads = static_cast<std::size_t>(ctx.threads);
  const double seconds = Fastest([&] {
#pragma omp parallel for num_threads(ctx.threads) schedule(static)
    for (std::size_t t = 0; t < threads; ++t) {
      const std::size_t begin = t * kBytes / threads, end = (t + 1) * kBytes / threads;
      std::memcpy(to.data() + begin, from.data() + begin, end - begin);
    }
  });
  return 2e-9 * static_cast<double>(kBytes) / seconds;
}

}  // namespace swarr
