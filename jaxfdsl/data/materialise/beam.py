"""A set in TFDS's layout by an Apache Beam pipeline: the files of `write.materialise`, on as many
machines as a runner has.

    jaxfdsl materialise exfractaldb-21k --to tfds --out gs://BUCKET/data \\
        --beam runner=DataflowRunner,project=NAME,region=REGION,temp_location=gs://BUCKET/tmp

An element is a file of records. A worker draws the file's images (a batch a call, one compiled
program a process), writes them on its own disk and moves the file to the folder; between workers
nothing is sent but numbers, as the order of all images is stored before. After a kill the same
command writes what is missing. Needs the extra `beam`, here and on the workers (Beam's option
`sdk_container_image` or `requirements_file` brings it there), and no TensorFlow.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import pickle
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from jaxtyping import Int64

from jaxfdsl import compile_cache, generators, terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.materialise import SHARD_IMAGES, formats, images, loading, tfds_layout
from jaxfdsl.data.materialise import manifest as manifests
from jaxfdsl.data.materialise import write as direct
from jaxfdsl.data.prepare import shards

_BYTES = CompressionTypes.UNCOMPRESSED  # whatever a name ends in
_INDEX = np.dtype("<i8")
_THREADS = 16  # small files read at once


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every worker has to know."""

    arguments: bytes  # of generators.load, pickled: a set travels as its name
    work: str  # the folder of what is not finished
    final: str  # where TFDS reads
    total: int  # images
    count: int  # files

    @property
    def order(self) -> str:
        """The file of all indices in the order of the records, int64."""
        return f"{self.work}/order"


def write(
    name: str,
    out: str | os.PathLike,
    *,
    shard_images: int = SHARD_IMAGES,
    beam_options: str | PipelineOptions = "",
    command: str = "",
    **arguments: Any,
) -> manifests.Manifest:
    """Write what is missing of `generators.load(name, **arguments)` to `out`, a folder that all
    workers reach: a mounted one, or gs://, s3:// or hdfs:// as Beam has them.

    beam_options: Beam's own, or their text, "runner=FlinkRunner,flink_master=HOST:8081". Returns
    when the pipeline is done. Raises `ConfigError` as `write.materialise` does.
    """
    options = _options(beam_options)
    with terminal.as_typed():
        root = beam.Pipeline(options=options)  # refuses a runner that it does not know
        dataset = generators.load(name, **arguments)
    direct.check_size(dataset, shard_images)
    out = str(out) if "://" in str(out) else os.path.abspath(os.path.expanduser(out))
    manifest = _opened(out.rstrip("/"), direct.asked_for(dataset, "tfds", shard_images, command))
    if manifest.complete:
        return manifest
    made = tfds_layout.described(dataset)
    plan = Plan(
        arguments=pickle.dumps({"name": name, **arguments}),
        work=f"{manifest.out}/incomplete.beam.{made.name}.{made.version}",
        final=f"{manifest.out}/{made.name}/{made.version}",
        total=len(dataset),
        count=-(-len(dataset) // shard_images),
    )
    _prepare(plan, manifest, dataset, command)
    paths = shards.paths(made, tfds_layout.SPLIT, plan.count)
    finished = _finished(plan)
    missing = [number for number, path in enumerate(paths) if path not in finished]
    if missing:
        with root:
            pipeline(root, plan, missing)
    _publish(plan, manifest, made, paths)
    return manifest


def pipeline(root: beam.Pipeline, plan: Plan, numbers: Sequence[int]) -> beam.PCollection:
    """Writes the files with these numbers; gives the path of each."""
    numbered = root | "Files" >> beam.Create(numbers)
    return numbered | "Spread" >> beam.Reshuffle() | "Write" >> beam.ParDo(_Write(plan))


class _Write(beam.DoFn):
    """One file of records: drawn, encoded, written, moved."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.counter = beam.metrics.Metrics.counter("jaxfdsl", "images")

    def setup(self) -> None:
        compile_cache.enable()
        self.dataset = _loaded(self.plan.arguments)
        self.pool = ThreadPoolExecutor(images.threads())
        made = tfds_layout.described(self.dataset)
        self.paths = shards.paths(made, tfds_layout.SPLIT, self.plan.count)
        self.serialize = shards.serializer(made)

    def teardown(self) -> None:
        self.pool.shutdown()

    def update(self) -> None:
        """Counts an image, as a progress bar does."""
        self.counter.inc()

    def process(self, number: int) -> Iterator[str]:
        path = self.paths[number]
        with tempfile.TemporaryDirectory() as folder:
            local = pathlib.Path(folder) / path
            done = shards.write_shard(local, self._records(number), self)
            part = pathlib.Path(f"{local}.part")
            entry = {"sha256": manifests.sha256(part), "bytes": part.stat().st_size}
            _move(part, f"{self.plan.work}/{path}")
        note = {"records": done.records, "bytes": done.bytes, "file": entry}
        _put(f"{self.plan.work}/{path}.json", json.dumps(note).encode())
        yield path

    def _records(self, number: int) -> Iterator[tuple[str, bytes, str]]:
        indices = _indices(self.plan, number)
        for one in images.samples(self.dataset, indices, self.pool):
            yield one.key, self.serialize(formats.example(one)), ""


@functools.lru_cache(maxsize=1)
def _loaded(arguments: bytes) -> Any:
    """A process loads its set once."""
    return generators.load(**pickle.loads(arguments))


def _indices(plan: Plan, number: int) -> Int64[np.ndarray, " n"]:
    """The images of a file, in the order of its records."""
    begin, end = shards.ranges(plan.total, plan.count)[number]
    with FileSystems.open(plan.order, compression_type=_BYTES) as file:
        file.seek(begin * _INDEX.itemsize)
        data = file.read((end - begin) * _INDEX.itemsize)
    return np.frombuffer(data, _INDEX).astype(np.int64)


def _options(given: str | PipelineOptions) -> PipelineOptions:
    if isinstance(given, PipelineOptions):
        return given
    return PipelineOptions([f"--{one.strip().lstrip('-')}" for one in given.split(",") if one])


def _opened(out: str, asked: dict[str, Any]) -> manifests.Manifest:
    if "://" not in out:
        return manifests.opened(pathlib.Path(out), asked)
    path = f"{out}/{manifests.NAME}"
    if FileSystems.exists(path):
        return manifests.read(out, _get(path), asked)
    if FileSystems.match([f"{out}/**"], limits=[1])[0].metadata_list:
        raise ConfigError(f"--out={out} holds other files: type an empty or a new folder.")
    return manifests.Manifest(out, asked, {})


def _prepare(plan: Plan, manifest: manifests.Manifest, dataset: Any, command: str) -> None:
    """What has to be there before the first file."""
    if isinstance(manifest.out, pathlib.Path):
        direct.check_room(manifest, plan.total, None, direct.first_images(dataset))
    try:
        _put(f"{manifest.out}/{manifests.NAME}", manifest.text().encode())
    except OSError as error:
        raise ConfigError(f"{error}: type --out=DIR with a folder of yours.") from error
    card = loading.card(dataset, "tfds", command, plan.count)
    _put(f"{manifest.out}/README.md", card.encode())
    if not FileSystems.exists(plan.order):
        keys = (images.key(dataset, index) for index in range(plan.total))
        order = shards.hash_order(tfds_layout.SPLIT, keys)
        _put(plan.order, order.astype(_INDEX).data.cast("B"))


def _finished(plan: Plan) -> set[str]:
    """The files that are written."""
    found = FileSystems.match([f"{plan.work}/*.json"])[0].metadata_list
    return {one.path.rpartition("/")[2].removesuffix(".json") for one in found}


def _publish(plan: Plan, manifest: manifests.Manifest, made: Any, paths: Sequence[str]) -> None:
    """Move the files to where TFDS looks; the description, which makes them a data set, last."""
    with ThreadPoolExecutor(_THREADS) as pool:
        notes = list(pool.map(lambda path: json.loads(_get(f"{plan.work}/{path}.json")), paths))
    done = [shards.Shard(records=note["records"], bytes=note["bytes"]) for note in notes]
    infos = {tfds_layout.SPLIT: shards.split_info(made, tfds_layout.SPLIT, done)}
    there = FileSystems.match([f"{plan.work}/{made.name}-*-of-?????"])[0].metadata_list
    _folder(plan.final)
    FileSystems.rename(
        [one.path for one in there],
        [f"{plan.final}/{one.path.rpartition('/')[2]}" for one in there],
    )
    inside = f"{made.name}/{made.version}"
    manifest.files = {
        f"{inside}/{path}": {**note["file"], "images": note["records"]}
        for path, note in zip(paths, notes, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        shards.describe(made, infos, plan.final, pathlib.Path(folder))
        for path in sorted(pathlib.Path(folder).iterdir(), key=_description_last):
            manifest.enter(f"{inside}/{path.name}", path, 0)
            _move(path, f"{plan.final}/{path.name}")
    manifest.complete = True
    _put(f"{manifest.out}/{manifests.NAME}", manifest.text().encode())
    FileSystems.delete([f"{plan.work}/" if "://" in plan.work else plan.work])


def _description_last(path: pathlib.Path) -> tuple[bool, str]:
    return path.name == "dataset_info.json", path.name


def _folder(path: str) -> None:
    if not FileSystems.exists(path):
        FileSystems.mkdirs(path)


def _get(path: str) -> bytes:
    with FileSystems.open(path, compression_type=_BYTES) as file:
        return file.read()


def _put(path: str, data: bytes | memoryview) -> None:
    """A file that is there whole or not at all."""
    with _whole(path) as file:
        file.write(data)


def _move(local: pathlib.Path, path: str) -> None:
    """A file of this machine's disk to the folder of all."""
    with _whole(path) as file, local.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)


@contextlib.contextmanager
def _whole(path: str) -> Iterator[Any]:
    """A new file that gets its name at the end; two workers may write the same one."""
    part = f"{path}.{uuid.uuid4().hex}.part"
    with FileSystems.create(part, compression_type=_BYTES) as file:
        yield file
    FileSystems.rename([part], [path])
