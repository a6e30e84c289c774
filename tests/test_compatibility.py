"""The page of what works with what is that of the tests there are; that they pass they say."""

import pytest
from tools.compatibility import COLUMNS, PAGE, collect, filled

KINDS = {kind for column in COLUMNS for kind in column}
ROWS = "Versions: old.\n| **one**: how | ✓ | | | | | |\n| **other** | why |\n"


def test_the_page_has_the_features_and_kinds_that_are_tested() -> None:
    features = collect("--collect-only", "-qq", "-s")
    page = PAGE.read_text(encoding="utf-8")
    assert features.failures == []
    assert filled(page, features.kinds, features.refused) == page, "run make compatibility"


def test_marks_and_versions_are_filled_in() -> None:
    page = filled(ROWS, {"one": KINDS - {"RNN"}}, {"other"})
    assert "| **one**: how | – | ✓ | ✓ | ✓ | ✓ | ✓ |\n| **other** | why |\n" in page
    assert page.startswith("Versions: torch ")


@pytest.mark.parametrize(
    ("kinds", "refused", "message"),
    [
        ({}, {"other"}, r"rows without a test \['one'\]"),
        ({"one": KINDS, "two": {"RNN"}}, {"other"}, r"tests without a row \['two'\]"),
        ({"one": KINDS}, set(), r"marked as refused differ: rows without a test \['other'\]"),
        ({"one": KINDS}, {"other", "more"}, r"tests without a row \['more'\]"),
        ({"one": {"RNNCell"}}, {"other"}, "tests for some of RNNCell, LSTMCell, GRUCell only"),
    ],
)
def test_what_is_not_in_step_is_an_error(
    kinds: dict[str, set[str]], refused: set[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        filled(ROWS, kinds, refused)
