// SPDX-License-Identifier: Apache-2.0
// Batched generation from a key/value cache of O(window) positions. On the processor prompts are prefilled in chunks
// beside the sequences that already decode, and a finished slot takes the next request at once, so that one long
// sequence does not hold up the rest. On a device, where a pass of few rows takes as long as one of many, some slots
// are refilled together, with whole prompts, and requests that follow one another with one prompt share its pass. What
// a request gets depends on its prompt, key and the weights alone: not on the number of slots, the order of requests or
// the number of threads (P8, P9). That also lets threads decode sequences of their own, in turns and each at its own
// pace, where there are enough of them (decode_turns.h): a step then never waits for another thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/decode_step.h"
#include "model/decode_turns.h"
#include "tensor/packed_weights.h"

namespace swarr {

struct Request {
  std::vector<std::int32_t> prompt;  // at least one token
  int max_new_tokens = 0;
  double temperature = 1.0;  // 0: greedy
  std::uint64_t key = 0;     // of this sample's noise: StreamKey(seed, Purpose::kSample, step, prompt, sample)
};

struct Completion {
  std::vector<std::int32_t> tokens;  // what was drawn, the token that ended the text included if it was drawn
  std::vector<double> logp;          // log p of each token under the model (temperature 1), unrounded
  bool finished = false;  // ended by a token that ends texts (ModelConfig::Stops); false: cut at max_new_tokens
};

// Whether nothing more is to be drawn for the request.
bool IsComplete(const Request& request, const Completion& completion);

// Throws if a token's log-probability is not finite: a row with such a logit has no distribution to draw from.
void CheckFinite(std::span<const Completion> completions);

// Sequences that the processor decodes at a time where nobody says how many.
constexpr int kHostSlots = 128;
// How many to decode at a time: `asked`, or if that is 0 kHostSlots, or on a device as many of the `requests` as a
// share of its free memory holds, since a step of few takes as long as one of many.
int SlotsFor(const Transformer& model, int asked, std::int64_t requests, int max_length);

class Decoder {
 public:
  // For requests of up to max_length tokens (prompt and completion), `slots` at a time. On a device a pass takes
  // prompt_rows tokens of whole prompts; longer prompts, and all on the processor, are fed in chunks.
  Decoder(const Transformer& model, int slots, int max_length, int max_chunk = 16, int prompt_rows = 32'768);
  ~Decoder();

  // The completions, in the order of the requests. `on_token(request, token)`, if given, is called for each token as it
  // is drawn, by the thread that draws it, one call at a time. `stop`, if given, is asked in every step, by several
  // threads; once it has returned true the completions are given as they are (IsComplete). Throws if a prompt is empty
  // or a request is longer than max_length.
  std::vector<Completion> Generate(Context& caller, std::span<const Request> requests,
                                   const std::function<void(std::size_t, std::int32_t)>& on_token = {},
                                   const std::function<bool()>& stop = {});

  void NoteMemory(MemoryReport& report) const;

 private:
  struct Work;
  // What a step feeds and draws, row by row. Teams keep it so that its memory is used again.
  struct StepRows {
    std::vector<std::int32_t> ids, positions, slots, prompts;  // fed; prompts: tokens of the row's prompt
    std::vector<std::int32_t> draw_rows, draw_positions;       // of the rows fed, those after which a token is drawn
    std::vector<SampleRow> draws;
    std::vector<std::size_t> drawing;  // requests
    void Clear();
    void AddDraw(const Request& request, std::size_t index, std::int32_t row, std::int32_t position);
  };
  // Some of the slots, and what decoding with them takes: of a thread, or of all that share out a step's ops.
  struct Team {
    std::vector<std::int32_t> free;  // slots, on a device
    std::vector<DecodedSlot> active;
    // Of the step that is put together, at `turn`, and of the one before: on a device that is on its way meanwhile.
    StepRows rows[2];
    std::size_t turn = 0;
    Arena arena;  // for a team that runs beside others
  };
  static std::vector<DecodedSlot> FirstRequests(Work& work, std::size_t slots);
  std::size_t FewestTaken() const;
  bool Done(const Work& work, const DecodedSlot& slot) const;
  void RunTeams(const Context& caller, Work& work, DecodeTurns& turns, std::span<Team> teams);
  void RunTurns(Context& ctx, Work& work, DecodeTurns& turns, Team& team);
  void RunDevice(Context& ctx, Work& work, Team& team, std::size_t slots);
  void TakeRequests(Work& work, Team& team) const;
  std::size_t Prefill(Context& ctx, Work& work, Team& team, std::size_t first);
  void Step(Context& ctx, Work& work, Team& team);
  void StepOnDevice(const Context& ctx, Work& work, Team& team, const StepBatch& step);
  void FillRows(const Work& work, Team& team, StepRows& rows) const;
  static StepBatch StepOf(const Batch& fed, StepRows& rows);
  void Keep(Work& work, const StepRows& rows, const Drawn& drawn) const;

  const Transformer& model_;
  int slots_, max_length_, max_chunk_, prompt_rows_;
  KvCache cache_;
  PackedWeights packed_;  // of the model as it was when Generate began
  std::vector<Team> teams_;
  std::unique_ptr<DeviceSteps> device_steps_;  // null on the processor
};

}  // namespace swarr
