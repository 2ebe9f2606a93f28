#!/usr/bin/env python3
"""Makes FOLDER of the real kernel templates and the emulated instructions, side by side: quoted includes look there first.

templates.py KERNEL_TEMPLATES EMULATOR FOLDER OUT.h OUT.d [mutated]

mutated: the faults of mutations.py are in the text, each switched on by its number; OUT.h lists them."""

import pathlib
import sys

from mutations import MUTATIONS


def mutate(texts: dict[str, str]) -> list[str]:
    """Puts the faults into the texts; their rows for OUT.h."""
    rows = []
    for (file, where), faults in MUTATIONS.items():
        before, rest = where.split("«")
        old, after = rest.split("»")
        found = texts[file].count(before + old + after) == 1
        new = old
        for what, instead in faults.items():
            rows.append(f'    {{"{what}", "{file}", {str(found).lower()}}},\n')
            on = f"::mutation == {len(rows)}"
            new = f"{{ if ({on}) {{ {instead} }} else {{ {new} }} }}" if ";" in old else f"({on} ? ({instead}) : ({new}))"
        if found:
            texts[file] = texts[file].replace(before + old + after, before + new + after)
    return rows


def main() -> None:
    real, emulated, folder, out, depfile = (pathlib.Path(a) for a in sys.argv[1:6])
    sources = {p.name: p for p in [*real.glob("*.cuh"), *emulated.glob("*.cuh")]}  # the emulated ones replace the real
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    if sys.argv[6:] == ["mutated"]:
        texts = {name: source.read_text() for name, source in sources.items()}
        rows = mutate(texts)
        for name, text in texts.items():
            (folder / name).write_text(text)
        out.write_text(
            "#pragma once\n\nextern int mutation;  // the number of the fault that is on, from 1; 0: none\n\n"
            "struct Mutation {\n    const char* what;\n    const char* file;\n    bool found;  // its place in the file\n};\n"
            "inline constexpr Mutation kMutations[] = {\n" + "".join(rows) + "};\n")
    else:
        for name, source in sources.items():
            (folder / name).symlink_to(source.resolve())  # a compiler's list of what it read then has the files' own times
        out.write_text("")
    # Folders too: a new file changes its folder's time.
    read = [real, *sources.values(), pathlib.Path(__file__).parent / "mutations.py"]
    depfile.write_text(f"{out}: " + " ".join(str(p.resolve()).replace(" ", "\\ ") for p in read) + "\n")


main()
