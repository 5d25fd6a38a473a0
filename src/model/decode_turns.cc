// SPDX-License-Identifier: Apache-2.0
#include "model/decode_turns.h"

#include <algorithm>

namespace swarr {

void DecodeTurns::Take(std::vector<DecodedSlot>& taken) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !waiting_.empty() || left_ == 0; });
  const auto divide = [](std::size_t n, std::size_t by) { return (n + by - 1) / by; };
  const std::size_t part = divide(left_, threads_), at_a_time = divide(part, std::max<std::size_t>(1, part / fewest_)),
                    count = std::min(at_a_time, waiting_.size());
  const auto end = waiting_.begin() + static_cast<std::ptrdiff_t>(count);
  taken.assign(waiting_.begin(), end);
  waiting_.erase(waiting_.begin(), end);
}

void DecodeTurns::Return(const std::vector<DecodedSlot>& left, std::size_t taken) {
  const std::lock_guard lock(mutex_);
  if (left_ == 0) return;  // stopped
  waiting_.insert(waiting_.end(), left.begin(), left.end());
  left_ -= taken - left.size();
  changed_.notify_all();
}

void DecodeTurns::Stop() {
  const std::lock_guard lock(mutex_);
  waiting_.clear();
  left_ = 0;
  changed_.notify_all();
}

}  // namespace swarr
