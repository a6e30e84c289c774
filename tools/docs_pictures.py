"""The pictures of the documentation: an mkdocs hook that runs the code of a page.

The files that the code writes become files of the site, in a folder named after the page. So
nothing that is drawn is committed, and a picture is what the code above it draws. The code runs
twice, for light and for dark pages; `![...](inside/gates.svg)` becomes both pictures, of which the
theme shows one.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial, partialmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
import torch
from mkdocs.structure.files import File, Files

import openrnn
from openrnn.explain.recording import Recording

PAGES = ("inside.md",)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(((?:\.\./)*(\w+)/[\w-]+)\.svg\)")


def on_files(files: Files, config: Any) -> Files:
    for page in PAGES:
        file = files.get_file_from_path(page)
        assert file is not None, f"{page} is in PAGES, but not in {config['docs_dir']}"
        for name, content in written_by(file.content_string).items():
            files.append(File.generated(config, f"{Path(page).stem}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return PICTURE.sub(_both, markdown)


def written_by(page: str) -> dict[str, bytes]:
    """The files that the code of a page writes: `x.svg`, and of each picture `x.dark.svg` too."""
    light, dark = run(page, dark=False), run(page, dark=True)
    pictures = {name: content for name, content in dark.items() if name.endswith(".svg")}
    return light | {f"{Path(name).stem}.dark.svg": content for name, content in pictures.items()}


def run(page: str, *, dark: bool) -> dict[str, bytes]:
    """Runs the blocks of a page, one after the other, in a folder of its own."""
    names: dict[str, Any] = {}
    with TemporaryDirectory() as folder, _inside(folder), _colors(dark):
        torch.manual_seed(0)
        for block in BLOCK.findall(page):
            with redirect_stdout(io.StringIO()):  # the site is what is built, not what is printed
                exec(compile(block, block, "exec"), names)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@contextmanager
def _inside(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _colors(dark: bool) -> Iterator[None]:
    """Pictures for a page of these colours, the same at each build."""
    undated = {"SOURCE_DATE_EPOCH": "0"}  # which matplotlib writes in place of the time of day
    with (
        mpl.rc_context({"svg.hashsalt": "openrnn"}),
        patch.object(openrnn, "draw", partial(openrnn.draw, dark=dark)),
        patch.object(Recording, "plot", partialmethod(Recording.plot, dark=dark)),
        patch.dict(os.environ, undated),
    ):
        yield


def _both(picture: re.Match[str]) -> str:
    alt, path, folder = picture.groups()
    if f"{folder}.md" not in PAGES:
        return picture[0]
    return f"![{alt}]({path}.svg#only-light)\n![{alt}]({path}.dark.svg#only-dark)"
