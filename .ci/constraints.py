"""Writes constraints.txt from pip's own resolver: names and versions, no addresses.

    python .ci/constraints.py python3.11 python3.12 > constraints.txt

The first interpreter's versions hold below the second one's Python, the second's from there on.
"""

import json
import subprocess
import sys

EXTRAS = ".[dev]"


def resolved(python: str) -> dict[str, str]:
    """{package: version} that pip would install in an empty environment, without local suffixes."""
    command = f"{python} -m pip install --dry-run --ignore-installed --quiet --report - {EXTRAS}"
    text = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
    found = (item["metadata"] for item in json.loads(text[text.index("{") :])["install"])
    pins = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
    return {name: pins[name].split("+")[0] for name in sorted(pins) if name != "jaxfdsl"}


def main() -> None:
    older, newer = sys.argv[1:]
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    since = subprocess.check_output([newer, "-c", code], text=True).strip()
    old, new = resolved(older), resolved(newer)
    print("# Written by .ci/constraints.py from pip's resolver; install with pip's -c.")
    for name in sorted({*old, *new}):
        if old.get(name) == new.get(name):
            print(f"{name}=={old[name]}")
            continue
        for pins, sign in ((old, "<"), (new, ">=")):
            if name in pins:
                print(f'{name}=={pins[name]}; python_version {sign} "{since}"')


if __name__ == "__main__":
    main()
