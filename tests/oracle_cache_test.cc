// SPDX-License-Identifier: Apache-2.0
// The oracle on caches: right ones pass, and those that leave old keys behind are named.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "oracle_candidates.h"
#include "plain_decoder.h"
#include "tensor/ops.h"
#include "tensors.h"

using namespace swarr;
using namespace swarr::oracle;

namespace {

// --- attention by its plain definition, with any rule of what is read from the slots ---

// Where a query or a key stands.
struct Standing {
  int position, document;
};

struct Reader {
  const Case& c;

  AttentionSpec spec() const { return {c.Integer("window"), c.Integer("sinks")}; }
  Standing Of(const std::string& which, int row) const {
    return {static_cast<int>(c.inputs.at(which + "_position")(row)),
            static_cast<int>(c.inputs.at(which + "_document")(row))};
  }
  bool Sees(int n, int j) const {
    const Standing q = Of("q", n), k = Of("k", j);
    return q.document == k.document && Visible(q.position, k.position, spec());
  }
  // Whether any query of the case is the key's document's, and at its position or behind it.
  bool IsAsked(int j, bool behind) const {
    const Standing k = Of("k", j);
    const auto queries = static_cast<int>(c.inputs.at("q_position").size());
    for (int n = 0; n < queries; ++n) {
      const Standing q = Of("q", n);
      if (q.document == k.document && q.position >= (behind ? k.position : 0)) return true;
    }
    return false;
  }
};

using Reads = bool (*)(const Reader& r, int n, int j);

Candidate AttentionReading(const Suite& suite, Reads reads, const Precision& precision) {
  Candidate candidate;
  for (const Case& c : suite.families.front().cases) {
    Values all = c.inputs;
    for (const auto& [name, like] : {std::pair{"out", "q"}, {"dq", "q"}, {"dk", "k"}, {"dv", "v"}}) {
      all[name] = Zeros(all.at(like).shape);
    }
    all["lse"] = Zeros({all.at("q").dim(0), all.at("q").dim(1)});
    const bool learned = all.contains("sink_logits");
    if (learned) all["dsink_logits"] = Zeros(all.at("sink_logits").shape);
    const auto array = [&](const std::string& name) {
      Value& value = all.at(name);
      std::array<int, 3> shape = {1, 1, 1};
      for (std::size_t i = 0; i < value.shape.size(); ++i) shape.at(i) = static_cast<int>(value.shape[i]);
      return plain::Array(value.data.data(), shape);
    };
    const plain::AttentionInputs in{array("q"), array("k"), array("v"), [&](int n, int j) { return reads({c}, n, j); },
                                    learned ? array("sink_logits") : plain::Array()};
    plain::AttentionForward(array("out"), array("lse"), in);
    plain::AttentionBackward({array("dq"), array("dk"), array("dv"), learned ? array("dsink_logits") : plain::Array()},
                             array("d_out"), array("out"), array("lse"), in);
    for (const TensorInfo& output : suite.families.front().outputs) {
      if (!all.contains(output.name)) continue;
      Value& value = all.at(output.name);
      for (double& x : value.data) x = RoundedTo(precision, x);
      candidate[c.name + "." + output.name] = {value, std::string(precision.stored)};
    }
  }
  return candidate;
}

// --- tokens through caches, call by call ---

using LogitsOfCall = std::function<Value(const std::vector<std::int32_t>& tokens, int begin)>;

// All logits of a case.
Value FedCallByCall(const Case& c, const LogitsOfCall& logits) {
  const Value &call = c.inputs.at("call"), &position = c.inputs.at("position"), &token = c.inputs.at("tokens");
  Value all = Zeros({call.size(), c.Integer("vocab_size")});
  for (std::int64_t n = 0, end = 0; n < call.size(); n = end) {
    std::vector<std::int32_t> tokens;
    for (; end < call.size() && call(end) == call(n); ++end) tokens.push_back(static_cast<std::int32_t>(token(end)));
    std::ranges::copy(logits(tokens, static_cast<int>(position(n))).data, all.Row(n).begin());
  }
  return all;
}

// The product's.

Candidate DecodedWith(const Suite& suite, DType dtype) {
  Candidate candidate;
  for (const Case& c : suite.families.front().cases) {
    TestContext test;
    Context& ctx = test.ctx;
    const ModelConfig config = ConfigOf(c);
    const auto model = ModelWith(config, c.inputs, false, dtype);
    const KvCache cache(config, dtype, 1, config.max_positions, c.Integer("longest_call"));
    const auto logits = [&](const std::vector<std::int32_t>& tokens, int begin) {
      std::vector<std::int32_t> positions = Counting(std::ssize(tokens));
      for (std::int32_t& position : positions) position += begin;
      const Batch batch{.ids = Ints(test.arena, tokens),
                        .positions = Ints(test.arena, positions),
                        .documents = {},
                        .slots = Ints(test.arena, std::vector<std::int32_t>(tokens.size(), 0))};
      const Tensor z = test.arena.New(AccumulatorOf(dtype), {std::ssize(tokens), config.vocab});
      LinearForward(ctx, z, model->Forward(ctx, batch, cache).value, model->head().value, {});
      return CandidateOf(z, PrecisionNamed(Name(dtype))).value;
    };
    candidate[c.name + ".logits"] = {FedCallByCall(c, logits), std::string(PrecisionNamed(Name(dtype)).stored)};
  }
  return candidate;
}

// How a cache of slots knows what is in them.
enum class Reading : std::uint8_t {
  kLabels,        // each slot has the text and the position of its key
  kCounter,       // the position of the next token says which slots are in use
  kWritten,       // slots that were ever written are in use
  kChunkWritten,  // by labels, after all keys of a call that goes on are written
};

// A slot of its own for each sink and for all positions of full attention, and a ring of W slots in a window.
class SlotDecoder : public PlainDecoder {
 public:
  SlotDecoder(const ModelConfig& config, const Values& weights, Reading reading)
      : PlainDecoder(config, weights, {}), reading_(reading), layers_(config.attention.size()) {}

 private:
  struct Slot {
    bool written = false;
    int text = 0, position = 0;
    std::vector<double> k, v;
  };
  using Slots = std::vector<Slot>;

  static std::size_t Place(const AttentionSpec& spec, int position) {
    const bool in_ring = spec.window > 0 && position >= spec.sinks;
    return static_cast<std::size_t>(in_ring ? spec.sinks + (position - spec.sinks) % spec.window : position);
  }

  void Write(Slots& slots, const AttentionSpec& spec, int t, const Value& keys, const Value& values) const {
    const auto row = [&](const Value& all) { return std::vector(all.Row(t).begin(), all.Row(t).end()); };
    const int position = begin() + t;
    slots.resize(std::max(slots.size(), Place(spec, position) + 1));
    slots[Place(spec, position)] = {true, text_, position, row(keys), row(values)};
  }

  bool Reads(const Slot& slot, std::size_t place, const AttentionSpec& spec, int position) const {
    if (!slot.written) return false;
    switch (reading_) {
      case Reading::kLabels:
      case Reading::kChunkWritten:
        return slot.text == text_ && Visible(position, slot.position, spec);
      case Reading::kCounter:
        return place <= static_cast<std::size_t>(position);
      case Reading::kWritten:
        return true;
    }
    throw Error("no such reading");
  }

  Value Attended(int layer, const Value& q, const Value& keys, const Value& values) override {
    if (layer == 0) text_ += begin() == 0;
    const AttentionSpec spec = config().attention[static_cast<std::size_t>(layer)];
    Slots& slots = layers_[static_cast<std::size_t>(layer)];
    const auto T = static_cast<int>(q.dim(0));
    const bool all_first = reading_ == Reading::kChunkWritten && begin() > 0;
    for (int t = 0; t < T && all_first; ++t) Write(slots, spec, t, keys, values);
    Value out = q;
    for (int t = 0; t < T; ++t) {
      if (!all_first) Write(slots, spec, t, keys, values);
      Value k = {{0, keys.dim(1)}, {}}, v = k, one = {{1, q.dim(1)}, {q.Row(t).begin(), q.Row(t).end()}};
      for (std::size_t place = 0; place < slots.size(); ++place) {
        if (!Reads(slots[place], place, spec, begin() + t)) continue;
        k.data.insert(k.data.end(), slots[place].k.begin(), slots[place].k.end());
        v.data.insert(v.data.end(), slots[place].v.begin(), slots[place].v.end());
        ++k.shape[0], ++v.shape[0];
      }
      std::ranges::copy(AttentionOver(one, k, v, [](int, int) { return true; }).data, out.Row(t).begin());
    }
    return out;
  }

  Reading reading_;
  int text_ = 0;
  std::vector<Slots> layers_;
};

Candidate DecodedInSlots(const Suite& suite, Reading reading, const Precision& precision) {
  Candidate candidate;
  for (const Case& c : suite.families.front().cases) {
    const ModelConfig config = ConfigOf(c);
    SlotDecoder decoder(config, c.inputs, reading);
    Value logits = FedCallByCall(c, [&](const auto& tokens, int begin) { return decoder.Logits(tokens, begin); });
    for (double& x : logits.data) x = RoundedTo(precision, x);
    candidate[c.name + ".logits"] = {logits, std::string(precision.stored)};
  }
  return candidate;
}

// The only explanation, or what is there instead.
std::string NameGiven(Expectations& expectations, const Candidate& candidate, const JudgeOptions& options = {}) {
  const std::vector<Diagnosis> diagnoses = Diagnose(expectations, candidate, Judge(expectations, candidate, options));
  if (diagnoses.size() != 1 || !diagnoses[0].complete()) return "nothing that explains all";
  std::string names;
  for (const Explanation& e : diagnoses[0].explanations) names += (names.empty() ? "" : " or ") + Together(e.mistakes);
  return names;
}

}  // namespace

TEST_CASE("attention by its plain definition passes the oracle in all cases, also of caches with old keys") {
  const Suite suite = AttentionSuite();
  Expectations expectations(suite);
  for (const std::string name : {"f64", "f32", "bf16"}) {
    CAPTURE(name);
    const auto right = [](const Reader& r, int n, int j) { return r.Sees(n, j); };
    const Verdict verdict = Judge(expectations, AttentionReading(suite, right, PrecisionNamed(name)));
    CHECK(verdict.failures() == 0);
  }
}

TEST_CASE("attention that is right but for what it reads from a cache is told what that is") {
  const Suite suite = AttentionSuite();
  Expectations expectations(suite);
  struct Planted {
    const char* name;
    Reads reads;
  };
  const Planted all_planted[] = {
      {"keys of another text in reused slots seen, wherever they stand",
       [](const Reader& r, int n, int j) {
         return r.Sees(n, j) || (r.Of("q", n).position >= 0 && !r.IsAsked(j, false));
       }},
      {"keys of another text in reused slots seen where their positions are in the window",
       [](const Reader& r, int n, int j) {
         const bool fits = Visible(r.Of("q", n).position, r.Of("k", j).position, r.spec());
         return r.Sees(n, j) || (fits && !r.IsAsked(j, false));
       }},
      {"keys of rejected tokens seen after a rollback",
       [](const Reader& r, int n, int j) {
         const Standing q = r.Of("q", n), k = r.Of("k", j);
         return r.Sees(n, j) || (q.position >= 0 && q.document == k.document && !r.IsAsked(j, true));
       }},
      {"no mask where one query asks: every slot of the cache seen",
       [](const Reader& r, int n, int j) { return r.Sees(n, j) || r.c.Integer("queries") == 1; }}};
  for (const auto& [name, reads] : all_planted) {
    CHECK(NameGiven(expectations, AttentionReading(suite, reads, PrecisionNamed("f32"))) == name);
  }
}

TEST_CASE(
    "the product's cache in f64, f32 and bf16 passes the oracle of decoding, with nothing cleared between texts") {
  const Suite suite = DecodeSuite();
  Expectations expectations(suite);
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    CAPTURE(Name(dtype));
    const Verdict verdict = Judge(expectations, DecodedWith(suite, dtype));
    CHECK(verdict.failures() == 0);
    CHECK(verdict.unknown.empty());
    if (dtype != DType::kF64) CHECK(LargestExcess(verdict) > 0.01);
  }
}

TEST_CASE("a ring of W slots passes the oracle of decoding, but for what it has lost where it goes back") {
  const Suite suite = DecodeSuite();
  Expectations expectations(suite);
  for (const std::string name : {"f64", "f32", "bf16"}) {
    CAPTURE(name);
    const Candidate candidate = DecodedInSlots(suite, Reading::kLabels, PrecisionNamed(name));
    const JudgeOptions never_back{.skip = {"rollback*", "prefix*"}};
    CHECK(Judge(expectations, candidate, never_back).failures() == 0);
    CHECK(NameGiven(expectations, candidate) ==
          "a ring of W slots rolled back: keys that rejected tokens overwrote are missing");
  }
}

TEST_CASE("a cache of slots that is careless of what lies in them is told what it reads") {
  const Suite suite = DecodeSuite();
  Expectations expectations(suite);
  for (const std::string dtype : {"f64", "f32", "bf16"}) {
    CAPTURE(dtype);
    const auto name = [&](Reading reading, const JudgeOptions& options) {
      return NameGiven(expectations, DecodedInSlots(suite, reading, PrecisionNamed(dtype)), options);
    };
    CHECK(name(Reading::kCounter, {}) ==
          "a ring of W slots rolled back: rejected tokens seen in place of the keys that they overwrote");
    CHECK(name(Reading::kChunkWritten, {}) ==
          "a ring of W slots into which a chunk is written before it asks: keys that it overwrote are missing");
    CHECK(name(Reading::kWritten, {.skip = {"rollback*", "prefix*"}}) ==
          "a reused cache not cleared: keys of the text before seen");
  }
}
