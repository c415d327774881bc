"""A formula data set as a builder of TFDS, for those who run TFDS's own Beam writer.

    builder = FormulaImages("exfractaldb-21k", data_dir="gs://BUCKET/data", size=224)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
        beam_options=PipelineOptions(["--runner=DataflowRunner", ...])))

It needs no TensorFlow (tensorflow-datasets 4.9.10), but the command `tfds build` does. The records
are those of `jaxfdsl materialise --to tfds --beam` in the same order; the files are cut elsewhere,
every image travels through the runner's shuffle, and a pipeline that failed begins anew.
"""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_datasets as tfds

from jaxfdsl import compile_cache, generators
from jaxfdsl.data.materialise import formats, images, tfds_layout


class FormulaImages(tfds.core.BeamBasedBuilder):
    """The images of `generators.load(dataset, **arguments)` under `data_dir`/<name>/1.0.0."""

    VERSION = tfds.core.Version(tfds_layout.VERSION)

    def __init__(self, dataset: str, data_dir: Any = None, **arguments: Any):
        self._asked = {"name": dataset, **arguments}
        self._drawn = generators.load(**self._asked)
        self.name = tfds_layout.name_of(self._drawn)
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        made = tfds_layout.described(self._drawn)
        return tfds.core.DatasetInfo(
            builder=self,
            description=made.description,
            features=tfds.features.FeaturesDict(made.features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any, pipeline: Any = None) -> dict[str, Any]:
        return {tfds_layout.SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Any:
        starts = range(0, len(self._drawn), images.BATCH)
        return beam.Create(starts) | beam.Reshuffle() | beam.ParDo(_Draw(self._asked))


class _Draw(beam.DoFn):
    """A batch of images from where it begins."""

    def __init__(self, asked: dict[str, Any]):
        self.asked = asked

    def setup(self) -> None:
        compile_cache.enable()
        self.dataset = generators.load(**self.asked)

    def process(self, start: int) -> Iterator[tuple[str, dict[str, Any]]]:
        indices = np.arange(start, min(start + images.BATCH, len(self.dataset)))
        drawn = images.draw(self.dataset, indices)
        for place, index in enumerate(indices.tolist()):
            fields = {name: values[place] for name, values in drawn.items()}
            one = images.sample(self.dataset, index, fields)
            yield one.key, formats.example(one)
