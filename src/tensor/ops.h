// SPDX-License-Identifier: Apache-2.0
// The contracts of the ops: what each computes, on what shapes. Read this first. The kernels of an op, forward and
// backward, stand in the file of kernels/ that is named below, and docs/derivations.md has the derivations. Attention
// has a header of its own (attn/attention.h).
//
// Rules for all of them:
//  - Tensors of one call share one floating dtype (f64, f32 or bf16); ids, targets and positions are i32. Shapes are
//    checked, and a mismatch throws Error.
//  - bf16 is a storage type: values are widened to f32, computed in f32 and rounded once, when they are stored. Sums
//    over many values have the "sum dtype": f32 for bf16, else the dtype itself. These are rstd, lse,
//    log-probabilities, logits, rope tables and gradients of weights.
//  - N counts rows: the tokens of all documents of a batch, one after another. There is no padding.
//  - A backward adds to the gradients that it is given. It writes those that are fresh, which hold nothing yet
//    (tensor.h), and leaves out those that are empty, which nobody wants. autograd/tape.h has the whole rule.
//  - A row of a forward result depends on that row alone, bit for bit, and no result depends on ctx.threads. Gradients
//    of weights sum over rows: threads share out the columns, and each column adds its rows in ascending order. A CUDA
//    device adds rows in blocks, and the blocks in a fixed order (docs/exactness.md).
//  - Ids, targets and positions are in range. Whoever makes them checks that, once and on the host, by CheckIds and
//    CheckPositions below, as the model does for every batch (Transformer::Check). The ops do not look: they may run
//    on a device, whose memory the processor does not reach.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/names.h"
#include "tensor/context.h"

namespace swarr {

// Throw unless all ids, which the sentence calls `what`, are in [0, vocab), and all positions in [0, context). The
// tensors are the host's.
void CheckIds(const Tensor& ids, std::int64_t vocab, const char* what);
void CheckPositions(const Tensor& positions, std::int64_t context);

// embedding.cc: y[n, :] = x[rows[n], :].   y[N, C]  x[V, C]  rows[N] in [0, V)
void GatherRows(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rows);
// The embedding gathers the rows of w[V, C] that ids[N] name.   dw: sum dtype
void EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids);

// gemm.cc: matrix products in one fixed order. Every output element is one accumulator that adds its products in
// ascending k, whatever the number of rows, columns and threads (tile_kernel.h). So a row of a product has the same
// bits alone and in any batch, which is half of what makes rollouts exactly on-policy (docs/exactness.md). Threads
// split rows and columns, never k. A CUDA device cuts a long sum of MatMulTN into parts, by its shape alone
// (cuda/gemm.cu). f64 and f32 fuse each product with its sum where the processor can. bf16 is multiplied exactly or by
// the processor's own instructions, summed in f32, and rounded once, when it is stored.
//
// These are the products of a linear layer. With `accumulate`, the result is added to what the output holds. The
// operands are of one floating dtype; the output has the same, or the one that it is summed in.

// dx[M, K] (+)= dy[M, N] w[N, K]
void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate = false);
// dw[N, K] (+)= dy[M, N]^T x[M, K]
void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate = false);

// Throws UsageError for an unknown name, and for the library of another device.
GemmKind ParseGemm(const std::string& name, Device device);

// Linear layer (gemm.cc): y = x w^T + b + residual, b and residual optional (empty); y may be the residual.
//   y, residual [N, O]  x[N, I]  w[O, I]  b[O]   dw, db: sum dtype; y may be too, with its residual.
// In f64 and f32 the sum starts from the residual; in bf16 the residual is added before the one rounding. The gradient
// of the residual is dy.
void LinearForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b = {},
                   const Tensor& residual = {});
void LinearBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& db, const Tensor& dy,
                    const Tensor& x, const Tensor& w);

// rmsnorm.cc: y = x * r * w with r = 1 / sqrt(mean(x^2) + eps) per row (Zhang and Sennrich, arXiv 1910.07467).
// The rows of any shape [..., C] are its last dimension.   x, y [..., C]  w[C]  rstd[rows] holds r for the backward
// (sum dtype, as is dw).
void RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                    double eps);
// If y is not empty, it gets the forward's result again, for a caller that did not keep it. It does not overlap dy.
void RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                     const Tensor& w, const Tensor& rstd, const Tensor& y = {});

// rope.cc: rotary position embedding, half-split pairing (Su et al., arXiv 2104.09864, in the Hugging Face layout):
// element i of a head is paired with element i + D/2 and the pair is turned by the angle positions[n] * theta^(-2i/D).
//   x, y [N, H, D], D even   positions[N] in [0, P)   table[P, D]: row p holds cos (first half) and sin (second half),
//   sum dtype (rope_table.h); y may be x, and dx, if fresh, dy
void RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions, const Tensor& table);
void RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions, const Tensor& table);

// elementwise.cc: y = silu(gate) * up, silu(z) = z sigmoid(z) (Shazeer, arXiv 2002.05202).   all [N, F]
void SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up);
// If y is not empty, it gets the forward's result again. It may be dy.
void SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy, const Tensor& gate,
                    const Tensor& up, const Tensor& y = {});

// elementwise.cc: y = a + b, any equal shapes (the residual stream).
void AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b);
void AddBackward(const Context& ctx, const Tensor& da, const Tensor& db, const Tensor& dy);
// dx (+)= dy: a gradient that passes through unchanged.
void AddGradient(const Context& ctx, const Tensor& dx, const Tensor& dy);

// elementwise.cc: y = x in the dtype of y, rounded to nearest even. Equal sizes.
void CastForward(const Context& ctx, const Tensor& y, const Tensor& x);

// lm_head.cc, log_softmax.cc: the LM head with log-softmax, in chunks of rows, so that [N, V] is never held.
//   logp[n] = z[targets[n]] - lse[n],  z = w x[n],  lse[n] = log sum_v exp z[v],
//   entropy[n] = -sum_v p[v] log p[v],  log p[v] = z[v] - lse[n]
//   logp, lse, entropy [N], sum dtype   x[N, C]  w[V, C]  targets[N] in [0, V)   dw: sum dtype
struct LogprobInputs {
  Tensor x, w, targets;
};
void TokenLogprobForward(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                         const LogprobInputs& inputs);
// Every objective enters the model as dlogp[n] = dL/dlogp[n]. A loss that holds the entropy adds dentropy[n] =
// dL/dentropy[n]; for any other loss it is empty, which agrees with zeros but for rounding:
//   dL/dz[v] = dlogp ([v = target] - p[v]) - dentropy p[v] (log p[v] + entropy)
// lse and entropy are the forward's.
void TokenLogprobBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dlogp,
                          const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                          const LogprobInputs& inputs);

// lm_head.cc, distill.cc: how far a student's distributions are from a teacher's, over the whole vocabulary (Hinton et
// al., arXiv 1503.02531), in the same chunks of rows: neither model's [N, V] is ever held.
//   p = softmax(w x[n] / temperature), the student's;  q = softmax(teacher_w teacher_x[n] / temperature)
//   kl[n] = sum_v q[v] (log q[v] - log p[v]) = KL(q || p)  (forward),  KL(p || q) (reverse)
//   x[N, C]  w[V, C]  teacher_x[N, E]  teacher_w[V, E], whose width E may be another   kl [N], sum dtype
// Where both models' logits have the same bits, kl and its gradient are exactly 0.
enum class KlDirection : std::uint8_t { kForward, kReverse };
template <>
inline constexpr std::array kNames<KlDirection> = {"forward", "reverse"};

struct DistillOptions {
  KlDirection direction = KlDirection::kForward;
  double temperature = 1;  // above 0
};
struct DistillInputs {
  Tensor x, w, teacher_x, teacher_w;
  DistillOptions options;
};
// What the forward writes and the backward reads: kl, and log sum_v exp(z[v] / temperature) of both models. All [N].
struct DistillResults {
  Tensor kl, lse, teacher_lse;
};
void DistillForward(const Context& ctx, const DistillResults& results, const DistillInputs& inputs);
// The teacher is a constant. dkl[n] = dL/dkl[n];  with z = w x[n]:
//   dL/dz[v] = dkl / temperature * (p[v] - q[v])  (forward),  dkl / temperature * p[v] (log p[v] - log q[v] - kl)
void DistillBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dkl,
                     const DistillResults& results, const DistillInputs& inputs);

// How one row of SampleForward chooses its token.
struct SampleRow {
  std::uint64_t key;   // the key of this row's noise (philox.h); unused when greedy
  double temperature;  // 0: greedy, the first largest logit
};
// sample.cc: draws one token per row by the Gumbel-max rule, argmax_v z[v] / temperature + g_v, g_v = -log(-log u_v),
// with u_v = word v mod 4 of Philox(key, {v / 4, position, 0, 0}). logp is the token's log-probability under the model,
// softmax(z) at temperature 1: bit for bit what TokenLogprobForward computes for that token.
//   tokens[N] i32  logp[N], sum dtype  x[N, C]  w[V, C]  positions[N]: the absolute position that the drawn token will
//   have  rows[N]: the host's, not to be changed before Wait, or the device's; tokens and logp may be the
//   host's pinned memory
void SampleForward(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& x, const Tensor& w,
                   const Tensor& positions, const SampleRow* rows);

// adamw.cc: AdamW (Loshchilov and Hutter, arXiv 1711.05101). With g' = grad_scale * g, step t = 1, 2, ...:
//   m = b1 m + (1 - b1) g';  v = b2 v + (1 - b2) g'^2
//   w = w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w)
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};
struct AdamWUpdate {
  double lr;
  std::int64_t t;
  double grad_scale = 1;
  AdamWOptions options = {};
};
void AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g,
               const AdamWUpdate& update);

// adamw.cc: the norm sqrt(sum of x^2), in f64, in two steps, so that several may share out the first: the squares of
// each chunk of kNormChunk elements, then the sum of these sums in their order.
//   sums[NormChunks(elements of x)] f64
constexpr std::int64_t kNormChunk = 4096;
constexpr std::int64_t NormChunks(std::int64_t elements) { return (elements + kNormChunk - 1) / kNormChunk; }
void SquaresOfChunks(const Context& ctx, const Tensor& sums, const Tensor& x);
double RootOfSum(const Context& ctx, const Tensor& sums);  // waits for the device
// Both.
double GlobalNorm(const Context& ctx, const Tensor& x);

}  // namespace swarr
