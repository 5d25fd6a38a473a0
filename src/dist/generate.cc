// SPDX-License-Identifier: Apache-2.0
#include "dist/generate.h"

namespace swarr {
namespace {

std::vector<Completion> GatherCompletions(const Ranks& ranks, const std::vector<Completion>& own) {
  std::vector<std::int64_t> lengths;
  std::vector<char> finished;
  std::vector<std::int32_t> tokens;
  std::vector<double> logp;
  for (const Completion& c : own) {
    lengths.push_back(static_cast<std::int64_t>(c.tokens.size()));
    finished.push_back(c.finished ? 1 : 0);
    tokens.insert(tokens.end(), c.tokens.begin(), c.tokens.end());
    logp.insert(logp.end(), c.logp.begin(), c.logp.end());
  }
  lengths = ranks.GatherAll(lengths);
  finished = ranks.GatherAll(finished);
  tokens = ranks.GatherAll(tokens);
  logp = ranks.GatherAll(logp);
  std::vector<Completion> all;
  auto token = tokens.begin();
  auto p = logp.begin();
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    all.push_back({{token, token + lengths[i]}, {p, p + lengths[i]}, finished[i] != 0});
    token += lengths[i];
    p += lengths[i];
  }
  return all;
}

}  // namespace

std::vector<Completion> Generate(Context& ctx, const Ranks& ranks, Decoder& decoder, std::span<const Request> requests,
                                 int group_size, const std::function<void(std::size_t, std::int32_t)>& on_token,
                                 const std::function<bool()>& stop) {
  const Part groups = ranks.PartOf(static_cast<std::int64_t>(requests.size()) / group_size);
  const auto first = static_cast<std::size_t>(groups.begin * group_size);
  const auto count = static_cast<std::size_t>(groups.size() * group_size);
  std::function<void(std::size_t, std::int32_t)> on_own;
  if (on_token) on_own = [&](std::size_t i, std::int32_t token) { on_token(first + i, token); };
  std::vector<Completion> own = decoder.Generate(ctx, requests.subspan(first, count), on_own, stop);
  return ranks.alone() ? own : GatherCompletions(ranks, own);
}

}  // namespace swarr
