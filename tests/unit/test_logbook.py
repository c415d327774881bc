"""What the lines of a run say."""

import json

import numpy as np
import pytest
from etils import epath

from jaxfdsl.config import ConfigError, default_config
from jaxfdsl.run import logbook, meter, nonfinite


def metrics(loss, rate=1e-3):
    return {
        k: np.float32(v) for k, v in [("loss", loss), ("learning_rate", rate), ("grad_norm", 1)]
    }


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    return now


def test_rates_leave_out_compilation_and_pauses(clock):
    book = meter.Meter(batch_size=10, mfu_at_one=0.01)
    book.draw_seconds = 0.02
    clock[0] = 100.0  # compilation
    with book.paused("evaluation"):
        clock[0] += 30  # and another one
    book.add(metrics(4.0))
    for _ in range(4):
        with book.waiting():
            clock[0] += 0.25
        clock[0] += 0.75
        book.add(metrics(2.0))
    for what, seconds in (("evaluation", 3), ("checkpoint", 1), ("profile", 8)):
        with book.paused(what):
            clock[0] += seconds
    line = book.line()
    assert line["train/step_seconds"] == pytest.approx(1.0)
    assert line["train/images_per_second"] == pytest.approx(10.0)
    assert line["train/mfu"] == pytest.approx(0.1)
    assert line["train/input_wait"] == pytest.approx(0.25)
    assert line["train/drawing"] == pytest.approx(0.02)
    assert line["train/evaluation"] == pytest.approx(3 / 16)  # of all time
    assert line["train/checkpoint"] == pytest.approx(1 / 16)
    assert line["train/loss"] == pytest.approx((4 + 4 * 2) / 5)
    clock[0] += 2
    book.add(metrics(1.0))
    line = book.line()
    assert line["train/images_per_second"] == pytest.approx(5.0)
    assert line["train/evaluation"] == 0


ROWS = {"real": {"index": np.arange(4), "image": np.zeros((4, 2, 2, 3), np.uint8)}}


def open_book(folder, **changes):
    config = default_config()
    config.update(log_every=2, **changes)
    config.report.update(tensorboard=False, status=False)
    return logbook.Logbook(config, epath.Path(folder), start=0, total=5, rows=lambda step: ROWS)


def lines_in(folder):
    return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_come_every_so_many_steps_and_at_the_last_one_step_late(tmp_path):
    book = open_book(tmp_path)
    for step in range(1, 6):
        book.step_done(step, metrics(step, rate=step))
        assert [line["step"] for line in lines_in(tmp_path)] == [2, 4][: (step - 1) // 2]
    book.settle()
    book.close()
    lines = lines_in(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert [line["train/loss"] for line in lines] == [1.5, 3.5, 5]
    assert [line["train/learning_rate"] for line in lines] == [2, 4, 5]


def test_a_loss_that_is_not_finite_ends_the_run_with_its_batch_and_advice(tmp_path):
    book = open_book(tmp_path)
    book.step_done(3, metrics(np.nan))
    with pytest.raises(ConfigError) as caught:
        book.settle()
    book.close()
    path = tmp_path / "nonfinite-step2.json"  # the batch that made state 3
    assert json.loads(path.read_text())["rows"] == {"real": {"index": [0, 1, 2, 3]}}
    said = str(caught.value)
    assert said.startswith("loss=nan and grad_norm=1.0 in the step from 2 to 3: ")
    assert "--config.nonfinite=skip" in said and "--config.optimizer.learning_rate=0.001" in said
    assert f"its batch are in {path}, and `jaxfdsl replay {tmp_path} --step 2`" in said


def test_skipped_steps_are_counted_and_poison_no_average(tmp_path, capsys):
    book = open_book(tmp_path, nonfinite="skip")
    for step, loss in enumerate((1.0, np.nan, np.inf, np.nan, 3.0), 1):
        finite = np.isfinite(loss)
        book.step_done(step, metrics(loss) | {"skipped": np.float32(not finite), "top1": finite})
    book.settle()
    book.close()
    lines = lines_in(tmp_path)
    assert [line["train/skipped"] for line in lines] == [1, 2, 0]
    assert [line["train/loss"] for line in lines] == [1, None, 3]
    assert [line["train/top1"] for line in lines] == [1, None, 1]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "from 1 to 2: its update is left out" in said
    assert [path.name for path in tmp_path.glob("nonfinite*")] == ["nonfinite-step1.json"]


def test_a_hundred_skipped_steps_in_a_row_end_the_run(tmp_path):
    config = default_config()
    config.nonfinite = "skip"
    watch = nonfinite.Watch(config, epath.Path(tmp_path), lambda step: ROWS, print)
    for state in range(1, 100):
        watch.see(state, metrics(np.nan))
    watch.see(100, metrics(1.0))
    for state in range(101, 200):
        watch.see(state, metrics(np.nan))
    with pytest.raises(ConfigError, match=r"from 199 to 200, after 100 such steps in a row"):
        watch.see(200, metrics(np.nan))


def test_a_state_that_is_not_finite_is_refused():
    state = {"step": np.int32(3), "params": {"a": np.ones(2, np.float32)}}
    nonfinite.refuse(state, 3)
    state["params"]["b"] = np.array([1, np.inf], np.float32)
    with pytest.raises(ConfigError, match="The state of step 3 holds values that are not finite"):
        nonfinite.refuse(state, 3)
