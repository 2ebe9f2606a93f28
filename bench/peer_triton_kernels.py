#!/usr/bin/env python3
"""Times OpenAI's triton_kernels at shapes and routings that bench/peers.json has not.

    PYTHONPATH=FOLDER_OF_triton_kernels bench/peer_triton_kernels.py --out FILE RESULTS...

RESULTS are files that mxfp4-bench wrote on this kind of GPU; each of their problems is timed as they are, by replay of a CUDA graph over
cold weights, and printed beside our time. Routing is drawn alike, with as many active experts. Needs torch, triton and a triton_kernels that
has matmul_ogs (of 2025: lightseekorg/triton, d3e8a3717, python/triton_kernels). Weights are in its Hopper layouts, rows sorted by expert.
"""
import argparse
import datetime
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys

import torch
import triton
from triton_kernels.matmul_ogs import PrecisionConfig, RoutingData, matmul_ogs
from triton_kernels.tensor import FP4, Storage, Tensor, convert_layout, make_ragged_tensor_metadata, wrap_torch_tensor
from triton_kernels.tensor_details import layout

EXPERTS = {'gpt-oss-20b': 32, 'gpt-oss-120b': 128}
KEPT = ('model', 'mlp', 'routing', 'tokens', 'rows', 'active', 'n', 'k', 'floor_us', 'driver', 'ours_commit', 'ours_us', 'ours_config')
CODES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
COLD_BYTES = 240e6  # between two uses of a weight
MOST_COPIES = 8  # of the weights
MOST_ERROR = 2.5e-3  # relative, as mxfp4-bench --check allows us
SLACK_BYTES = 4096  # zeros behind the scales: the kernel reads beyond their end where K / 32 is no multiple of 4


def problems(paths):
    for path in paths:
        head = json.loads(pathlib.Path(path).read_text())
        for row in head['rows']:
            experts = EXPERTS.get(row['model']) or int(row['mlp'].split(',')[0])
            yield dict(row, experts=experts, routing=head['routing'], driver=head['driver'], ours_commit=head['commit'], ours_us=row['us'],
                       ours_config=row['config'])


def draw_rows(problem, draw):
    """Rows of each expert (tuner/routing.cpp draws the same way, by another generator)."""
    experts, tokens, total = problem['experts'], problem['tokens'], problem['rows']
    rows = [0] * experts
    if problem['routing'] == 'uniform':
        for _ in range(tokens):
            for e in draw.sample(range(experts), total // tokens):
                rows[e] += 1
        return rows
    if problem['routing'] == 'skewed':
        rows[experts // 2] = total // 2
        others = [e for e in range(experts) if e != experts // 2]
    else:
        others = draw.sample(range(experts), max(1, experts // 10))
    for _ in range(total - sum(rows)):
        rows[draw.choice(others)] += 1
    return rows


def rows_of_experts(problem):
    draws = (draw_rows(problem, random.Random(seed)) for seed in range(2000))
    return next(rows for rows in draws if sum(map(bool, rows)) == problem['active'])


class Weights:
    """Random MXFP4 weights of all experts in the Hopper layouts, made a few experts at a time: that takes much scratch."""

    def __init__(self, experts, n, k):
        generator = torch.Generator('cuda').manual_seed(experts + n)
        self.codes = torch.randint(0, 256, (experts, n, k // 2), dtype=torch.uint8, device='cuda', generator=generator)
        self.exponents = torch.randint(120, 131, (experts, n, k // 32), dtype=torch.uint8, device='cuda', generator=generator)
        value_layout, value_options = layout.make_default_matmul_mxfp4_w_layout(mx_axis=1)
        scale_layout, scale_options = layout.make_default_matmul_mxfp4_w_scale_layout(mx_axis=1, num_warps=8)
        self.values = self.laid_out(self.codes, (experts, k, n), FP4, value_layout, value_options)
        scales = self.laid_out(self.exponents, (experts, k // 32, n), None, scale_layout, scale_options)
        self.precision = PrecisionConfig(weight_scale=scales, out_dtype=torch.bfloat16)

    @staticmethod
    def laid_out(source, shape, dtype, kind, options):
        def convert(some):
            return convert_layout(wrap_torch_tensor(some.mT, dtype=dtype) if dtype else wrap_torch_tensor(some.mT), kind, **options)

        one = convert(source[:1])
        inner = one.storage.data.mT.shape[1:]
        flat = torch.zeros(len(source) * inner.numel() + SLACK_BYTES, dtype=torch.uint8, device='cuda')
        full = flat[:len(source) * inner.numel()].view(len(source), *inner)
        for e in range(0, len(source), 2):
            full[e:e + 2].copy_(convert(source[e:e + 2]).storage.data.mT)
        whole = kind([len(source), *source.mT.shape[1:]], **options)
        return Tensor(Storage(full.mT, whole), dtype=one.dtype, shape=list(shape))

    def decoded(self, expert):
        codes = self.codes[expert].int()
        values = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)
        scales = torch.exp2(self.exponents[expert].float() - 127).repeat_interleave(32, dim=-1)
        return torch.tensor(CODES, device='cuda')[values] * scales


class Launches:
    """A problem's launches, one for each disjoint set of experts or copy of the weights."""

    def __init__(self, problem, copies):
        self.copies = copies
        rows = rows_of_experts(problem)
        active = [count for count in rows if count]
        places = problem['experts'] // len(active)
        self.x = torch.randn((problem['rows'], problem['k']), device='cuda').bfloat16()
        self.y = torch.empty((problem['rows'], problem['n']), dtype=torch.bfloat16, device='cuda')
        self.routings = [rows]
        if places > 1:
            self.routings = [[0] * (p * len(active)) + active + [0] * (problem['experts'] - (p + 1) * len(active)) for p in range(places)]
        gates = torch.ones(problem['rows'], device='cuda')
        self.data = []
        for rows in self.routings:
            histogram = torch.tensor(rows, dtype=torch.int32, device='cuda')
            meta = make_ragged_tensor_metadata(histogram, problem['rows'])
            self.data.append(RoutingData(gates, histogram, problem['experts'], problem['rows'] // problem['tokens'], meta))
        self.calls = [(c, r) for c in range(len(copies)) for r in range(len(self.data))]

    def run(self, call):
        copy, routing = call
        matmul_ogs(self.x, self.copies[copy].values, None, self.data[routing], precision_config=self.copies[copy].precision, y=self.y)

    def relative_error(self):
        self.y.fill_(float('nan'))
        self.run(self.calls[0])
        rows, begin, square, norm = self.routings[0], 0, 0.0, 0.0
        for expert, count in enumerate(rows):
            if count and (begin == 0 or begin + count == sum(rows)):
                some = slice(begin, begin + min(count, 256))
                want = self.x[some].float() @ self.copies[0].decoded(expert).T
                square += float((self.y[some].float() - want).square().sum())
                norm += float(want.square().sum())
            begin += count
        return (square / norm)**0.5

    def microseconds(self, replay_us=20000, replays=11):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for call in self.calls:
                self.run(call)

            def graph(rounds):
                captured = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured, stream=stream):
                    for _ in range(rounds):
                        for call in self.calls:
                            self.run(call)
                return captured

            def replay(captured):
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                captured.replay()
                end.record()
                torch.cuda.synchronize()
                return begin.elapsed_time(end) * 1000

            once = graph(1)
            replay(once)
            rounds = max(1, min(int(replay_us / replay(once)), 400 // len(self.calls) + 1))
            many = graph(rounds)
            replay(many)
            return statistics.median(replay(many) for _ in range(replays)) / rounds / len(self.calls)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', nargs='+')
    parser.add_argument('--out', required=True)
    parser.add_argument('--only-compile', action='store_true', help='runs each once and writes nothing; what several processes can do at a time')
    options = parser.parse_args()
    if not options.only_compile and len(options.results) > 1:
        for process in [subprocess.Popen([sys.executable, __file__, '--only-compile', '--out', '-', path]) for path in options.results]:
            process.wait()

    rows, weights = [], {}
    for problem in sorted(problems(options.results), key=lambda p: (p['experts'], p['n'], p['k'])):
        shape = problem['experts'], problem['n'], problem['k']
        if shape not in weights:
            weights = {shape: []}
        copies = weights[shape]
        bytes_of_one = problem['experts'] * (problem['n'] * problem['k'] * 17 // 32)
        while len(copies) < (1 if options.only_compile else min(MOST_COPIES, math.ceil(COLD_BYTES / bytes_of_one))):
            copies.append(Weights(*shape))
        launches = Launches(problem, copies)
        error = launches.relative_error()
        if not error <= MOST_ERROR:
            raise SystemExit(f"triton_kernels is wrong by {error:.2e} at {problem['mlp']}, {problem['tokens']} tokens: at most {MOST_ERROR}")
        if options.only_compile:
            continue
        us = launches.microseconds()
        rows.append({name: problem[name] for name in KEPT} | {'triton_us': round(us, 3), 'rel_err': error})
        print(f"{problem['model']:12} {problem['mlp']:14} {problem['routing']:8} {problem['tokens']:6} tokens  triton_kernels {us:9.2f} us  "
              f"ours {problem['ours_us']:9.2f} us  {us / problem['ours_us']:.2f}x  error {error:.2e}", flush=True)
    if not options.only_compile:
        head = {'date': datetime.date.today().isoformat(), 'gpu': torch.cuda.get_device_name(), 'torch': torch.__version__,
                'triton': triton.__version__, 'cuda': torch.version.cuda}
        pathlib.Path(options.out).write_text(json.dumps(head | {'rows': rows}, indent=1) + '\n')


main()
