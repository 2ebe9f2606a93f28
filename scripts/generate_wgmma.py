#!/usr/bin/env python3
"""Writes kernel_templates/wgmma_shapes.cuh: one struct for each n of wgmma.mma_async m64nNk16, bf16 -> fp32.

An asm statement must name its registers one by one, so the shapes differ in text and no template can make them.
"""
import pathlib

HEAD = """// wgmma.mma_async.m64nNk16, bf16 in, fp32 accumulators, for every n. Written by scripts/generate_wgmma.py: do not edit.
// rs: A (64 x 16) from registers; ss: A from shared memory. B (16 x n) from shared memory, K-major. d += A · B.
#pragma once

#include "contract/layout.h"

namespace mxfp4::ptx {

template <int kN>
struct Wgmma;
"""


def lines(items, indent, per_line=10):
    rows = [", ".join(items[i:i + per_line]) for i in range(0, len(items), per_line)]
    return (",\n" + indent).join(rows)


def shape(n):
    regs = n // 2
    d = ["%" + str(i) for i in range(regs)]
    quoted = ", \"\n                     \"".join(", ".join(d[i:i + 16]) for i in range(0, regs, 16))
    outputs = lines([f'"+f"(d[{i}])' for i in range(regs)], " " * 23, 8)
    def function(name, parameter, operand, inputs, a_trans):
        b = regs + len(inputs)
        return f"""    __device__ static void {name}(float (&d)[{regs}], {parameter}, u64 b) {{
        asm volatile("wgmma.mma_async.sync.aligned.m64n{n}k16.f32.bf16.bf16 {{{quoted}}}, "
                     "{operand}, %{b}, 1, 1, 1{a_trans}, 0;"
                     : {outputs}
                     : {", ".join(inputs)}, "l"(b));
    }}
"""
    a = ", ".join("%" + str(regs + i) for i in range(4))
    return (f"\ntemplate <>\nstruct Wgmma<{n}> {{\n"
            + function("rs", "const u32 (&a)[4]", "{" + a + "}", [f'"r"(a[{i}])' for i in range(4)], "")
            + function("ss", "u64 a", f"%{regs}", ['"l"(a)'], ", 0") + "};\n")


out = pathlib.Path(__file__).resolve().parent.parent / "kernel_templates" / "wgmma_shapes.cuh"
out.write_text(HEAD + "".join(shape(n) for n in range(8, 257, 8)) + "\n}  // namespace mxfp4::ptx\n")
