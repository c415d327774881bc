"""jaxfdsl: pre-train vision transformers on images that are computed, not collected."""

import pathlib as _pathlib

__version__ = "0.1.0"

# In a checkout `generators/` and `configs/` stand beside this package and are found through its
# search path; in a wheel they are real sub-folders and nothing is added.
_root = _pathlib.Path(__file__).resolve().parent.parent
if (
    not (_pathlib.Path(__file__).parent / "configs").is_dir()
    and (_root / "configs" / "__init__.py").is_file()
):
    __path__.append(str(_root))


def load_config(path: str = "configs/demo.py", **overrides):
    """A recipe as a locked config, for notebooks: `load_config("configs/demo.py", steps=10)`.

    Nested fields are named with dots: `load_config(path, **{"model.width": 64})`. The first call
    reads the file; nothing of the stack is imported with `import jaxfdsl` alone.
    """
    from jaxfdsl.config.path import load_config as load

    return load(path, **overrides)
