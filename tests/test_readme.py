"""README.md's commands are run and its outputs compared. ``python -m tests.test_readme`` writes the outputs anew.

Every console block stands under a comment that says how it is tested:

    <!-- run -->    run, all in one folder; what a trained model gave is masked, since processors round differently
    <!-- serve -->  the first command is left running, and the block's curl lines are sent to it
    <!-- data -->   the output of a data set that may not be passed on: the command lines are checked
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest

from xdm.cli import COMMANDS, group

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- (run|serve|data) -->\n```console\n(.*?)```", re.DOTALL)
SHOWN_ADDRESS = "http://127.0.0.1:8000"
Step = tuple[str, str]  # a command as it is written, and what it prints


def environment() -> dict[str, str]:
    """The commands of this interpreter first on the path, a terminal of fixed width, no colours."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100", "NO_COLOR": "1"}


def steps(block: str) -> list[Step]:
    """The commands of a console block with their outputs; a command goes on where a line ends with a backslash."""
    found: list[Step] = []
    lines = iter(block.splitlines(keepends=True))
    for line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\\n"):
                command += next(lines)
            found.append((command, ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "), comments=True)


def printed_by(command: str, folder: Path) -> str:
    """What a shell command prints on standard output."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def answer_to(command: str, address: str) -> str:
    """What a ``curl -s URL [-H …] [-d BODY]`` gets from ``address``; no curl is needed."""
    words = words_of(command)
    assert words[:2] == ["curl", "-s"]
    (url,) = (word for word in words if word.startswith(SHOWN_ADDRESS))
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    headers = dict([words[words.index("-H") + 1].split(": ")]) if "-H" in words else {}
    request = urllib.request.Request(url.replace(SHOWN_ADDRESS, address), data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        # As it came, but for the space after commas and colons and the width of a page.
        return json.dumps(json.load(answer)).replace('"items": [', '"items": [\n  ').replace("}, {", "},\n  {") + "\n"


def served(block: str, folder: Path) -> list[Step]:
    """Start the block's service on a free port, and send it the rest of the block."""
    (first, _), *rest = steps(block)
    command = words_of(first)
    assert command[:2] == ["xdm", "serve"]
    assert command[-1] == "&"
    server = subprocess.Popen(
        [*command[:-1], "--port", "0"],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    too_long = threading.Timer(120, server.kill)  # a service that never says where it listens ends the wait, too
    too_long.start()
    try:
        said = ""
        while not (found := re.search(r"answers at (http://\S+) ", said)):
            line = server.stdout.readline()
            assert line, f"the service ended before it listened:\n{said}"
            said += line
        return [(first, ""), *((command, answer_to(command, found[1])) for command, _ in rest)]
    finally:
        too_long.cancel()
        server.terminate()
        server.communicate(timeout=20)


def renewed(text: str, folder: Path) -> str:
    """``text`` with every output as it comes out now, run in ``folder``."""

    def run(match: re.Match[str]) -> str:
        kind, block = match.groups()
        done = steps(block)
        if kind == "run":
            done = [(command, printed_by(command, folder)) for command, _ in done]
        elif kind == "serve":
            done = served(block, folder)
        return f"<!-- {kind} -->\n```console\n" + "".join(f"$ {command}{output}" for command, output in done) + "```"

    return BLOCK.sub(run, text)


def comparable(text: str) -> list[str]:
    """The lines of ``text`` without what may differ from machine to machine: times, a model's figures and its ranking."""
    text = re.sub(r"in \d+\.\d s", "in # s", text)
    text = re.sub(r"[-+]?\d+\.\d{2,}", "#", text)
    text = re.sub(r'"fingerprint": "\w+"', '"fingerprint": "#"', text)
    text = re.sub(r"epoch \d+", "epoch #", text)
    return re.sub(r'(# +|"item_id": ")i\d{3}(?=\n|", "score)', r"\1i#", text).splitlines()


def test_every_output_in_the_readme_is_what_comes_out(tmp_path):
    text = README.read_text(encoding="utf-8")
    assert comparable(renewed(text, tmp_path)) == comparable(text)


def test_no_console_block_is_left_out():
    text = README.read_text(encoding="utf-8")
    assert text.count("```console\n") == len(BLOCK.findall(text))
    assert {kind for kind, _ in BLOCK.findall(text)} == {"run", "serve", "data"}


def test_every_command_in_the_readme_can_be_parsed():
    seen = set()
    for _, block in BLOCK.findall(README.read_text(encoding="utf-8")):
        for command, _ in steps(block):
            words = words_of(re.sub(r"( 2?> ?\S+| &)\n$", "", command))
            if words[0] != "xdm":
                continue
            seen.add(words[1])
            group.get_command(None, words[1]).make_context(words[1], words[2:])
    assert {"prepare", "behaviours", "train", "evaluate", "rolling", "compare", "recommend", "serve"} <= seen <= set(COMMANDS)


def test_every_make_target_in_the_readme_exists():
    named = re.findall(r"^make (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert named == ["demo", "test"]
    assert set(named) <= set(targets)


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=str
)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        README.write_text(renewed(README.read_text(encoding="utf-8"), Path(scratch)), encoding="utf-8")
