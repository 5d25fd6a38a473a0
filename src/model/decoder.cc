// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <mutex>
#include <optional>

#include "tensor/device_memory.h"
#include "tensor/memory_report.h"
#include "tensor/threads.h"
#include "tensor/transfer.h"

namespace swarr {

namespace {

// The sequences that a thread should have before it decodes alone. Each thread then reads all weights, which pays only
// if they are multiplied with several rows.
constexpr std::size_t kTeamSlots = 8;
// A thread takes no fewer at a time than a product's kernel multiplies at once, if its part is more, ...
constexpr std::size_t kFewestTaken = 32;
// ... and feeds so many tokens of each before others have their turn, a chunk of a prompt: all have their first token
// before one has many.
constexpr std::size_t kTurnTokens = 16;
// A device refills its slots when one in so many is free: a pass over few prompts takes as long as over many.
constexpr std::size_t kRefillShare = 8;
// The most requests that share the pass over their prompt.
constexpr std::int64_t kMostCopies = 16;

Tensor View(std::vector<std::int32_t>& v) { return {v.data(), DType::kI32, {static_cast<std::int64_t>(v.size())}}; }

}  // namespace

bool IsComplete(const Request& request, const Completion& completion) {
  return completion.finished || static_cast<int>(completion.tokens.size()) >= request.max_new_tokens;
}

void CheckFinite(std::span<const Completion> completions) {
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const std::vector<double>& logp = completions[i].logp;
    const auto bad = std::ranges::find_if_not(logp, [](double x) { return std::isfinite(x); });
    if (bad == logp.end()) continue;
    throw Error(Concat("the log-probability of token ", bad - logp.begin() + 1, " of completion ", i + 1, " is ", *bad,
                       ", since a logit there is not finite: the model's numbers are NaN or too large for its dtype; "
                       "take a wider one or an earlier checkpoint"));
  }
}

int SlotsFor(const Transformer& model, int asked, std::int64_t requests, int max_length) {
  constexpr std::int64_t kMost = 1024, kMemoryShare = 8;
  if (asked > 0) return asked;
  if (model.parameters().kind() != MemoryKind::kDevice) return kHostSlots;
  const std::size_t bytes = KvBytesPerSequence(model.config(), model.dtype(), std::max(1, max_length));
  const std::int64_t fit = FreeCudaBytes() / kMemoryShare / static_cast<std::int64_t>(bytes);
  return static_cast<int>(std::clamp<std::int64_t>(std::min(requests, fit), 1, kMost));
}

// The work of one call of Generate. Teams take requests in their order; each completion is written by one team.
struct Decoder::Work {
  std::span<const Request> requests;
  const std::function<void(std::size_t, std::int32_t)>& on_token;
  const std::function<bool()>& stop;
  std::vector<Completion> completions;
  std::atomic<std::size_t> next = 0;
  std::mutex one_call{};  // held while on_token runs

  // The next request that wants tokens; requests.size() if there is none.
  std::size_t Take() {
    std::size_t i = next++;
    while (i < requests.size() && requests[i].max_new_tokens <= 0) i = next++;
    return std::min(i, requests.size());
  }
  bool Stops() const { return stop && stop(); }
};

Decoder::Decoder(const Transformer& model, int slots, int max_length, int max_chunk, int prompt_rows)
    : model_(model),
      slots_(slots),
      max_length_(max_length),
      max_chunk_(max_chunk),
      prompt_rows_(prompt_rows),
      cache_(model.config(), model.dtype(), slots, max_length, max_chunk, model.parameters().kind()) {
  if (model.parameters().kind() == MemoryKind::kDevice) {
    device_steps_ = std::make_unique<DeviceSteps>(slots * max_chunk, model.dtype());
  }
  SWARR_CHECK(max_length <= model.config().max_positions, "sequences of ", max_length,
              " tokens don't fit the model's context of ", model.config().max_positions,
              " (max_position_embeddings); shorten the prompt or ask for fewer new tokens");
}

Decoder::~Decoder() = default;

std::vector<Completion> Decoder::Generate(Context& caller, std::span<const Request> requests,
                                          const std::function<void(std::size_t, std::int32_t)>& on_token,
                                          const std::function<bool()>& stop) {
  for (const Request& r : requests) {
    SWARR_CHECK(!r.prompt.empty(), "an empty prompt can't be continued; give at least one token");
    SWARR_CHECK(static_cast<std::int64_t>(r.prompt.size()) + r.max_new_tokens <= max_length_, "a prompt of ",
                r.prompt.size(), " tokens with ", r.max_new_tokens, " new ones is longer than the ", max_length_,
                " tokens planned for a sequence");
  }
  Context ctx = caller;
  ctx.packed = &packed_;
  Work work{.requests = requests,
            .on_token = on_token,
            .stop = stop,
            .completions = std::vector<Completion>(requests.size())};

  const std::size_t used = std::min(static_cast<std::size_t>(slots_), requests.size());
  const std::size_t threads = device_steps_ ? 1 : static_cast<std::size_t>(ctx.threads);
  const std::size_t count = std::clamp<std::size_t>(used / kTeamSlots, 1, threads);
  if (!device_steps_) model_.PackWeights(caller, packed_, static_cast<std::int64_t>(used));
  if (teams_.size() < count) teams_.resize(count);
  if (device_steps_) {
    RunDevice(ctx, work, teams_[0], used);
  } else {
    DecodeTurns turns(FirstRequests(work, used), count, FewestTaken());
    if (count == 1) {
      RunTurns(ctx, work, turns, teams_[0]);
    } else {
      RunTeams(ctx, work, turns, std::span(teams_).first(count));
    }
  }
  if (caller.memory) NoteMemory(*caller.memory);
  return std::move(work.completions);
}

// The teams share the threads equally. Teams of one thread are parts of one piece of work, whose workers stay from call
// to call; a team waits only for sequences of one that has begun (ForParts). Within a part all ops keep to its thread,
// so larger teams get new threads.
void Decoder::RunTeams(const Context& caller, Work& work, DecodeTurns& turns, std::span<Team> teams) {
  const int threads = caller.threads / static_cast<int>(teams.size());
  const auto run = [&](Team& team) {
    Context ctx = caller;
    team.arena.Reset();
    ctx.arena = &team.arena;
    ctx.memory = nullptr;  // several threads must not write to it
    ctx.threads = threads;
    RunTurns(ctx, work, turns, team);
  };
  if (threads == 1) {
    return ForParts(static_cast<int>(teams.size()), [&](int part) { run(teams[static_cast<std::size_t>(part)]); });
  }
  std::vector<std::future<void>> running;
  for (Team& team : teams) running.push_back(std::async(std::launch::async, [&run, &team] { run(team); }));
  for (auto& team : running) team.wait();
  for (auto& team : running) team.get();  // throws what the team threw
}

bool Decoder::Done(const Work& work, const DecodedSlot& slot) const {
  return IsComplete(work.requests[slot.request], work.completions[slot.request]);
}

// A request for each of so many slots, as far as there are any.
std::vector<DecodedSlot> Decoder::FirstRequests(Work& work, std::size_t slots) {
  std::vector<DecodedSlot> first;
  for (std::size_t request; first.size() < slots && (request = work.Take()) < work.requests.size();) {
    first.push_back({request, static_cast<std::int32_t>(first.size())});
  }
  return first;
}

// So many sequences that a step, which reads all weights and all their keys, reads few weights beside keys. With no
// more than that, the keys are still in nearer caches when the turn's next token comes.
std::size_t Decoder::FewestTaken() const {
  constexpr std::size_t kKeysToWeights = 4;  // in bytes
  const std::size_t keys = cache_.bytes() / static_cast<std::size_t>(slots_);
  return std::max(kFewestTaken, kKeysToWeights * packed_.bytes() / std::max<std::size_t>(keys, 1));
}

void Decoder::RunTurns(Context& ctx, Work& work, DecodeTurns& turns, Team& team) {
  try {
    for (turns.Take(team.active); !team.active.empty(); turns.Take(team.active)) {
      const std::size_t taken = team.active.size();
      for (std::size_t fed = 0; fed < kTurnTokens * team.active.size();) {
        Step(ctx, work, team);
        fed += team.rows[team.turn].ids.size();
        for (DecodedSlot& slot : team.active) {
          if (Done(work, slot)) slot = {work.Take(), slot.cache_slot};
        }
        std::erase_if(team.active, [&](const DecodedSlot& slot) { return slot.request == work.requests.size(); });
        if (work.Stops()) {
          turns.Stop();
          team.active.clear();
        }
      }
      turns.Return(team.active, taken);
    }
  } catch (...) {
    turns.Stop();
    throw;
  }
}

// Decodes with so many slots.
void Decoder::RunDevice(Context& ctx, Work& work, Team& team, std::size_t slots) {
  team.active.clear();
  team.free.clear();
  for (std::size_t s = slots; s > 0; --s) team.free.push_back(static_cast<std::int32_t>(s - 1));
  const auto end_all = [&] {
    while (!device_steps_->AllEnded()) device_steps_->End();
  };
  end_all();  // of a call that ended with an error
  while (true) {
    std::size_t fed_whole = team.active.size();
    TakeRequests(work, team);
    if (team.active.empty() || work.Stops()) return end_all();
    const std::size_t begin = fed_whole;
    while (fed_whole < team.active.size()) fed_whole = Prefill(ctx, work, team, fed_whole);
    if (fed_whole == begin) Step(ctx, work, team);
    std::erase_if(team.active, [&](const DecodedSlot& slot) {
      const bool done = Done(work, slot);
      if (done) team.free.push_back(slot.cache_slot);
      return done;
    });
  }
}

// Only when several slots are free.
void Decoder::TakeRequests(Work& work, Team& team) const {
  const std::size_t slots = team.free.size() + team.active.size();
  if (!team.active.empty() && kRefillShare * team.free.size() < slots) return;
  while (!team.free.empty()) {
    const std::size_t request = work.Take();
    if (request == work.requests.size()) return;
    team.active.push_back({request, team.free.back()});
    team.free.pop_back();
  }
}

void Decoder::NoteMemory(MemoryReport& report) const {
  report.Note("key/value cache", cache_.bytes());
  if (!device_steps_) report.Note("packed weights", packed_.bytes());
  if (device_steps_) report.Note("decoding steps", device_steps_->bytes());
  std::size_t steps = 0;
  for (const Team& team : teams_) steps += team.arena.high_water_bytes();
  if (steps > 0) report.Note("steps of decoding threads", steps);
}

void Decoder::StepRows::Clear() {
  for (auto* v : {&ids, &positions, &slots, &prompts, &draw_rows, &draw_positions}) v->clear();
  draws.clear();
  drawing.clear();
}

// After row `row`, for the token at `position`.
void Decoder::StepRows::AddDraw(const Request& request, std::size_t index, std::int32_t row, std::int32_t position) {
  drawing.push_back(index);
  draw_rows.push_back(row);
  draw_positions.push_back(position);
  draws.push_back({request.key, request.temperature});
}

// Feeds the prompts of the slots from `first` on, as many as a pass takes, and draws a token for each. Returns the
// first slot that it leaves; a prompt that no pass takes is passed over.
std::size_t Decoder::Prefill(Context& ctx, Work& work, Team& team, std::size_t first) {
  const auto request_of = [&](std::size_t slot) -> const Request& { return work.requests[team.active[slot].request]; };
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<int> lengths;
  std::vector<std::size_t> ends;  // of the slots that share each prompt
  std::size_t end = first, copies = 0;
  for (std::int64_t fed = 0; end < team.active.size(); ends.push_back(end)) {
    const std::size_t begin = end;
    const std::vector<std::int32_t>& prompt = request_of(begin).prompt;
    fed += static_cast<std::int64_t>(prompt.size());
    if (fed > prompt_rows_) break;
    while (end < team.active.size() && end - begin < kMostCopies && request_of(end).prompt == prompt) ++end;
    copies = std::max(copies, end - begin);
    prompts.push_back(prompt);
    lengths.push_back(static_cast<int>(prompt.size()));
  }
  if (prompts.empty()) return first + 1;

  const StepScope scope(ctx);
  Batch fed = PackDocuments(ctx.HostArena(), prompts, lengths);
  const std::int64_t N = fed.ids.dim(0);
  fed.slots = ctx.HostArena().New(DType::kI32, {static_cast<std::int64_t>(copies), N});
  std::fill_n(fed.slots.data<std::int32_t>(), fed.slots.size(), -1);
  StepRows& rows = team.rows[team.turn];
  rows.Clear();
  std::size_t at = first;
  for (std::size_t d = 0; d < prompts.size(); ++d) {
    const std::int32_t row = fed.documents.data<std::int32_t>()[d];
    for (std::int32_t* slots = fed.slots.data<std::int32_t>() + row; at < ends[d]; ++at, slots += N) {
      DecodedSlot& slot = team.active[at];
      slot.fed = lengths[d];
      std::fill_n(slots, lengths[d], slot.cache_slot);
      rows.AddDraw(request_of(at), slot.request, row + lengths[d] - 1, lengths[d]);
    }
  }
  const Drawn drawn = DecodeStep(ctx, model_, cache_, StepOf(fed, rows));
  Wait(ctx);
  Keep(work, rows, drawn);
  return end;
}

// A token that is still to be drawn stands for itself (DeviceSteps::Begin). What comes after it can't be known, but for
// whether it is the last.
void Decoder::FillRows(const Work& work, Team& team, StepRows& rows) const {
  rows.Clear();
  for (DecodedSlot& slot : team.active) {
    const Request& request = work.requests[slot.request];
    const Completion& completion = work.completions[slot.request];
    const auto prompt = static_cast<std::int32_t>(request.prompt.size());
    const auto drawn = static_cast<std::int32_t>(completion.tokens.size()), known = drawn + (slot.ahead ? 1 : 0);
    if (known == request.max_new_tokens) continue;
    const std::int32_t end = std::min(prompt + known, slot.fed + max_chunk_);
    for (; slot.fed < end; ++slot.fed) {
      const auto at = static_cast<std::size_t>(slot.fed);
      rows.ids.push_back(slot.fed < prompt           ? request.prompt[at]
                         : slot.fed < prompt + drawn ? completion.tokens[at - request.prompt.size()]
                                                     : -1 - *slot.ahead);
      rows.positions.push_back(slot.fed);
      rows.slots.push_back(slot.cache_slot);
      rows.prompts.push_back(prompt);
    }
    slot.ahead.reset();
    if (slot.fed == prompt + known) {
      if (device_steps_) slot.ahead = static_cast<std::int32_t>(rows.drawing.size());
      rows.AddDraw(request, slot.request, static_cast<std::int32_t>(rows.ids.size()) - 1, slot.fed);
    }
  }
}

StepBatch Decoder::StepOf(const Batch& fed, StepRows& rows) {
  return {.fed = fed,
          .draw_rows = View(rows.draw_rows),
          .draw_positions = View(rows.draw_positions),
          .draws = rows.draws.data()};
}

// One forward pass: the next chunk of the prompt, or the token drawn last, of every active slot; then a draw for each
// slot whose tokens have all been fed.
void Decoder::Step(Context& ctx, Work& work, Team& team) {
  StepRows& rows = team.rows[team.turn];
  FillRows(work, team, rows);
  ArenaScope scope(*ctx.arena);
  const StepBatch step = StepOf({.ids = View(rows.ids),
                                 .positions = View(rows.positions),
                                 .documents = {},
                                 .slots = View(rows.slots),
                                 .prompts = View(rows.prompts)},
                                rows);
  if (device_steps_) return StepOnDevice(ctx, work, team, step);
  Keep(work, rows, DecodeStep(ctx, model_, cache_, step));
}

// The device works on this step while the processor looks at what the one before has drawn. A text may have ended by
// then, and what this step draws for it is passed over.
void Decoder::StepOnDevice(const Context& ctx, Work& work, Team& team, const StepBatch& step) {
  const bool before = !device_steps_->AllEnded();
  if (!team.rows[team.turn].ids.empty()) device_steps_->Begin(ctx, model_, cache_, step);
  team.turn = 1 - team.turn;
  if (before) Keep(work, team.rows[team.turn], device_steps_->End());
}

// What a step has drawn.
void Decoder::Keep(Work& work, const StepRows& rows, const Drawn& drawn) const {
  for (std::size_t m = 0; m < rows.drawing.size(); ++m) {
    Completion& completion = work.completions[rows.drawing[m]];
    if (completion.finished) continue;
    const std::int32_t token = drawn.tokens.data<std::int32_t>()[m];
    completion.tokens.push_back(token);
    DispatchSum(drawn.logp.dtype(),
                [&]<class T>() { completion.logp.push_back(static_cast<double>(drawn.logp.data<T>()[m])); });
    completion.finished = model_.config().Stops(token);
    if (work.on_token) {
      const std::lock_guard lock(work.one_call);
      work.on_token(rows.drawing[m], token);
    }
  }
}

}  // namespace swarr
