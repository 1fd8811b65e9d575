"""The snippets of the guide and the README run, and the smallest disk stays small."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/guide/python.md", "python/README.md", "README.md"]
RAM_DISK = ROOT / "python/examples/ram_disk.py"


def blocks(page, language):
    """The blocks of a page, each with its line as a name."""
    text = (ROOT / page).read_text()
    for block in re.finditer(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
        line = text.count("\n", 0, block.start()) + 1
        yield pytest.param(block[1], id=f"{page}:{line}")


SNIPPETS = [block for page in PAGES for block in blocks(page, "python")]
SCRIPTS = [block for block in SNIPPETS if "def test_" not in block.values[0]]
TESTS = [block for block in SNIPPETS if "def test_" in block.values[0]]
CONSOLE = [block for page in PAGES[:2] for block in blocks(page, "console")]


def test_there_are_snippets():
    assert len(SCRIPTS) >= 10 and len(TESTS) >= 8 and CONSOLE


@pytest.mark.parametrize("code", SCRIPTS)
def test_a_snippet_runs(code, caplog):
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("code", TESTS)
def test_a_snippet_with_tests_passes(code, pytester):
    pytester.makepyfile(code)
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").parseoutcomes()
    assert outcome.get("passed", 0) >= 1 and set(outcome) == {"passed"}, outcome


@pytest.mark.parametrize("text", CONSOLE)
def test_a_command_line_runs(text, iscsi_target):
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        words = shlex.split(command.replace("URL", iscsi_target.url).replace("PORTAL", f"iscsi://{iscsi_target.portal}"))
        assert words[0] == "python"
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)


def test_a_ram_disk_takes_at_most_8_lines():
    lines = [line for line in RAM_DISK.read_text().splitlines() if line.strip()]
    assert 0 < len(lines) <= 8
    assert max(map(len, lines)) <= 100, "and they are lines"


def test_the_ram_disk_tells_its_url_and_serves():
    import lunette

    with subprocess.Popen([sys.executable, RAM_DISK], stdout=subprocess.PIPE, text=True) as disk:
        try:
            with lunette.Disk(disk.stdout.readline().strip()) as connected:
                connected.write(0, b"x" * 4096)
                assert connected.read(0, 4096) == b"x" * 4096
        finally:
            disk.terminate()
