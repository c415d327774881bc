"""Data sets in TFDS's array_record layout, written from the official files without TensorFlow.

Stock `tfds.data_source(name, data_dir=...)` reads what these functions write, and so does a
`kind: "tfds"` source. Each is restarted by calling it again: finished files are kept.
"""

from jaxfdsl.data.prepare.cifar import cifar10, cifar100
from jaxfdsl.data.prepare.image_folder import folder
from jaxfdsl.data.prepare.imagenet import imagenet2012

__all__ = ["cifar10", "cifar100", "folder", "imagenet2012"]
