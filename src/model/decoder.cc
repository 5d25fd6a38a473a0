// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <algorithm>

#include "tensor/memory_report.h"

namespace swarr {

// A slot that works on a request: `fed` of its tokens (prompt, then completion) have been through the model.
struct Decoder::Slot {
  std::size_t request;
  std::int32_t cache_slot;
  std::int32_t fed = 0;
};

Decoder::Decoder(const Transformer& model, int slots, int max_length, int max_chunk)
    : model_(model),
      slots_(slots),
      max_length_(max_length),
      max_chunk_(max_chunk),
      cache_(model.config(), model.dtype(), slots, max_length, max_chunk) {
  SWARR_CHECK(max_length <= model.config().max_positions, "sequences of ", max_length,
              " tokens don't fit the model's context of ", model.config().max_positions,
              " (max_position_embeddings); shorten the prompt or ask for fewer new tokens");
}

std::vector<Completion> Decoder::Generate(Context& caller, std::span<const Request> requests,
                                          const std::function<void(std::size_t, std::int32_t)>& on_token) {
  for (const Request& r : requests) {
    SWARR_CHECK(!r.prompt.empty(), "an empty prompt can't be continued; give at least one token");
    SWARR_CHECK(static_cast<std::int64_t>(r.prompt.size()) + r.max_new_tokens <= max_length_, "a prompt of ",
                r.prompt.size(), " tokens with ", r.max_new_tokens, " new ones is longer than the ", max_length_,
                " tokens planned for a sequence");
  }
  model_.PackWeights(caller, packed_);
  if (caller.memory) NoteMemory(*caller.memory);
  Context ctx = caller;
  ctx.packed = &packed_;
  std::vector<Completion> completions(requests.size());
  std::vector<std::int32_t> free;
  for (std::int32_t s = slots_ - 1; s >= 0; --s) free.push_back(s);
  std::vector<Slot> active;
  std::size_t next = 0;
  while (next < requests.size() || !active.empty()) {
    for (; next < requests.size() && !free.empty(); ++next) {
      if (requests[next].max_new_tokens <= 0) continue;
      active.push_back({next, free.back()});
      free.pop_back();
    }
    if (active.empty()) break;
    Step(ctx, requests, active, completions, on_token);
    std::erase_if(active, [&](const Slot& s) {
      const Completion& c = completions[s.request];
      const bool done = c.finished || static_cast<int>(c.tokens.size()) == requests[s.request].max_new_tokens;
      if (done) free.push_back(s.cache_slot);
      return done;
    });
  }
  return completions;
}

void Decoder::NoteMemory(MemoryReport& report) const {
  report.Note("key/value cache", cache_.bytes());
  report.Note("packed weights", packed_.bytes());
}

void Decoder::StepRows::Clear() {
  for (auto* v : {&ids, &positions, &slots, &draw_rows, &draw_positions}) v->clear();
  draws.clear();
  drawing.clear();
}

void Decoder::FillRows(std::span<const Request> requests, std::vector<Slot>& slots,
                       const std::vector<Completion>& completions) {
  rows_.Clear();
  for (Slot& slot : slots) {
    const Request& request = requests[slot.request];
    const Completion& completion = completions[slot.request];
    const auto prompt = static_cast<std::int32_t>(request.prompt.size());
    const auto known = prompt + static_cast<std::int32_t>(completion.tokens.size());
    const std::int32_t end = std::min(known, slot.fed + max_chunk_);
    for (; slot.fed < end; ++slot.fed) {
      const auto at = static_cast<std::size_t>(slot.fed);
      rows_.ids.push_back(slot.fed < prompt ? request.prompt[at] : completion.tokens[at - request.prompt.size()]);
      rows_.positions.push_back(slot.fed);
      rows_.slots.push_back(slot.cache_slot);
    }
    if (slot.fed < known) continue;
    rows_.drawing.push_back(slot.request);
    rows_.draw_rows.push_back(static_cast<std::int32_t>(rows_.ids.size()) - 1);
    rows_.draw_positions.push_back(known);
    rows_.draws.push_back({request.key, request.temperature});
  }
}

// One forward pass: the next chunk of the prompt, or the token drawn last, of every active slot; then a draw for each
// slot whose tokens have all been fed.
void Decoder::Step(Context& ctx, std::span<const Request> requests, std::vector<Slot>& slots,
                   std::vector<Completion>& completions,
                   const std::function<void(std::size_t, std::int32_t)>& on_token) {
  FillRows(requests, slots, completions);
  ArenaScope scope(*ctx.arena);
  const auto view = [](std::vector<std::int32_t>& v) {
    return Tensor(v.data(), DType::kI32, {static_cast<std::int64_t>(v.size())});
  };
  const Batch batch{view(rows_.ids), view(rows_.positions), view(rows_.slots), {}};
  const Var hidden = model_.Forward(ctx, batch, cache_);
  if (rows_.drawing.empty()) return;
  const auto M = static_cast<std::int64_t>(rows_.drawing.size());
  const Tensor last = ctx.arena->New(model_.dtype(), {M, model_.config().hidden});
  for (std::int64_t m = 0; m < M; ++m) {
    const std::int32_t row = rows_.draw_rows[static_cast<std::size_t>(m)];
    Copy(last.Rows(m, m + 1), hidden.value.Rows(row, row + 1));
  }
  const Tensor tokens = ctx.arena->New(DType::kI32, {M});
  const Tensor logp = ctx.arena->New(AccumulatorOf(model_.dtype()), {M});
  SampleForward(ctx, tokens, logp, last, model_.head().value, view(rows_.draw_positions), rows_.draws.data());
  for (std::size_t m = 0; m < rows_.drawing.size(); ++m) {
    Completion& completion = completions[rows_.drawing[m]];
    const std::int32_t token = tokens.data<std::int32_t>()[m];
    completion.tokens.push_back(token);
    DispatchSum(logp.dtype(),
                [&]<class T>() { completion.logprobs.push_back(static_cast<double>(logp.data<T>()[m])); });
    completion.finished = token == model_.config().eos_id;
    if (on_token) on_token(rows_.drawing[m], token);
  }
}

}  // namespace swarr
