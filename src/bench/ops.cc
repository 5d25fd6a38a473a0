// SPDX-License-Identifier: Apache-2.0
// The suite ops: single kernels, forward and backward, against what the machine can do.
#include "tensor/ops.h"

#include <memory>

#include "attn/attention.h"
#include "bench/suites.h"
#include "tensor/linears.h"
#include "tensor/packed_weights.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// What one run takes: arithmetic if that bounds the kernel, else bytes read and written. An operand counts once for
// each time that it must be read or written; a gradient that is added to is read and written.
struct Work {
  double flops = 0, bytes = 0;
};

class Ops {
 public:
  Ops(BenchRows& bench, char shape)
      : bench_(bench), prefix_(Concat(shape, " ")), config_(BenchShape(shape, sizes_.op_length, 0)) {}

  void ProductRows() {
    for (const int rows : {1, 16, 64, 256, rows_}) Products(rows);
    LinearBackwards();
  }

  void OtherRows() {
    for (const int window : {0, sizes_.op_window}) {
      AttentionRows(prefix_, Concat(" T", sizes_.op_length, " ", AttentionName(window)),
                    {sizes_.op_documents, sizes_.op_length, config_.heads, config_.kv_heads, config_.head_dim, window});
    }
    for (const auto rows : {&Ops::Norm, &Ops::RopeRows, &Ops::Gated, &Ops::Sums, &Ops::EmbeddingRows, &Ops::Head,
                            &Ops::Distill, &Ops::OptimizerRows}) {
      StepScope scope(ctx_);
      (this->*rows)();
    }
  }

  // Two products a visible key forward. Five backward: the scores again, and the gradients of weights, values, queries
  // and keys. Names are `before`, "attention" or "attention backward", and `after`.
  void AttentionRows(const std::string& before, const std::string& after, AttentionSize size) {
    const std::string forward_name = Concat(before, "attention", after),
                      backward_name = Concat(before, "attention backward", after);
    if (!bench_.Wanted(forward_name) && !bench_.Wanted(backward_name)) return;
    StepScope scope(ctx_);
    const AttentionSpec spec{size.window, 0};
    const int tokens = size.documents * size.length, H = size.heads, G = size.kv_heads;
    const double keys = size.documents * VisibleKeyCount(spec, size.length), product = 2 * keys * H * size.head_dim;
    const Batch batch = RandomBatch(size.documents, size.length);
    const auto random = [&](int heads) { return Random({tokens, heads, size.head_dim}); };
    const Tensor q = random(H), out = random(H), dout = random(H), dq = random(H);
    const Tensor k = random(G), v = random(G), dk = random(G), dv = random(G);
    const Tensor lse = RandomSums({tokens, H});
    const AttentionInputs inputs{q, k, v, batch.positions, batch.documents, spec};
    const auto forward = [&] { AttentionForward(ctx_, out, lse, inputs); };
    RowNamed(forward_name, {.flops = 2 * product}, forward);
    forward();  // the backward needs its results, whether or not it was measured
    RowNamed(backward_name, {.flops = 5 * product}, [&] {
      AttentionBackward(ctx_, {dq, dk, dv}, dout, out, lse, inputs);
    });
  }

 private:
  template <class F>
  void Row(const std::string& kernel, Work work, const F& run) {
    RowNamed(prefix_ + kernel, work, run);
  }
  // Times `run` and compares its rate with the peak that bounds it.
  template <class F>
  void RowNamed(const std::string& name, Work work, const F& run) {
    if (!bench_.Wanted(name)) return;
    const bool arithmetic = work.flops > 0;
    const double peak = arithmetic ? bench_.ArithmeticPeak() : bench_.CopyPeak();
    bench_.MeasureOp({{"name", name}}, run, [&](ordered_json& row, double seconds) {
      const double rate = 1e-9 * (arithmetic ? work.flops : work.bytes) / seconds;
      row[arithmetic ? "gflops" : "gb_per_second"] = rate;
      row["peak_share"] = rate / peak;
    });
  }

  Tensor Random(std::initializer_list<std::int64_t> shape) { return bench_.Random(bench_.dtype(), shape); }
  Tensor RandomSums(std::initializer_list<std::int64_t> shape) {
    return bench_.Random(AccumulatorOf(bench_.dtype()), shape);
  }
  // rows_ rows.
  Tensor Rows(int columns) { return Random({rows_, columns}); }
  // Whole documents of random tokens.
  Batch RandomBatch(int count, int length) {
    return ToDevice(ctx_, PackDocuments(ctx_.HostArena(), bench_.RandomDocuments(count, length, config_.vocab)));
  }

  static double Bytes(const Tensor& t) { return static_cast<double>(t.bytes()); }

  // y = x w^T as the model computes it, for weights [N, K] of several N. For few rows the weights are packed, as
  // decoding on the processor does it. On a device each is a launch, so that a library's launches compare.
  void Product(const std::string& layer, int M, std::initializer_list<int> columns, int K, DType result) {
    const bool packs = M <= 256 && !bench_.on_device();
    const std::string kernel = Concat("gemm ", layer, " M", M, packs ? " packed" : "");
    if (!bench_.Wanted(prefix_ + kernel)) return;
    StepScope scope(ctx_);
    const Tensor x = Random({M, K});
    std::vector<Tensor> weights, results;
    PackedWeights packed;
    double elements = 0;
    for (const int N : columns) {
      weights.push_back(Random({N, K}));
      results.push_back(ctx_.arena->New(result, {M, N}));
      elements += static_cast<double>(weights.back().size());
      if (packs) packed.Pack(ctx_, weights.back());
    }
    Context ctx = ctx_;
    if (packs) ctx.packed = &packed;
    std::vector<LinearResult> layers;
    for (std::size_t i = 0; i < weights.size(); ++i) layers.push_back({results[i], weights[i]});
    const bool together = layers.size() > 1 && !bench_.on_device();
    Row(kernel, {.flops = 2.0 * M * elements}, [&] {
      if (together) return LinearsForward(ctx, x, layers);
      for (const LinearResult& layer : layers) LinearForward(ctx, layer.y, x, layer.w);
    });
  }

  void Products(int M) {
    const ModelConfig& c = config_;
    const int heads = c.heads * c.head_dim, keys = c.kv_heads * c.head_dim;
    Product("qkv", M, {heads, keys, keys}, c.hidden, bench_.dtype());
    Product("o", M, {c.hidden}, heads, bench_.dtype());
    Product("gate-up", M, {c.ffn, c.ffn}, c.hidden, bench_.dtype());
    Product("down", M, {c.hidden}, c.ffn, bench_.dtype());
    Product("head", M, {c.vocab}, c.hidden, AccumulatorOf(bench_.dtype()));
  }

  // The two products of a backward, for weights [N, K].
  void LinearBackward(const std::string& layer, int N, int K) {
    const std::string kernel = Concat("gemm ", layer, " backward ");
    if (!bench_.Wanted(prefix_ + kernel + "dx") && !bench_.Wanted(prefix_ + kernel + "dw")) return;
    StepScope scope(ctx_);
    const Tensor x = Rows(K), dx = Rows(K), dy = Rows(N), w = Random({N, K}), dw = RandomSums({N, K});
    const Work work = {.flops = 2.0 * rows_ * N * K};
    Row(kernel + "dx", work, [&] { MatMulNN(ctx_, dx, dy, w, /*accumulate=*/true); });
    Row(kernel + "dw", work, [&] { MatMulTN(ctx_, dw, dy, x, /*accumulate=*/true); });
  }

  // Of the layers with several weights, one weight.
  void LinearBackwards() {
    const ModelConfig& c = config_;
    const int heads = c.heads * c.head_dim;
    LinearBackward("q", heads, c.hidden);
    LinearBackward("k", c.kv_heads * c.head_dim, c.hidden);
    LinearBackward("o", c.hidden, heads);
    LinearBackward("gate", c.ffn, c.hidden);
    LinearBackward("down", c.hidden, c.ffn);
  }

  void Norm() {
    const int C = config_.hidden;
    const Tensor x = Rows(C), y = Rows(C), dx = Rows(C), w = Random({C}), rstd = RandomSums({rows_}),
                 dw = RandomSums({C});
    Row("rmsnorm", {.bytes = 2 * Bytes(x)}, [&] { RmsNormForward(ctx_, y, rstd, x, w, config_.rms_eps); });
    Row("rmsnorm backward", {.bytes = 4 * Bytes(x)}, [&] { RmsNormBackward(ctx_, dx, dw, y, x, w, rstd); });
  }

  void RopeRows() {
    const Batch batch = RandomBatch(rows_ / sizes_.op_length, sizes_.op_length);
    const auto heads = [&] { return Random({rows_, config_.heads, config_.head_dim}); };
    const Tensor x = heads(), y = heads(), table = RandomSums({sizes_.op_length, config_.head_dim});
    Row("rope", {.bytes = 2 * Bytes(x)}, [&] { RopeForward(ctx_, y, x, batch.positions, table); });
    Row("rope backward", {.bytes = 3 * Bytes(x)}, [&] { RopeBackward(ctx_, x, y, batch.positions, table); });
  }

  void Gated() {
    const int F = config_.ffn;
    const Tensor gate = Rows(F), up = Rows(F), y = Rows(F), dgate = Rows(F), dup = Rows(F);
    Row("swiglu", {.bytes = 3 * Bytes(gate)}, [&] { SwiGluForward(ctx_, y, gate, up); });
    Row("swiglu backward", {.bytes = 7 * Bytes(gate)}, [&] { SwiGluBackward(ctx_, dgate, dup, y, gate, up); });
  }

  void Sums() {
    const Tensor a = Rows(config_.hidden), b = Rows(config_.hidden), y = Rows(config_.hidden);
    Row("add", {.bytes = 3 * Bytes(a)}, [&] { AddForward(ctx_, y, a, b); });
    Row("add backward", {.bytes = 6 * Bytes(a)}, [&] { AddBackward(ctx_, a, b, y); });
  }

  void EmbeddingRows() {
    const Batch batch = RandomBatch(1, rows_);
    const int C = config_.hidden, V = config_.vocab;
    const Tensor w = Random({V, C}), dw = RandomSums({V, C}), y = Rows(C);
    const double size = Bytes(y);
    Row("embedding", {.bytes = 2 * size}, [&] { GatherRows(ctx_, y, w, batch.ids); });
    const double sums = static_cast<double>(y.size()) * static_cast<double>(SizeOf(dw.dtype()));
    Row("embedding backward", {.bytes = size + 2 * sums}, [&] { EmbeddingBackward(ctx_, dw, y, batch.ids); });
  }

  // The LM head: one product forward, three backward. Its exponentials are not counted.
  void Head() {
    const int C = config_.hidden, V = config_.vocab;
    const Batch batch = RandomBatch(1, rows_);
    const Tensor x = Rows(C), dx = Rows(C), w = Random({V, C}), dw = RandomSums({V, C});
    const Tensor logp = RandomSums({rows_}), lse = RandomSums({rows_}), entropy = RandomSums({rows_});
    const LogprobInputs inputs{x, w, batch.ids};
    const double product = 2.0 * rows_ * C * V;
    const auto forward = [&] { TokenLogprobForward(ctx_, logp, lse, entropy, inputs); };
    Row("token_logprob", {.flops = product}, forward);
    forward();
    Row("token_logprob backward", {.flops = 3 * product},
        [&] { TokenLogprobBackward(ctx_, dx, dw, logp, {}, lse, entropy, inputs); });
    // In the host's step memory, from where a device copies without holding up the processor.
    static_assert(sizeof(SampleRow) == 2 * sizeof(double));
    auto* draws = ctx_.HostArena().NewArray<SampleRow>(rows_);
    std::uninitialized_fill_n(draws, rows_, SampleRow{1, 1.0});
    const Tensor tokens = ctx_.arena->New(DType::kI32, {rows_});
    Row("sample", {.flops = product}, [&] { SampleForward(ctx_, tokens, logp, x, w, batch.positions, draws); });
  }

  // Two heads, a student's and a teacher's of the same width: two products forward, four backward.
  void Distill() {
    const int C = config_.hidden, V = config_.vocab;
    const Tensor x = Rows(C), dx = Rows(C), w = Random({V, C}), dw = RandomSums({V, C}), dkl = RandomSums({rows_});
    const DistillInputs inputs{x, w, Rows(C), Random({V, C}), {}};
    const DistillResults results{RandomSums({rows_}), RandomSums({rows_}), RandomSums({rows_})};
    const double product = 2.0 * rows_ * C * V;
    const auto forward = [&] { DistillForward(ctx_, results, inputs); };
    Row("distill", {.flops = 2 * product}, forward);
    forward();
    Row("distill backward", {.flops = 4 * product}, [&] { DistillBackward(ctx_, dx, dw, dkl, results, inputs); });
  }

  // Over all parameters of the shape at once.
  void OptimizerRows() {
    const std::int64_t P = ParameterStore(config_, bench_.dtype(), /*with_gradients=*/false).count();
    const DType sums = AccumulatorOf(bench_.dtype());
    const Tensor w = RandomSums({P}), g = RandomSums({P});
    const Tensor m = ctx_.arena->New(sums, {P}), v = ctx_.arena->New(sums, {P});
    FillZero(ctx_, m);
    FillZero(ctx_, v);
    const double size = Bytes(w);
    Row("gradient norm", {.bytes = size}, [&] { GlobalNorm(ctx_, g); });
    Row("adamw", {.bytes = 7 * size}, [&] { AdamWStep(ctx_, w, m, v, g, {.lr = 1e-3, .t = 1}); });
    if (sums == bench_.dtype()) return;
    const Tensor rounded = Random({P});
    Row("cast of parameters", {.bytes = size + Bytes(rounded)}, [&] { CastForward(ctx_, rounded, w); });
  }

  BenchRows& bench_;
  Context& ctx_ = bench_.ctx();
  const BenchSizes& sizes_ = bench_.sizes();
  const int rows_ = sizes_.op_rows;
  const std::string prefix_;
  const ModelConfig config_;
};

}  // namespace

void OpsSuite(BenchRows& bench) {
  const BenchSizes& sizes = bench.sizes();
  if (bench.Wanted(bench.ArithmeticPeakName())) bench.ArithmeticPeak();
  if (bench.Wanted(BenchRows::kCopyPeakName)) bench.CopyPeak();
  for (const char shape : sizes.product_shapes) Ops(bench, shape).ProductRows();
  for (const char shape : sizes.op_shapes) Ops(bench, shape).OtherRows();
  for (const AttentionSize& a : sizes.attention) {
    Ops(bench, sizes.op_shapes[0])
        .AttentionRows("",
                       Concat(" B", a.documents, " T", a.length, " H", a.heads, "/", a.kv_heads, " D", a.head_dim, " ",
                              AttentionName(a.window)),
                       a);
  }
}

}  // namespace swarr
