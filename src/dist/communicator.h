// SPDX-License-Identifier: Apache-2.0
// Several ranks that train one model together: what they tell one another goes through here and nowhere else. A rank is
// a process with a device of its own, or in tests a thread (thread_ranks.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tensor/context.h"
#include "tensor/tensor.h"

namespace swarr {

// Thrown where another rank has ended, so that what it was to give will not come.
struct RankLost : Error {
  using Error::Error;
};

// All ranks call the same functions in the same order, each from one thread.
class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  // 0 .. size() - 1
  virtual int size() const = 0;

  // Rank p gets send[p], and what it sends here is written to receive[p]; empty where there is nothing, and at p =
  // rank(). Both sides name the same dtype and size. In memory of the context's device and in its stream, after what
  // was put there before.
  virtual void Exchange(const Context& ctx, std::span<const Tensor> send, std::span<const Tensor> receive) = 0;

  // What every rank gives, by rank. On the host.
  virtual std::vector<std::string> Gather(const std::string& own) = 0;

  // Seconds that this rank spent on each of the two since it asked last, waiting for others included. What a device
  // still exchanges counts when it is done.
  struct Times {
    double exchange = 0, gather = 0;
  };
  virtual Times TakeTimes() { return {}; }

  // The last that all ranks call: who ends after it is not lost.
  virtual void End() {}
};

}  // namespace swarr
