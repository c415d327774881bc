"""What `jaxfdsl prepare` does with its options."""

import os
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data import prepare


def run(options: Any) -> None:
    """Prepare what was asked for; raises ConfigError for what cannot be."""
    common: dict[str, Any] = {"max_corrupt": options.max_corrupt, "threads": options.threads}
    official = {
        "imagenet2012": prepare.imagenet2012,
        "cifar10": prepare.cifar10,
        "cifar100": prepare.cifar100,
    }
    if options.name == "folder":
        if len(options.more) != 2:
            raise ConfigError("Type `jaxfdsl prepare folder NAME DIR`, with a name of your own.")
        if options.allow_partial or options.tars != ".":
            raise ConfigError("--tars and --allow_partial are of official files: leave them out.")
        name, directory = options.more
        written = prepare.folder(name, directory, options.data_dir, **common)
    elif options.name not in official:
        raise ConfigError(
            f"{options.name!r} cannot be prepared: type one of {', '.join(official)}, or "
            "`folder NAME DIR`; of others, `jaxfdsl prepare folder` takes the unpacked images."
        )
    elif options.more:
        raise ConfigError(f"{options.more[0]!r} is too much: type --tars=DIR for the folder.")
    else:
        common["allow_partial"] = options.allow_partial
        tars = os.path.expanduser(options.tars)
        written = official[options.name](tars, options.data_dir, **common)
    print(f"{written} is ready: name={options.more[0] if options.more else options.name!r}")
