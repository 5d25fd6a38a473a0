// SPDX-License-Identifier: Apache-2.0
// The suite ops: single kernels, forward and backward, against what the machine can do.
#include <optional>

#include "attn/attention.h"
#include "study/bench_suites.h"
#include "tensor/gemm.h"
#include "tensor/packed_weights.h"
#include "tensor/peak.h"
#include "train/step_timer.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr int kRows = 4096;    // of all kernels but products and attention
constexpr int kLength = 1024;  // tokens that attention runs over
constexpr int kWindow = 128;

// What one run takes: arithmetic where that is what bounds a kernel, else bytes read and written. Operands count once
// for each time that they have to be read or written; a gradient that is added to is read and written.
struct Work {
  double flops = 0, bytes = 0;
};

class Ops {
 public:
  explicit Ops(BenchRows& bench) : bench_(bench), ctx_(bench.ctx()) {}

  void Run(char shape) {
    prefix_ = std::string(1, shape) + " ";
    config_ = BenchShape(shape, kLength, 0);
    for (const int rows : {1, 16, 64, 256, 4096}) Products(rows);
    LinearBackwards();
    for (const int window : {0, kWindow}) AttentionRows(window);
    Norm();
    RopeRows();
    Gated();
    Sums();
    EmbeddingRows();
    Head();
    OptimizerRows();
  }

 private:
  // One row: `run` is timed, its rate is set beside the peak that bounds it.
  template <class F>
  void Row(const std::string& kernel, Work work, const F& run) {
    const std::string name = prefix_ + kernel;
    if (!bench_.Wanted(name)) return;
    MeasurePeaks();
    ordered_json row = {{"name", name}};
    const double seconds = bench_.Measure(row, [&] {
      const StepTimer timer;
      run();
      return timer.Seconds();
    });
    const bool arithmetic = work.flops > 0;
    const double rate = 1e-9 * (arithmetic ? work.flops : work.bytes) / seconds;
    row[arithmetic ? "gflops" : "gb_per_second"] = rate;
    row["peak_share"] = rate / (arithmetic ? peak_gflops_ : peak_bandwidth_);
    bench_.Add(std::move(row));
  }

  // Before the first row.
  void MeasurePeaks() {
    if (peak_gflops_ > 0) return;
    const auto peak = [&](const char* name, const char* unit, double (*measure)(const Context&)) {
      const StepTimer timer;
      const double rate = measure(ctx_);
      bench_.Add({{"name", name}, {"ms", 1e3 * timer.Seconds()}, {"repetitions", 1}, {unit, rate}});
      return rate;
    };
    peak_gflops_ = peak("peak of f32 multiply-add", "gflops", MultiplyAddPeak);
    peak_bandwidth_ = peak("peak of copying", "gb_per_second", CopyBandwidth);
  }

  Tensor Random(std::initializer_list<std::int64_t> shape) { return bench_.Random(bench_.dtype(), shape); }
  Tensor RandomSums(std::initializer_list<std::int64_t> shape) {
    return bench_.Random(AccumulatorOf(bench_.dtype()), shape);
  }
  // Bytes of a tensor of this many elements in the dtype of activations.
  double Bytes(double elements) const { return elements * static_cast<double>(SizeOf(bench_.dtype())); }

  // y = x w^T as the model computes it: `count` products of the same x. For few rows weights are packed, as they are in
  // decoding.
  void Product(const std::string& layer, int count, int M, int N, int K, DType result) {
    ArenaScope scope(*ctx_.arena);
    const Tensor y = bench_.Random(result, {M, N}), x = Random({M, K});
    std::vector<Tensor> weights;
    PackedWeights packed;
    for (int i = 0; i < count; ++i) {
      weights.push_back(Random({N, K}));
      packed.Pack(ctx_, weights.back());
    }
    Context ctx = ctx_;
    const bool decodes = M <= 256;
    if (decodes) ctx.packed = &packed;
    Row(Concat("gemm ", layer, " M", M, decodes ? " packed" : ""), {.flops = 2.0 * count * M * N * K}, [&] {
      for (const Tensor& w : weights) MatMulNT(ctx, y, x, w);
    });
  }

  void Products(int M) {
    const ModelConfig& c = config_;
    const int heads = c.heads * c.head_dim;  // as many key heads as query heads
    Product("qkv", 3, M, heads, c.hidden, bench_.dtype());
    Product("o", 1, M, c.hidden, heads, bench_.dtype());
    Product("gate-up", 2, M, c.ffn, c.hidden, bench_.dtype());
    Product("down", 1, M, c.hidden, c.ffn, bench_.dtype());
    Product("head", 1, M, c.vocab, c.hidden, AccumulatorOf(bench_.dtype()));
  }

  // The two products of a backward, for the layer down.
  void LinearBackwards() {
    ArenaScope scope(*ctx_.arena);
    const int N = config_.hidden, K = config_.ffn;
    const Tensor x = Random({kRows, K}), dx = Random({kRows, K}), dy = Random({kRows, N}), w = Random({N, K}),
                 dw = RandomSums({N, K});
    const Work work = {.flops = 2.0 * kRows * N * K};
    Row("gemm down backward dx", work, [&] { MatMulNN(ctx_, dx, dy, w, /*accumulate=*/true); });
    Row("gemm down backward dw", work, [&] { MatMulTN(ctx_, dw, dy, x, /*accumulate=*/true); });
  }

  // Two products a visible key forward, five backward: scores again, and the gradients of weights, values, queries and
  // keys.
  void AttentionRows(int window) {
    ArenaScope scope(*ctx_.arena);
    const AttentionSpec spec{window, 0};
    double keys = 0;
    for (int q = 0; q < kLength; ++q) keys += VisibleKeysOf(q, spec).recent.size();
    const double product = 2 * keys * config_.heads * config_.head_dim;
    const Batch batch = PackDocuments(*ctx_.arena, bench_.RandomDocuments(1, kLength, config_.vocab));
    const auto heads = [&] { return Random({kLength, config_.heads, config_.head_dim}); };
    const Tensor q = heads(), k = heads(), v = heads(), out = heads(), dout = heads(), dq = heads(), dk = heads(),
                 dv = heads();
    const Tensor lse = RandomSums({kLength, config_.heads});
    const Tensor &pos = batch.positions, &documents = batch.documents;
    const auto forward = [&] { AttentionForward(ctx_, out, lse, q, k, v, pos, documents, spec); };
    const std::string name = Concat(" T", kLength, " ", AttentionName(window));
    Row("attention" + name, {.flops = 2 * product}, forward);
    forward();  // the backward needs its results, whether or not it was measured
    Row("attention backward" + name, {.flops = 5 * product},
        [&] { AttentionBackward(ctx_, dq, dk, dv, dout, out, lse, q, k, v, pos, documents, spec); });
  }

  void Norm() {
    ArenaScope scope(*ctx_.arena);
    const int C = config_.hidden;
    const Tensor x = Random({kRows, C}), y = Random({kRows, C}), dx = Random({kRows, C}), w = Random({C}),
                 rstd = RandomSums({kRows}), dw = RandomSums({C});
    const double size = Bytes(double{kRows} * C);
    Row("rmsnorm", {.bytes = 2 * size}, [&] { RmsNormForward(ctx_, y, rstd, x, w, config_.rms_eps); });
    Row("rmsnorm backward", {.bytes = 4 * size}, [&] { RmsNormBackward(ctx_, dx, dw, y, x, w, rstd); });
  }

  void RopeRows() {
    ArenaScope scope(*ctx_.arena);
    const Batch batch = PackDocuments(*ctx_.arena, bench_.RandomDocuments(kRows / kLength, kLength, config_.vocab));
    const auto heads = [&] { return Random({kRows, config_.heads, config_.head_dim}); };
    const Tensor x = heads(), y = heads(), table = RandomSums({kLength, config_.head_dim});
    const double size = static_cast<double>(x.bytes());
    Row("rope", {.bytes = 2 * size}, [&] { RopeForward(ctx_, y, x, batch.positions, table); });
    Row("rope backward", {.bytes = 3 * size}, [&] { RopeBackward(ctx_, x, y, batch.positions, table); });
  }

  void Gated() {
    ArenaScope scope(*ctx_.arena);
    const auto wide = [&] { return Random({kRows, config_.ffn}); };
    const Tensor gate = wide(), up = wide(), y = wide(), dgate = wide(), dup = wide();
    const double size = static_cast<double>(gate.bytes());
    Row("swiglu", {.bytes = 3 * size}, [&] { SwiGluForward(ctx_, y, gate, up); });
    Row("swiglu backward", {.bytes = 7 * size}, [&] { SwiGluBackward(ctx_, dgate, dup, y, gate, up); });
  }

  void Sums() {
    ArenaScope scope(*ctx_.arena);
    const auto hidden = [&] { return Random({kRows, config_.hidden}); };
    const Tensor a = hidden(), b = hidden(), y = hidden();
    const double size = static_cast<double>(a.bytes());
    Row("add", {.bytes = 3 * size}, [&] { AddForward(ctx_, y, a, b); });
    Row("add backward", {.bytes = 6 * size}, [&] { AddBackward(ctx_, a, b, y); });
  }

  void EmbeddingRows() {
    ArenaScope scope(*ctx_.arena);
    const Batch batch = PackDocuments(*ctx_.arena, bench_.RandomDocuments(1, kRows, config_.vocab));
    const Tensor w = Random({config_.vocab, config_.hidden}), dw = RandomSums({config_.vocab, config_.hidden}),
                 y = Random({kRows, config_.hidden});
    const double size = static_cast<double>(y.bytes());
    Row("embedding", {.bytes = 2 * size}, [&] { EmbeddingForward(ctx_, y, w, batch.ids); });
    const double sums = static_cast<double>(kRows * config_.hidden) * static_cast<double>(SizeOf(dw.dtype()));
    Row("embedding backward", {.bytes = size + 2 * sums}, [&] { EmbeddingBackward(ctx_, dw, y, batch.ids); });
  }

  // The LM head: a product, or three, and exponentials that count as nothing.
  void Head() {
    ArenaScope scope(*ctx_.arena);
    const int C = config_.hidden, V = config_.vocab;
    const Batch batch = PackDocuments(*ctx_.arena, bench_.RandomDocuments(1, kRows, V));
    const Tensor x = Random({kRows, C}), dx = Random({kRows, C}), w = Random({V, C}), dw = RandomSums({V, C});
    const Tensor logp = RandomSums({kRows}), lse = RandomSums({kRows}), entropy = RandomSums({kRows});
    const double product = 2.0 * kRows * C * V;
    const auto forward = [&] { TokenLogprobForward(ctx_, logp, lse, entropy, x, w, batch.ids); };
    Row("token_logprob", {.flops = product}, forward);
    forward();
    Row("token_logprob backward", {.flops = 3 * product},
        [&] { TokenLogprobBackward(ctx_, dx, dw, logp, lse, x, w, batch.ids); });
    const std::vector<SampleRow> draws(kRows, SampleRow{1, 1.0});
    const Tensor tokens = ctx_.arena->New(DType::kI32, {kRows});
    Row("sample", {.flops = product}, [&] { SampleForward(ctx_, tokens, logp, x, w, batch.positions, draws.data()); });
  }

  // Over all parameters of the shape at once.
  void OptimizerRows() {
    ArenaScope scope(*ctx_.arena);
    const std::int64_t P = ParameterStore(config_, bench_.dtype(), /*with_gradients=*/false).count();
    const DType sums = AccumulatorOf(bench_.dtype());
    const Tensor w = RandomSums({P}), g = RandomSums({P}), m = ctx_.arena->NewZero(sums, {P}),
                 v = ctx_.arena->NewZero(sums, {P});
    const double size = static_cast<double>(w.bytes());
    Row("gradient norm", {.bytes = size}, [&] { GlobalNorm(ctx_, g); });
    Row("adamw", {.bytes = 7 * size}, [&] { AdamWStep(ctx_, w, m, v, g, 1e-3, /*t=*/1, /*grad_scale=*/1, {}); });
    if (sums == bench_.dtype()) return;
    const Tensor rounded = Random({P});
    Row("cast of parameters", {.bytes = size + static_cast<double>(rounded.bytes())},
        [&] { CastForward(ctx_, rounded, w); });
  }

  BenchRows& bench_;
  Context& ctx_;
  std::string prefix_;
  ModelConfig config_;
  double peak_gflops_ = 0, peak_bandwidth_ = 0;
};

}  // namespace

void OpsSuite(BenchRows& bench) {
  Ops ops(bench);
  for (const char shape : {'C', 'D'}) ops.Run(shape);
}

}  // namespace swarr
