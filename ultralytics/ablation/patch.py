"""Patches of a model file: insert, replace, remove or change rows, so that later `from` still mean the same layers.

A patch names its row by its name, by a number of the unpatched file, or by P2 to P5 (a map of the backbone):

    {after: y4, row: [1, EMA, []]}               insert a row that reads y4; the next row's -1 then reads the new one
    {after: 16, row: [1, EMA, []], readers: all} ... and so do all other rows that read layer 16
    {before: 23, row: [1, SEAttention, [16]]}    insert a row between 23 and the one input of 23
    {replace: 11, row: [3, C2f, [256]]}          other module in the same place
    {remove: 6}                                  readers of 6 read its one input
    {at: 11, args: [256, 1.0]}                   change columns: from, repeats, module, args

A row is [repeats, module, args] or [from, repeats, module, args], with a name at the end if later patches need one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import yaml

from ultralytics.cfg.model_yaml import SECTIONS, load_model_yaml
from ultralytics.nn.parser import TRACE_SIZE
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import ModelConfigError, check_keys, did_you_mean
from ultralytics.utils.files import write_text

ACTIONS = {  # further keys of each action
    "after": ("row", "readers"), "before": ("row",), "replace": ("row",), "remove": (),
    "at": ("from", "repeats", "module", "args"),
}  # fmt: skip
IMAGE: Any = object()  # the image, as the source of the first row
STRIDE_NAMES = {2**i: f"P{i}" for i in range(1, 10)}
WIDE = 1 << 20  # characters of a line of YAML


@dataclass(eq=False)
class Line:
    """One row in the making."""

    sources: list[Any]  # names as written, or pairs of a line and a distance from its last map; IMAGE
    relative: list[bool]  # whether each source is written as a distance, such as -1
    takes_list: bool
    columns: list[Any]  # repeats, module, args, and the name if there is one
    section: str
    slots: int = 1  # layer numbers that the row occupies; five for a backbone with several maps
    numbers: Sequence[int] = ()  # those of the unpatched file; empty for an inserted row

    @property
    def name(self) -> str | None:
        return self.columns[3] if len(self.columns) > 3 else None


@dataclass
class PatchedModel:
    """The rows of a model file, to be patched by `apply` and written by `text`."""

    source: Mapping[str, Any]  # all keys of the file
    lines: list[Line] = field(default_factory=list)
    removed: dict[int | str, str] = field(default_factory=dict)  # changes by the row that they have removed
    touched: dict[Any, str] = field(default_factory=dict)  # changes by the map whose row they have changed
    pyramid: dict[str | None, Any] = field(default_factory=dict)  # P2 to P5: the backbone's last map of each stride

    @classmethod
    def read(cls, model: str, modules: Sequence[str] = ()) -> PatchedModel:
        """Read a model file; it is built once without weights, to know the number of each row."""
        spec = load_model_yaml(model)
        with torch.device("meta"):
            network = DetectionModel(model, overrides={"modules": list(modules)})
        patched = cls({key: value for key, value in spec.source.items() if key != "yaml_file"})
        written = [(section, row) for section in SECTIONS for row in spec.source[section]]
        for layer, shapes, (section, row) in zip(network.model, network.layer_shapes, written, strict=True):
            first = layer.i - layer.num_slots + 1
            sources = row[0] if isinstance(row[0], list) else [row[0]]
            resolved = [patched._resolve(s if isinstance(s, str) or s >= 0 else first + s) for s in sources]
            relative = [not isinstance(s, str) and s < 0 for s in sources]
            numbers = range(first, layer.i + 1)
            line = Line(resolved, relative, isinstance(row[0], list), list(row[1:]), section, layer.num_slots, numbers)
            patched.lines.append(line)
            if layer.in_backbone:
                for i, shape in enumerate(shapes, 1):
                    patched.pyramid[STRIDE_NAMES.get(round(TRACE_SIZE / shape[2]))] = (line, len(shapes) - i)
        patched.pyramid.pop(None, None)  # other strides
        return patched

    def _resolve(self, source: int | str) -> Any:
        if isinstance(source, str):
            return self.pyramid.get(source, source)
        return next(((line, line.numbers[-1] - source) for line in self.lines if source in line.numbers), IMAGE)

    def apply(self, patch: Mapping[str, Any], change: str) -> None:
        """Apply a patch of the change with this name. Raise ModelConfigError if it does not fit the rows."""
        where = f"change {change!r}"
        action, target = self._check(patch, where)
        owner = self.removed.get(target, change)
        if owner == change:
            line, source = self._find(target, where)
            owner = self.touched.get(source, change)
        if owner != change:
            raise ModelConfigError(
                f"{where}: row {target!r} is also changed by {owner!r}; make one change of both, or leave their "
                "combination out of the design"
            )
        self.touched[source] = change
        if action == "at":
            self._change(line, patch, where)
        elif action == "remove":
            self._remove(line, target, where)
            self.removed |= dict.fromkeys((*line.numbers, *([line.name] if line.name else [])), change)
        elif action == "replace":
            new = self._new_line(patch["row"], where, line.section, source=None)
            line.columns = [*new.columns, *([line.name] if line.name and not new.name else [])]
            if new.sources:  # it states its own `from`
                line.sources, line.relative, line.takes_list = new.sources, new.relative, new.takes_list
        elif action == "before":
            if len(line.sources) != 1 and not _has_from(patch["row"]):
                raise ModelConfigError(
                    f"{where}: row {target!r} reads {len(line.sources)} maps, so `before` does not state which one; "
                    "write {after: LAYER, row: ..., readers: all} for each"
                )
            new = self._new_line(patch["row"], where, line.section, line.sources[0])
            self.lines.insert(self.lines.index(line), new)
            line.sources, line.relative = [(new, 0)], [True]
        else:
            self._insert_after(line, source, patch, where)

    def _check(self, patch: Mapping[str, Any], where: str) -> tuple[str, int | str]:
        actions = [key for key in ACTIONS if key in patch]
        if len(actions) != 1:
            raise ModelConfigError(f"{where}: a patch has one of {', '.join(ACTIONS)}; got {dict(patch)}")
        action, known = actions[0], ACTIONS[actions[0]]
        check_keys(patch, (action, *known), lambda _: where, ModelConfigError)
        if "row" in known and "row" not in patch:
            raise ModelConfigError(f"{where}: {action} needs a row: [repeats, module, args]")
        if action == "at" and len(patch) == 1:
            raise ModelConfigError(f"{where}: at needs a column to change: {', '.join(known)}")
        if not isinstance(patch[action], (int, str)):
            raise ModelConfigError(f"{where}: {action} needs the number or name of one row, got {patch[action]!r}")
        if patch.get("readers", "all") != "all":
            raise ModelConfigError(f"{where}: readers must be `all`, got {patch['readers']!r}")
        return action, patch[action]

    def _find(self, target: int | str, where: str) -> tuple[Line, Any]:
        """Return the row of a number, a name or P2 to P5, and its map as a source."""
        if isinstance(target, int) and (found := self._resolve(target)) is not IMAGE:
            return found[0], found
        by_name = {line.name: line for line in self.lines if line.name}
        if target in by_name:
            return by_name[target], (by_name[target], 0)
        numbers = [number for line in self.lines for number in line.numbers]
        if target in self.pyramid and self.pyramid[target][0] in self.lines:
            return self.pyramid[target][0], self.pyramid[target]
        names = [*by_name, *self.pyramid]
        raise ModelConfigError(
            f"{where}: no row {target!r}{did_you_mean(str(target), names)}; rows are numbered 0 to {max(numbers)}"
            f", names: {', '.join(names)}"
        )

    def _new_line(self, row: Any, where: str, section: str, source: Any) -> Line:
        """Return the line of a row of a patch, which reads `source` unless it states its own `from`."""
        columns = list(row) if isinstance(row, (list, tuple)) else []
        written = columns.pop(0) if _has_from(row) else None
        if len(columns) not in (3, 4) or not isinstance(columns[1], str) or not isinstance(columns[2], (list, tuple)):
            raise ModelConfigError(
                f"{where}: a row is [repeats, module, args], or with `from` before them; got {row!r}"
            )
        if written is None or written == -1:
            return Line([] if source is None else [source], [True], False, columns, section)
        sources = written if isinstance(written, list) else [written]
        if any(isinstance(s, int) and s < -1 for s in sources):
            raise ModelConfigError(
                f"{where}: write numbers of the unpatched file, names or -1 in `from`; got {written}"
            )
        resolved = [source if s == -1 else self._resolve(s) for s in sources]
        if any(s is IMAGE for s in resolved):
            raise ModelConfigError(f"{where}: `from` {written} names a layer that is not in the file")
        return Line(resolved, [False] * len(sources), isinstance(written, list), columns, section)

    def _insert_after(self, line: Line, source: Any, patch: Mapping[str, Any], where: str) -> None:
        new = self._new_line(patch["row"], where, line.section, source)
        place = self.lines.index(line) + 1
        later = self.lines[place:]
        self.lines.insert(place, new)
        has_readers = bool(new.name)  # a row with a name may be read by a later patch
        for position, reader in enumerate(later):
            for i, read in enumerate(reader.sources):
                is_next = position == 0 and reader.relative[i]
                is_same = read == source or (isinstance(read, str) and read == line.name and source == (line, 0))
                if is_same and (is_next or "readers" in patch):
                    reader.sources[i], reader.relative[i] = (new, 0), is_next
                    has_readers = True
        if not has_readers:
            raise ModelConfigError(
                f"{where}: nothing would read the new row, as the next row does not read {patch['after']!r} by -1; add "
                "`readers: all`, so that all rows that read it read the new one"
            )

    def _remove(self, line: Line, target: int | str, where: str) -> None:
        if len(line.sources) != 1 or line.slots > 1 or line is self.lines[-1]:
            raise ModelConfigError(f"{where}: row {target!r} has not one input and one output; replace it instead")
        self.lines.remove(line)
        for reader in self.lines:
            for i, read in enumerate(reader.sources):
                if read == (line, 0) or (line.name and read == line.name):
                    reader.sources[i], reader.relative[i] = line.sources[0], reader.relative[i] and line.relative[0]

    def _change(self, line: Line, patch: Mapping[str, Any], where: str) -> None:
        for position, key in enumerate(("repeats", "module", "args")):
            if key in patch:
                line.columns[position] = patch[key]
        if "from" in patch:
            new = self._new_line([patch["from"], *line.columns[:3]], where, line.section, line.sources[0])
            line.sources, line.relative, line.takes_list = new.sources, new.relative, new.takes_list

    def rows(self) -> dict[str, list[tuple[list[Any], range]]]:
        """Return the rows of each section as written, each with its layer numbers."""
        ends = accumulate(line.slots for line in self.lines)
        numbered = {line: end - 1 for line, end in zip(self.lines, ends, strict=True)}
        rows: dict[str, list[tuple[list[Any], range]]] = {section: [] for section in SECTIONS}
        for line, number in numbered.items():
            first = number - line.slots + 1
            written = zip(line.sources, line.relative, strict=True)
            sources = [self._written(source, line, first, numbered) for source in written]
            columns = [sources if line.takes_list else sources[0], *line.columns]
            rows[line.section].append((columns, range(first, number + 1)))
        return rows

    @staticmethod
    def _written(source: tuple[Any, bool], line: Line, first: int, numbered: Mapping[Line, int]) -> int | str:
        read, relative = source
        if isinstance(read, str):
            return read
        if read is IMAGE:
            return -1
        number = numbered[read[0]] - read[1]
        # an inserted row reads the row before it by -1, others by their number
        return number - first if relative and (line.numbers or number == first - 1) else number

    def write(self, file: Path, title: str, modules: Sequence[str] = ()) -> None:
        """Write the model file and build it. Raise ModelConfigError with its line if a row does not build."""
        write_text(file, self.text(title))
        with torch.device("meta"):
            layers = DetectionModel(file, overrides={"modules": list(modules)}).model
        for line, layer in zip(self.lines, layers, strict=True):
            if line.slots != layer.num_slots:
                raise ModelConfigError(
                    f"{layer.where}: {layer.row_module} occupies {layer.num_slots} layer numbers, the row "
                    f"before the change {line.slots}, which renumbers later rows; give a whole model file by `model:`"
                )

    def text(self, title: str) -> str:
        """Return the model file, with layer numbers as comments below a title."""
        parts = ["".join(f"# {line}\n" for line in title.splitlines())]
        for key in [key for key in self.source if key not in SECTIONS]:
            flow, entry = None if isinstance(self.source[key], (dict, list)) else False, {key: self.source[key]}
            parts.append(yaml.safe_dump(entry, default_flow_style=flow, allow_unicode=True, width=WIDE))
        for section, rows in self.rows().items():
            parts.append(f"\n{section}:\n")
            for columns, numbers in rows:
                row = yaml.safe_dump(columns, default_flow_style=True, allow_unicode=True, width=WIDE).strip()
                comment = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
                parts.append(f"  - {row} # {comment}\n")
        return "".join(parts)


def _has_from(row: Any) -> bool:
    """Check whether a row of a patch starts with `from`: then its third column, not its second, is the module."""
    return isinstance(row, (list, tuple)) and len(row) > 3 and isinstance(row[2], str) and not isinstance(row[1], str)
