#!/usr/bin/env python3
"""Turns a text file into a C++ function that returns it: embed_text.py IN OUT.cpp HEADER FUNCTION"""

import pathlib
import sys


def main() -> None:
    source, out, header, function = sys.argv[1:]
    text = pathlib.Path(source).read_text()
    assert ')mxfp4"' not in text
    # In pieces: compilers limit the length of one literal.
    pieces = "\n".join(f'R"mxfp4({text[i:i + 10000]})mxfp4"' for i in range(0, len(text), 10000))
    pathlib.Path(out).write_text(
        f'#include "{header}"\n\nnamespace mxfp4 {{\n\nstd::string_view {function}() {{\n    return {pieces};\n}}\n\n}}  // namespace mxfp4\n')


main()
