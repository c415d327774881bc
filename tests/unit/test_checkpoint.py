"""Checkpoints: what comes back, and what is skipped."""

import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxfdsl import checkpoint, sharding
from jaxfdsl import state as state_lib
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.config import ConfigError, default_config

OPTIMIZER = optax.adam(0.1)
META = {"config": {"seed": 0}, "data": {"a": [1, 2]}}


def new_state(ema=True):
    params = {"head": {"kernel": jnp.arange(64.0).reshape(8, 8), "bias": jnp.ones(8)}}
    state = state_lib.create(params, OPTIMIZER, ema=ema)
    mesh = sharding.make_mesh(default_config().mesh)
    laid = state_lib.shardings(state, mesh)
    return jax.device_put(state, laid), laid


@jax.jit
def grown(state):
    return jax.tree.map(lambda x: x + 1, state)


def saved(folder, steps, ema=True):
    """A folder of checkpoints, and the states that were put there."""
    state, _ = new_state(ema)
    checkpoints, states = Checkpoints(folder, keep=10, tell=print), {}
    for step in steps:
        state = grown(state)
        states[step] = jax.device_get(state)
        checkpoints.save(step, state, META)
    checkpoints.close()
    return states


def restored(folder, ema=True, wanted=0):
    """The newest whole state in `folder`, its metadata, and what was said."""
    said = []
    checkpoints = Checkpoints(folder, keep=10, tell=said.append)
    meta = checkpoints.newest_meta()
    state, laid = new_state(ema)
    found = checkpoints.restore(checkpoint.like(state, laid), wanted)
    checkpoints.close()
    return found, meta, said


@pytest.mark.parametrize("ema", [True, False])
def test_all_of_a_state_comes_back(tmp_path, ema):
    states = saved(tmp_path, [5, 10], ema)
    state, meta, said = restored(tmp_path, ema)
    assert jax.tree.structure(state) == jax.tree.structure(states[10])
    jax.tree.map(np.testing.assert_array_equal, state, states[10])
    assert meta == (10, META)
    assert said == []
    state, _, _ = restored(tmp_path, ema, wanted=5)
    jax.tree.map(np.testing.assert_array_equal, state, states[5])
    assert restored(tmp_path, ema, wanted=7)[0] is None


def test_a_saved_state_may_be_consumed_at_once(tmp_path):
    consume = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    state, _ = new_state()
    expected = jax.device_get(jax.tree.map(jnp.copy, state))
    checkpoints = Checkpoints(tmp_path, keep=1, tell=print)
    checkpoints.save(1, state, META)
    for _ in range(5):
        state = consume(state)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path)[0], expected)


def test_an_unfinished_save_is_skipped_and_named(tmp_path):
    states = saved(tmp_path, [5])
    unfinished = tmp_path / "10.orbax-checkpoint-tmp"
    (unfinished / "params").mkdir(parents=True)
    state, _, said = restored(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, states[5])
    assert len(said) == 1 and f"Skipping {unfinished}" in said[0] and "half written" in said[0]


def cut(folder):
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size > 8:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_arrays(folder):
    for file in (folder / "optimizer").rglob("*"):
        if file.is_file():
            file.unlink()


def lose_meta(folder):
    (folder / "meta" / "metadata").unlink()


@pytest.mark.parametrize("damage", [cut, lose_arrays, lose_meta])
def test_a_damaged_checkpoint_is_set_aside_and_named(tmp_path, damage):
    states = saved(tmp_path, [5, 10])
    damage(tmp_path / "10")
    state, _, said = restored(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, state, states[5])
    assert len(said) == 1 and str(tmp_path / "10") in said[0] and "not whole" in said[0]
    assert (tmp_path / "unreadable-10").is_dir()
    # The step can be reached and saved again.
    checkpoints = Checkpoints(tmp_path, keep=10, tell=print)
    checkpoints.save(10, new_state()[0], META)
    checkpoints.close()
    assert restored(tmp_path)[1] == (10, META)


def test_all_that_was_set_aside_is_named_now_and_later(tmp_path):
    saved(tmp_path, [5, 10])
    lose_arrays(tmp_path / "5")
    lose_meta(tmp_path / "10")
    for _ in range(2):
        checkpoints = Checkpoints(tmp_path, keep=10, tell=print)
        state, laid = new_state()
        checkpoints.newest_meta()
        assert checkpoints.restore(checkpoint.like(state, laid)) is None
        assert checkpoints.unreadable() == ["unreadable-10", "unreadable-5"]
        checkpoints.close()


def test_an_error_that_may_pass_rises_and_renames_nothing(tmp_path, monkeypatch):
    saved(tmp_path, [5])
    checkpoints = Checkpoints(tmp_path, keep=10, tell=print)

    def refuse(*_, **__):
        raise PermissionError("not now")

    monkeypatch.setattr(checkpoints._manager, "restore", refuse)
    with pytest.raises(PermissionError):
        checkpoints.newest_meta()
    monkeypatch.undo()
    assert checkpoints.newest_meta() == (5, META)
    checkpoints.close()


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_reading_only_leaves_a_folder_as_it_is(tmp_path):
    states = saved(tmp_path, [5, 10])
    lose_arrays(tmp_path / "10")
    (tmp_path / "15.orbax-checkpoint-tmp" / "params").mkdir(parents=True)
    before, said = names(tmp_path), []
    state, laid = new_state()
    for folder in (tmp_path, tmp_path / "new"):
        checkpoints = Checkpoints(folder, keep=1, tell=said.append, read_only=True)
        found = checkpoints.restore(checkpoint.like(state, laid))
        checkpoints.close()
        if folder == tmp_path:
            jax.tree.map(np.testing.assert_array_equal, found, states[5])
    assert found is None
    assert len(said) == 1 and "not whole" in said[0] and "unreadable" not in said[0]
    assert names(tmp_path) == before


def test_nothing_whole_is_nothing(tmp_path):
    assert restored(tmp_path / "new") == (None, None, [])


def test_old_checkpoints_go(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, tell=print)
    for step in (1, 2, 3):
        checkpoints.save(step, new_state()[0], META)
    checkpoints.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def test_weights_alone_are_the_average_of_the_newest_checkpoint(tmp_path):
    states = saved(tmp_path / "checkpoints", [5, 10])
    for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "10"):
        params, origin = checkpoint.load_params(path)
        assert origin == str(tmp_path / "checkpoints" / "10" / "ema")
        jax.tree.map(np.testing.assert_array_equal, params, states[10]["ema"])
        assert {type(x) for x in jax.tree.leaves(params)} == {np.ndarray}
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoint.load_params(tmp_path / "elsewhere")


def evaluated(tmp_path, values, keep=1, metric="held_out/top1"):
    """Saves a state for each value that improves, or all; the steps that are left."""
    checkpoints = Checkpoints(tmp_path / "c", keep=keep, tell=print, best_metric=metric)
    improved = []
    for step, value in values.items():
        improved.append(checkpoints.improves({metric: value, "other": 1.0}))
        checkpoints.save(step, new_state()[0], META, {metric: value, "other": 1.0})
    best = checkpoints.best
    checkpoints.close()
    left = sorted(int(path.name) for path in (tmp_path / "c").iterdir() if path.name.isdigit())
    return improved, best, left


def test_the_best_checkpoint_outlives_the_newer_ones_and_is_known_after_a_restart(tmp_path):
    improved, best, left = evaluated(tmp_path, {1: 0.2, 2: 0.9, 3: 0.4, 4: float("nan")})
    assert improved == [True, True, False, False]
    assert best == (2, 0.9) and left == [2, 4]
    said = json.loads((tmp_path / "best.json").read_text())
    assert said == {"step": 2, "metric": "held_out/top1", "value": 0.9}
    (tmp_path / "c").rename(tmp_path / "checkpoints")
    origin = checkpoint.load_params(tmp_path / "best.json")[1]
    assert origin == str(tmp_path / "checkpoints" / "2" / "ema")
    assert checkpoint.load_params(tmp_path)[1] == str(tmp_path / "checkpoints" / "4" / "ema")
    (tmp_path / "checkpoints").rename(tmp_path / "c")
    assert evaluated(tmp_path, {5: 0.5, 6: 0.95}) == ([False, True], (6, 0.95), [6])


def test_of_a_loss_the_lowest_is_the_best(tmp_path):
    improved, best, left = evaluated(tmp_path, {1: 0.5, 2: 0.2, 3: 0.2, 4: 0.3}, metric="a/loss")
    assert improved == [True, True, False, False] and best == (3, 0.2) and left == [3, 4]


def test_a_metric_that_no_evaluation_has_is_refused_with_those_there_are(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, tell=print, best_metric="held_out/top2")
    with pytest.raises(ConfigError, match="one of held_out/top1, held_out/loss"):
        checkpoints.improves({"held_out/top1": 1.0, "held_out/loss": 1.0})
    checkpoints.close()


@pytest.mark.parametrize("limit", [0, 5000])  # nothing fits, or the small files do
def test_a_full_disk_is_one_sentence_and_leaves_the_last_checkpoint(tmp_path, limit, capsys):
    checkpoints = Checkpoints(tmp_path, keep=1, tell=print)
    state = jax.tree.map(lambda x: x, new_state()[0])
    state["params"]["more"] = jnp.arange(20_000.0)
    checkpoints.save(5, state, META)
    checkpoints.check(wait=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(ConfigError) as caught:
            checkpoints.save(10, state, META)
            while True:  # as the training loop asks before every step
                checkpoints.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    checkpoints.close()
    assert str(caught.value) == (
        f"The checkpoint of step 10 could not be written to {tmp_path} (File too large) and the "
        "last whole one is step 5: free some space there, and type the same command to continue."
    )
    assert "Traceback" not in "".join(capsys.readouterr())
    checkpoints = Checkpoints(tmp_path, keep=1, tell=print)
    assert checkpoints.newest() == 5
    checkpoints.save(10, state, META)
    checkpoints.close()
    assert [path.name for path in tmp_path.iterdir()] == ["10"]
