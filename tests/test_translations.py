"""The Chinese pages say what the English ones say: the same code, headings, links and tables."""

import re
from collections import Counter
from collections.abc import Callable
from os.path import normpath
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRANSLATED = {
    "README.md": "README.zh-CN.md",
    **{f"docs/{page.name}": f"docs/zh/{page.name}" for page in (ROOT / "docs" / "zh").glob("*.md")},
}
# From each page to what stands for it in the other language.
TWIN = TRANSLATED | {chinese: english for english, chinese in TRANSLATED.items()}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def links(page: str, text: str) -> Counter[str]:
    """Where the links and pictures lead, from the root; of a page's headings the page alone."""
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text))
    places = (target.partition("#")[0] or Path(page).name for target in targets)
    return Counter(p if "://" in p else normpath(Path(page).parent / p) for p in places)


def differences(page: str, english: str, chinese: str) -> list[str]:
    """What the translation of a page has otherwise than the page."""
    prose, translated = FENCE.sub("", english), FENCE.sub("", chinese)
    expected = Counter(
        {TWIN.get(link, link): count for link, count in links(page, english).items()}
    )
    same = {
        "code blocks": FENCE.findall(english) == FENCE.findall(chinese),
        "headings": levels(prose) == levels(translated),
        "links": expected == links(TWIN[page], chinese),
        "inline code": inline_code(prose) == inline_code(translated),
        "table rows": rows(prose) == rows(translated),
        "list items": items(prose) == items(translated),
    }
    return [name for name, equal in same.items() if not equal]


def levels(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def inline_code(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def rows(text: str) -> int:
    return len(re.findall(r"^\|", text, re.MULTILINE))


def items(text: str) -> int:
    return len(re.findall(r"^ *(?:-|\d+\.) ", text, re.MULTILINE))


@pytest.mark.parametrize("page", TRANSLATED)
def test_pages_are_in_step(page: str) -> None:
    assert differences(page, read(page), read(TWIN[page])) == []


@pytest.mark.parametrize("page", TRANSLATED)
def test_no_english_is_left(page: str) -> None:
    """No five words one after the other."""
    prose = re.sub(r"`[^`]+`|\]\([^)]+\)", "", FENCE.sub("", read(TWIN[page])))
    assert re.findall(r"(?:[a-z]+,? ){4}[a-z]+", prose) == []


@pytest.mark.parametrize("page", TRANSLATED)
def test_no_line_ends_between_chinese_characters(page: str) -> None:
    """It would show as a space."""
    assert re.findall(r"[\u3000-\u9fff，：；]\n *[\u4e00-\u9fff]", read(TWIN[page])) == []


@pytest.mark.parametrize(
    ("drift", "seen"),
    [
        (lambda text: text.replace("12, 3", "12, 4", 1), "code blocks"),
        (lambda text: text.replace("\n## ", "\n### ", 1), "headings"),
        (lambda text: text + "\n## More\n", "headings"),
        (lambda text: text.replace("](cells.md", "](time.md", 1), "links"),
        (lambda text: text.replace("`weight_ih`", "`weight_hh`"), "inline code"),
        (lambda text: text.replace("| i |", "i", 1), "table rows"),
        (lambda text: text.replace("\n- ", "\n", 1), "list items"),
    ],
)
def test_drift_is_seen(drift: Callable[[str], str], seen: str) -> None:
    page = "docs/inside.md"
    changed = drift(read(page))
    assert seen in differences(page, changed, read(TWIN[page]))
