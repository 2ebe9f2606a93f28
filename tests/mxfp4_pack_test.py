#!/usr/bin/env python3
"""mxfp4-pack from the outside: results, messages, exit codes, nothing half written."""
import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PACK, MAKE = (os.path.abspath(path) for path in sys.argv[1:3])


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__", {})
    data = data[8 + size:]
    tensors = {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}
    return tensors, metadata


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


class PackTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="mxfp4_test_")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def run_tool(self, *arguments, tool=PACK, **options):
        return subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)

    def make(self, *arguments, folder="model"):
        done = self.run_tool("-o", self.folder / folder, "--quiet", *arguments, tool=MAKE)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        return self.folder / folder

    def fails(self, code, part, *arguments, **options):
        """One clear line on stderr, nothing on stdout, no new file."""
        before = sorted(self.folder.rglob("*"))
        done = self.run_tool(*arguments, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("mxfp4-pack: "), done.stderr)
        self.assertIn(part, done.stderr)
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def test_every_layout_and_naming_comes_back_byte_for_byte(self):
        for naming, shards in (("hf", 1), ("openai", 3)):
            model = self.make("--naming", naming, "--shards", shards, "--hidden", 96, "--intermediate", 160,
                              "--experts", 3, folder=naming)
            source = {}
            for file in model.glob("*.safetensors"):
                source.update(read_safetensors(file)[0])
            wanted = {n: t for n, t in source.items() if n.endswith(("blocks", "scales", "_bias"))}
            for layout in ("native", "hopper", "blocks"):
                packed, back = self.folder / f"{naming}.{layout}", self.folder / f"{naming}.{layout}.back"
                done = self.run_tool(model, "-o", packed, "--layout", layout, "--verify", "--json", "--threads", 2)
                self.assertEqual(done.returncode, 0, done.stderr)
                result = json.loads(done.stdout)
                self.assertEqual(len(result["packed"]), 4)
                self.assertEqual(result["skipped"], len(source) - len(wanted))
                self.assertEqual(result["bytes"], packed.stat().st_size)
                tensors, metadata = read_safetensors(packed)
                self.assertEqual(metadata["mxfp4.format"], "1")
                for entry in result["packed"]:
                    name = entry["name"]
                    info = json.loads(metadata["mxfp4." + name])
                    self.assertEqual((info["layout"], info["layout_version"]), (layout, 2 if layout == "native" else 1))
                    self.assertEqual(info["num_warps"], 0 if layout == "native" else 8)
                    n, k = entry["n"], entry["k"]
                    values, scales = tensors[name + ".values"], tensors[name + ".scales"]
                    if layout == "blocks":
                        self.assertEqual(values[1], [3, k // 32, n, 16])
                    elif layout == "hopper":
                        self.assertEqual(values[1], [3, -(-n // 64) * 16, -(-k // 128) * 256])
                        self.assertEqual(scales[1], [3, -(-n // 256) * 8, -(-k // 64) * 64])
                    else:
                        self.assertEqual(tensors[name + ".expert_scale"][:2], ("F32", [3]))
                    bias = name.removesuffix("_weight") + "_bias"
                    self.assertEqual(tensors[name + ".bias"], source[bias])
                done = self.run_tool(packed, "--unpack", "-o", back, "--quiet")
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
                self.assertEqual(read_safetensors(back)[0], wanted)

    def test_only_selects_by_regular_expression(self):
        model, out = self.make(), self.folder / "out"
        done = self.run_tool(model, "-o", out, "--json", "--only", r"layers\.1\..*down")
        packed = json.loads(done.stdout)["packed"]
        self.assertEqual([w["name"] for w in packed], ["model.layers.1.mlp.experts.down_proj"])
        self.assertEqual(json.loads(done.stdout)["skipped"], 13)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.fails(1, "see --only", model, "-o", self.folder / "none", "--only", "nothing")
        self.fails(1, "see --only", out, "--unpack", "-o", self.folder / "none", "--only", "layers.0")

    def test_help_and_version(self):
        self.assertEqual(self.run_tool("--version").stdout, "mxfp4-pack 0.1.0\n")
        shown = self.run_tool("--help")
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        for option in ("--layout", "--num-warps", "--only", "--verify", "--unpack", "--json", "--quiet", "--threads"):
            self.assertIn(option, shown.stdout)

    def test_wrong_arguments_exit_2(self):
        model, out = self.make(), self.folder / "out"
        for part, arguments in {
            "CHECKPOINT is required": ["-o", out],
            "--output is required": [model],
            "--bogus": [model, "-o", out, "--bogus"],
            "unknown layout (is 'foo', must be one of blocks, hopper, native)": [model, "-o", out, "--layout", "foo"],
            "--num-warps does not go with the native layout": [model, "-o", out, "--num-warps", 8],
            "--num-warps (is 6, must be a power of two up to 32)": [model, "-o", out, "--layout", "hopper", "--num-warps", 6],
            "--num-warps (is 0, must be a power of two up to 32)": [model, "-o", out, "--layout", "hopper", "--num-warps", 0],
            "--num-warps": [model, "-o", out, "--layout", "hopper", "--num-warps", "x"],
            "--num-warps (is 64": [model, "-o", out, "--layout", "blocks", "--num-warps", 64],
            "no regular expression": [model, "-o", out, "--only", "("],
            "--threads": [model, "-o", out, "--threads", -1],
            "--layout excludes --unpack": [model, "-o", out, "--unpack", "--layout", "hopper"],
            "--unpack takes one": [model, model, "-o", out, "--unpack"],
        }.items():
            with self.subTest(part):
                self.fails(2, part, *arguments)

    def test_bad_files_exit_1(self):
        model, out = self.make(), self.folder / "out"
        good = model / "model.safetensors"
        content = good.read_bytes()
        bad = self.folder / "bad.safetensors"
        for part, data in {
            "too short": b"",
            "header size makes no sense": b"\xff" * 100,
            "header ends past the end": content[:100],
            "ends past the end of the file": content[:-1],
            "no JSON": struct.pack("<Q", 3) + b"{]}",
            "git lfs pull": b"version https://git-lfs.github.com/spec/v1\n",
            "no MXFP4 expert tensor": struct.pack("<Q", 2) + b"{}",
        }.items():
            bad.write_bytes(data)
            with self.subTest(part):
                self.fails(1, part, bad, "-o", out)
        bad.unlink()
        tensors, _ = read_safetensors(good)
        name = "model.layers.0.mlp.experts.down_proj"
        dtype, shape, data = tensors[name + "_scales"]
        for part, change in {
            f"tensor '{name}_blocks' has no partner": None,
            "has the wrong shape": (dtype, [shape[0], shape[1] * shape[2]], data),
            "has the wrong dtype (is 'I8', must be U8)": ("I8", shape, data),
            "a scale is NaN: expert 0, row 0, block 1": (dtype, shape, data[:1] + b"\xff" + data[2:]),
        }.items():
            changed = {k: v for k, v in tensors.items() if k != name + "_scales"}
            if change:
                changed[name + "_scales"] = change
            write_safetensors(bad, changed)
            with self.subTest(part):
                self.fails(1, part, bad, "-o", out)
        self.fails(1, "No such file", self.folder / "none", "-o", out)
        self.fails(1, "make its folder first", model, "-o", self.folder / "none" / "out")
        self.fails(1, "is no regular file", model, "-o", self.folder)
        self.fails(1, "is no regular file", model, "-o", "/dev/full")
        self.fails(1, "is no packed file", good, "--unpack", "-o", out)
        self.fails(1, "would overwrite an input", model, "-o", good)
        self.assertEqual(good.read_bytes(), content)
        if os.geteuid() != 0:  # root reads everything
            model.chmod(0)
            self.addCleanup(model.chmod, 0o700)
            done = self.run_tool(model, "-o", out)
            self.assertEqual(done.returncode, 1)
            self.assertIn("Permission denied", done.stderr)

    def test_a_packed_file_is_not_packed_again(self):
        model, out = self.make(), self.folder / "packed"
        self.assertEqual(self.run_tool(model, "-o", out).returncode, 0)
        self.fails(1, "is packed already", out, "-o", self.folder / "again")
        self.fails(1, "would overwrite an input", out, "--unpack", "-o", out)

    def test_a_full_disk_leaves_what_was_there(self):
        model, out = self.make(), self.folder / "out"
        out.write_text("old")
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        self.fails(1, "File too large", model, "-o", out, preexec_fn=limit)
        self.assertEqual(out.read_text(), "old")

    def test_a_full_standard_output_is_a_failure(self):
        model = self.make()
        with open("/dev/full", "w") as full:
            done = subprocess.run([PACK, model, "-o", self.folder / "out", "--json"], stdout=full,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)

    def test_an_interrupt_leaves_nothing(self):
        model = self.make("--experts", 32, "--hidden", 2048, "--intermediate", 1024, "--layers", 1)
        process = subprocess.Popen([PACK, model, "-o", self.folder / "out", "--threads", "1", "--verify"],
                                   stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(self.folder.glob(".out*")):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        code = process.wait()
        self.assertIn(code, (-signal.SIGINT, 0))  # 0: it was done before
        # Interrupted between the rename and its end it leaves the whole output.
        names = sorted(f.name for f in self.folder.iterdir())
        self.assertIn(names, [["model"], ["model", "out"]] if code else [["model", "out"]])


unittest.main(argv=sys.argv[:1])
