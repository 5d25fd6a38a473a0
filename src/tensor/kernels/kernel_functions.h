// SPDX-License-Identifier: Apache-2.0
// The kernels of one set, as members of Kernels<Set> (kernels.h): the ops of ops.h and gemm.h, arguments already
// checked. Their contracts are there. No include guard: it is included once for each set.

static void GatherRows(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rows);
static void EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids);

static void MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                     const Tensor& addend);
static void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate);
static void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate);
static void PackWeight(const Context& ctx, const Tensor& panels, const Tensor& w);
static void BiasBackward(const Context& ctx, const Tensor& db, const Tensor& dy);

static void RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                           double eps);
static void RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                            const Tensor& w, const Tensor& rstd);

static void RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions,
                        const Tensor& table);
static void RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions,
                         const Tensor& table);

static void SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up);
static void SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy,
                           const Tensor& gate, const Tensor& up);

static void AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b);

// On rows of logits [rows, V]; targets and results are those of these rows.
static void LogSoftmaxRows(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                           const Tensor& logits, const Tensor& targets);
static void LogSoftmaxRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dlogp,
                                   const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                                   const Tensor& logits, const Tensor& targets);
static void SampleRows(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& logits,
                       const Tensor& positions, const SampleRow* rows);

static void AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g,
                      const AdamWUpdate& update);
static double GlobalNorm(const Context& ctx, const Tensor& flat);
static void CastForward(const Context& ctx, const Tensor& y, const Tensor& x);
