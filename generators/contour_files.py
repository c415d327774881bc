"""Category files that the scripts of RCDB and SegRCDB write: one file a category, a `key,value` row
a parameter.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from .formulas.contour import GROWTH_BITS, NOISE_BITS, OVAL_BITS
from .formulas.radial import Category

# What the scripts call line_width is the growth of a polygon over the last, not the pen.
KEYS = {
    "Vertex": ("vertices", 1),
    "Line_num": ("polygons", 1),
    "Perlin_noise": ("noise", 1 << NOISE_BITS),
    "line_width": ("growth", 1 << GROWTH_BITS),
    "Center_rad": ("radius", 1),
    "Oval_rate_x": ("oval", 1 << OVAL_BITS),
    "Oval_rate_y": ("oval", 1 << OVAL_BITS),
    "start_pos_w": ("centre", 2),  # columns, half pixels
    "start_pos_h": ("centre", 2),  # rows
}
MOST = 10_000
CENTRE = 256.0  # of files that give none, as SegRCDB's, whose objects stand anywhere


def is_contour(file: pathlib.Path) -> bool:
    """Whether the first cell of a category file is a parameter's name."""
    with open(file, errors="replace") as lines:
        return lines.readline().split(",")[0].strip() in KEYS


def lines_of(file: pathlib.Path) -> list[str]:
    """The lines of a text file. ValueError names one that is none."""
    try:
        return file.read_text().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not a text file") from None


def read(files: Sequence[pathlib.Path]) -> Category:
    """A table of contours. ValueError names the file and line of what is malformed."""
    rows = [_read_file(file) for file in files]
    return Category._make(np.stack([row[field] for row in rows]) for field in Category._fields)


def _read_file(file: pathlib.Path) -> dict[str, np.ndarray]:
    values = {"start_pos_w": CENTRE, "start_pos_h": CENTRE}
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        key, _, text = (cell.strip() for cell in line.partition(","))
        if key not in KEYS:
            raise ValueError(f"{file}, line {number}: no parameter {key!r}; {', '.join(KEYS)}")
        try:
            values[key] = float(text)
        except ValueError:
            raise ValueError(f"{file}, line {number}: {text!r} is not a number") from None
        if not abs(values[key]) < MOST:
            raise ValueError(f"{file}, line {number}: {key} must be a number below {MOST}")
    missing = [key for key in KEYS if key not in values]
    if missing:
        raise ValueError(f"{file}: no row for {missing[0]}")
    parts: dict[str, list[int]] = {field: [] for field in Category._fields}
    for key, (field, unit) in KEYS.items():
        parts[field].append(round(values[key] * unit))
    parts["frequencies"] = [0, 0]
    return {
        field: np.array(part if len(part) > 1 else part[0], np.int32)
        for field, part in parts.items()
    }
