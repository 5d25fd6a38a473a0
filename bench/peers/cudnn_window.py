#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cuDNN side of sitting.py: attention under a window, by the package nvidia-cudnn-frontend of PyPI.

    bench/peers/cudnn_window.py --rows "attention B2 T8192 H64/8 D64 W1024"

Makes the graphs of the rows that it is given, holds one against the definition, and then measures those whose names it
reads (jobs.py), in bf16. It counts the arithmetic of visible keys alone, two products forward and five backward, as
swarr does.

The graph API of cuDNN takes tensors of B, heads, T, dim with any strides. A window of W keys, the query's own included,
is left bound W and right bound 0 of the diagonal. Its backward is not deterministic unless asked, and is measured both
ways; swarr's is.
"""
import argparse
import math
from functools import partial

import cudnn
import torch
from jobs import Job, serve

SIZES = [(2, 8192, 64, 8, 64, 1024), (8, 8192, 16, 16, 64, 512), (8, 8192, 16, 16, 128, 512)]  # B, T, H, G, D, W


class CudnnAttention:
    """Two graphs for one shape: out = forward(q, k, v) and dq, dk, dv = backward(dout) of the last forward."""

    def __init__(self, q, k, v, window, deterministic=False):
        self.handle = cudnn.create_handle()
        cudnn.set_stream(self.handle, torch.cuda.current_stream().cuda_stream)
        self.out = torch.empty_like(q)
        self.stats = torch.empty(*q.shape[:3], 1, device=q.device, dtype=torch.float32)
        self.grads = tuple(torch.empty_like(t) for t in (q, k, v))
        self.mask = dict(
            attn_scale=q.shape[-1] ** -0.5,
            diagonal_alignment=cudnn.diagonal_alignment.TOP_LEFT,
            diagonal_band_left_bound=window,
            diagonal_band_right_bound=0,
        )
        self._build_forward(q, k, v)
        self._build_backward(q, k, v, deterministic)

    def _graph(self):
        kinds = cudnn.data_type
        return cudnn.pygraph(
            handle=self.handle,
            io_data_type=kinds.BFLOAT16,
            intermediate_data_type=kinds.FLOAT,
            compute_data_type=kinds.FLOAT,
        )

    @staticmethod
    def _output(tensor, like, kind):
        tensor.set_output(True).set_dim(list(like.shape)).set_stride(list(like.stride())).set_data_type(kind)

    @staticmethod
    def _plan(graph):
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.check_support()
        graph.build_plans()
        return torch.empty(graph.get_workspace_size(), device="cuda", dtype=torch.uint8)

    def _build_forward(self, q, k, v):
        self.forward_graph = graph = self._graph()
        self.forward_inputs = [graph.tensor_like(t.detach()) for t in (q, k, v)]
        names = dict(zip("qkv", self.forward_inputs))
        self.forward_outputs = graph.sdpa(name="forward", generate_stats=True, **names, **self.mask)
        self._output(self.forward_outputs[0], self.out, cudnn.data_type.BFLOAT16)
        self._output(self.forward_outputs[1], self.stats, cudnn.data_type.FLOAT)
        self.forward_workspace = self._plan(graph)

    def _build_backward(self, q, k, v, deterministic):
        self.backward_graph = graph = self._graph()
        operands = (q, k, v, self.out, self.out, self.stats)  # dO has the output's shape
        self.backward_inputs = [graph.tensor_like(t.detach()) for t in operands]
        names = dict(zip(("q", "k", "v", "o", "dO", "stats"), self.backward_inputs))
        names.update(self.mask, use_deterministic_algorithm=deterministic)
        self.backward_outputs = graph.sdpa_backward(name="backward", **names)
        for tensor, grad in zip(self.backward_outputs, self.grads):
            self._output(tensor, grad, cudnn.data_type.BFLOAT16)
        self.backward_workspace = self._plan(graph)

    def forward(self, q, k, v):
        self.operands = (q, k, v)
        tensors = dict(zip(self.forward_inputs, (q, k, v)))
        tensors.update(zip(self.forward_outputs, (self.out, self.stats)))
        self.forward_graph.execute(tensors, self.forward_workspace, handle=self.handle)
        return self.out

    def backward(self, dout):
        tensors = dict(zip(self.backward_inputs, (*self.operands, self.out, dout, self.stats)))
        tensors.update(zip(self.backward_outputs, self.grads))
        self.backward_graph.execute(tensors, self.backward_workspace, handle=self.handle)
        return self.grads


def operands(B, T, H, G, D):
    return [torch.randn(B, T, h, D, device="cuda", dtype=torch.bfloat16).transpose(1, 2) for h in (H, G, G)]


def defined_attention(q, k, v, window):
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    T = q.shape[2]
    distance = torch.arange(T, device="cuda")[:, None] - torch.arange(T, device="cuda")[None, :]
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return torch.softmax(scores.masked_fill((distance < 0) | (distance >= window), -math.inf), -1) @ v


def check():
    """The largest relative difference to the definition, of the output and the gradients."""
    q, k, v = operands(2, 512, 4, 2, 64)
    exact = [t.double().requires_grad_() for t in (q, k, v)]
    wanted = defined_attention(*exact, 128)
    dout = torch.randn_like(q)
    wanted.backward(dout.double())
    attention = CudnnAttention(q, k, v, 128)
    got = [attention.forward(q, k, v), *attention.backward(dout)]
    pairs = zip(got, [wanted, *(t.grad for t in exact)])
    difference = max(((a - b).double().norm() / b.double().norm()).item() for a, b in pairs)
    if not difference < 0.02:
        raise AssertionError(f"the check fails: a relative difference of {difference}")
    return difference


def forward_job(size):
    B, T, H, G, D, W = size
    q, k, v = operands(B, T, H, G, D)
    attention = CudnnAttention(q, k, v, W)
    return Job(lambda: attention.forward(q, k, v), "gflops", 2 * product_of(size))


def backward_job(size, deterministic):
    B, T, H, G, D, W = size
    q, k, v = operands(B, T, H, G, D)
    attention, dout = CudnnAttention(q, k, v, W, deterministic), torch.randn_like(q)
    attention.forward(q, k, v)
    return Job(lambda: attention.backward(dout), "gflops", 5 * product_of(size))


def product_of(size):
    B, T, H, _, D, W = size
    return 2 * B * H * D * (W * (W + 1) / 2 + (T - W) * W)


def all_rows():
    """(name, variant, what prepares it)"""
    yield "check", "all", check
    for size in SIZES:
        after = " B{} T{} H{}/{} D{} W{}".format(*size)
        yield "attention" + after, "cudnn", partial(forward_job, size)
        yield "attention backward" + after, "cudnn", partial(backward_job, size, False)
        yield "attention backward" + after, "cudnn, deterministic", partial(backward_job, size, True)


def main():
    parser = argparse.ArgumentParser(description="Attention under a window: cuDNN's speed at rows of swarr bench.")
    parser.add_argument("--rows", required=True, help="names of rows, between commas")
    parser.add_argument("--row-seconds", type=float, default=1.0, help="how long a measurement is repeated")
    args = parser.parse_args()
    wanted = ["check", *args.rows.split(",")]
    details = {"cudnn": cudnn.backend_version(), "frontend": cudnn.__version__}
    serve([row for row in all_rows() if row[0] in wanted], args.row_seconds, details)


main()
