"""The page about a machine: its verdict follows from its figures; what it lacks is said."""

import pytest

from jaxfdsl import doctor
from jaxfdsl.costs import flops, reached
from jaxfdsl.models import vit


def told(decoded: float, drawn: float = 1e9) -> str:
    return "\n".join(doctor.verdict(1e12, drawn, decoded, "rcdb-1k"))


def needed() -> float:
    """ViT-B/16's images/s on a processor whose matrix products reach 1 TFLOP/s."""
    design = vit.design_of(doctor._model(), 1000, "float32")
    return 1e12 * reached.expected(design, "cpu").value / flops.training(design)


def test_a_quick_host_does_not_limit_and_a_slow_one_is_told_how_many_cores_would_do(monkeypatch):
    monkeypatch.setattr(doctor, "_cores", lambda: 2)
    assert "real images would not limit" in told(decoded=2 * needed())
    # Half of what is needed on two cores: 2 x 2, and a fifth to spare.
    assert "real images would limit, 5 such cores would not" in told(decoded=needed() / 2)
    # 40 % of 989 TFLOP/s at 105 GFLOP an image, on cores that decode 300 a second each.
    assert "An H200 would learn 3,754 (assumed): real images would limit, 16" in told(decoded=600.0)


def test_drawing_takes_its_share_of_a_step():
    assert "25.0% of a step that draws" in told(decoded=1e9, drawn=3 * needed())


def test_a_device_that_tells_nothing_is_described_all_the_same(monkeypatch):
    class Silent:
        device_kind, platform = "Mystery 9000", "gpu"

        def memory_stats(self):
            raise RuntimeError("not supported")

    monkeypatch.setattr(doctor.jax, "devices", lambda: [Silent()])
    page = list(doctor._devices())
    assert "x Mystery 9000 (gpu)" in page[0]
    assert not [line for line in page if line.startswith(("memory", "peak"))]


def test_a_package_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    assert "no-such-package not installed" in list(doctor._versions())


def test_pictures_to_decode_are_as_large_as_imagenets():
    assert 30e3 < len(doctor._jpeg(0)) < 120e3


@pytest.mark.parametrize("data_dir", ["/nowhere", ""])
def test_absent_data_is_said(monkeypatch, data_dir, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert "nothing prepared" in doctor._prepared(data_dir)
