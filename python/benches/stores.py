"""Disks that are Python objects against a disk in memory, which runs no Python: throughput over the loopback interface.

    cargo xtask bench-python

Each figure is the best of several rounds: what else the machine does only ever takes away. The initiator runs in a
process of its own, so that it does not wait for the interpreter that the stores need.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import lunette

GUIDE = Path(__file__).resolve().parents[2] / "docs/guide/python.md"
SIZE = 64 << 20
DEPTH = 16
#: The kinds in the order of the table; each reads at least half as fast as memory, and writes so.
HALF = ("pread, pwrite", "preadinto, pwrite")


class Plain(bytearray):
    def pread(self, length, offset):
        return self[offset : offset + length]

    def pwrite(self, data, offset):
        self[offset : offset + len(data)] = data


class Filling:
    def __init__(self, size):
        self.data = memoryview(bytearray(size))

    def __len__(self):
        return len(self.data)

    def preadinto(self, buffer, offset):
        buffer[:] = self.data[offset : offset + len(buffer)]

    def pwrite(self, data, offset):
        self.data[offset : offset + len(data)] = data


class Awaited(bytearray):
    async def pread(self, length, offset):
        return self[offset : offset + length]

    async def pwrite(self, data, offset):
        self[offset : offset + len(data)] = data


KINDS = {
    "memory": lambda: SIZE,
    "pread, pwrite": lambda: Plain(SIZE),
    "preadinto, pwrite": lambda: Filling(SIZE),
    "async def": lambda: Awaited(SIZE),
}


def initiator(url: str, write: bool, block: int, seconds: float) -> None:
    """The other process: keeps `DEPTH` commands under way for a while and prints MiB/s."""
    data = bytes(block)
    with lunette.Disk(url) as disk:
        pending = deque()
        offset = done = 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            while len(pending) < DEPTH:
                pending.append(disk.start_write(offset, data) if write else disk.start_read(offset, block))
                offset = (offset + block) % SIZE
            pending.popleft().wait()
            done += block
        elapsed = time.perf_counter() - began
        commands = done // block + len(pending)
        for operation in pending:
            operation.wait()
    print(done / elapsed / (1 << 20), commands)


def measure(kind: str, write: bool, block: int, rounds: int, seconds: float) -> tuple[float, float]:
    """MiB/s, and the processor time in seconds that this process took for a command: the best of each."""
    best, least = 0.0, float("inf")
    with lunette.Target(KINDS[kind]()) as target:
        for _ in range(rounds):
            command = [sys.executable, __file__, "--initiator", target.url, "--block", str(block)]
            command += ["--seconds", str(seconds)] + (["--writes"] if write else [])
            began = time.process_time()
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            best = max(best, float(told[0]))
            least = min(least, (time.process_time() - began) / int(told[1]))
    return best, least


def table(blocks: list[int], rounds: int, seconds: float) -> tuple[str, bool]:
    lines = ["| Store | KiB | Reads, MiB/s | of memory | CPU, µs | Writes, MiB/s | of memory | CPU, µs |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    enough = True
    for block in blocks:
        memory: list[float] = []
        for kind in KINDS:
            measured = [measure(kind, write, block, rounds, seconds) for write in (False, True)]
            figures = [figure for figure, _ in measured]
            memory = memory or figures
            ratios = [figure / whole for figure, whole in zip(figures, memory)]
            if block == 64 << 10 and kind in HALF and min(ratios) < 0.5:
                enough = False
            columns = [
                f"{figure:.0f} | {ratio:.0%} | {cost * 1e6:.0f}"
                for (figure, cost), ratio in zip(measured, ratios)
            ]
            name = "memory" if kind == "memory" else f"`{kind}`"
            lines.append(f"| {name} | {block >> 10} | {columns[0]} | {columns[1]} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines), enough


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/guide/python.md")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--initiator", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--block", type=int, action="append", help="bytes of a command; several may be given")
    parser.add_argument("--writes", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.initiator:
        initiator(parsed.initiator, parsed.writes, parsed.block[0], parsed.seconds)
        return 0
    text, enough = table(parsed.block or [4 << 10, 64 << 10], parsed.rounds, parsed.seconds)
    print(text)
    if parsed.write:
        guide = GUIDE.read_text()
        head, _, rest = guide.partition("<!-- figures -->\n")
        _, _, tail = rest.partition("<!-- end of figures -->")
        GUIDE.write_text(f"{head}<!-- figures -->\n{text}\n<!-- end of figures -->{tail}")
    if not enough:
        print("a Python store moves less than half of what memory does at 64 KiB", file=sys.stderr)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
