"""The commands of docs/running.md and scripts/ are ones that the programs take."""

import pathlib
import re
import shlex
import subprocess

import pytest
import yaml
from absl import flags

from jaxfdsl import cli, config, launchers, main

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts").iterdir())
TEXTS = [ROOT / "docs" / "running.md", *SCRIPTS]


def code(file):
    """What is typed: the fences of a page, or a whole script."""
    text = file.read_text()
    fences = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.S)
    return "\n".join(["", *fences]) if file.suffix == ".md" else text


def commands(file, program):
    """The words after each `program`, up to the end of its command."""
    text = re.sub(r"\\\n\s*", " ", code(file))
    found = re.findall(rf"{re.escape(program)} +(--?\w[^\n]*|\w[^\n]*)", text)
    ended = [re.split(r"\s[>|&#]|[;)]|\"$", line)[0] for line in found]
    return [shlex.split(line.replace('"$@"', "")) for line in ended]


def test_every_training_command_parses(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = [words for file in TEXTS for words in commands(file, "-m jaxfdsl.main")]
    lines += [w[3:] for file in TEXTS for w in commands(file, "scripts/tpu_pod.sh")]
    lines += [words for file in TEXTS for words in commands(file, "scripts/slurm.sh")]
    assert len(lines) >= 15
    for words in lines:
        words = [word.replace("$JOB_COMPLETION_INDEX", "1") for word in words]
        command = main.parse(["main.py", *words], flags.FlagValues())
        config.validate(command.config, num_devices=16, num_processes=2)
        assert launchers.find({}, command.given).count in (1, 2)


def test_every_small_job_parses():
    lines = [words for file in TEXTS for words in commands(file, "\njaxfdsl")]
    assert {words[0] for words in lines} == {"doctor", "dryrun"}
    for words in lines:
        _, rest = cli.parser().parse_known_args(words)
        assert not rest or main.parse(["jaxfdsl", *rest], flags.FlagValues()).config


def test_fields_that_the_page_names_exist():
    text = (ROOT / "docs" / "running.md").read_text()
    named = set(re.findall(r"`(?:--)?config\.([\w.]+)", text)) - {"field"}
    assert len(named) > 10
    for name in named:
        config.field(config.default_config(), name)


def test_links_of_the_page_lead_somewhere():
    page = ROOT / "docs" / "running.md"
    links = re.findall(r"\]\((?!http)([^)]+)\)", page.read_text())
    heads = re.findall(r"^## (.*)$", page.read_text(), re.M)
    anchors = {"#" + re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    for link in links:
        assert link in anchors or (page.parent / link).is_file(), link


@pytest.mark.parametrize("file", [f for f in SCRIPTS if f.suffix == ".sh"], ids=lambda f: f.name)
def test_shell_scripts_are_whole(file):
    subprocess.run(["bash", "-n", file], check=True)
    assert file.stat().st_mode & 0o100


@pytest.mark.parametrize("file", [f for f in SCRIPTS if f.suffix == ".yaml"], ids=lambda f: f.name)
def test_manifests_start_as_many_pods_as_they_say(file):
    manifest = yaml.safe_load(file.read_text())
    [job] = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completions"] == spec["parallelism"] and spec["backoffLimit"] == 0
    [container] = spec["template"]["spec"]["containers"]
    [script] = container["args"]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    if "--num_processes" in script:
        assert f"--num_processes={spec['completions']} " in script
        name = f"{manifest['metadata']['name']}-{job['name']}-0-0.{manifest['metadata']['name']}"
        assert f"--coordinator={name}:" in script
