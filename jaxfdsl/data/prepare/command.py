"""What `jaxfdsl prepare` does with its options, and what it tells about the files to download."""

import os
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data import prepare

HELP = """\
Write a data set in TFDS's array_record layout from its official files, without TensorFlow.

  jaxfdsl prepare imagenet2012 --tars DIR --data_dir DIR
      DIR holds ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar (6.3 GB), or one of
      them, as downloaded from https://image-net.org/download-images (free, after registration);
      do not unpack them. Another 145 GB are written. Images are read in TFDS's order, which is
      shuffled: keep the tars on an SSD. The tars can be deleted afterwards.
  jaxfdsl prepare cifar10 --tars DIR --data_dir DIR
      DIR holds cifar-10-binary.tar.gz (170 MB) from https://www.cs.toronto.edu/~kriz/cifar.html
  jaxfdsl prepare cifar100 --tars DIR --data_dir DIR
      DIR holds cifar-100-binary.tar.gz (169 MB), from the same page
  jaxfdsl prepare folder NAME DIR --data_dir DIR
      DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg and so on, or DIR/CLASS/*.jpg alone; the files
      are copied as they are

After a kill, type the same command again: finished files are kept. Every image is decoded once;
those that cannot be are named.
"""


def run(options: Any) -> None:
    """Prepare what was asked for."""
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
