"""The guide's snippets run, and the smallest disk stays small."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guide/python.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_runs(code: str) -> None:
    exec(compile(code, "docs/guide/python.md", "exec"), {"__name__": "snippet"})


def test_a_ram_disk_takes_at_most_8_lines() -> None:
    lines = (ROOT / "python/examples/ram_disk.py").read_text().splitlines()
    assert 0 < len([line for line in lines if line.strip()]) <= 8
