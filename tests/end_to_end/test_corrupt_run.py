"""A run on pictures of which some cannot be decoded: past the limit it stops, its steps saved."""

import pathlib

import pytest

from jaxfdsl import config as c
from jaxfdsl import experiment, train
from jaxfdsl.config import ConfigError
from tests.photographs import image_folder


def config_of(folder, **changes):
    config = c.default_config()
    config.update(batch_size=8, steps=3, log_every=1, checkpoint_every=100)
    config.report.update(gallery=False, tensorboard=False, status=False)
    config.model.update(image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    config.augment.crop = "random_resized"
    config.data.sources.real = c.folder_source(str(folder))
    config.data.update(**changes)
    return config


def test_a_run_stops_past_the_limit_with_its_steps_saved_and_goes_on_with_a_higher_one(
    tmp_path, capsys, caplog
):
    folder = image_folder(tmp_path / "pictures", {"train": {"a": 12, "b": 12}})
    batches = experiment.build(config_of(folder)).batches
    for step in (0, 2):
        index = int(batches.rows(step)["real"]["index"][0])
        file = pathlib.Path(batches.sources["real"].where(index).partition(" (")[0])
        file.write_bytes(file.read_bytes()[:200])
    workdir = str(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"2 of the 24 images of real cannot be decoded: "):
        train.run(config_of(folder, max_corrupt=0.05), workdir)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == ["2"]
    named = [record.message for record in caplog.records if "keeps its place" in record.message]
    assert len(named) == 2 and str(file) in named[1]
    assert train.run(config_of(folder, max_corrupt=0.2), workdir)["finished"]
    assert "Continuing" in capsys.readouterr().out
