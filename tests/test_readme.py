"""The shell commands of the README are those that continuous integration runs."""

import re
from pathlib import Path

import openrnn

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
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = page.read_text()
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                written = f'"{Path(target).name}"' in text  # by the code of the page
                assert written or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_picture_of_a_step_is_the_one_drawn_today() -> None:
    """If not, draw it again: `openrnn.draw(..., "docs/pictures/lstm-cell.svg")`."""
    (code,) = re.findall(r"`(openrnn\.draw\(.*\))`", (ROOT / "README.md").read_text())
    kept = (ROOT / "docs" / "pictures" / "lstm-cell.svg").read_text(encoding="utf-8")
    drawn = eval(code, {"openrnn": openrnn}).svg
    assert shapes(kept) == shapes(drawn)


def shapes(svg: str) -> tuple[list[str], int]:
    """The texts and the number of the lines, which matplotlib's versions place a little apart."""
    return re.findall(r"<text[^>]*>([^<]*)", svg), svg.count("<path")
