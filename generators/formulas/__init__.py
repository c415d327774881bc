"""One formula family a file: a frozen dataclass of options with `propose`, `score` and `draw`."""
