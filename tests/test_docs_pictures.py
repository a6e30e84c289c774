"""The files that the code of a page writes become files of the site."""

import re
from pathlib import Path

from tools.docs_pictures import BLOCK, PAGES, PICTURE, on_page_markdown, written_by

DOCS = Path(__file__).parents[1] / "docs"
PAGE = """\
```python
import openrnn
import torch
layer = openrnn.RNN(2, 1)
openrnn.draw(layer, "parameters", "weights.svg")
```

The blocks follow each other:

```python
recording = openrnn.record(layer, torch.randn(3, 2))
recording.plot().savefig("plot.svg")
recording.to_html("page.html")
```
"""


def test_each_picture_is_there_for_light_and_dark_pages() -> None:
    before = Path.cwd()
    files = written_by(PAGE)
    pictures = {"weights.svg", "weights.dark.svg", "plot.svg", "plot.dark.svg"}
    assert set(files) == pictures | {"page.html"}
    for name in pictures:
        assert b"<svg" in files[name]
        assert (b"#0d1117" in files[name]) is ("dark" in name)
    assert Path.cwd() == before


def test_the_same_page_gives_the_same_files() -> None:
    assert written_by(PAGE) == written_by(PAGE)


def test_a_picture_becomes_two() -> None:
    assert on_page_markdown("![One](../inside/a-b.svg) ![two](pictures/c.svg)") == (
        "![One](../inside/a-b.svg#only-light)\n![One](../inside/a-b.dark.svg#only-dark)"
        " ![two](pictures/c.svg)"
    )


def test_every_picture_of_a_page_is_written_by_its_code_and_shown() -> None:
    for page in PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        written = re.findall(r'"([\w-]+)\.svg"', "".join(BLOCK.findall(text)))
        shown = [Path(path).name for alt, path, folder in PICTURE.findall(text) if alt]
        assert shown == written
