// SPDX-License-Identifier: Apache-2.0
// Sequences that threads decode in turns: a thread takes some of them, decodes a few tokens of each, and puts back
// those that go on. So a thread that is slower than another, as beside another program, takes fewer of them, and none
// is done long before the last.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace swarr {

// A slot of the cache that works on a request: `fed` of its tokens (prompt, then completion) have been put into steps.
// `ahead`: if a device's step on its way draws a token for it, which of its draws that is.
struct DecodedSlot {
  std::size_t request;
  std::int32_t cache_slot;
  std::int32_t fed = 0;
  std::optional<std::int32_t> ahead = {};
};

class DecodeTurns {
 public:
  // For so many threads. Each takes its equal part of the sequences at a time, or a fraction of it that still is
  // `fewest` or more.
  DecodeTurns(std::vector<DecodedSlot> slots, std::size_t threads, std::size_t fewest)
      : waiting_(std::move(slots)), left_(waiting_.size()), threads_(threads), fewest_(fewest) {}

  // Gives the sequences whose turn it is, those that have waited longest, and waits for some to come back if there is
  // none. None: there are none left.
  void Take(std::vector<DecodedSlot>& taken);
  // Puts back what is left of `taken` sequences.
  void Return(const std::vector<DecodedSlot>& left, std::size_t taken);
  // Nobody shall take any more.
  void Stop();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<DecodedSlot> waiting_;  // the first has waited longest
  std::size_t left_;                  // these, and those that have been taken
  const std::size_t threads_, fewest_;
};

}  // namespace swarr
