"""The commands of scripts/ are ones that the program takes; those of the pages: test_docs.py."""

import pathlib
import re
import shlex
import subprocess

import pytest
import yaml
from absl import flags

from jaxfdsl import config, main
from jaxfdsl.distributed import launchers

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts").iterdir())


def commands(file, program):
    """The words after each `program`, up to the end of its command."""
    text = re.sub(r"\\\n\s*", " ", file.read_text())
    found = re.findall(rf"{re.escape(program)} +(--?\w[^\n]*|\w[^\n]*)", text)
    ended = [re.split(r"\s[>|&#]|[;)]|\"$", line)[0] for line in found]
    return [shlex.split(line.replace('"$@"', "")) for line in ended]


def test_every_training_command_parses(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = [words for file in SCRIPTS for words in commands(file, "-m jaxfdsl.main")]
    for name in ("tpu_pod.sh", "slurm.sh"):  # what their own comments say to type
        own = commands(ROOT / "scripts" / name, f"scripts/{name}")
        lines += [words[3:] if name == "tpu_pod.sh" else words for words in own]
    assert len(lines) >= 4
    for words in lines:
        words = [word.replace("$JOB_COMPLETION_INDEX", "1") for word in words]
        command = main.parse(["main.py", *words], flags.FlagValues())
        config.validate(command.config, num_devices=16, num_processes=2)
        assert launchers.find({}, command.given).count in (1, 2)


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
