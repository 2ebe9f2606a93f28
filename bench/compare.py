#!/usr/bin/env python3
"""Sets measured results beside the peers' figures of the same shapes.

    bench/compare.py [--markdown] [--peers FILE] RESULTS...

RESULTS are files that mxfp4-bench wrote; of several layouts of a shape the fastest counts. Printed for each GPU, over all
shapes with so many tokens (geometric means): our time over the floor, and each peer's time over ours (1.20x: we take 1/1.2 of
its time). The peers were timed as we are, by graph replay over cold weights. The floor is the larger of bytes over copy
bandwidth and flops over cuBLAS's rate.
"""
import argparse
import collections
import json
import math
import pathlib

PEERS = {'triton_us': 'triton_kernels', 'humming_us': 'Humming', 'marlin_us': 'Marlin', 'best_us': 'best peer'}


def read_rows(path):
    """A result file is one object with a head and a list "rows"; each row has the keys of peers.json."""
    return json.loads(pathlib.Path(path).read_text())['rows']


def short_name(gpu, names):
    return next((n for n in names if n.lower() in gpu.lower()), None)


def key(row):
    return row['model'], row['mlp'], row['tokens']


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def table(rows, peers):
    """Lines of cells: a head, one line for each number of tokens, and one for all."""
    def line(name, some):
        ours = [(r, peers[key(r)]) for r in some]
        over_floor = geometric_mean([r['us'] / p['floor_us'] for r, p in ours])
        times = [geometric_mean([p[peer] / r['us'] for r, p in ours if p.get(peer)]) for peer in PEERS]
        us = f"{some[0]['us']:.1f}" if len(some) == 1 else f"{min(r['us'] for r in some):.1f} .. {max(r['us'] for r in some):.1f}"
        return [name, str(len(some)), us, f'{over_floor:.2f}'] + ['-' if math.isnan(t) else f'{t:.2f}x' for t in times]

    by_tokens = collections.defaultdict(list)
    for row in rows:
        by_tokens[row['tokens']].append(row)
    lines = [['tokens', 'shapes', 'us', 'over floor'] + [f'vs {name}' for name in PEERS.values()]]
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
    options = parser.parse_args()

    peers = collections.defaultdict(dict)
    for row in json.loads(pathlib.Path(options.peers).read_text()):
        peers[row['gpu']][key(row)] = row
    by_gpu = collections.defaultdict(dict)
    for path in options.results:
        for row in read_rows(path):
            short = short_name(row['gpu'], peers)
            if short and key(row) in peers[short]:
                best = by_gpu[row['gpu']].get(key(row))
                if best is None or row['us'] < best['us']:  # of several layouts the faster
                    by_gpu[row['gpu']][key(row)] = row
    if not by_gpu:
        raise SystemExit('none of these shapes and GPUs is among the peers\' figures')
    for gpu, rows in by_gpu.items():
        heading = f'**{gpu}**' if options.markdown else gpu
        print(f'{heading}\n\n{text(table(list(rows.values()), peers[short_name(gpu, peers)]), options.markdown)}\n')


main()
