"""The HTML report of runs: whole, safe, small, and true to the metrics file."""

import base64
import html.parser
import io
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from jaxfdsl import config as config_lib
from jaxfdsl import load_config
from jaxfdsl.config import ConfigError
from jaxfdsl.report.page import charts, cost, document, images, pictures, runs


@pytest.fixture(scope="module")
def demo():
    return load_config("demo.py")


def lines_of(steps=40, every=10, top=0.5):
    lines = []
    for step in range(every, steps + 1, every):
        train = {"loss": 4 / step, "step_seconds": 0.5, "images_per_second": 256.0}
        train |= {"evaluation": 0.5, "checkpoint": 0.0, "mfu": 0.25}
        lines.append({"step": step, **{f"train/{name}": value for name, value in train.items()}})
        shown = {"top1": top - abs(step - 30) / 1000, "loss": 3 / step}
        lines.append({"step": step, **{f"held_out/{name}": v for name, v in shown.items()}})
    return lines


def make_run(folder, config, lines=None, **fields):
    folder.mkdir()
    config = config_lib.from_json(config_lib.to_json(config))
    config.update_from_flattened_dict(fields)
    (folder / "config.json").write_text(config_lib.to_json(config))
    lines = lines_of() if lines is None else lines
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def page_of(*workdirs):
    found = runs.read_all(workdirs)
    return document.compose(found, pictures.galleries(found))


def tree(page):
    """The page as a tree: it is well-formed as XML, which is stricter than HTML."""
    return ET.fromstring(page)


def part(root, name):
    return next(section for section in root.iter("section") if section.get("id") == name)


def words(element):
    return " ".join("".join(element.itertext()).split())


def rows(section):
    """The cells of the first table, without what is folded away."""
    table = next(section.iter("table"))
    return [[words(cell) for cell in row] for row in table.iter("tr")]


class Seen(html.parser.HTMLParser):
    """What a browser would see."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.handlers = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "background"):
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


def test_the_numbers_are_those_of_the_metrics_file(tmp_path, demo):
    folder = make_run(tmp_path / "one", demo)
    written = (tmp_path / "one" / "metrics.jsonl").read_text()
    lines = [json.loads(text) for text in written.splitlines()]
    root = tree(page_of(folder))
    assert words(next(root.iter("h1"))) == "one"
    table = next(part(root, "results").iter("table"))
    shown = {
        words(row[0]): [float(data.get("value")) for data in row.iter("data")]
        for row in table.find("tbody")
    }
    top1 = [line["held_out/top1"] for line in lines if "held_out/top1" in line]
    loss = [line["held_out/loss"] for line in lines if "held_out/loss" in line]
    assert shown == {
        "held_out/top1": [top1[-1], max(top1)],
        "held_out/loss": [loss[-1], min(loss)],
    }
    assert rows(part(root, "results"))[1] == ["held_out/top1", "49.0%", "50.0%", "30"]
    drawn = [float(d.get("value")) for d in part(root, "curves").iter("data")]
    logged = {value for line in lines for value in line.values()}
    assert set(drawn) <= logged and lines[-2]["train/loss"] in drawn
    assert "at step 40 of 800" in words(root) and "256 images/s" in words(root)
    for length, said in ((40, "finished after 40 steps"), (60, "at step 40 of 60")):
        (tmp_path / "one" / "summary.json").write_text('{"finished": true, "steps": 40}')
        (tmp_path / "one" / "run.json").write_text(json.dumps({"total_steps": length}))
        assert said in words(tree(page_of(folder)))  # it is longer once a longer one is asked for


def test_the_cost_counts_steps_evaluations_and_flop(tmp_path, demo):
    folder = make_run(tmp_path / "one", demo)
    facts = {"total_steps": 40, "parameters": 7, "flop_per_image": 1e9}
    facts["starts"] = [{"step": 0, "devices": "2 x H200", "time": "2026-01-02T03:04:05+00:00"}]
    (tmp_path / "one" / "run.json").write_text(json.dumps(facts))
    (run,) = runs.read_all([folder])
    spent = cost.of(run)
    assert spent.seconds == pytest.approx(40 * 0.5 / (1 - 0.5))  # half of it was evaluation
    assert (spent.steps_per_second, spent.images_per_second, spent.mfu) == (2, 256, 0.25)
    assert spent.flop == 40 * demo.batch_size * 1e9
    assert spent.shares["evaluation"] == 0.5
    said = words(tree(page_of(folder)))
    assert "2 x H200" in said and "5.12 TFLOP" in said and "2 January 2026, 03:04 UTC" in said


def test_nothing_comes_from_outside(tmp_path, demo):
    folders = [make_run(tmp_path / name, demo) for name in "ab"]
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a" / "gallery.png")
    page = page_of(*folders)
    seen = Seen(page)
    assert not [link for link in seen.links if not link.startswith(("#", "data:image/"))]
    anchors = {link[1:] for link in seen.links if link.startswith("#")}
    assert anchors == {section.get("id") for section in tree(page).iter("section")}
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {*seen.tags}
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?://|\bimport\(", page)
    policies = [meta.get("content") for meta in tree(page).iter("meta")]
    assert any(policy and policy.startswith("default-src 'none'; ") for policy in policies)


def test_whatever_a_run_holds_is_text(tmp_path, demo):
    evil = '<script>alert("1")<'
    lines = [{"step": 1, "<img src=x onerror=y>/top1": 0.5, "train/</svg>": 1.0}]
    folder = make_run(tmp_path / evil, demo, lines, **{"init_from": "<b>&amp;\x00"})
    (tmp_path / evil / "evaluation.json").write_text('{"1": {"\'><i>": 2}}')
    other = make_run(tmp_path / "other", demo)
    for page in (page_of(folder), page_of(folder, other)):
        seen = Seen(page)
        assert seen.tags.count("script") == 1 and not seen.handlers
        assert not {"img", "i"} & {*Seen(page.replace('<i class="', "<q")).tags}
        assert evil in words(tree(page)) and "<b>&amp;\ufffd" in words(tree(page))


def test_several_configs_show_what_differs_and_fold_the_rest(tmp_path, demo):
    one = make_run(tmp_path / "one", demo)
    two = make_run(tmp_path / "two", demo, lines_of(top=0.4), **{"optimizer.learning_rate": 0.5})
    root = tree(page_of(one, two))
    config = part(root, "config")
    rate = str(demo.optimizer.learning_rate)
    assert rows(config) == [["Field", "one", "two"], ["optimizer.learning_rate", rate, "0.5"]]
    folded = list(config.iter("details"))
    assert [words(fold[0]) for fold in folded] == ["All fields of one", "All fields of two"]
    assert "model.patch_size8model.pool" in words(folded[0])
    results = rows(part(root, "results"))
    assert results[1] == ["held_out/top1", "50.0%step 30, last 49.0%", "40.0%step 30, last 39.0%"]
    panels = part(root, "curves").findall(".//figure")
    assert all(len(panel.findall(".//path[@class]")) == 2 for panel in panels)
    same = part(tree(page_of(one, make_run(tmp_path / "again", demo))), "config")
    assert "The configs do not differ." in words(same)


def test_of_one_run_the_config_shows_what_was_chosen(tmp_path, demo):
    shown = rows(part(tree(page_of(make_run(tmp_path / "one", demo))), "config"))
    names = [row[0] for row in shown]
    assert ["optimizer.learning_rate", "0.003", "0.001"] in shown
    assert "data.sources.fractals.name" in names and "evals.held_out.source.num_classes" in names
    assert not {"seed", "data.sources.fractals.draw_on", "evals.held_out.crop_fraction"} & {*names}


def test_eight_runs_of_noise_stay_below_the_limit(tmp_path, demo, monkeypatch):
    monkeypatch.setattr(document, "LIMIT", 300_000)
    lines = [
        {"step": step, **{f"train/m{i}": float(step % 7 * i) for i in range(4)}}
        for step in range(1, 201)
    ]
    folders = []
    for run in range(8):
        folders.append(make_run(tmp_path / f"run{run}", demo, lines, seed=run))
        noise = np.random.default_rng(run).integers(0, 256, (150, 150, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"run{run}" / "gallery.png")  # 68 kB each
    page = page_of(*folders)
    assert len(page.encode()) <= 300_000
    sources = [image.get("src") for image in tree(page).iter("img")]
    assert len(sources) == 8
    for source in sources:
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).load()
    monkeypatch.setattr(document, "LIMIT", 50_000)
    with pytest.raises(ConfigError, match="these 8 runs would be above"):
        page_of(*folders)


def test_equal_galleries_are_shown_once_and_few_colours_stay_exact(tmp_path, demo):
    folders = [make_run(tmp_path / name, demo) for name in "ab"]
    picture = Image.new("RGB", (64, 64), "navy")
    picture.paste((255, 200, 0), (3, 5, 40, 41))
    for name in "ab":
        picture.save(tmp_path / name / "gallery.png")
    (image,) = tree(page_of(*folders)).iter("img")
    shown = Image.open(io.BytesIO(base64.b64decode(image.get("src").partition(",")[2])))
    np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), np.asarray(picture))
    assert images.data_uri(picture, 100) == ""  # there is no room at all


def test_what_is_missing_or_broken_is_a_sentence(tmp_path, demo):
    bare = make_run(tmp_path / "bare", demo, [])
    (tmp_path / "bare" / "metrics.jsonl").unlink()
    said = words(tree(page_of(bare)))
    assert "No metrics were logged yet." in said and "No evaluation has been made yet." in said
    killed = make_run(tmp_path / "killed", demo, [{"step": 3, "train/loss": None, "x/top1": 0.5}])
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/loss": NaN}\n[7]\n{"step": 1%s}\n' % ("0" * 400))
        file.write('{"step": 5, "train/lo')
    (tmp_path / "killed" / "config.json").write_text("{")
    (tmp_path / "killed" / "gallery.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    said = words(tree(page_of(killed)))
    assert "train/loss was not finite in 2 of 2 lines." in said
    assert "config.json cannot be read." in said and "No config was found." in said
    assert "gallery.png cannot be read as a picture." in said and "at step 4" in said
    assert "what it was trained on is unknown" in said
    assert tree(page_of(bare, killed)) is not None


@pytest.mark.parametrize("content", ["[]", "{}", '{"model": 3, "data": {"sources": [1]}}', "\x00"])
def test_any_config_makes_a_page(tmp_path, demo, content):
    folder = make_run(tmp_path / "odd", demo)
    (tmp_path / "odd" / "config.json").write_text(content)
    assert "Results" in words(tree(page_of(folder)))


def test_what_is_no_run_is_refused(tmp_path):
    out = tmp_path / "report.html"
    for workdir, said in (
        (tmp_path / "none", "is not there: type the workdir of a run"),
        (tmp_path, "holds neither config.json nor metrics.jsonl"),
        ("nowhere://bucket/run", "nowhere://bucket/run"),
    ):
        with pytest.raises(ConfigError, match=re.escape(str(said))):
            document.write([str(workdir)], out)
    assert not out.exists()


def test_names_tell_runs_apart(tmp_path, demo, monkeypatch):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        make_run(tmp_path / folder / "demo", demo)
    found = runs.read_all([f"{tmp_path}/a/demo", f"{tmp_path}/b/demo/", f"{tmp_path}/a/demo"])
    assert [run.name for run in found] == ["a/demo", "b/demo"]
    monkeypatch.chdir(tmp_path / "a" / "demo")
    monkeypatch.setenv("HOME", str(tmp_path / "b"))
    assert [run.name for run in runs.read_all([".", "~/demo"])] == ["a/demo", "b/demo"]


class Made:
    name, caption, image = "filters", "The <first> layer.", Image.new("RGB", (9, 5), "green")


def test_pictures_of_the_model_or_why_there_are_none(tmp_path, demo):
    found = runs.read_all([make_run(tmp_path / "one", demo)])

    def none(workdir):
        raise ConfigError(f"no checkpoint in {workdir}")

    for make in (none, None):  # None: the real ones
        shown, (told,) = pictures.of_models(found, make)
        assert not shown and told.startswith("one has no pictures of its model: ")
    page = document.compose(found, ([], []), pictures.of_models(found, lambda workdir: [Made]))
    (image,) = part(tree(page), "model").iter("img")
    assert image.get("alt") == "Filters. The <first> layer."


def test_long_curves_keep_their_last_step_and_their_extremes():
    step = np.arange(1, 5001, dtype=np.float64)
    points = np.stack([step, np.sin(step)], axis=1)
    kept, edges = charts.thinned(points, 100)
    assert len(kept) == len(edges) == 100 and kept[-1, 0] == 5000
    np.testing.assert_allclose(edges.min(), points[:, 1].min())
    np.testing.assert_allclose(edges.max(), points[:, 1].max())
    assert np.abs(kept[:, 1]).max() < 0.1  # the mean of many periods
    few, none = charts.thinned(points[:50], 100)
    assert none is None and len(few) == 50
