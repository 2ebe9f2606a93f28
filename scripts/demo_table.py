#!/usr/bin/env python3
"""What mxfp4-bench measured and what tuning gained, as a table for people.

    demo_table.py RESULTS.json TUNE.jsonl PEERS.json
"""
import json
import pathlib
import sys


def time_text(us):
    return f'{us:.1f} us' if us < 1000 else f'{us / 1000:.2f} ms'


def rate_text(row):
    per_us = 2 * row['rows'] * row['n'] * row['k'] / row['us']
    return f'{per_us / 1e6:.0f} TFLOP/s' if per_us >= 1e6 else f'{per_us / 1e3:.1f} GFLOP/s'


def ratio_text(value, us):
    return f'{value / us:.2f}x' if value else ''


def key(row):
    return row['mlp'], row['tokens']


def main():
    results, tuned, peers = (pathlib.Path(path).read_text() for path in sys.argv[1:])
    results = json.loads(results)
    gains = {key(row): row.get('us_default') and row['us_default'] / row['us'] for row in map(json.loads, tuned.splitlines())}
    best = {(p['gpu'], p['model'], *key(p)): p['best_us'] for p in json.loads(peers)}
    gpu = next((name for name in ('h100', 'h200') if name in results['gpu'].lower()), None)

    columns = {
        'weight': lambda r: r['mlp'].rsplit('.', 1)[-1],
        'tokens': lambda r: str(r['tokens']),
        'rows': lambda r: str(r['rows']),
        'experts': lambda r: str(r['active']),
        'time': lambda r: time_text(r['us']),
        'rate': rate_text,
        'of floor': lambda r: f"{100 * r['floor_us'] / r['us']:.0f} %" if r.get('floor_us') else '',
        'tuning': lambda r: f'{gains[key(r)]:.2f}x' if gains.get(key(r)) else '',
        'naive': lambda r: ratio_text(r.get('naive_us'), r['us']),
        'best peer': lambda r: ratio_text(best.get((gpu, r['model'], *key(r))), r['us']),
        'error': lambda r: f"{r['rel_err']:.1e}" if r.get('rel_err') is not None else '',
        'kernel': lambda r: f"{r['config']} ({r['how']})",
    }
    lines = [list(columns)] + [[text(row) for text in columns.values()] for row in results['rows']]
    shown = [i for i in range(len(columns)) if any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in shown}
    left = {0, len(columns) - 1}
    print(f"\n  {results['gpu']}, {results['compiler']}\n")
    for number, line in enumerate(lines):
        print('  ' + '  '.join(line[i].ljust(widths[i]) if i in left else line[i].rjust(widths[i]) for i in shown).rstrip())
        if number == 0:
            print('  ' + '  '.join('─' * widths[i] for i in shown))
    print('\n  tuning: the time of the default kernel over that of the winner, measured side by side')
    if any(line[list(columns).index('best peer')] for line in lines[1:]):
        print('  naive, best peer: their time over ours; the peers\' figures are from bench/peers.json')


main()
