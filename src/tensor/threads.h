// SPDX-License-Identifier: Apache-2.0
// Threads that take the parts of one piece of work, and how they wait. Kernel files include this header: no inline
// function with external linkage may be left behind there (kernels/kernels.h).
//
// The caller takes part 0. Every other part is offered to a worker, a thread that waits for offers. When the caller has
// done its own part, it takes back what no worker has begun and does it itself. So nobody waits for a thread that the
// system does not run, unless that thread was stopped within its part.
//
// A thread that waits spins for a while and then sleeps. Spinning meets a partner that is about to come; sleeping
// leaves the processor to whoever has work, which may be the partner. The runtimes of OpenMP spin for milliseconds, and
// beside another busy process that is most of the time. A library can't tell them not to: they read their settings
// before any code of ours runs. So these are threads of our own.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace swarr {

// A waiting thread sleeps when it has looked this many times or has spun for this long, whichever comes first.
struct SpinLimit {
  static constexpr std::int64_t kEndless = std::numeric_limits<std::int64_t>::max();

  std::int64_t turns = kEndless;
  // Longer than most ops that one thread computes alone between two that all compute, so that workers stay awake while
  // a model is trained. Short beside the milliseconds for which another process keeps a processor.
  std::chrono::nanoseconds time = std::chrono::microseconds(50);
};

// What the variables OMP_WAIT_POLICY and GOMP_SPINCOUNT ask for, which OpenMP programs on this machine may go by; null:
// not set. "passive" is no spinning, "active" is no sleep, a number is that of the turns, "infinity" and "infinite" are
// no sleep. The number wins; what can't be read counts as not set. The environment is asked once, at the first wait.
SpinLimit ParseSpinLimit(const char* wait_policy, const char* spin_count);

// Calls run(f, part) for every part in [0, parts): ForParts without the type of its function.
using PartFunction = void (*)(const void* f, int part);
void RunParts(int parts, PartFunction run, const void* f);

// Calls f(part) for every part in [0, parts), each once, on up to as many threads, and returns when all have returned.
// Every part runs even if another throws; then the exception of the lowest part that threw is thrown here. A part must
// not wait for another to begin. Within a part, ForParts runs all parts in the thread that calls it, up to the first
// that throws. Any thread may call, and has workers of its own, which are started when they are first needed and end
// with it; so has a process after fork. Throws Error if the system refuses to start a thread. It allocates nothing once
// the workers are there.
template <class F>
void ForParts(int parts, const F& f) {
  if (parts == 1) return f(0);
  RunParts(
      parts, [](const void* g, int part) { (*static_cast<const F*>(g))(part); }, &f);
}

}  // namespace swarr
