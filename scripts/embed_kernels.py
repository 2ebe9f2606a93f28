#!/usr/bin/env python3
"""Turns kernel_templates/**/*.{h,cuh} into one C++ file: embed_kernels.py FOLDER OUT.cpp OUT.d"""

import pathlib
import sys


def literal(text: str) -> str:
    assert ')mxfp4"' not in text
    return 'R"mxfp4(' + text + ')mxfp4"'


def main() -> None:
    folder, out, depfile = (pathlib.Path(a) for a in sys.argv[1:])
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".h", ".cuh"))
    folders = [folder] + sorted(p for p in folder.rglob("*") if p.is_dir())
    entries = [f'    {{"{p.relative_to(folder).as_posix()}", {literal(p.read_text())}}},\n' for p in files]
    out.write_text(
        '#include "kernel_text.h"\n\nnamespace mxfp4 {\n\n'
        "// An empty last entry: an array of none would be ill-formed.\n"
        "static constexpr EmbeddedFile kFiles[] = {\n" + "".join(entries) + '    {"", ""},\n};\n\n'
        f"std::span<const EmbeddedFile> embedded_kernel_files() {{ return {{kFiles, {len(entries)}}}; }}\n\n"
        "}  // namespace mxfp4\n")
    # Folders too: a new file changes its folder's time.
    depfile.write_text(f"{out}: " + " ".join(str(p.resolve()).replace(" ", "\\ ") for p in folders + files) + "\n")


main()
