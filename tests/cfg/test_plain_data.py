"""Read YAML and literals: values, errors with file and line, and bounds."""

import pytest

from ultralytics.cfg.plain_data import check_plain, parse_literal, parse_yaml, read_yaml
from ultralytics.utils.errors import DataError, UserError
from ultralytics.utils.files import write_yaml


def test_yaml_round_trip(tmp_path):
    data = {"b": [1, 2], "a": {"names": {0: "猫"}}, "lr": 1e-4, "tiny": 1e-20, "none": None}
    file = write_yaml(tmp_path / "a.yaml", data)
    assert list(read_yaml(file).items()) == list(data.items())
    assert "猫" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"x: 1e-4", {"x": 1e-4}),
        (b"x: 1E5", {"x": 1e5}),
        (b"x: -.5e2", {"x": -50.0}),
        (b"x: e5", {"x": "e5"}),
        (b"x: 1e", {"x": "1e"}),
        (b"# nothing\n", {}),
        (b"\xef\xbb\xbfx: 1\n", {"x": 1}),  # byte order mark
        (b"a: &b {x: 1, y: 2}\nc:\n  <<: *b\n  x: 3\n", {"a": {"x": 1, "y": 2}, "c": {"x": 3, "y": 2}}),
    ],
)
def test_yaml_values(tmp_path, content, value):
    (tmp_path / "a.yaml").write_bytes(content)
    assert read_yaml(tmp_path / "a.yaml") == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\na: 2\n", "line 2: not valid YAML: duplicate key 'a'"),
        (b"a: [1, 2\nb: 3\n", "line 2: not valid YAML"),
        (b"a: !!python/object:os.system x\n", "line 1: not valid YAML: could not determine a constructor"),
        (b"- 1\n- 2\n", "expected lines of the form `key: value`, got a list"),
        (b"a: \xff\xfe\n", "not UTF-8 text"),
        (b"a: \x00\n", "not valid YAML"),
        ("a：1\nb: 2\n".encode(), "line 1 has a full-width '：', write ':'"),
    ],
)
def test_yaml_errors_name_file_and_line(tmp_path, content, message):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(str(file)) and message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date: 2024-13-01", "line 1: not valid YAML: '2024-13-01' cannot be read as timestamp (month"),
        ("x: 1\ny: 0b_", "line 2: not valid YAML: '0b_' cannot be read as int"),
        *((f"a: !!{kind} x", f"'x' cannot be read as {kind}") for kind in ("int", "bool", "float", "timestamp")),
        ("a: !!int ''", "cannot be read as int"),
        ("a: !!map [1]", "expected a mapping node"),
        ("<<: 5", "expected a mapping"),
        ("a: " + "9" * 4301, "cannot be read as int (more than 200 characters)"),
        ("a: 0x" + "f" * 100, "an integer of 400 bits"),
        ('a: "\\ud800"', "line 1"),
        ("[" * 100_000, "nested too deep"),
        ("[" * 60 + "]" * 60, "nested deeper than 40"),
        ("a: &a {b: *a}", "contain themselves"),
        ("a: '" + "x" * (1 << 20) + "'", "characters of YAML, expected at most"),
        ("a: &a [x, x]\n" + "".join(f"{c}: &{c} [{f'*{p}, ' * 50}]\n" for p, c in zip("abcd", "bcde", strict=True)),
         "repeated to a size of more than"),
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_values_that_cannot_be_built_and_bounds(text, message):
    with pytest.raises(DataError) as caught:
        parse_yaml(text, "f.yaml", DataError)
    assert str(caught.value).startswith("f.yaml") and message in str(caught.value) and len(str(caught.value)) < 300


def test_literals():
    assert [parse_literal(text) for text in ("1e-3", " {0: 'a'}", "(1, [2])")] == [1e-3, {0: "a"}, (1, [2])]
    for text in ("cat", "{[1]: 2}", "f()", "9" * 4301, "-" * 100_000 + "1", "(" * 3000, "[" * 60 + "]" * 60, "\0", ""):
        with pytest.raises(ValueError):
            parse_literal(text)


def test_sharing_is_counted_and_cycles_are_refused():
    assert check_plain({"a": [1, (2.5, None)], "b": {3}}, "x") == {"a": [1, (2.5, None)], "b": {3}}
    pair, ring, deep = [0], [], []
    for _ in range(30):
        pair = [pair, pair]
    ring.append(ring)
    for _ in range(5):
        for _ in range(10):
            deep = [deep]
        deep = [deep, deep]
    for odd in (pair, ring, deep, {"a": 1 << 300}):
        with pytest.raises(UserError, match="x: "):
            check_plain(odd, "x")
