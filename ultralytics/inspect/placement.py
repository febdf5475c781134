"""Where the layers stand in the picture: columns by order, lanes by stride, tracks within a lane.

The layers of the backbone stand under each other in the first columns, as in figures of papers; a layer with several
outputs is as tall as the lanes of its maps. Each later layer stands one column to the right of the last it reads, in
the lane of its stride. An edge that passes over columns holds a track there, so that it runs past the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ultralytics.nn.summary import IMAGE, LayerRow

STACK = 8  # backbone layers that stand under each other in one lane before the next column begins


@dataclass(frozen=True)
class Cell:
    """A place: column from the left, lane (index into `Placement.lanes`) from the top, track within the lane."""

    column: int
    lane: int
    track: int


@dataclass
class Placement:
    """Places of all layers.

    Attributes:
        lanes: the strides, finest first.
        cells: place of each layer by its position; of a tall layer the place of its first lane.
        ports: by number of a map, where its edges begin; for a tall layer the lane and track of that map.
        passing: by number of a map, the columns its edges pass over: column to place.
        tall: positions of layers that span lanes, with the lanes they span.
        backbone_columns: how many columns the backbone takes.
    """

    lanes: list[float]
    cells: dict[int, Cell] = field(default_factory=dict)
    ports: dict[int, Cell] = field(default_factory=dict)
    passing: dict[int, dict[int, Cell]] = field(default_factory=dict)
    tall: dict[int, tuple[int, int]] = field(default_factory=dict)
    backbone_columns: int = 0
    _taken: set[tuple[int, int, int]] = field(default_factory=set)

    @property
    def columns(self) -> int:
        return 1 + max((cell.column for cell in self.cells.values()), default=-1)

    def tracks(self, lane: int) -> int:
        """Number of tracks a lane needs."""
        return 1 + max((track for _, taken_lane, track in self._taken if taken_lane == lane), default=0)

    def take(self, column: int, lane: int, wanted: float) -> Cell:
        """The free track nearest to the wanted one; a new one only where none is free."""
        tracks = self.tracks(lane)
        free = [t for t in range(tracks) if (column, lane, t) not in self._taken] or [tracks]
        track = min(free, key=lambda t: abs(t - wanted))
        self._taken.add((column, lane, track))
        return Cell(column, lane, track)


def place(rows: Sequence[LayerRow]) -> Placement:
    """Place the layers of a model; positions are those in `rows`."""
    placement = Placement(sorted({s for row in rows for s in row.strides if s is not None}) or [1.0])
    lane_of = _lanes(rows, placement.lanes)
    in_backbone = [position for position, row in enumerate(rows) if row.in_backbone]
    _place_backbone(placement, rows, in_backbone, lane_of)
    columns = _columns_behind(rows, placement.backbone_columns)
    ends = _ends(rows, placement, columns)
    for column in range(max([placement.columns - 1, *columns.values()]) + 1):
        _pass_over(placement, rows, column, ends, lane_of)
        for position in sorted(p for p, c in columns.items() if c == column):
            _place_one(placement, rows, position, column, lane_of)
    return placement


def _lanes(rows: Sequence[LayerRow], lanes: Sequence[float]) -> dict[int, int]:
    """Lane of each map by its number. What is no map stands in the lane of what it was made from."""
    lane_of: dict[int, int] = {IMAGE: 0}
    for row in rows:
        for number, stride in zip(row.numbers, row.strides, strict=False):
            lane_of[number] = lanes.index(stride) if stride is not None else lane_of[row.sources[-1]]
    return lane_of


def _place_backbone(
    placement: Placement, rows: Sequence[LayerRow], positions: Sequence[int], lane_of: dict[int, int]
) -> None:
    """Stack the backbone; a layer with several outputs has a column of its own."""
    column, filled = 0, dict[int, int]()
    for position in positions:
        row = rows[position]
        if len(row.numbers) > 1:
            column += bool(filled)
            _place_tall(placement, row, position, column, lane_of)
            column, filled = column + 1, {}
            continue
        lane = lane_of[row.index]
        if filled.get(lane, 0) == STACK:
            column, filled = column + 1, {}
        placement.cells[position] = placement.ports[row.index] = placement.take(column, lane, filled.get(lane, 0))
        filled[lane] = filled.get(lane, 0) + 1
    placement.backbone_columns = column + bool(filled)


def _place_tall(placement: Placement, row: LayerRow, position: int, column: int, lane_of: dict[int, int]) -> None:
    """A layer whose outputs, or the last layer whose inputs, lie in several lanes."""
    numbers = row.numbers if len(row.numbers) > 1 else row.sources
    used = sorted({lane_of[number] for number in numbers})
    for number in row.numbers if len(row.numbers) > 1 else ():
        placement.ports[number] = placement.take(column, lane_of[number], 0)
    placement.cells[position] = Cell(column, used[0], 0)
    placement.tall[position] = (used[0], used[-1])


def _columns_behind(rows: Sequence[LayerRow], start: int) -> dict[int, int]:
    """Column of each layer behind the backbone: one right of the last that it reads."""
    columns: dict[int, int] = {}
    column_of: dict[int, int] = {}  # by number of the map
    for position, row in enumerate(rows):
        if not row.in_backbone:
            columns[position] = max([start, *(column_of[s] + 1 for s in row.sources if s in column_of)])
            column_of.update(dict.fromkeys(row.numbers, columns[position]))
    if columns:  # the last layer stands alone at the end
        last = len(rows) - 1
        columns[last] = max([columns[last], *(c + 1 for p, c in columns.items() if p != last)])
    return columns


def _ends(rows: Sequence[LayerRow], placement: Placement, columns: dict[int, int]) -> dict[int, int]:
    """By number of a map, the last column that reads it."""
    ends: dict[int, int] = {}
    for position, row in enumerate(rows):
        column = columns[position] if position in columns else placement.cells[position].column
        for source in row.sources:
            ends[source] = max(ends.get(source, 0), column)
    return ends


def _pass_over(
    placement: Placement, rows: Sequence[LayerRow], column: int, ends: dict[int, int], lane_of: dict[int, int]
) -> None:
    """Give a track in this column to every map that is read further right, the one it had in the column before."""
    waiting = [n for n, port in placement.ports.items() if port.column < column < ends.get(n, 0)]
    for number in sorted(waiting, key=lambda n: placement.ports[n].column):
        before = placement.passing.setdefault(number, {}).get(column - 1, placement.ports[number])
        placement.passing[number][column] = placement.take(column, lane_of[number], before.track)


def _place_one(
    placement: Placement, rows: Sequence[LayerRow], position: int, column: int, lane_of: dict[int, int]
) -> None:
    row = rows[position]
    if len(row.numbers) > 1 or (position == len(rows) - 1 and len(row.sources) > 1):
        _place_tall(placement, row, position, column, lane_of)
        placement.ports.setdefault(row.index, placement.cells[position])
        return
    lane = lane_of[row.index]
    wanted: list[float] = []
    for source in row.sources:
        if source == IMAGE:
            continue
        if lane_of[source] == lane:
            wanted.append(placement.passing.get(source, {}).get(column - 1, placement.ports[source]).track)
        else:
            wanted.append(_beside(placement, column, lane, from_above=lane_of[source] < lane))
    placement.cells[position] = placement.ports[row.index] = placement.take(
        column, lane, sum(wanted) / len(wanted) if wanted else 0
    )


def _beside(placement: Placement, column: int, lane: int, from_above: bool) -> int:
    """Track for what comes from another lane: on that side of the edges that pass, with which it will be fused."""
    passing = [cells[column] for cells in placement.passing.values() if column in cells]
    tracks = [cell.track for cell in passing if cell.lane == lane]
    if from_above:
        return min(tracks) - 1 if tracks else 0
    return max(tracks) + 1 if tracks else placement.tracks(lane) - 1
