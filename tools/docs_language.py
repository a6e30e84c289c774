"""An mkdocs hook: tells browsers and screen readers that the pages under docs/zh are Chinese."""

from typing import Any

from mkdocs.structure.pages import Page


def on_post_page(output: str, page: Page, config: Any) -> str:
    if not page.file.src_uri.startswith("zh/"):
        return output
    return output.replace('<html lang="en"', '<html lang="zh-CN"', 1)
