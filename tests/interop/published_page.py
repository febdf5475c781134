"""Write docs/*/published.md from the lists of this folder: python -m tests.interop.published_page."""

import re
from pathlib import Path

import yaml

from ultralytics.utils import public
from ultralytics.utils.public import ABSENT

HERE, DOCS = Path(__file__).parent, Path(__file__).parents[2] / "docs"
STATEMENTS = (HERE / "published_imports.txt").read_text(encoding="utf-8").splitlines()
CALLS = yaml.safe_load((HERE / "published_calls.yaml").read_text(encoding="utf-8"))
TEXTS = {
    "en": {
        "title": "What works as in the published package",
        "intro": "Import statements and calls of public scripts for detection and the engine, release 8.0 to 8.4.190.\n"
        "Each row is run by a test (`tests/interop`), which also writes this page. A name that is not built raises\n"
        "one sentence at its import: what to use instead. Published options at their defaults, or off, are accepted;\n"
        "those of other tasks, or without an effect on boxes, with a warning.",
        "imports": "Imports", "calls": "Calls", "absent": "Left out", "yes": "works", "of": "{} of {} work.",
        "columns": ("statement", "call", "state", "not built", "names"),
    },
    "zh": {
        "title": "与发布包相同的用法",
        "intro": "公开脚本中用于检测和引擎的导入语句和调用，8.0 至 8.4.190 版。每一行都由测试（`tests/interop`）运行，"
        "本页也由其生成。未实现的名称在导入时给出一句话，说明改用什么。发布包的选项若为默认值或关闭，总是接受；属于其他任务或对检测框不起作用的，给出警告后接受。",
        "imports": "导入", "calls": "调用", "absent": "未包括", "yes": "可用", "of": "{1} 项中 {0} 项可用。",
        "columns": ("语句", "调用", "状态", "未实现", "名称"),
    },
}  # fmt: skip


def refusal(statement: str) -> str:
    """Return why an import statement fails, or ''."""
    place, _, names = statement.removeprefix("from ultralytics").partition(" import ")
    return next(filter(None, map(public.refusal, re.findall(r"\w+", f"{place} {names}"))), "")


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(columns), "|".join("---" for _ in columns), *(" | ".join(row) for row in rows)]
    return "\n".join(f"|{line}|" if "---" in line else f"| {line} |" for line in lines)


def page(locale: str) -> str:
    """Return the page in a language, `en` or `zh`."""
    text = TEXTS[locale]
    statement, call, state, absent, names = text["columns"]
    imports = [(f"`{line}`", refusal(line) or text["yes"]) for line in STATEMENTS]
    calls = [(f"`{name}`", c.get("instead", {}).get(locale, text["yes"])) for name, c in CALLS.items()]
    reasons = {reason: [name for name, why in ABSENT.items() if why == reason] for reason in ABSENT.values()}
    left_out = [(reason, ", ".join(f"`{name}`" for name in found)) for reason, found in reasons.items()]
    parts = [f"# {text['title']}", text["intro"]]
    for title, columns, rows in (("imports", (statement, state), imports), ("calls", (call, state), calls)):
        works = sum(row[1] == text["yes"] for row in rows)
        parts += [f"## {text[title]}", text["of"].format(works, len(rows)), table(columns, rows)]
    parts += [f"## {text['absent']}", table((absent, names), left_out)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for locale in TEXTS:
        (DOCS / locale / "published.md").write_text(page(locale), encoding="utf-8")
