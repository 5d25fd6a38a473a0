// SPDX-License-Identifier: Apache-2.0
#include "model/transformer.h"

#include <algorithm>
#include <numeric>

#include "model/fused.h"
#include "tensor/memory_report.h"
#include "tensor/rope_table.h"
#include "tensor/transfer.h"

namespace swarr {

KvCache::KvCache(const ModelConfig& config, DType dtype, int slots, int max_length, int max_chunk, MemoryKind kind)
    : slots_(slots), max_length_(max_length), max_chunk_(max_chunk) {
  for (const AttentionSpec& spec : config.attention) {
    layers_.emplace_back(dtype, slots, config.kv_heads, config.head_dim, spec, max_length, max_chunk, kind);
  }
}

std::size_t KvCache::bytes() const {
  std::size_t sum = 0;
  for (const KeyCache& layer : layers_) sum += layer.bytes();
  return sum;
}

std::size_t KvBytesPerSequence(const ModelConfig& config, DType dtype, int length) {
  std::size_t sum = 0;
  for (const AttentionSpec& spec : config.attention) {
    sum += KeyCacheBytes(dtype, config.kv_heads, config.head_dim, spec, length, 1);
  }
  return sum;
}

// Whether documents are whole prompts, and a cache has room for them and the slots that they are to be stored in.
static void CheckStored(const Batch& batch, const KvCache& cache) {
  const std::int64_t N = batch.ids.dim(0);
  CheckShape(batch.slots, DType::kI32, {-1, N}, "slots of documents");
  CheckShape(batch.prompts, DType::kI32, {N}, "prompts of documents that are stored");
  CheckPrompts(batch.prompts, batch.documents);
  const std::int32_t *slot = batch.slots.data<std::int32_t>(), *prompt = batch.prompts.data<std::int32_t>();
  for (std::int64_t i = 0; i < batch.slots.size(); ++i) {
    SWARR_CHECK(slot[i] >= -1 && slot[i] < cache.slots(), "slot ", slot[i], " is outside a cache of ", cache.slots());
  }
  const std::int32_t* first = batch.documents.data<std::int32_t>();
  for (std::int64_t d = 0; d + 1 < batch.documents.dim(0); ++d) {
    const std::int32_t length = first[d + 1] - first[d];
    if (length == 0) continue;
    SWARR_CHECK(prompt[first[d]] == length, "document ", d, " of ", length, " tokens has a prompt of ",
                prompt[first[d]], "; only whole prompts are stored");
    SWARR_CHECK(length <= cache.max_length(), "a prompt of ", length, " tokens is longer than the cache's ",
                cache.max_length());
  }
}

Batch ToDevice(const Context& ctx, const Batch& batch) {
  return {.ids = ToDevice(ctx, batch.ids),
          .positions = ToDevice(ctx, batch.positions),
          .documents = ToDevice(ctx, batch.documents),
          .slots = ToDevice(ctx, batch.slots),
          .prompts = ToDevice(ctx, batch.prompts)};
}

Batch PackDocuments(Arena& arena, std::span<const std::vector<std::int32_t>> documents, std::span<const int> prompts) {
  std::int64_t rows = 0;
  for (const auto& d : documents) rows += static_cast<std::int64_t>(d.size());
  const auto ints = [&](std::int64_t n) { return arena.New(DType::kI32, {n}); };
  const Batch batch{.ids = ints(rows),
                    .positions = ints(rows),
                    .documents = ints(static_cast<std::int64_t>(documents.size()) + 1),
                    .slots = {},
                    .prompts = prompts.empty() ? Tensor{} : ints(rows)};
  std::int32_t *id = batch.ids.data<std::int32_t>(), *position = batch.positions.data<std::int32_t>(),
               *first = batch.documents.data<std::int32_t>();
  *first = 0;
  for (const auto& d : documents) {
    id = std::copy(d.begin(), d.end(), id);
    std::iota(position, position + d.size(), 0);
    position += d.size();
    first[1] = *first + static_cast<std::int32_t>(d.size());
    if (!prompts.empty()) {
      const auto d_index = static_cast<std::size_t>(first - batch.documents.data<std::int32_t>());
      std::fill_n(batch.prompts.data<std::int32_t>() + *first, d.size(), prompts[d_index]);
    }
    ++first;
  }
  return batch;
}

Transformer::Transformer(const ModelConfig& config, DType dtype, bool with_gradients, MemoryKind kind)
    : config_(config),
      parameters_(config, dtype, with_gradients, kind),
      embedding_(parameters_["model.embed_tokens.weight"]),
      norm_(parameters_["model.norm.weight"]),
      head_(config.tied ? embedding_ : parameters_["lm_head.weight"]),
      rope_table_(AccumulatorOf(dtype), {config.max_positions, config.head_dim}, kind) {
  const HostView table(rope_table_.view(), kind);
  FillRopeTable(table.view(), config.rope_theta, config.rope_scaling);
  table.WriteBack();
  for (int i = 0; i < config.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const auto get = [&](const char* name, bool present = true) { return present ? parameters_[layer + name] : Var{}; };
    blocks_.push_back({.attention = {.norm = get("input_layernorm.weight"),
                                     .q = get("self_attn.q_proj.weight"),
                                     .k = get("self_attn.k_proj.weight"),
                                     .v = get("self_attn.v_proj.weight"),
                                     .q_bias = get("self_attn.q_proj.bias", config.qkv_bias),
                                     .k_bias = get("self_attn.k_proj.bias", config.qkv_bias),
                                     .v_bias = get("self_attn.v_proj.bias", config.qkv_bias),
                                     .q_norm = get("self_attn.q_norm.weight", config.qk_norm),
                                     .k_norm = get("self_attn.k_norm.weight", config.qk_norm),
                                     .sinks = get("self_attn.sinks", config.learned_sinks),
                                     .o = get("self_attn.o_proj.weight")},
                       .feed_forward = {.norm = get("post_attention_layernorm.weight"),
                                        .gate = get("mlp.gate_proj.weight"),
                                        .up = get("mlp.up_proj.weight"),
                                        .down = get("mlp.down_proj.weight")}});
  }
}

void Transformer::SetAttention(const std::vector<AttentionSpec>& attention) {
  ModelConfig changed = config_;
  changed.attention = attention;
  changed.Validate();
  config_ = changed;
}

void Transformer::SetEndOfText(std::int32_t id) {
  ModelConfig changed = config_;
  if (changed.eos_id >= 0 && changed.eos_id != id) changed.stop_ids.push_back(changed.eos_id);
  changed.eos_id = id;
  changed.Validate();
  config_ = changed;
}

void Transformer::NoteMemory(MemoryReport& report) const {
  parameters_.NoteMemory(report);
  report.Note("rope table", rope_table_.view().bytes());
}

void Transformer::PackWeights(const Context& ctx, PackedWeights& packed, std::int64_t sequences) const {
  std::vector<Tensor> weights = {head_.value};
  for (const auto& [a, f] : blocks_) {
    for (const Var* weight : {&a.q, &a.k, &a.v, &a.o, &f.gate, &f.up, &f.down}) weights.push_back(weight->value);
  }
  packed.PackAll(ctx, weights, sequences);
}

LogprobResult Transformer::Logprob(Context& ctx, const Var& hidden, const Tensor& targets) const {
  CheckIds(targets, config_.vocab, "target id");
  return TokenLogprob(ctx, hidden, head_, ToDevice(ctx, targets));
}

void Transformer::Check(const Batch& batch, const KvCache* cache) const {
  CheckIds(batch.ids, config_.vocab, "token id");
  CheckPositions(batch.positions, config_.max_positions);
  const bool keeps = std::ranges::any_of(config_.attention, &AttentionSpec::prompt);
  SWARR_CHECK(!keeps || !batch.prompts.empty(),
              "this model keeps the prompt of each text visible, and it is not said here how long the prompt is");
  if (!cache || !batch.documents.empty()) {
    CheckDocuments(batch.documents, batch.positions);
    if (keeps) CheckPrompts(batch.prompts, batch.documents);
    if (cache) CheckStored(batch, *cache);
    return;
  }
  CheckSlots(batch.slots, batch.positions, cache->slots());
  const std::int32_t *slot = batch.slots.data<std::int32_t>(), *position = batch.positions.data<std::int32_t>();
  int chunk = 0;  // tokens of the row's slot so far; too many would overwrite keys that are still visible
  for (std::int64_t n = 0; n < batch.ids.dim(0); ++n) {
    const bool same = n > 0 && slot[n] == slot[n - 1];
    // A row may come twice, since DeviceSteps fills its graphs up with copies of a step's last row.
    chunk = same ? chunk + (position[n] != position[n - 1]) : 1;
    SWARR_CHECK(chunk <= cache->max_chunk(), "a chunk of more than the ", cache->max_chunk(),
                " tokens that the cache was made for");
    SWARR_CHECK(position[n] < cache->max_length(), "position ", position[n], " is outside the cache of ",
                cache->max_length(), " tokens");
  }
}

Var Transformer::Run(Context& ctx, const Batch& host, const KvCache* cache, bool checkpoint) const {
  Check(host, cache);
  return RunMoved(ctx, ToDevice(ctx, host), cache, checkpoint);
}

Var Transformer::RunMoved(Context& ctx, const Batch& batch, const KvCache* cache, bool checkpoint) const {
  SWARR_CHECK(parameters_.kind() == MemoryOf(ctx.device()), "the model is not on the device of the computation, ",
              Name(ctx.device()));
  // Whole documents can be long. Without a tape, checkpointing lets them do with one block's memory at a time. A decode
  // step is short.
  const bool checkpointed = checkpoint || (!ctx.tape && !batch.documents.empty());
  Var x = Embedding(ctx, embedding_, batch.ids);
  for (int i = 0; i < config_.layers; ++i) {
    const auto block = [this, i, batch, cache](Context& c, const Var& in) { return Block(c, i, in, batch, cache); };
    try {
      x = checkpointed ? Checkpoint(ctx, x, block) : block(ctx, x);
    } catch (const Error& e) {
      if (!ctx.trace_non_finite) throw;
      throw Error(Concat("layer ", i, ": ", e.what()));
    }
  }
  return RmsNorm(ctx, x, norm_, config_.rms_eps);
}

void Transformer::VisitHeads(Context& ctx, const Batch& batch, const HeadVisitor& visit) const {
  RequireNoTape(ctx, "a visit of attention");
  Check(batch, nullptr);
  const Batch moved = ToDevice(ctx, batch);
  Var x = Embedding(ctx, embedding_, moved.ids);
  for (int i = 0; i < config_.layers; ++i) {
    const AttentionWeights& w = blocks_[static_cast<std::size_t>(i)].attention;
    visit(i, Project(ctx, x.value, w, {moved.positions, rope_table_.view()}, config_.rms_eps).heads, w.sinks.value);
    x = Block(ctx, i, x, moved, nullptr);
  }
}

// y = x + o(attention(norm(x))); returns y + down(silu(gate(m)) * up(m)) with m = norm(y).
Var Transformer::Block(Context& ctx, int layer, const Var& x, const Batch& batch, const KvCache* cache) const {
  const FeedForwardWeights& w = blocks_[static_cast<std::size_t>(layer)].feed_forward;
  if (cache && batch.documents.empty()) return CachedBlock(ctx, layer, x, batch, *cache);
  return FeedForwardOf(ctx, w, cache ? FillingAttend(ctx, layer, x, batch, *cache) : Attend(ctx, layer, x, batch));
}

Var Transformer::Attend(Context& ctx, int layer, const Var& x, const Batch& batch) const {
  const auto i = static_cast<std::size_t>(layer);
  return SelfAttention(ctx, x, blocks_[i].attention, {batch.positions, rope_table_.view()},
                       {batch.documents, batch.prompts, config_.attention[i]}, config_.rms_eps);
}

// The attention of whole documents whose keys the cache is filled with.
Var Transformer::FillingAttend(Context& ctx, int layer, const Var& x, const Batch& batch, const KvCache& cache) const {
  const auto i = static_cast<std::size_t>(layer);
  const AttentionWeights& w = blocks_[i].attention;
  const QkvHeads heads = Project(ctx, x.value, w, {batch.positions, rope_table_.view()}, config_.rms_eps).heads;
  const auto& [q, k, v] = heads;
  for (std::int64_t m = 0; m < batch.slots.dim(0); ++m) {
    StoreKeys(ctx, cache.layer(layer), k, v, batch.positions, batch.slots.Rows(m, m + 1).Reshape({batch.ids.dim(0)}),
              batch.prompts);
  }
  const Var attended = Attention(ctx, {{q, {}}, {k, {}}, {v, {}}, w.sinks}, batch.positions, batch.documents,
                                 config_.attention[i], batch.prompts);
  return Linear(ctx, Reshape(attended, {q.dim(0), q.dim(1) * q.dim(2)}), w.o, {}, x);
}

Var Transformer::CachedBlock(Context& ctx, int layer, const Var& x, const Batch& batch, const KvCache& cache) const {
  const auto& [w, rest] = blocks_[static_cast<std::size_t>(layer)];
  const KeyCache& keys = cache.layer(layer);
  const QkvWeights weights{w.q.value,      w.k.value,      w.v.value,      w.q_bias.value,
                           w.k_bias.value, w.v_bias.value, w.q_norm.value, w.k_norm.value};
  Tensor q = FusedQkv(ctx, keys, config_.head_dim, {x.value, w.norm.value, config_.rms_eps}, weights,
                      {batch.positions, batch.slots, rope_table_.view()});
  if (q.empty()) {
    const QkvHeads heads = Project(ctx, x.value, w, {batch.positions, rope_table_.view()}, config_.rms_eps).heads;
    StoreKeys(ctx, keys, heads.k, heads.v, batch.positions, batch.slots);
    q = heads.q;
  }
  const Var attended =
      CachedAttention(ctx, {q, keys, batch.positions, batch.slots, config_.attention[static_cast<std::size_t>(layer)],
                            w.sinks.value, batch.prompts});
  const Var rows = Reshape(attended, {q.dim(0), q.dim(1) * q.dim(2)});
  if (!ctx.tape) {
    const Tensor y = FusedRest(ctx, {x.value, rest.norm.value, config_.rms_eps}, rows.value,
                               {w.o.value, rest.gate.value, rest.up.value, rest.down.value});
    if (!y.empty()) return {y, {}};
  }
  return FeedForwardOf(ctx, rest, Linear(ctx, rows, w.o, {}, x));
}

// x + down(silu(gate(m)) * up(m)) with m = norm(x).
Var Transformer::FeedForwardOf(Context& ctx, const FeedForwardWeights& w, const Var& x) const {
  if (!ctx.tape) {
    const Tensor y = FusedGated(ctx, {x.value, w.norm.value, config_.rms_eps}, w.gate.value, w.up.value);
    if (!y.empty()) return Linear(ctx, {y, {}}, w.down, {}, x);
  }
  return FeedForward(ctx, x, w, config_.rms_eps);
}

}  // namespace swarr
