// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <optional>

#include "tensor/memory_report.h"
#include "tensor/transfer.h"

namespace swarr {

namespace {

// The sequences that a thread should have before it decodes alone. Each thread then reads all weights, which pays only
// if they are multiplied with several rows.
constexpr std::size_t kTeamSlots = 8;

// What a step feeds, and after which of its rows a token is drawn. In the processor's memory.
struct StepBatch {
  Batch fed;
  Tensor draw_rows, draw_positions;  // [M] i32: the row, and the position of the token drawn after it
  const SampleRow* draws;            // [M]
};

// Tokens and their log-probabilities [M], in the processor's memory, to be read after Wait. Empty if nothing is drawn.
struct Drawn {
  Tensor tokens, logp;
};

// A forward pass over the next tokens of some slots, and draws.
Drawn DecodeStep(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
  const Var hidden = model.Forward(ctx, step.fed, cache);
  const std::int64_t M = step.draw_rows.dim(0);
  if (M == 0) return {};
  const Tensor last = ctx.arena->New(model.dtype(), {M, model.config().hidden});
  GatherRows(ctx, last, hidden.value, ToDevice(ctx, step.draw_rows));
  const Tensor tokens = ctx.arena->New(DType::kI32, {M});
  const Tensor logp = ctx.arena->New(AccumulatorOf(model.dtype()), {M});
  SampleForward(ctx, tokens, logp, last, model.head().value, ToDevice(ctx, step.draw_positions), step.draws);
  return {ToHost(ctx, tokens), ToHost(ctx, logp)};
}

// With more rows a step keeps the device busy without a graph, and drawing after all of them would cost much for
// nothing.
constexpr std::int64_t kMostGraphRows = 256;

// How many rows the graph for a step of `rows` has: at most an eighth of the next power of two more, so that few graphs
// serve all steps.
constexpr std::int64_t GraphRows(std::int64_t rows) {
  std::int64_t step = 1;
  while (8 * step < rows) step *= 2;
  return (rows + step - 1) / step * step;
}
static_assert(GraphRows(1) == 1 && GraphRows(8) == 8 && GraphRows(9) == 10 && GraphRows(65) == 80);

// Copies `from`, and then its last row until `to` is full.
void FillUp(const Tensor& to, const Tensor& from) {
  Copy(to.Rows(0, from.dim(0)), from);
  for (std::int64_t n = from.dim(0); n < to.dim(0); ++n) Copy(to.Rows(n, n + 1), to.Rows(n - 1, n));
}

// The draws as a tensor, for copying.
Tensor AsTensor(const SampleRow* draws, std::int64_t count) {
  return {const_cast<SampleRow*>(draws), DType::kI32, {count, sizeof(SampleRow) / sizeof(std::int32_t)}};
}

}  // namespace

// DecodeStep on a CUDA device, waited for; steps with few rows, as most have, run as graphs (tensor/device.h). Each
// step lies in the same memory as the steps before, and its rows in pinned memory, so what a graph has recorded holds
// for later steps with as many rows. A graph draws after every row. A step with fewer rows or draws is filled up with
// copies of its last one: they store the same keys once more, which changes nothing because a row depends on itself
// alone (P8), and their draws are ignored. The first step of a size runs without a graph and gets the memory.
class Decoder::DeviceSteps {
 public:
  // For steps of up to max_rows rows.
  explicit DeviceSteps(std::int64_t max_rows) {
    const std::int64_t most = std::max(max_rows, GraphRows(std::min(max_rows, kMostGraphRows)));
    for (OwnedTensor* t : {&ids_, &positions_, &slots_, &draw_rows_, &draw_positions_}) {
      *t = OwnedTensor(DType::kI32, {most}, MemoryKind::kPinned);
    }
    draws_ = OwnedTensor(AsTensor(nullptr, most), MemoryKind::kPinned);
  }

  std::size_t bytes() const { return arena_.high_water_bytes(); }

  // The result holds until the next step. `model` and `cache` must be the same at each call.
  Drawn Run(const Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step) {
    Context own = ctx;
    own.arena = &arena_;
    own.host = &host_;
    arena_.Release({});
    host_.Release({});
    const std::int64_t fed = step.fed.ids.dim(0), draws = step.draw_rows.dim(0);
    const bool plain = draws == 0 || fed > kMostGraphRows;
    const Drawn drawn = plain ? DecodeStep(own, model, cache, Fill(step, fed, draws))
                              : RunRecorded(own, model, cache, step, GraphRows(fed));
    Wait(ctx);
    if (plain) return drawn;
    return {drawn.tokens.Rows(0, draws), drawn.logp.Rows(0, draws)};
  }

 private:
  // What steps of one size share.
  struct Recorded {
    std::optional<CudaGraph> graph;  // from the second step on
    Drawn drawn;                     // where the graph leaves its results
  };

  // The step in pinned memory, filled up to so many rows and draws. The step before no longer reads it, since Run
  // waits.
  StepBatch Fill(const StepBatch& step, std::int64_t rows, std::int64_t draws) {
    const auto fill = [](const OwnedTensor& to, const Tensor& from, std::int64_t count) {
      const Tensor part = to.view().Rows(0, count);
      if (count > 0) FillUp(part, from);
      return part;
    };
    const Tensor how = fill(draws_, AsTensor(step.draws, step.draw_rows.dim(0)), draws);
    return {.fed = {.ids = fill(ids_, step.fed.ids, rows),
                    .positions = fill(positions_, step.fed.positions, rows),
                    .documents = {},
                    .slots = fill(slots_, step.fed.slots, rows)},
            .draw_rows = fill(draw_rows_, step.draw_rows, draws),
            .draw_positions = fill(draw_positions_, step.draw_positions, draws),
            .draws = static_cast<const SampleRow*>(how.raw())};
  }

  // Runs the step as a graph of so many rows: plainly the first time, recorded the second, then only launched.
  Drawn RunRecorded(Context& ctx, const Transformer& model, const KvCache& cache, const StepBatch& step,
                    std::int64_t rows) {
    if (attention_ != model.config().attention || gemm_ != ctx.gemm) {  // graphs hold both fixed
      recorded_.clear();
      attention_ = model.config().attention;
      gemm_ = ctx.gemm;
    }
    const StepBatch filled = Fill(step, rows, rows);
    const auto place = recorded_.find(rows);
    if (place == recorded_.end()) {
      const Drawn drawn = DecodeStep(ctx, model, cache, filled);
      return recorded_[rows].drawn = drawn;
    }
    Recorded& recorded = place->second;
    if (!recorded.graph) {
      recorded.graph.emplace(*ctx.stream, [&] { recorded.drawn = DecodeStep(ctx, model, cache, filled); });
    }
    model.Check(step.fed, &cache);
    recorded.graph->Launch(*ctx.stream);
    return recorded.drawn;
  }

  Arena arena_{MemoryKind::kDevice}, host_{MemoryKind::kPinned};
  OwnedTensor ids_, positions_, slots_, draw_rows_, draw_positions_, draws_;  // pinned
  std::map<std::int64_t, Recorded> recorded_;
  std::vector<AttentionSpec> attention_;  // the recorded graphs have computed with these and with gemm_
  GemmKind gemm_ = GemmKind::kOwn;
};

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
    device_steps_ = std::make_unique<DeviceSteps>(std::int64_t{slots} * max_chunk);
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
  for (auto* v : {&ids, &positions, &slots, &draw_rows, &draw_positions}) v->clear();
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
  const StepBatch step{
      .fed = {.ids = view(rows.ids), .positions = view(rows.positions), .documents = {}, .slots = view(rows.slots)},
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
