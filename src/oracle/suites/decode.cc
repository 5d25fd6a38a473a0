// SPDX-License-Identifier: Apache-2.0
// The suite `decode`: tokens fed piece by piece, with rollbacks and a new text where an old one was, to logits.
//
// What a kernel reads from a cache is judged by the suite `attention`, whose cases say what each slot holds. What a
// cache does by itself, where it writes, what it forgets and what it has lost, can't be stated so: every library keeps
// its own. But what a cache is for can: logits are those of the text so far, as if there were no cache. So a case is
// nothing but a sequence of calls, and any cache can be driven through it.
#include <algorithm>
#include <limits>

#include "oracle/suites/masked_decoder.h"
#include "oracle/suites/small_models.h"

namespace swarr::oracle {
namespace decode_suite {

using Tokens = std::vector<std::int32_t>;

// --- what is fed ---

struct Call {
  std::int64_t first, end;  // rows
  std::int32_t begin;       // position of the first
};

std::vector<Call> CallsOf(const Values& inputs) {
  const Value &call = inputs.at("call"), &position = inputs.at("position");
  std::vector<Call> calls;
  for (std::int64_t n = 0; n < call.size(); ++n) {
    if (n == 0 || call(n) != call(n - 1)) calls.push_back({n, n, static_cast<std::int32_t>(position(n))});
    ++calls.back().end;
  }
  return calls;
}

Tokens TokensOf(const Values& inputs) {
  Tokens tokens;
  for (const double id : inputs.at("tokens").data) tokens.push_back(static_cast<std::int32_t>(id));
  return tokens;
}

// --- the truth: the model over the whole text at every call ---

Value WithoutCache(const Context& ctx, const Transformer& model, const Values& inputs) {
  const Tokens tokens = TokensOf(inputs);
  Value logits = Zeros({std::ssize(tokens), model.config().vocab});
  Tokens text;
  for (const Call& call : CallsOf(inputs)) {
    text.resize(static_cast<std::size_t>(call.begin));
    text.insert(text.end(), tokens.begin() + call.first, tokens.begin() + call.end);
    const Value all = LogitsOf(ctx, model, text);
    for (std::int64_t n = call.first; n < call.end; ++n) {
      std::ranges::copy(all.Row(call.begin + n - call.first), logits.Row(n).begin());
    }
  }
  return logits;
}

// --- mistakes: what a row sees of all that was fed before ---

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

struct Row {
  std::int32_t position;
  int text;
  Call call;
  std::int64_t forgotten = kNever;  // the row before which a rollback took it away

  bool StartsText() const { return call.begin == 0; }
  bool IsAlone() const { return call.end - call.first == 1; }
};

struct CacheRule : ModelRule {
  bool keeps_rejected = false;  // a rollback takes nothing away: the text goes on behind what was rejected
  // Whether row n sees the key of row j <= n.
  bool (*sees)(const CacheRule& r, const AttentionSpec& spec, std::int64_t n,
               std::int64_t j) = [](auto& r, auto& spec, auto n, auto j) { return r.Sees(spec, n, j); };
  std::vector<Row> rows = {};

  const Row& At(std::int64_t n) const { return rows[static_cast<std::size_t>(n)]; }

  bool SameText(std::int64_t n, std::int64_t j) const { return At(n).text == At(j).text; }
  // Row j was taken away before row n came.
  bool Rejected(std::int64_t n, std::int64_t j) const { return SameText(n, j) && At(j).forgotten <= n; }
  bool InText(std::int64_t n, std::int64_t j) const { return SameText(n, j) && !Rejected(n, j); }
  // Right.
  bool Sees(const AttentionSpec& spec, std::int64_t n, std::int64_t j) const {
    return InText(n, j) && Visible(At(n).position, At(j).position, spec);
  }

  // Where a cache of the least size keeps the key of a position: in slots of their own without a window and for sinks,
  // else in a ring of W slots. A slot has the number of the first position that goes there.
  static std::int32_t SlotOf(const AttentionSpec& spec, std::int32_t position) {
    const bool in_ring = spec.window > 0 && position >= spec.sinks;
    return in_ring ? spec.sinks + (position - spec.sinks) % spec.window : position;
  }
  // A row after j and before `end` has taken its slot.
  bool Overwritten(const AttentionSpec& spec, std::int64_t j, std::int64_t end) const {
    for (std::int64_t m = j + 1; m < end; ++m) {
      if (SlotOf(spec, At(m).position) == SlotOf(spec, At(j).position)) return true;
    }
    return false;
  }

  // Takes what the calls make of the text. Must come after the mistakes.
  void Feed() {
    std::int32_t length = 0;
    int text = 0;
    for (Call call : CallsOf(inputs)) {
      text += call.begin == 0;
      if (keeps_rejected && call.begin > 0) call.begin = length;
      for (Row& row : rows) {
        const bool rejected = call.begin > 0 && row.text == text && row.position >= call.begin;
        if (rejected) row.forgotten = std::min(row.forgotten, call.first);
      }
      length = call.begin;
      for (std::int64_t n = call.first; n < call.end; ++n) rows.push_back({length++, text, call});
    }
  }
};

bool WithEarlierTexts(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  return r.Sees(spec, n, j) || (!r.SameText(n, j) && !r.Overwritten(spec, j, n + 1));
}

bool WithRejected(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  return r.Sees(spec, n, j) || (r.Rejected(n, j) && !r.Overwritten({}, j, n + 1));
}

// Keys in the order in which they were written, which a rollback does not undo: the window is the last W of them.
bool LastWritten(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  const bool sink = r.At(j).position < spec.sinks && r.Sees(spec, n, j);
  return r.SameText(n, j) && (spec.window == 0 || n - j < spec.window || sink);
}

// A buffer of W keys into which a key goes behind those that are there, and out of which the oldest goes when it is
// full. A rollback sets the number of those that are there back, and nothing else.
bool InRollingBuffer(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  if (spec.window == 0 || r.At(j).position < spec.sinks) return r.Sees(spec, n, j);
  std::vector<std::int64_t> buffer;
  for (std::int64_t m = 0; m <= n; ++m) {
    const int before = r.At(m).position - spec.sinks;
    if (!r.SameText(n, m) || before < 0) continue;
    if (before >= spec.window) buffer.erase(buffer.begin());
    buffer.resize(static_cast<std::size_t>(std::min(before, spec.window - 1)));
    buffer.push_back(m);
  }
  return std::ranges::count(buffer, j) > 0;
}

// In a ring of W slots rejected tokens have taken the slots of keys that are in the window again. Three things can be
// made of that: these keys are missing, ...
bool WithoutOverwritten(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  return r.Sees(spec, n, j) && !r.Overwritten(spec, j, n + 1);
}

// ... the counters go back and what lies in a slot that is in use is taken for what lay there, ...
bool WithRejectedForOverwritten(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  const bool in_ring = spec.window > 0 && r.At(j).position >= spec.sinks;
  const bool in_use = CacheRule::SlotOf(spec, r.At(j).position) <= r.At(n).position;
  return WithoutOverwritten(r, spec, n, j) || (in_ring && in_use && r.Rejected(n, j) && !r.Overwritten(spec, j, n + 1));
}

// ... or a chunk that is written before its first query asks has the same effect. A call that starts a text asks its
// own keys.
bool WithoutOverwrittenByChunk(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  return r.Sees(spec, n, j) && !r.Overwritten(spec, j, r.At(n).StartsText() ? n + 1 : r.At(n).call.end);
}

// A ring with W - 1 slots in use: when it is full, the oldest key goes one step early.
bool InShortRing(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  const std::int32_t q = r.At(n).position, k = r.At(j).position;
  const bool full = !r.At(n).StartsText() && spec.window > 0 && q >= spec.window;
  return r.Sees(spec, n, j) && (!full || q - k < spec.window - 1 || k < spec.sinks);
}

// W - 1 keys are read from a full ring, from the slot before the right one on.
bool OneSlotEarly(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  const std::int32_t q = r.At(n).position, k = r.At(j).position;
  const bool full = r.At(n).IsAlone() && spec.window > 0 && q >= spec.window;
  if (!full) return r.Sees(spec, n, j);
  return r.InText(n, j) && ((q - k <= spec.window && q - k != 1) || k < spec.sinks);
}

bool WithoutWindowAlone(const CacheRule& r, const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
  return r.At(n).IsAlone() ? r.InText(n, j) : r.Sees(spec, n, j);
}

constexpr Mistake<CacheRule> kMistakes[] = {
    {"a reused cache not cleared: keys of the text before seen", [](CacheRule& r) { r.sees = WithEarlierTexts; }},
    {"keys of rejected tokens seen after a rollback", [](CacheRule& r) { r.sees = WithRejected; }},
    {"no rollback: the text goes on behind the rejected tokens", [](CacheRule& r) { r.keeps_rejected = true; }},
    {"no rollback: rejected tokens stay among the keys, the next ones get the right positions",
     [](CacheRule& r) { r.sees = LastWritten; }},
    {"a rolling buffer of W keys rolled back: rejected tokens stay in it, and older keys are missing",
     [](CacheRule& r) { r.sees = InRollingBuffer; }},
    {"a ring of W slots rolled back: keys that rejected tokens overwrote are missing",
     [](CacheRule& r) { r.sees = WithoutOverwritten; }},
    {"a ring of W slots rolled back: rejected tokens seen in place of the keys that they overwrote",
     [](CacheRule& r) { r.sees = WithRejectedForOverwritten; }},
    {"a ring of W slots into which a chunk is written before it asks: keys that it overwrote are missing",
     [](CacheRule& r) { r.sees = WithoutOverwrittenByChunk; }},
    {"a ring cache that wraps one slot early: W-1 keys once it is full", [](CacheRule& r) { r.sees = InShortRing; }},
    {"a full ring read one slot early: the key before the window seen, the last one before the token not",
     [](CacheRule& r) { r.sees = OneSlotEarly; }},
    {"windows ignored where tokens are fed one by one", [](CacheRule& r) { r.sees = WithoutWindowAlone; }},
};

// The model over all rows that were ever fed, each at its position and seeing what the rule lets it see.
Value FromCache(Context ctx, const Transformer& model, const CacheRule& rule) {
  MaskedRows rows{TokensOf(rule.inputs), {}, {}};
  for (const Row& row : rule.rows) rows.positions.push_back(row.position);
  rows.sees = [&](const AttentionSpec& spec, std::int64_t n, std::int64_t j) {
    return j <= n && rule.sees(rule, spec, n, j);
  };
  return LogitsOf(ctx, model, MaskedForward(ctx, model, rows).value);
}

Values Evaluate(const Context& ctx, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  CacheRule rule{{ConfigOf(c), inputs}};
  rule = WithMistake(WithMistake(rule, AttentionMistakes(), mistake), kMistakes, mistake);
  rule.Feed();
  const auto model = ModelWith(rule.config, rule.inputs, false);
  Value logits = mistake.empty() ? WithoutCache(ctx, *model, inputs) : FromCache(ctx, *model, rule);
  noise.Disturb(logits);
  return {{"logits", logits}};
}

// --- the cases ---

struct Setting {
  struct Feed {
    int begin, count;  // so many tokens from this position on
  };
  const char* name;
  const char* meaning;
  std::vector<AttentionSpec> attention;
  std::vector<Feed> calls;
  int heads = 4, kv_heads = 2;
};

const Setting kSettings[] = {
    {"token_by_token",
     "one token at a time, round a ring",
     {{4, 0}, {4, 0}},
     {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 1}, {9, 1}, {10, 1}}},
    {"prefill", "a prompt at once, then one token at a time", {{4, 0}, {}}, {{0, 7}, {7, 1}, {8, 1}, {9, 1}}, 2, 2},
    {"chunks", "a prompt in chunks that go round a ring", {{4, 0}, {4, 0}}, {{0, 5}, {5, 3}, {8, 3}, {11, 1}}},
    {"chunks_sinks", "the same with sinks", {{5, 2}, {3, 1}}, {{0, 4}, {4, 3}, {7, 3}, {10, 1}, {11, 1}}},
    {"refill_full",
     "a text, then a shorter one in its place, full attention",
     {{}, {}},
     {{0, 6}, {6, 1}, {7, 1}, {0, 2}, {2, 1}, {3, 1}}},
    {"refill_window",
     "a text that has gone round a ring, then another in its place, until it has gone round too",
     {{4, 0}, {4, 0}},
     {{0, 5}, {5, 1}, {6, 1}, {0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}}},
    {"refill_sinks", "the same with sinks", {{3, 2}, {}}, {{0, 7}, {7, 1}, {0, 2}, {2, 2}, {4, 1}, {5, 1}}, 2, 1},
    {"rollback_full",
     "three tokens are tried at once, and all but one or two taken back; full attention",
     {{}, {}},
     {{0, 4}, {4, 3}, {5, 1}, {6, 3}, {8, 1}, {9, 1}}},
    {"rollback_window",
     "the same in a window, before and after the ring has gone round",
     {{4, 0}, {4, 0}},
     {{0, 3}, {3, 3}, {4, 1}, {5, 3}, {6, 1}, {7, 3}, {9, 1}},
     2,
     2},
    {"rollback_sinks", "the same with sinks", {{3, 1}, {5, 2}}, {{0, 6}, {6, 3}, {7, 1}, {8, 3}, {9, 1}, {10, 1}}},
    {"rollback_one_by_one",
     "tokens are tried one at a time and taken back, as a draft model does",
     {{4, 0}, {}},
     {{0, 5}, {5, 1}, {6, 1}, {7, 1}, {6, 1}, {7, 1}, {8, 1}, {7, 2}}},
    {"prefix",
     "the beginning of a text goes on otherwise: back by more than the window",
     {{4, 0}, {}},
     {{0, 9}, {9, 1}, {3, 2}, {5, 1}, {6, 1}}},
    {"prefix_after_rollback",
     "the same after a rollback, which has kept what a window needs and no more",
     {{4, 0}, {4, 0}},
     {{0, 9}, {9, 1}, {8, 1}, {3, 2}, {5, 1}, {6, 1}},
     2,
     2},
    {"prefix_sinks", "the same with sinks", {{3, 0}, {4, 1}}, {{0, 9}, {9, 1}, {3, 2}, {5, 1}, {6, 1}}, 2, 1},
    {"rollback_and_refill",
     "a text with a rollback, then another with one in its place",
     {{}, {4, 1}},
     {{0, 6}, {6, 3}, {7, 1}, {0, 3}, {3, 3}, {4, 1}, {5, 1}}},
};

Case MakeCase(const Setting& s) {
  const ModelConfig config = SmallConfig(s.attention, s.heads, s.kv_heads);
  PhiloxStream random = StreamOf("decode", s.name);
  Case c{s.name, s.meaning, ParametersOf(config), RandomWeights(random, config)};
  std::vector<std::int32_t> positions, calls;
  int texts = 0, longest = 0, back = 0;
  for (const Setting::Feed& feed : s.calls) {
    texts += feed.begin == 0;
    longest = std::max(longest, feed.count);
    if (feed.begin > 0) back = std::max(back, positions.back() + 1 - feed.begin);
    for (int t = 0; t < feed.count; ++t) {
      positions.push_back(feed.begin + t);
      calls.push_back(static_cast<std::int32_t>(&feed - s.calls.data()));
    }
  }
  const auto N = std::ssize(positions);
  c.inputs["tokens"] = RandomIntegers(random, {N}, config.vocab);
  c.inputs["position"] = Integers(positions);
  c.inputs["call"] = Integers(calls);
  c.parameters["calls"] = s.calls.size();
  c.parameters["longest_call"] = longest;
  c.parameters["texts"] = texts;
  c.parameters["longest_rollback"] = back;
  c.longest_sum = std::max<std::int64_t>(N, config.ffn);
  return c;
}

}  // namespace decode_suite

Suite DecodeSuite() {
  using namespace decode_suite;
  Family f{
      .name = "cache",
      .semantics =
          Joined(ModelSemantics(),
                 {"The rows of one `call` are fed at once, calls one after another: tokens at these positions, which "
                  "ascend by one within a call.",
                  "A call that begins at position 0 starts a new text where the last one was. One that begins at p > 0 "
                  "goes on after the first p tokens of the text so far: what stood at p and behind was rejected, and "
                  "is forgotten.",
                  "logits[n] are those after row n: the model's over its text up to there, as if there were no cache. "
                  "How you get them is yours: a cache that can't go back as far as a case asks may be filled anew."}),
      .inputs = Joined(WeightInfos(false), {{"tokens", "[N]", "ids"},
                                            {"position", "[N]", "position of each token in its text, from 0"},
                                            {"call", "[N]", "the call in which each token is fed, from 0"}}),
      .outputs = {{"logits", "[N, V]", "logits after each token"}},
      // As in the suite `model`.
      .roundings = {{"input of a weight", "output of a weight", "output after RoPE, softmax or the residual sum"}, {}},
      .mistakes = NamesOf(AttentionMistakes(), kMistakes),
      .cases = CasesOf(kSettings, MakeCase),
      .evaluate = Evaluate};
  return {"decode", "Tokens through a cache, with rollbacks and texts one after another: logits.", {std::move(f)}};
}

}  // namespace swarr::oracle
