// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>

#include "tensor/memory_report.h"

namespace swarr {

namespace {

// The sequences that a thread should have before it decodes alone. Each thread then reads all weights, which pays only
// if they are multiplied with several rows.
constexpr std::size_t kTeamSlots = 8;

}  // namespace

// A slot that works on a request: `fed` of its tokens (prompt, then completion) have been through the model.
struct Decoder::Slot {
  std::size_t request;
  std::int32_t cache_slot;
  std::int32_t fed = 0;
};

// The work of one call of Generate. Teams take requests in their order; each completion is written by one team.
struct Decoder::Work {
  std::span<const Request> requests;
  const std::function<void(std::size_t, std::int32_t)>& on_token;
  std::vector<Completion> completions;
  std::atomic<std::size_t> next = 0;
  std::mutex one_call{};  // held while on_token runs

  // The next request that wants tokens; requests.size() if there is none.
  std::size_t Take() {
    std::size_t i = next++;
    while (i < requests.size() && requests[i].max_new_tokens <= 0) i = next++;
    return std::min(i, requests.size());
  }
};

Decoder::Decoder(const Transformer& model, int slots, int max_length, int max_chunk)
    : model_(model),
      slots_(slots),
      max_length_(max_length),
      max_chunk_(max_chunk),
      cache_(model.config(), model.dtype(), slots, max_length, max_chunk, model.parameters().kind()) {
  if (model.parameters().kind() == MemoryKind::kDevice) {
    device_steps_ = std::make_unique<DeviceSteps>(slots * max_chunk);
  }
  SWARR_CHECK(max_length <= model.config().max_positions, "sequences of ", max_length,
              " tokens don't fit the model's context of ", model.config().max_positions,
              " (max_position_embeddings); shorten the prompt or ask for fewer new tokens");
}

Decoder::~Decoder() = default;

std::vector<Completion> Decoder::Generate(Context& caller, std::span<const Request> requests,
                                          const std::function<void(std::size_t, std::int32_t)>& on_token) {
  for (const Request& r : requests) {
    SWARR_CHECK(!r.prompt.empty(), "an empty prompt can't be continued; give at least one token");
    SWARR_CHECK(static_cast<std::int64_t>(r.prompt.size()) + r.max_new_tokens <= max_length_, "a prompt of ",
                r.prompt.size(), " tokens with ", r.max_new_tokens, " new ones is longer than the ", max_length_,
                " tokens planned for a sequence");
  }
  if (!device_steps_) model_.PackWeights(caller, packed_);
  Context ctx = caller;
  ctx.packed = &packed_;
  Work work{.requests = requests, .on_token = on_token, .completions = std::vector<Completion>(requests.size())};

  const std::size_t used = std::min(static_cast<std::size_t>(slots_), requests.size());
  const std::size_t threads = device_steps_ ? 1 : static_cast<std::size_t>(ctx.threads);
  const std::size_t count = std::clamp<std::size_t>(used / kTeamSlots, 1, threads);
  if (teams_.size() < count) teams_.resize(count);
  for (std::size_t t = 0; t < count; ++t) {
    teams_[t].free.clear();
    for (std::size_t s = (t + 1) * used / count; s > t * used / count; --s) {
      teams_[t].free.push_back(static_cast<std::int32_t>(s - 1));
    }
  }
  if (count == 1) {
    Run(ctx, work, teams_[0]);
  } else {
    RunTeams(ctx, work, std::span(teams_).first(count));
  }
  if (caller.memory) NoteMemory(*caller.memory);
  return std::move(work.completions);
}

// Each team in a thread of its own, with an equal share of the threads there are.
void Decoder::RunTeams(const Context& caller, Work& work, std::span<Team> teams) {
  std::vector<std::future<void>> running;
  for (Team& team : teams) {
    Context ctx = caller;
    team.arena.Reset();
    ctx.arena = &team.arena;
    ctx.memory = nullptr;  // several threads must not write to it
    ctx.threads = caller.threads / static_cast<int>(teams.size());
    running.push_back(std::async(std::launch::async, [this, ctx, &work, &team]() mutable { Run(ctx, work, team); }));
  }
  for (auto& team : running) team.wait();
  for (auto& team : running) team.get();  // throws what the team threw
}

void Decoder::Run(Context& ctx, Work& work, Team& team) {
  team.active.clear();
  while (true) {
    while (!team.free.empty()) {
      const std::size_t request = work.Take();
      if (request == work.requests.size()) break;
      team.active.push_back({request, team.free.back()});
      team.free.pop_back();
    }
    if (team.active.empty()) return;
    Step(ctx, work, team);
    std::erase_if(team.active, [&](const Slot& s) {
      const Completion& c = work.completions[s.request];
      const bool done = c.finished || static_cast<int>(c.tokens.size()) == work.requests[s.request].max_new_tokens;
      if (done) team.free.push_back(s.cache_slot);
      return done;
    });
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

void Decoder::FillRows(const Work& work, Team& team) {
  StepRows& rows = team.rows;
  rows.Clear();
  for (Slot& slot : team.active) {
    const Request& request = work.requests[slot.request];
    const Completion& completion = work.completions[slot.request];
    const auto prompt = static_cast<std::int32_t>(request.prompt.size());
    const auto known = prompt + static_cast<std::int32_t>(completion.tokens.size());
    const std::int32_t end = std::min(known, slot.fed + max_chunk_);
    for (; slot.fed < end; ++slot.fed) {
      const auto at = static_cast<std::size_t>(slot.fed);
      rows.ids.push_back(slot.fed < prompt ? request.prompt[at] : completion.tokens[at - request.prompt.size()]);
      rows.positions.push_back(slot.fed);
      rows.slots.push_back(slot.cache_slot);
      rows.prompts.push_back(prompt);
    }
    if (slot.fed < known) continue;
    rows.drawing.push_back(slot.request);
    rows.draw_rows.push_back(static_cast<std::int32_t>(rows.ids.size()) - 1);
    rows.draw_positions.push_back(known);
    rows.draws.push_back({request.key, request.temperature});
  }
}

// One forward pass: the next chunk of the prompt, or the token drawn last, of every active slot; then a draw for each
// slot whose tokens have all been fed.
void Decoder::Step(Context& ctx, Work& work, Team& team) {
  FillRows(work, team);
  StepRows& rows = team.rows;
  ArenaScope scope(*ctx.arena);
  const auto view = [](std::vector<std::int32_t>& v) {
    return Tensor(v.data(), DType::kI32, {static_cast<std::int64_t>(v.size())});
  };
  const StepBatch step{.fed = {.ids = view(rows.ids),
                               .positions = view(rows.positions),
                               .documents = {},
                               .slots = view(rows.slots),
                               .prompts = view(rows.prompts)},
                       .draw_rows = view(rows.draw_rows),
                       .draw_positions = view(rows.draw_positions),
                       .draws = rows.draws.data()};
  const auto [tokens, logp] =
      device_steps_ ? device_steps_->Run(ctx, model_, cache_, step) : DecodeStep(ctx, model_, cache_, step);
  for (std::size_t m = 0; m < rows.drawing.size(); ++m) {
    Completion& completion = work.completions[rows.drawing[m]];
    const std::int32_t token = tokens.data<std::int32_t>()[m];
    completion.tokens.push_back(token);
    DispatchSum(logp.dtype(),
                [&, &logp = logp]<class T>() { completion.logp.push_back(static_cast<double>(logp.data<T>()[m])); });
    completion.finished = model_.config().Stops(token);
    if (work.on_token) {
      const std::lock_guard lock(work.one_call);
      work.on_token(rows.drawing[m], token);
    }
  }
}

}  // namespace swarr
