"""The verbs of `jaxfdsl` that write data sets, registered as those of `cli` are."""

import argparse

from jaxfdsl import verbs
from jaxfdsl.data.materialise import SHARD_IMAGES, TARGETS
from jaxfdsl.verbs import at_least, option

_GOES_ON = "finished files are kept: the same command writes the others."
VERBS: dict[str, verbs.Verb] = {}
_verb = verbs.registering(VERBS)


@_verb(
    "jaxfdsl prepare folder flowers pictures/flowers --data_dir data",
    option("name", help="imagenet2012, cifar10, cifar100 or folder"),
    option("more", nargs="*", help="of `folder`: NAME and DIR"),
    option("--tars", default=".", help="where the downloaded files are"),
    option("--data_dir", default="", help="default $TFDS_DATA_DIR, ~/tensorflow_datasets"),
    option("--allow_partial", action="store_true", help="take an incomplete download"),
    option("--max_corrupt", type=float, default=0.0, help="share of images that may be broken"),
    option("--threads", type=at_least(0), default=0, help="0: one a processor"),
    stopped=_GOES_ON,
)
def prepare(options: argparse.Namespace) -> None:
    """Write ImageNet, CIFAR or an image folder as TFDS reads it.

    A data set in TFDS's array_record layout from its official files, without TensorFlow:

      jaxfdsl prepare imagenet2012 --tars DIR --data_dir DIR
          DIR holds ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar
          (6.3 GB), or one of them, as downloaded after free registration from
          https://image-net.org/download-images; do not unpack them. Another
          145 GB are written. Images are read in TFDS's order, which is shuffled:
          keep the tars on an SSD. The tars can be deleted afterwards.
      jaxfdsl prepare cifar10 --tars DIR --data_dir DIR
          DIR holds cifar-10-binary.tar.gz (170 MB), downloaded from
          https://www.cs.toronto.edu/~kriz/cifar.html
      jaxfdsl prepare cifar100 --tars DIR --data_dir DIR
          DIR holds cifar-100-binary.tar.gz (169 MB), from the same page
      jaxfdsl prepare folder NAME DIR --data_dir DIR
          DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg and so on, or DIR/CLASS/*.jpg
          alone; the files are copied as they are

    After a kill, type the same command again: finished files are kept. Every image is decoded
    once; those that cannot be are named.
    """
    from jaxfdsl.data.prepare import command

    command.run(options)


@_verb(
    "jaxfdsl materialise fractaldb-1k --to folder --classes 4 --instances 5 --size 32 --out DIR",
    option("name", help="a data set, such as exfractaldb-1k"),
    option("--to", required=True, help=", ".join(TARGETS)),
    option("--out", required=True, help="a new folder, or one that was not finished"),
    option("--classes", type=int, help="only the first so many categories"),
    option("--instances", type=int, help="images a category; of scenes all images"),
    option("--size", type=int, help="pixels; default: the published canvas"),
    option("--shard_images", type=int, default=SHARD_IMAGES, help="in a file"),
    option("--beam", default="", metavar="OPTIONS", help="by a runner: runner=FlinkRunner,..."),
    option("--option", action="append", default=[], metavar="NAME=VALUE", help="of the family"),
    stopped=_GOES_ON,
)
def materialise(options: argparse.Namespace) -> None:
    """Write a formula data set as files, for PyTorch or TFDS.

    As WebDataset, Parquet, TFDS, array_record, an image folder or a store. After a kill, type
    the same command again: finished files are kept. DIR/README.md has the lines that load what
    was written, DIR/manifest.json the sha256 of each file.
    """
    from jaxfdsl.data.materialise import command

    command.run(options)


@_verb(
    "jaxfdsl generate --captions captions.txt --out store --images_per_caption 4",
    option("--captions", required=True, help="a text file, one a line, or a CSV"),
    option("--column", default="caption", help="of a CSV"),
    option("--out", required=True, help="the store; one that is there is continued"),
    option("--model", default="stable-diffusion-v1-5/stable-diffusion-v1-5", help="hub or folder"),
    option("--revision", default="", help="of the model"),
    option("--images_per_caption", type=at_least(1), default=1, help="each from its own seed"),
    option("--first_seed", type=at_least(0), default=0),
    option("--steps", type=at_least(1), default=50, help="of sampling"),
    option("--guidance", type=float, default=2.0, help="w of w eps(caption) + (1 - w) eps(none)"),
    option("--scheduler", default="ddim", help="ddim (eta 0), or own: the model's"),
    option("--size", type=at_least(8), default=512, help="pixels that the model draws"),
    option("--stored_size", type=at_least(0), default=256, help="pixels kept; 0: all"),
    option("--batch", type=at_least(1), default=16, help="images at once"),
    option("--format", default="png", help="png, webp (lossless) or jpeg"),
    option("--dtype", default="auto", help="float16 on a GPU, else float32"),
    option("--device", default="auto", help="cuda, cuda:1, mps or cpu"),
    option("--part", default="0/1", help="3/8: the fourth of eight processes, with its own store"),
    option("--shard_images", type=at_least(1), default=1000, help="lost at most by a kill"),
    option("--licence", default="", help="of the images, if the model's is not known"),
    option("--no_safety_checker", action="store_true", help="keep what the model's own flags"),
)
def generate(options: argparse.Namespace) -> None:
    """Make images of captions by a diffusion model, into a store.

    Needs pip install "jaxfdsl[t2i]". Defaults are StableRep's: Stable Diffusion 1.5, DDIM 50 steps,
    guidance 2, kept at 256 pixels. The images inherit the model's data, biases and licence, which
    the store's card records.
    """
    from jaxfdsl.text_to_image import command

    command.run(options)


@_verb(
    "jaxfdsl store import sd15 --csv cc12m.csv --out cc12m --card licence=openrail",
    option("action", help="import, export, check, info or index"),
    option("folder", help="the store; of import, the folder to read"),
    option("--out", default="", help="of import and export: what to write"),
    option("--csv", default="", metavar="FILE", help="import: path,caption or file_name,..."),
    option("--webdataset", action="store_true", help="import: FOLDER holds tars"),
    option("--parquet", action="store_true", help="import: FOLDER holds Parquet files"),
    option("--stores", action="store_true", help="import: 'sd15.part-*' or a folder of stores"),
    option("--merge_captions", action="store_true", help="import: equal captions are one group"),
    option("--card", action="append", default=[], metavar="NAME=VALUE", help="import: data card"),
    option("--to", default="folder", help="export: folder, webdataset or parquet"),
    option("--shard_images", type=at_least(1), default=SHARD_IMAGES, help="in a file"),
    option("--group_size", type=at_least(0), default=0, help="index: least images a caption"),
    option("--captioned", action="store_true", help="index: images with a caption"),
    option("--name", default="", help="index: what to call it"),
    stopped=_GOES_ON,
)
def store(options: argparse.Namespace) -> None:
    """Images with captions, labels and seeds in one folder: the store.

      jaxfdsl store import FOLDER --csv FILE --out STORE
          FOLDER/SEED/path for each seed and a CSV of path and caption, or a line
          an image: file_name and any of label, group, seed, caption, source
      jaxfdsl store export STORE --to webdataset --out DIR
      jaxfdsl store check STORE                    compares every checksum
      jaxfdsl store info STORE                     counts, columns, data card
      jaxfdsl store index STORE --group_size 6     lists images: of captions that
                                                   have six or more

    After a kill, type the same command again: what is finished is kept.
    """
    from jaxfdsl.data.store import command

    command.run(options)


@_verb(
    "jaxfdsl select cc12m --by agreement --model runs/plus --per caption --out best",
    option("store"),
    option("--by", required=True, help="score:NAME, a column of the store, or agreement"),
    option("--model", default="", help="of agreement: the workdir of a run that has align"),
    option("--keep", type=float, default=0.5, help="share of the images"),
    option("--per", default="all", help="the same share of each class, of each caption, or of all"),
    option("--out", required=True, help="the name of the index list"),
    stopped="finished parts of the score are kept: the same command goes on.",
)
def select(options: argparse.Namespace) -> None:
    """List the best images of a store by a score.

    Writes STORE/index/OUT.npy, for store_source(path, index=OUT), and OUT.png with the best and
    the worst images. Agreement is the cosine of an image's and its caption's embeddings, kept as
    the column score:agreement.
    """
    from jaxfdsl.select import command

    command.run(options)
