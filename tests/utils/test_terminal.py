import pytest

from ultralytics.utils import colorstr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("no",), "\033[34m\033[1mno\033[0m"),
        (("red", "no"), "\033[31mno\033[0m"),
        (("bright_green", "underline", "yes"), "\033[92m\033[4myes\033[0m"),
    ],
)
def test_colorstr(words, expected):
    assert colorstr(*words) == expected
