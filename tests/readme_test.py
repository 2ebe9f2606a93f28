#!/usr/bin/env python3
"""The README's C++ is the example's, line for line.  readme_test.py SOURCE"""
import pathlib
import re
import sys

source = pathlib.Path(sys.argv[1])
readme = (source / 'README.md').read_text()
example = iter(line.strip() for line in (source / 'examples/ten_lines.cpp').read_text().splitlines())

wrong = []
shown = [line.strip() for block in re.findall(r'```cpp\n(.*?)```', readme, re.DOTALL) for line in block.splitlines()]
for line in shown:
    if line not in example:  # takes lines off, so that the order counts
        wrong.append(f'not in examples/ten_lines.cpp, or not in this order: {line}')
        break
if not shown:
    wrong.append('README.md shows no C++')
print('\n'.join(wrong) if wrong else f'{len(shown)} lines of C++ agree')
sys.exit(1 if wrong else 0)
