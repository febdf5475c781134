"""Try the networks of timm as backbones, and write the table of docs/en/backbones.md from what happened.

    python tools/timm_backbones.py meta results.jsonl        # every network, without storage: 640x640 and 480x320
    python tools/timm_backbones.py cpu results-cpu.jsonl     # the smallest of each family, with arithmetic
    python tools/timm_backbones.py table results.jsonl       # the table, in Markdown

A file that exists is continued. `meta` takes a part and the number of parts (`0 2`, `1 2`), to run side by side.
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import timm
import torch

from ultralytics.nn.modules.backbones import TRIAL_ERRORS, error_line
from ultralytics.nn.modules.timm_backbone import TimmBackbone, study
from ultralytics.utils.errors import UserError


def families() -> dict[str, list[str]]:
    """Names of all networks by the module of timm that defines them."""
    return {family: timm.list_models(module=family) for family in timm.list_modules()}


def try_on_meta(name: str) -> dict:
    """Study a network: its channels, strides, and what its image size needs; or the reason why it cannot be used."""
    try:
        recipe = study(name)
    except UserError as error:
        return {"ok": False, "reason": str(error).removeprefix(f"{name}: ")}
    return {
        "ok": True,
        "widths": recipe.widths,
        "strides": recipe.strides,
        "multiple": recipe.multiple,
        "fixed": recipe.fixed is not None,
        "channels_last": recipe.channels_last,
    }


def try_on_cpu(name: str, size: tuple[int, int] = (256, 256)) -> dict:
    """Build a network with storage and run it forward: shapes as stated, and finite."""
    try:
        model = TimmBackbone(name, img_size=size).eval()
        with torch.no_grad():
            maps = model(torch.rand(1, 3, *size))
    except TRIAL_ERRORS as error:  # the table has a row for it
        return {"ok": False, "reason": error_line(error)}
    stated = [(c, -(-size[0] // s)) for c, s in zip(model.width_list, model.strides, strict=True)]
    got = [(m.shape[1], m.shape[2]) for m in maps]
    if [c for c, _ in stated] != [c for c, _ in got] or any(
        abs(a - b) > 2 for (_, a), (_, b) in zip(stated, got, strict=True)
    ):
        return {"ok": False, "reason": f"gives {got}, stated {stated}"}
    if not all(m.isfinite().all() for m in maps):
        return {"ok": False, "reason": "gives values that are not finite"}
    return {
        "ok": True,
        "widths": model.width_list,
        "strides": model.strides,
        "maps": [tuple(m.shape[1:]) for m in maps],
    }


def smallest(names: Iterable[str]) -> str | None:
    """The network with the fewest parameters among those that give features."""
    sizes: dict[str, int] = {}
    for name in names:
        try:
            with torch.device("meta"):
                net = timm.create_model(name, features_only=True)
        except TRIAL_ERRORS:  # it gives no features: not a candidate, and the run on the meta device says why
            continue
        sizes[name] = sum(p.numel() for p in net.parameters())
    return min(sizes, key=sizes.get, default=None)


def run(attempt: Callable[[str], dict], names: Iterable[tuple[str, str]], file: Path) -> None:
    """Try each (family, name) that the file does not have yet, and append the outcome."""
    done = {line["name"] for line in read(file)}
    with file.open("a") as out:
        for family, name in names:
            if name not in done:
                out.write(json.dumps({"family": family, "name": name, **attempt(name)}) + "\n")
                out.flush()


def read(file: Path) -> list[dict]:
    """Outcomes so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(lines: list[dict]) -> str:
    """A row for each family: how many of its networks work, the strides of most of them, and remarks."""
    by_family: dict[str, list[dict]] = defaultdict(list)
    for line in lines:
        by_family[line["family"]].append(line)
    rows = [
        "| family (module of timm) | works / tried | strides | example: channels | remarks |",
        "|---|---:|---|---|---|",
    ]
    for family, group in sorted(by_family.items()):
        working = [line for line in group if line["ok"]]
        strides = Counter(", ".join(map(str, line["strides"])) for line in working).most_common(2)
        example = min(working, key=lambda line: sum(line["widths"])) if working else None
        shown = f"{example['name']}: {', '.join(map(str, example['widths']))}" if example else ""
        cells = [
            family,
            f"{len(working)} / {len(group)}",
            "; ".join(s for s, _ in strides),
            shown,
            "; ".join(remarks(group)),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def remarks(group: list[dict]) -> list[str]:
    """What a reader of the table has to know of a family, in a few words each."""
    found = []
    if padded := sorted({line["multiple"] for line in group if line["ok"] and line["multiple"] > 1}):
        found.append(f"pads to a multiple of {', '.join(map(str, padded))}")
    if fixed := sum(line["ok"] and line["fixed"] for line in group):
        found.append(f"{fixed} at the size of 640 only")
    reasons = Counter(line["reason"].split("(")[0][:90].strip() for line in group if not line["ok"])
    return found + [f"{count} not: {reason.replace('|', '/')}" for reason, count in reasons.most_common(2)]


def main(command: str, file: str, part: str = "0", parts: str = "1") -> None:
    path = Path(file)
    if command == "table":
        print(table(read(path)))
    elif command == "meta":
        pairs = [(family, name) for family, names in families().items() for name in names]
        random.Random(0).shuffle(pairs)  # a run that is cut short has some of every family
        run(try_on_meta, pairs[int(part) :: int(parts)], path)
    elif command == "cpu":
        chosen = ((family, smallest(names)) for family, names in families().items())
        run(try_on_cpu, ((family, name) for family, name in chosen if name is not None), path)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) not in (3, 5):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
