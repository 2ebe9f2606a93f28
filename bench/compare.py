#!/usr/bin/env python3
"""Sets measured results beside the peers' figures of the same shapes.

    bench/compare.py [--markdown] [--peers FILE] [--rates FILE] RESULTS...

RESULTS are files that mxfp4-bench wrote; of several layouts of a shape the fastest counts. Printed for each GPU, over all
shapes with so many tokens (geometric means): our time over the floor, and each peer's time over ours (1.20x: we take 1/1.2 of
its time). The peers were timed as we are, by graph replay over cold weights. The floor is the larger of bytes over copy
bandwidth and flops over cuBLAS's rate, as measured once on a GPU of that kind. GPUs of one kind differ: with --rates our
time over the floor of this one is printed too, by the rates that mxfp4-bench --against cublas has written into FILE.
"""
import argparse
import collections
import json
import math
import pathlib

PEERS = {'triton_us': 'triton_kernels', 'humming_us': 'Humming', 'marlin_us': 'Marlin', 'best_us': 'best peer'}


def read_results(path):
    """A result file is one object with a head and a list "rows"; each row has the keys of peers.json."""
    return json.loads(pathlib.Path(path).read_text())


def floor_us(row, ceilings):
    """As tuner/floor.cpp has it."""
    moved = row['active'] * row['n'] * row['k'] * (1 / 2 + 1 / 32) + row['rows'] * (row['k'] + row['n']) * 2
    flops = 2 * row['rows'] * row['n'] * row['k']
    return max(moved / ceilings['copy_tb_per_s'], flops / ceilings['cublas_tflops']) * 1e-6


def short_name(gpu, names):
    return next((n for n in names if n.lower() in gpu.lower()), None)


def key(row):
    return row['model'], row['mlp'], row['tokens']


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def table(rows, peers, ceilings):
    """Lines of cells: a head, one line for each number of tokens, and one for all."""
    floors = {'over floor': lambda row: peers[key(row)]['floor_us']}
    if ceilings:
        floors['over its own'] = lambda row: floor_us(row, ceilings)

    def line(name, some):
        ours = [(r, peers[key(r)]) for r in some]
        over = [f"{geometric_mean([r['us'] / floor(r) for r in some]):.2f}" for floor in floors.values()]
        times = [geometric_mean([p[peer] / r['us'] for r, p in ours if p.get(peer)]) for peer in PEERS]
        us = f"{some[0]['us']:.1f}" if len(some) == 1 else f"{min(r['us'] for r in some):.1f} .. {max(r['us'] for r in some):.1f}"
        return [name, str(len(some)), us] + over + ['-' if math.isnan(t) else f'{t:.2f}x' for t in times]

    by_tokens = collections.defaultdict(list)
    for row in rows:
        by_tokens[row['tokens']].append(row)
    lines = [['tokens', 'shapes', 'us'] + list(floors) + [f'vs {name}' for name in PEERS.values()]]
    lines += [line(str(tokens), by_tokens[tokens]) for tokens in sorted(by_tokens)]
    return lines + [line('all', rows)]


def text(lines, markdown):
    if markdown:
        rule = ['---:'] * len(lines[0])
        return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in [lines[0], rule] + lines[1:])
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]
    return '\n'.join('  '.join(cell.rjust(width) for cell, width in zip(cells, widths)) for cells in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', nargs='+')
    parser.add_argument('--markdown', action='store_true')
    parser.add_argument('--peers', default=pathlib.Path(__file__).with_name('peers.json'))
    parser.add_argument('--rates')
    options = parser.parse_args()

    rates = read_results(options.rates) if options.rates else {}
    if options.rates and 'ceilings' not in rates:
        raise SystemExit(f'{options.rates} has no ceilings: mxfp4-bench --against cublas --out DIR writes them')
    peers = collections.defaultdict(dict)
    for row in json.loads(pathlib.Path(options.peers).read_text()):
        peers[row['gpu']][key(row)] = row
    by_gpu = collections.defaultdict(dict)
    for path in options.results:
        for row in read_results(path)['rows']:
            short = short_name(row['gpu'], peers)
            if short and key(row) in peers[short]:
                best = by_gpu[row['gpu']].get(key(row))
                if best is None or row['us'] < best['us']:  # of several layouts the faster
                    by_gpu[row['gpu']][key(row)] = row
    if not by_gpu:
        raise SystemExit('none of these shapes and GPUs is among the peers\' figures')
    for gpu, rows in by_gpu.items():
        heading = f'**{gpu}**' if options.markdown else gpu
        ceilings = rates['ceilings'] if gpu == rates.get('gpu') else None
        lines = table(list(rows.values()), peers[short_name(gpu, peers)], ceilings)
        print(f'{heading}\n\n{text(lines, options.markdown)}\n')


main()
