"""The shell commands of the README are those that continuous integration runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def shell_commands(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_every_shell_command_is_run() -> None:
    """`make` targets by .ci/run itself; the forecast by `make demo`."""
    run = (ROOT / ".ci" / "run").read_text().splitlines()
    makefile = (ROOT / "Makefile").read_text()
    commands = shell_commands((ROOT / "README.md").read_text())
    assert len(commands) == 3
    for command in commands:
        assert command in run or command in makefile, command


def test_the_first_35_lines() -> None:
    """One sentence, one picture, the drop-in swap, a cell of one's own, and how to install."""
    start = "\n".join((ROOT / "README.md").read_text().splitlines()[:35])
    for word in ("![", "openrnn.LSTM(", "torch.nn.LSTM", "openrnn.Recurrent(", "pip install"):
        assert word in start


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
