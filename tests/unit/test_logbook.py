"""What the lines of a run say."""

import json

import numpy as np
import pytest
from etils import epath

from jaxfdsl import logbook
from jaxfdsl.config import ConfigError, default_config


def metrics(loss, rate=1e-3):
    return {
        k: np.float32(v) for k, v in [("loss", loss), ("learning_rate", rate), ("grad_norm", 1)]
    }


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(logbook.time, "monotonic", lambda: now[0])
    return now


def test_rates_leave_out_compilation_and_pauses(clock):
    meter = logbook.Meter(batch_size=10)
    clock[0] = 100.0  # compilation
    meter.add(metrics(4.0))
    for _ in range(4):
        with meter.waiting():
            clock[0] += 0.25
        clock[0] += 0.75
        meter.add(metrics(2.0))
    with meter.paused():
        clock[0] += 50
    line = meter.line()
    assert line["train/images_per_second"] == pytest.approx(10.0)
    assert line["train/input_wait"] == pytest.approx(0.25)
    assert line["train/loss"] == pytest.approx((4 + 4 * 2) / 5)
    clock[0] += 2
    meter.add(metrics(1.0))
    assert meter.line()["train/images_per_second"] == pytest.approx(5.0)


def open_book(folder, **changes):
    config = default_config()
    config.update(log_every=2, **changes)
    config.report.update(tensorboard=False, status=False)
    return logbook.Logbook(config, epath.Path(folder), start=0, total=5)


def test_lines_come_every_so_many_steps_and_at_the_last(tmp_path):
    book = open_book(tmp_path)
    for step in range(1, 6):
        book.step_done(step, metrics(step, rate=step))
    book.close()
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert [line["train/loss"] for line in lines] == [1.5, 3.5, 5]
    assert [line["train/learning_rate"] for line in lines] == [2, 4, 5]


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(tmp_path):
    book = open_book(tmp_path)
    with pytest.raises(ConfigError, match=r"loss=nan .* step 3: lower --config\.optimizer\.learn"):
        book.step_done(3, metrics(np.nan))
    book.close()
