#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cuDNN's attention under a window beside swarr's, on a GPU with PyTorch and the package nvidia-cudnn-frontend of PyPI.

    bench/peers/cudnn_window.py --swarr build-cuda/swarr

Prints TFLOP/s of both and their ratio, forward and backward, in bf16. Both count the arithmetic of visible keys alone,
two products forward and five backward. Medians; both sides of a row are measured closely after one another.

The graph API of cuDNN takes tensors of B, heads, T, dim with any strides. A window of W keys, the query's own included,
is left bound W and right bound 0 of the diagonal. Its backward is not deterministic, as it is by default; swarr's is.
"""
import argparse
import json
import math
import statistics
import subprocess
import tempfile

import cudnn
import torch

SIZES = [(2, 8192, 64, 8, 64, 1024), (8, 8192, 16, 16, 64, 512), (8, 8192, 16, 16, 128, 512)]  # B, T, H, G, D, W


class CudnnAttention:
    """Two graphs for one shape: out = forward(q, k, v) and dq, dk, dv = backward(dout) of the last forward."""

    def __init__(self, q, k, v, window):
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
        self._build_backward(q, k, v)

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

    def _build_backward(self, q, k, v):
        self.backward_graph = graph = self._graph()
        operands = (q, k, v, self.out, self.out, self.stats)  # dO has the output's shape
        self.backward_inputs = [graph.tensor_like(t.detach()) for t in operands]
        names = dict(zip(("q", "k", "v", "o", "dO", "stats"), self.backward_inputs))
        self.backward_outputs = graph.sdpa_backward(name="backward", **names, **self.mask)
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
    return max(((a - b).double().norm() / b.double().norm()).item() for a, b in pairs)


def milliseconds(run):
    times = []
    for _ in range(23):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[3:])


def cudnn_rates(size):
    B, T, H, G, D, W = size
    q, k, v = operands(B, T, H, G, D)
    attention, dout = CudnnAttention(q, k, v, W), torch.randn_like(q)
    product = 2 * B * H * D * (W * (W + 1) / 2 + (T - W) * W)
    forward = milliseconds(lambda: attention.forward(q, k, v))
    return 2e-9 * product / forward, 5e-9 * product / milliseconds(lambda: attention.backward(dout))


def swarr_rates(program, after):
    """By name, of the rows whose names end in `after`."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        arguments = ["bench", "--device", "cuda", "--suite", "ops", "--dtype", "bf16", "--rows", after]
        subprocess.run([program, *arguments, "--json", file.name, "--overwrite"], check=True, capture_output=True)
        rows = json.load(open(file.name))["rows"]
    return {row["name"]: row["gflops"] / 1e3 for row in rows if row["name"].endswith(after)}


def main():
    parser = argparse.ArgumentParser(description="Attention under a window: cuDNN beside swarr.")
    parser.add_argument("--swarr", required=True, help="the program")
    program = parser.parse_args().swarr
    print(f"cuDNN {cudnn.backend_version()}, cudnn-frontend {cudnn.__version__}, {torch.cuda.get_device_name()};", end=" ")
    print(f"largest relative difference to the definition {check():.4f} (bf16)")
    for size in SIZES:
        after = " B{} T{} H{}/{} D{} W{}".format(*size)
        all_theirs, all_ours = cudnn_rates(size), swarr_rates(program, after)
        for kind, theirs in zip(("attention", "attention backward"), all_theirs):
            ours = all_ours[kind + after]
            print(f"{kind + after}: swarr {ours:.0f}, cuDNN {theirs:.0f} TFLOP/s, ratio {ours / theirs:.2f}")


main()
