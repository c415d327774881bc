"""The files of a data set: written one at a time, kept across restarts, published at the end.

TFDS's own writer, which needs no TensorFlow either, copies everything twice and begins anew
after a kill. Files made here hold the same records in the same order: sorted by the hash of
their keys, so that `train[:1%]` names the same images everywhere.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Int64

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError, resolve_data_dir
from jaxfdsl.data.prepare.split import BrokenImage, DataSet, Split

_AHEAD = 4  # images a thread that are read and checked before they can be written
_NAMED = 5  # broken images that a message names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """What one finished file holds; `broken` are left out, `changed` are re-encoded."""

    records: int = 0
    bytes: int = 0
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: Sequence[str] = ()


def write(
    made: DataSet,
    data_dir: str = "",
    *,
    max_corrupt: float = 0.0,
    threads: int = 0,
    tell: Callable[[str], None] = print,
) -> str:
    """Write what is missing of a data set, and return its folder, which TFDS then reads.

    Until everything is written, files lie in `<data_dir>/incomplete.<name>.<version>`; a second
    call keeps those that are finished. `dataset_info.json` is what makes a set readable, and it
    comes last. Images that cannot be decoded are left out and named; raises `ConfigError` if they
    are more than `max_corrupt` of a split, and for a disk that is too small.
    """
    if not 0 <= max_corrupt <= 1:
        raise ConfigError(f"--max_corrupt={max_corrupt:g}: type a share from 0 to 1.")
    there, final = prepared(made, data_dir), _final(made, data_dir)
    for name in there:
        tell(f"{final} holds the split {name} already: remove the folder to write it again.")
    splits = [split for split in made.splits if split.name not in there]
    if not splits:
        return str(final)
    if there:
        _check_same_classes(made, final)
    work = final.parent.parent / f"incomplete.{made.name}.{made.version}"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{error}: type --data_dir=DIR with a folder of yours.") from error
    _check_room(made, splits, work, final)
    infos = dict(there)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        ahead = functools.partial(look_ahead, pool, _AHEAD * (threads or os.cpu_count() or 1))
        for split in splits:
            done = _write_split(made, split, work, final, ahead)
            _check_broken(split, done, max_corrupt, tell)
            infos[split.name] = split_info(made, split.name, done)
    _publish(made, infos, work, final)
    return str(final)


def prepared(made: DataSet, data_dir: str) -> dict[str, Any]:
    """TFDS's descriptions of the splits that are written and published, by name."""
    import tensorflow_datasets as tfds

    final = _final(made, data_dir)
    if not (final / "dataset_info.json").is_file():
        return {}
    return dict(tfds.builder_from_directory(final).info.splits)


def _final(made: DataSet, data_dir: str) -> pathlib.Path:
    root = resolve_data_dir(data_dir)
    if "://" in root:
        raise ConfigError(f"--data_dir={root!r}: type a local folder, and copy it afterwards.")
    return pathlib.Path(root) / made.name / made.version


def _write_split(
    made: DataSet, split: Split, work: pathlib.Path, final: pathlib.Path, ahead: Callable
) -> list[Shard]:
    """Every file of a split, those of an earlier run with the same source left as they are."""
    plan = work / f"{split.name}.plan"
    if not plan.exists() or plan.read_text() != split.fingerprint:
        for old in work.glob(f"{made.name}-{split.name}.*"):
            old.unlink()
        plan.write_text(split.fingerprint)
    parts = order_in_files(split)
    record = functools.partial(_record, split, serializer(made))
    done = []
    with terminal.progress(len(split.keys), desc=split.name, unit="images") as bar:
        for place, path in zip(parts, paths(made, split.name, len(parts)), strict=True):
            notes = work / f"{path}.json"
            if notes.exists() and ((work / path).exists() or (final / path).exists()):
                done.append(Shard(**json.loads(notes.read_text())))
                bar.initial += len(place)  # the rate is that of this run
                bar.update(len(place))
                continue
            done.append(write_shard(work / path, ahead(record, place), bar))
            save(notes, json.dumps(dataclasses.asdict(done[-1])))
            os.replace(work / f"{path}.part", work / path)
    return done


def write_shard(path: pathlib.Path, records: Iterator[Any], bar: Any) -> Shard:
    """`<path>.part`, whole and on the disk."""
    from array_record.python.array_record_module import ArrayRecordWriter

    part = f"{path}.part"
    writer = ArrayRecordWriter(part, "group_size:1")  # as TFDS, for access to single images
    count, size, broken, changed = 0, 0, {}, []
    try:
        for key, data, note in records:
            bar.update()
            if data is None:
                broken[str(key)] = note
                continue
            writer.write(data)
            count, size = count + 1, size + len(data)
            if note:
                changed.append(str(key))
    finally:
        writer.close()
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    return Shard(records=count, bytes=size, broken=broken, changed=changed)


def _record(
    split: Split, serialize: Callable[[dict[str, Any]], bytes], place: int
) -> tuple[int | str, bytes | None, str]:
    """Key, serialised example and what was done to it; no example, and why, if it is broken."""
    key = split.keys[place]
    try:
        example, changed = split.example(place)
    except BrokenImage as error:
        return key, None, str(error)
    return key, serialize(example), "re-encoded" if changed else ""


def look_ahead(
    pool: ThreadPoolExecutor, count: int, function: Callable, items: Iterable[Any]
) -> Iterator[Any]:
    """`map` over a pool that holds no more than `count` results."""
    waiting: collections.deque = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def order_in_files(split: Split) -> list[list[int]]:
    """Which images each file holds, in order: TFDS's own order and boundaries."""
    from tensorflow_datasets.core.utils import shard_utils

    order = hash_order(split.name, split.keys)
    count = split.num_shards or shard_utils.ShardConfig.calculate_number_shards(
        int(split.sizes.sum()), len(order)
    )
    return [order[begin:end].tolist() for begin, end in ranges(len(order), count)]


def hash_order(split: str, keys: Iterable[int | str]) -> Int64[np.ndarray, " n"]:
    """Places of the keys in TFDS's order, that of their salted MD5."""
    from tensorflow_datasets.core import hashing

    hasher = hashing.Hasher(split)
    digests = bytearray()
    for key in keys:
        digests += hasher.hash_key(key).to_bytes(16, "big")
    high, low = np.frombuffer(digests, ">u8").reshape(-1, 2).T
    return np.lexsort((low, high)).astype(np.int64)


def ranges(total: int, count: int) -> list[tuple[int, int]]:
    """Where each of `count` files begins and ends in that order."""
    from tensorflow_datasets.core.utils import shard_utils

    ends = list(shard_utils.get_shard_boundaries(total, count))
    return list(zip([0, *ends], ends, strict=False))


def _template(made: DataSet, split: str) -> Any:
    from tensorflow_datasets.core import naming

    return naming.ShardedFileTemplate(
        data_dir=pathlib.Path("."),
        dataset_name=made.name,
        split=split,
        filetype_suffix="array_record",
    )


def paths(made: DataSet, split: str, count: int) -> list[str]:
    """The names of a split's files."""
    return [path.name for path in _template(made, split).sharded_filepaths(count)]


def serializer(made: DataSet) -> Callable[[dict[str, Any]], bytes]:
    """A function of an example, its fields by name, that gives the bytes TFDS keeps of it."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import example_serializer

    features = tfds.features.FeaturesDict(made.features)
    writer = example_serializer.ExampleSerializer(features.get_serialized_info())

    def serialize(example: dict[str, Any]) -> bytes:
        made = writer.get_tf_example(features.encode_example(example))
        return made.SerializeToString(deterministic=True)  # the same bytes after a restart

    return serialize


def split_info(made: DataSet, split: str, done: Sequence[Shard]) -> Any:
    """TFDS's description of a split."""
    from tensorflow_datasets.core import splits

    return splits.SplitInfo(
        name=split,
        shard_lengths=[shard.records for shard in done],
        num_bytes=sum(shard.bytes for shard in done),
        filename_template=_template(made, split),
    )


def _publish(made: DataSet, infos: dict[str, Any], work: pathlib.Path, final: pathlib.Path) -> None:
    """Move the files to where TFDS looks; the description, which makes them a data set, last."""
    describe(made, infos, str(final), work)
    final.mkdir(parents=True, exist_ok=True)
    for path in sorted(work.glob(f"{made.name}-*.array_record-*-of-?????")):
        os.replace(path, final / path.name)
    for path in [*sorted(work.glob("*.labels.txt")), work / "features.json"]:
        os.replace(path, final / path.name)
    os.replace(work / "dataset_info.json", final / "dataset_info.json")
    shutil.rmtree(work)


def describe(made: DataSet, infos: dict[str, Any], final: str, folder: pathlib.Path) -> None:
    """Write to `folder` what TFDS keeps beside the records of a data set that lies in `final`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info, splits

    identity = dataset_info.DatasetIdentity(
        name=made.name, version=made.version, data_dir=final, module_name=__package__
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=made.description,
        homepage=made.homepage or None,
        features=tfds.features.FeaturesDict(made.features),
        supervised_keys=("image", "label"),
    )
    info.set_file_format("array_record")
    info.set_splits(splits.SplitDict(infos.values()))
    info.write_to_directory(folder)


def _check_same_classes(made: DataSet, final: pathlib.Path) -> None:
    """A split that is added later must number its classes as those that are there."""
    import tensorflow_datasets as tfds

    names = tfds.builder_from_directory(final).info.features["label"].names
    if names != made.features["label"].names:
        raise ConfigError(
            f"{final} was written with other classes: remove the folder to write all splits again."
        )


def _check_room(
    made: DataSet, splits: Sequence[Split], work: pathlib.Path, final: pathlib.Path
) -> None:
    """Before hours of work; what an earlier run left here counts as written."""
    patterns = [f"{made.name}-{split.name}.array_record-*" for split in splits]
    left = [path for place in (work, final) for one in patterns for path in place.glob(one)]
    needed = sum(int(split.sizes.sum()) for split in splits)
    needed -= sum(path.stat().st_size for path in left)
    free = shutil.disk_usage(work).free
    if needed > free:
        raise ConfigError(
            f"{work.parent} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed: "
            "type --data_dir=DIR on a larger disk."
        )


def _check_broken(
    split: Split, done: Sequence[Shard], allowed: float, tell: Callable[[str], None]
) -> None:
    broken = {key: reason for shard in done for key, reason in shard.broken.items()}
    changed = [key for shard in done for key in shard.changed]
    first = "; ".join(f"{key} ({broken[key]})" for key in sorted(broken)[:_NAMED])
    total = len(split.keys)
    if len(broken) > allowed * total or len(broken) == total:
        share = f"{len(broken) / total + 5e-7:.6f}"
        leave = f", or type --max_corrupt={share} to leave them out" if len(broken) < total else ""
        raise ConfigError(
            f"{len(broken):,} of {total:,} images of {split.name} cannot be decoded, more than "
            f"--max_corrupt={allowed:g} of them: {first}: get the originals again{leave}."
        )
    tell(
        f"{split.name}: images {total - len(broken):,}, files {len(done):,}, "
        f"re-encoded {len(changed):,}, left out {len(broken):,}{': ' * bool(broken)}{first}"
    )


def save(path: pathlib.Path, text: str) -> None:
    """A file that is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)
