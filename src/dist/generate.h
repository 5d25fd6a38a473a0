// SPDX-License-Identifier: Apache-2.0
// Generation that ranks share out.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "dist/ranks.h"
#include "model/decoder.h"

namespace swarr {

// What decoder.Generate gives for all requests, on every rank: each rank completes its part of them and tells the
// others. Requests come in groups of `group_size`, which stay on a rank. on_token sees the rank's own tokens, with the
// numbers that their requests have among all, and `stop` stops that part.
std::vector<Completion> Generate(Context& ctx, const Ranks& ranks, Decoder& decoder, std::span<const Request> requests,
                                 int group_size, const std::function<void(std::size_t, std::int32_t)>& on_token = {},
                                 const std::function<bool()>& stop = {});

}  // namespace swarr
