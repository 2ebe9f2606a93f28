#!/usr/bin/env python3
"""The project is a house with floors: a file includes from its own floor's folder or from floors below it, never upward or
sideways. Files stay short enough to be one idea.  floors_test.py SOURCE"""
import pathlib
import re
import sys

MAX_LINES = 500

# The longest matching prefix counts.
FLOORS = {
    'kernel_templates/contract/': 0, 'include/mxfp4/': 0,
    'src/core/': 1, 'src/cuda/': 1, 'src/kernel_text': 1,
    'src/pack/': 2, 'src/reference/': 2,
    'kernel_templates/': 3,
    'src/backends/': 4, 'src/weights': 4,
    'tuner/': 5, 'cache/': 5,
    'src/dispatcher/': 6,
    'src/tools/': 7, 'bench/': 7, 'examples/': 7,
}
FOLDERS = ['src', 'kernel_templates', 'tuner', 'cache', 'include', 'bench', 'examples']
INCLUDE_FOLDERS = ['include', 'kernel_templates', 'src', '.']
# core is small change for both; cuda stands beside it. Each other floor's folders know nothing of each other.
SIDEWAYS = {('src/cuda/', 'src/core/'), ('src/kernel_text', 'src/core/'), ('src/cuda/', 'src/kernel_text'),
            ('include/mxfp4/', 'kernel_templates/contract/'), ('src/weights', 'src/backends/'),
            ('bench/', 'src/tools/'), ('examples/', 'src/tools/')}


def room(path):
    rooms = [prefix for prefix in FLOORS if path.startswith(prefix)]
    return max(rooms, key=len) if rooms else None


def may_include(here, there):
    return here == there or FLOORS[there] < FLOORS[here] or (here, there) in SIDEWAYS


def main():
    source = pathlib.Path(sys.argv[1])
    wrong = []
    files = [p for folder in FOLDERS for p in (source / folder).rglob('*') if p.suffix in ('.h', '.cpp', '.cuh')]
    for file in files:
        path = file.relative_to(source).as_posix()
        text = file.read_text()
        lines = text.splitlines()
        if len(lines) > MAX_LINES and 'do not edit' not in text[:400]:
            wrong.append(f'{path}: {len(lines)} lines, more than {MAX_LINES}')
        here = room(path)
        if here is None:
            wrong.append(f'{path}: on no floor; name its folder in {pathlib.Path(__file__).name}')
            continue
        for name in re.findall(r'^\s*#include\s+"([^"]+)"', text, re.MULTILINE):
            found = next((p for f in INCLUDE_FOLDERS if (p := source / f / name).exists()), None)
            if found is None:
                continue  # beside the file, or made by the build
            there = room(found.relative_to(source).as_posix())
            if there and not may_include(here, there):
                wrong.append(f'{path}: floor {FLOORS[here]} includes {name} of floor {FLOORS[there]}')
    if not files:
        wrong.append(f'no files under {source}')
    print('\n'.join(wrong) if wrong else f'{len(files)} files, each on its floor')
    sys.exit(1 if wrong else 0)


main()
