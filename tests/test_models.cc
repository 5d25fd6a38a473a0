// SPDX-License-Identifier: Apache-2.0
#include "test_models.h"

#include <algorithm>
#include <cmath>

#include "base/directories.h"
#include "base/files.h"
#include "model/model_files.h"

namespace swarr {
namespace {

ModelConfig WithAttention(ModelConfig config, const std::vector<AttentionSpec>& attention) {
  config.layers = static_cast<int>(attention.size());
  config.attention = attention;
  return config;
}

}  // namespace

ModelConfig TinyConfig() {
  ModelConfig c;
  c.layers = 2;
  c.hidden = 7;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 4;
  c.ffn = 9;
  c.vocab = 11;
  c.max_positions = 64;
  c.rms_eps = 0.01;  // large enough to matter, and to keep the norm of a short vector smooth enough for differences
  c.rope_theta = 100.0;
  c.attention = {{}, {}};
  return c;
}

ModelConfig WideConfig() {
  ModelConfig c = TinyConfig();
  c.hidden = 96;
  c.heads = 6;
  c.kv_heads = 3;
  c.head_dim = 16;
  c.ffn = 200;
  c.vocab = 300;
  c.max_positions = 512;
  c.qk_norm = c.qkv_bias = true;
  c.attention = {{}, {20, 3}};
  return c;
}

std::vector<ModelCase> ModelCases() {
  const ModelConfig tiny = TinyConfig();
  std::vector<ModelCase> cases = {
      {"full attention, grouped heads", tiny},
      {"window 1", WithAttention(tiny, {{1, 0}, {1, 0}})},
      {"window 3", WithAttention(tiny, {{3, 0}, {3, 0}})},
      {"window 3, 2 sinks", WithAttention(tiny, {{3, 2}, {3, 2}})},
      {"full, window, window with a sink", WithAttention(tiny, {{}, {3, 0}, {2, 1}})},
      {"full, window with the prompt kept", WithAttention(tiny, {{}, {3, 0, true}})},
  };
  const auto add = [&](const char* name, auto change) {
    ModelConfig config = tiny;
    change(config);
    cases.push_back({name, config});
  };
  add("a key head for each query head", [](ModelConfig& c) { c.kv_heads = 4; });
  add("one key head", [](ModelConfig& c) { c.kv_heads = 1; });
  add("q/k norm", [](ModelConfig& c) { c.qk_norm = true; });
  add("q/k/v bias", [](ModelConfig& c) { c.qkv_bias = true; });
  add("learned sinks", [](ModelConfig& c) {
    c.learned_sinks = true;
    c.attention = {{}, {3, 2}};
  });
  add("tied head", [](ModelConfig& c) { c.tied = true; });
  add("everything at once", [](ModelConfig& c) {
    c.qk_norm = c.qkv_bias = c.learned_sinks = c.tied = true;
    c.attention = {{}, {3, 2}};
  });
  return cases;
}

void Randomize(const Transformer& model, std::uint32_t stream) {
  std::uint32_t weights = 0, sinks = 1 << 16;  // the other weights are those of a model without learned sinks
  model.parameters().Set([&](const Parameter& p, const Tensor& w) {
    std::uint32_t& index = p.name.ends_with(".sinks") ? sinks : weights;
    PhiloxStream random(StreamKey(2, Purpose::kInit, index++, stream));
    const double center = p.name.ends_with("norm.weight") ? 1.0 : 0.0;
    const double scale = w.rank() == 1                             ? 0.5
                         : p.name.ends_with("embed_tokens.weight") ? 1.0
                                                                   : 2.0 / std::sqrt(w.dim(1));
    DispatchSum(w.dtype(), [&]<class T>() {
      // Rounded to f32 after the addition too, so that both dtypes hold the same numbers.
      for (std::int64_t i = 0; i < w.size(); ++i) {
        w.data<T>()[i] = static_cast<T>(static_cast<float>(center + RandomReal(random, scale)));
      }
    });
  });
}

Tokens RandomTokens(int count, int vocab, std::uint32_t stream) {
  PhiloxStream random(StreamKey(3, Purpose::kData, stream));
  Tokens tokens;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>(random.NextBelow(static_cast<std::uint32_t>(vocab))));
  }
  return tokens;
}

std::vector<Tokens> RandomDocuments(const std::vector<int>& lengths, int vocab) {
  std::vector<Tokens> documents;
  for (int length : lengths) {
    documents.push_back(RandomTokens(length, vocab, static_cast<std::uint32_t>(documents.size())));
  }
  return documents;
}

std::vector<int> PromptsOf(const std::vector<Tokens>& documents) {
  std::vector<int> prompts;
  for (const Tokens& d : documents) prompts.push_back(static_cast<int>(d.size() / 3));
  return prompts;
}

Tensor NextTokens(Arena& arena, const std::vector<Tokens>& documents) {
  std::vector<std::int32_t> next;
  for (const Tokens& d : documents) {
    next.insert(next.end(), d.begin() + 1, d.end());
    next.push_back(d.front());
  }
  return Ints(arena, next);
}

Pass RunForward(Context& ctx, const Transformer& model, const std::vector<Tokens>& documents) {
  const Batch batch = PackDocuments(ctx.HostArena(), documents, PromptsOf(documents));
  const Var hidden = model.Forward(ctx, batch);
  const Tensor logp = model.Logprob(ctx, hidden, NextTokens(ctx.HostArena(), documents)).logp.value;
  return {OnHost(ctx, hidden.value), logp};
}

void RunBackward(Context& ctx, const Transformer& model, const std::vector<Tokens>& documents,
                 std::span<const double> c, bool checkpoint, std::span<const double> e) {
  FillZero(ctx, model.parameters().flat_gradients());
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const Batch batch = PackDocuments(ctx.HostArena(), documents, PromptsOf(documents));
  const Tensor targets = NextTokens(ctx.HostArena(), documents);
  const LogprobResult result = model.Logprob(ctx, model.Forward(ctx, batch, checkpoint), targets);
  const auto set = [](const Tensor& grad, std::span<const double> values) {
    DispatchSum(grad.dtype(), [&]<class T>() {
      std::transform(values.begin(), values.end(), grad.data<T>(), [](double x) { return static_cast<T>(x); });
    });
  };
  set(result.logp.grad, c);
  if (!e.empty()) set(result.entropy.ClaimGrad(), e);
  tape.Backward(ctx);
  Wait(ctx);
}

std::vector<double> Coefficients(const std::vector<Tokens>& documents) {
  PhiloxStream random(StreamKey(4, Purpose::kData));
  std::vector<double> c;
  for (const Tokens& d : documents) {
    for (std::size_t t = 0; t < d.size(); ++t) c.push_back(RandomReal(random));
  }
  return c;
}

Tokenizer TextTokenizer() { return {Tokenizer::MakeCharacterTokenizer("abcd?", "<|end|>"), "the tests' tokenizer"}; }

ModelConfig TextConfig() {
  ModelConfig config = TinyConfig();
  config.vocab = TextTokenizer().vocab_size();
  config.eos_id = 0;
  return config;
}

Trainee::Trainee(const ModelConfig& config, DType dtype, const OptimizerOptions& options, int threads, Device device)
    : memory(device, threads),
      ctx(memory.ctx),
      model(config, dtype, /*with_gradients=*/true, MemoryOf(device)),
      optimizer(model.parameters(), options),
      tokenizer(TextTokenizer()) {
  InitializeParameters(model.parameters(), config.layers, /*seed=*/5);
}

bool SameState(const Trainee& a, const Trainee& b) {
  const auto same = [&](const Tensor& x, const Tensor& y) {
    return SameBits(HostView(x, a.model.parameters().kind()).view(), HostView(y, b.model.parameters().kind()).view());
  };
  return same(a.model.parameters().master(), b.model.parameters().master()) &&
         same(a.optimizer.first_moment(), b.optimizer.first_moment()) &&
         same(a.optimizer.second_moment(), b.optimizer.second_moment()) &&
         a.optimizer.steps_taken() == b.optimizer.steps_taken();
}

void SaveModel(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer) {
  AtomicDirectory out(dir, AllFileNames());
  WriteModelFiles(out.path(), model, tokenizer);
  out.Commit();
}

OptimizerOptions GradientProbe() {
  OptimizerOptions options;
  options.max_grad_norm = 0;
  options.adamw.beta1 = 0;
  return options;
}

std::vector<nlohmann::ordered_json> MetricsWithoutTimes(const std::filesystem::path& run) {
  std::vector<nlohmann::ordered_json> rows;
  ForEachJsonLine(run / "metrics.jsonl", [&](int, const nlohmann::json& line) {
    nlohmann::ordered_json row = line;
    for (const char* field : {"step_time", "tokens_per_second", "peak_memory_mb"}) row.erase(field);
    rows.push_back(row);
  });
  return rows;
}

}  // namespace swarr
