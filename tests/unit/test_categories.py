"""Tables: candidates, the published files, what is refused, and that a name means one table."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.generators import catalog, categories, published
from jaxfdsl.generators.formulas.exfractaldb import ExFractalDB
from jaxfdsl.generators.formulas.fractaldb import FractalDB


@pytest.mark.parametrize("family", [FractalDB(), ExFractalDB()])
def test_candidates_are_equal_on_host_and_device_and_follow_the_published_recipe(family):
    numbers = np.arange(5000, dtype=np.uint32)
    host = family.propose(numbers, xp=np)
    device = family.propose(jnp.asarray(numbers))
    for a, b in zip(host, device, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))
    counts = np.bincount(host.num_maps, minlength=8)
    assert counts[:2].sum() == 0 and np.abs(counts[2:] / 5000 - 1 / 6).max() < 0.02
    dims = 2 if family.name == "fractaldb" else 3
    first = host.maps[:, 0]
    linear, shift = first[:, : dims * dims] / 2**14, first[:, dims * dims :] / 2**20
    for values in (linear, shift):
        assert values.min() >= -1 and values.max() < 1 and abs(values.mean()) < 0.01
        assert abs(values.std() - 1 / np.sqrt(3)) < 0.01
    matrix = host.maps[..., : dims * dims].reshape(5000, 7, dims, dims) / 2**14
    weight = np.abs(np.linalg.det(matrix)) * (np.arange(7) < host.num_maps[:, None])
    expected = np.cumsum(weight, 1) / weight.sum(1, keepdims=True)
    before_last = np.arange(7) < host.num_maps[:, None] - 1
    assert np.abs(host.thresholds / 2**32 - expected)[before_last].max() < 2e-3
    assert (host.thresholds[~before_last] == 2**32 - 1).all()


def test_search_finds_the_shipped_numbers(tmp_path):
    found = generators.search(ExFractalDB(), 12, seed=0, cache_dir=tmp_path)
    table = generators.load("exfractaldb-1k", num_classes=12).categories
    np.testing.assert_array_equal(categories.from_numbers(ExFractalDB(), found).maps, table.maps)
    again = generators.search(ExFractalDB(), 5, seed=0, cache_dir=tmp_path)
    np.testing.assert_array_equal(again, found[:5])
    other = generators.search(ExFractalDB(), 5, seed=1, cache_dir=tmp_path)
    assert (other != again).all()


def test_published_search_finds_the_published_categories(shared_data):
    theirs = categories.read_systems(shared_data / "fractaldb1k" / "csv_rate0.2_category1000")
    stream = np.random.RandomState(1)
    systems, choices = published.draw_block(stream, 48)
    share = published.fill(systems, choices)
    found = [s for s, f in zip(systems, share, strict=True) if f >= 0.2]
    assert len(found) >= 1
    for ours, file in zip(found, theirs, strict=False):
        np.testing.assert_allclose(ours, file, rtol=0, atol=1e-12)


def test_fractaldb_1k_is_the_published_thousand(shared_data):
    table = generators.load("fractaldb-1k").categories
    files = generators.read_published(shared_data / "fractaldb1k" / "csv_rate0.2_category1000")
    for ours, theirs in zip(table, files, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.bincount(table.num_maps)[2:].tolist() == [231, 294, 218, 146, 77, 34]


def test_names_are_nested_and_have_their_sizes():
    for family in ("fractaldb", "exfractaldb"):
        large = generators.load(f"{family}-21k")
        assert large.num_classes == 21_000 and len(large) == 21_000_000
        middle = generators.load(f"{family}-10k", num_classes=5000)
        np.testing.assert_array_equal(middle.categories.maps, large.categories.maps[:5000])
    small = generators.load("exfractaldb-1k")
    np.testing.assert_array_equal(small.categories.maps, large.categories.maps[:1000])


def test_another_table_under_a_name_is_refused(monkeypatch):
    entry = catalog.CANONICAL["exfractaldb"]
    monkeypatch.setitem(catalog.CANONICAL, "exfractaldb", entry._replace(sha256="0" * 64))
    catalog._shipped.cache_clear()
    with pytest.raises(ValueError, match="is not the table that the name stands for"):
        generators.load("exfractaldb-1k")
    catalog._shipped.cache_clear()
    with pytest.raises(ValueError, match="means one table; for your own categories load 'fractal"):
        generators.load("fractaldb-1k", table="anything.npz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "exfractldb-1k"}, "did you mean 'exfractaldb-1k'"),
        ({"name": "fractaldb-1k", "colour": "hue"}, "no option 'colour' .did you mean 'color'"),
        ({"name": "fractaldb-1k", "num_classes": 2000}, "fractaldb-1k has 1000 categories"),
        ({"name": "fractaldb-1k", "weights": "0.45"}, "weights='0.45': fractaldb has 'none'"),
        ({"name": "fractaldb-1k", "pad": 0}, "pad=0: patches reach 3 pixels"),
        ({"name": "fractaldb-1k", "num_points": "many"}, "num_points='many': its type is int"),
        ({"name": "fractaldb-1k", "size": 20, "pad": 10}, "pad=10 leaves nothing of 20 pixels"),
        ({"name": "fractaldb-1k", "pad": 2}, "patches reach 3 pixels, give 3 or more"),
        ({"name": "exfractaldb-1k", "num_points": 2**18}, "give fewer than 131072"),
        ({"name": "fractaldb"}, "give num_classes=... to find"),
        ({"name": "fractaldb", "table": "/no/such/folder"}, "no such file or folder"),
        ({"name": "fractaldb-1k", "size": 15}, "size=15: give a canvas of 16 to 4096 pixels"),
        ({"name": "fractaldb-1k", "size": 4097}, "size=4097: give a canvas of 16 to 4096"),
        ({"name": "fractaldb-1k", "min_fill": 0.3}, "load 'fractaldb' with num_classes=1000"),
        ({"name": "fractaldb-1k", "min_fill": float("nan")}, "min_fill=nan: give 0 to 1"),
        ({"name": "fractaldb-1k", "flips": 1}, "flips=1: give True or False"),
        ({"name": "rcdb-1k", "noise": (None, 1.0)}, "its type is float"),
        ({"name": "rcdb-1k", "noise": (2.0, 1.0)}, "give the smaller number first"),
        ({"name": "rcdb-1k", "noise": (0.0, float("nan"))}, "give 0 to 8"),
        ({"name": "rcdb-1k", "vertices": (2, 200)}, "give 3 to 1000"),
        ({"name": "rcdb-1k", "search_seed": 7}, "means one table"),
        ({"name": "RCDB-1k"}, "did you mean 'rcdb-1k'"),
        ({"name": "rcdb-1k", "varying": 1}, "only 198 categories of rcdb differ"),
        ({"name": "fractaldb-1k", "instances": 0}, "None for an endless set"),
    ],
)
def test_what_is_not_known_is_refused_in_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        generators.load(**arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,3\n", "00000.csv, line 1: 3 columns; a 2-D system has 7"),
        ("0,0,0,0,0,0,.5\n0,0,0,x,0,0,.5\n", "line 2: .* is not a row of numbers"),
        ("0,0,0,0,0,0,1\n" * 8, "8 maps; a system has 1 to 7"),
        ("0,0,0,0,0,0,nan\n", "every value must be finite"),
        ("2,2,0,0,0,0,1\n", "a matrix row sums to 5.60 in magnitude"),
        ("0,0,0,0,4,0,1\n", "a translation of 4.00 with weights='0.4'; int32 holds less than 2.84"),
        ("0,0,0,0,200,0,1\n", "do not fit int32 fixed point"),
        ("0,0,0,0,0,0,85\n", "probabilities; they sum to 85"),
    ],
)
def test_malformed_category_files_are_named_with_their_line(tmp_path, text, words):
    (tmp_path / "00000.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        generators.load("fractaldb", table=tmp_path)


def test_tables_survive_saving(tmp_path):
    db = generators.load("exfractaldb-1k", num_classes=7)
    categories.save(tmp_path / "mine.npz", db.categories)
    mine = generators.load("exfractaldb", table=tmp_path / "mine.npz")
    assert categories.sha256(mine.categories) == categories.sha256(db.categories)
    assert mine.fingerprint() == db.fingerprint()
    (tmp_path / "cut.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"cut\.npz is not a whole \.npz file"):
        generators.load("exfractaldb", table=tmp_path / "cut.npz")
    with pytest.raises(ValueError, match="systems of 12 coefficients; fractaldb has 6"):
        generators.load("fractaldb", table=tmp_path / "mine.npz")


def test_indices_run_over_categories_first_and_the_endless_set_begins_with_the_finite_one():
    db = generators.load("exfractaldb-1k", num_classes=10, instances=3)
    endless = generators.load("exfractaldb-1k", num_classes=10, instances=None)
    assert len(db) == 30
    np.testing.assert_array_equal(db.recipes([0, 9, 10, 29]), [[0, 0], [9, 0], [0, 1], [9, 2]])
    np.testing.assert_array_equal(db.recipes(range(30)), endless.recipes(range(30)))
    with pytest.raises(
        IndexError, match=r"image 30 is not in exfractaldb-1k, whose images are 0\.\.29"
    ):
        db.recipes([30])
    with pytest.raises(TypeError, match="is endless"):
        len(endless)


RCDB_FILE = (
    "Vertex,12\nPerlin_noise,2.5\nline_width,0.05\nCenter_rad,40\nLine_num,30\n"
    "Oval_rate_x,1.25\nOval_rate_y,1.5\nstart_pos_h,200.5\nstart_pos_w,300\n"
)


def test_the_scripts_contour_files_are_read(tmp_path):
    (tmp_path / "00000.csv").write_text(RCDB_FILE)
    (tmp_path / "00001.csv").write_text(RCDB_FILE.replace("Vertex,12", "Vertex,99"))
    table = generators.read_published(tmp_path)
    assert table.vertices.tolist() == [12, 99] and table.polygons.tolist() == [30, 30]
    assert (table.noise[0], table.growth[0], table.radius[0]) == (10240, 819, 40)
    assert table.oval[0].tolist() == [5120, 6144] and table.centre[0].tolist() == [600, 401]
    db = generators.load("rcdb", table=tmp_path, size=64)
    assert db.num_classes == 2 and (np.asarray(db.draw([0])["image"]) < 255).any()
    with pytest.raises(ValueError, match="not a table of fractaldb, whose fields are"):
        generators.load("fractaldb", table=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Line_num,30", "Lines,30", "line 5: no parameter 'Lines'; Vertex, Line_num"),
        ("Line_num,30\n", "", "no row for Line_num"),
        ("Line_num,30", "Line_num,thirty", "line 5: 'thirty' is not a number"),
        ("Line_num,30", "Line_num,nan", "line 5: Line_num must be a number below 10000"),
        ("Line_num,30", "Line_num,3000", "polygons=3000 in the table: load it with polygons="),
        ("Vertex,12", "Vertex,201", "vertices=201 in the table: load it with vertices="),
    ],
)
def test_malformed_contour_files_are_named_with_their_line(tmp_path, old, new, words):
    (tmp_path / "00000.csv").write_text(RCDB_FILE.replace(old, new))
    with pytest.raises(ValueError, match=words):
        generators.load("rcdb", table=tmp_path)


def test_fewer_classes_of_a_name_without_a_size_are_its_first():
    for name in ("1p-frac", "segrcdb"):
        whole, some = generators.load(name), generators.load(name, num_classes=3)
        for all_of, three in zip(whole.categories, some.categories, strict=True):
            np.testing.assert_array_equal(all_of[:3], three)


def test_categories_of_few_parameters_differ():
    few = generators.load("rcdb-1k", varying=2).categories
    assert len({(v, p) for v, p in zip(few.vertices, few.polygons, strict=True)}) == 1000
    assert len(set(few.radius)) == len(set(few.noise)) == 1


WRONG_TYPES = """
import numpy as np
from jaxfdsl import generators
for arguments in (
    {"name": 5}, {"size": "224"}, {"size": 224.0}, {"instances": 1.5}, {"instances": "all"},
    {"num_classes": 2.5}, {"search_seed": "x"}, {"name": "rcdb", "table": 5},
    {"background": np.array([1, 2])},
):
    try:
        generators.load(**{"name": "rcdb-1k", **arguments})
    except ValueError as error:
        print(error)
"""


def test_values_of_a_wrong_type_are_refused_in_one_sentence():
    # In a process of its own: the tests' type checks would be first.
    done = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert not done.stderr and len(lines) == 9
    assert lines[0] == "name=5: give one of generators.names()"
    assert all("give a whole number" in line for line in lines[1:7])
    assert lines[7].startswith("table=5: give a file, a folder")
    assert generators.load("rcdb-1k", varying=np.int32(6)).family.varying == 6
