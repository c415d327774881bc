"""The verbs of `jaxfdsl` that write data sets, registered as those of `cli` are."""

import argparse

from jaxfdsl.cli import verbs
from jaxfdsl.cli.verbs import at_least, option
from jaxfdsl.data.materialise import SHARD_IMAGES, TARGETS

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
    option("name", help="a data set, such as exfractaldb-1k, or the workdir of a denoiser's run"),
    option("--to", required=True, help=", ".join(TARGETS)),
    option("--out", required=True, help="a new folder, or one that was not finished"),
    option("--classes", type=int, help="only the first so many categories"),
    option("--instances", type=int, help="images a category; of scenes all images"),
    option("--size", type=int, help="pixels; default: the published canvas"),
    option("--shard_images", type=int, default=SHARD_IMAGES, help="in a file"),
    option("--beam", default="", metavar="OPTIONS", help="by a runner: runner=FlinkRunner,..."),
    option("--option", action="append", default=[], metavar="NAME=VALUE", help="of the family"),
    option("--recipes", help="of a run: labels, data, STORE, STORE:rep:NAME or FILE.npz"),
    option("--images", type=int, help="of a run: how many; default: one a recipe"),
    option("--guidance", type=float, help="of a run: 1 is none, and the default"),
    option("--sample_steps", type=int, help="of a run: default 25"),
    option("--method", help="of a run: heun, the default, or euler"),
    option("--weaker", help="of a run: autoguidance by another step of it, or by another workdir"),
    option("--step", type=int, help="of a run: which checkpoint; default: the newest"),
    option("--batch", type=int, help="of a run: images at once; default: 64, on a GPU 256"),
    option("--licence", help="of a run: of the images; default: that of its data"),
    stopped=_GOES_ON,
)
def materialise(options: argparse.Namespace) -> None:
    """Write a formula data set, or samples of a denoiser, as files.

    As WebDataset, Parquet, TFDS, array_record, an image folder or a store, for PyTorch or TFDS.
    DIR/README.md has the lines that load what was written, DIR/manifest.json the sha256 of each
    file.

      jaxfdsl materialise RUN --recipes data --images 50000 --to store --out DIR
          samples of a run with objective.denoise, one of each recipe, then the
          next of each: image i is a function of the checkpoint, the recipe and
          the seed. A larger --images goes on with a set. Recipes are the classes
          (labels), what RUN was told of its own training images (data) or of a
          store's, each once (STORE@INDEX: those of an index list), or vectors
          that jaxfdsl represent made

    After a kill, type the same command again: what is finished is kept.
    """
    from jaxfdsl.diffusion import settings

    if settings.is_run(options.name):
        from jaxfdsl.diffusion import command as of_runs

        of_runs.run(options)
        return
    from jaxfdsl.data.materialise import command

    settings.refuse(options)
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
    "jaxfdsl embed tfds:cifar10 --encoder runs/contrast --name ours --data_dir data",
    option("data", metavar="DATA", help="a store's folder, or tfds:NAME"),
    option("--encoder", default="", help="weights or a run's workdir; pixels:8; oracle"),
    option("--autoencoder", default="", metavar="PATH", help="a VAE's weights: its latents"),
    option("--name", required=True, help="of the column: rep:, cluster: or latent:NAME"),
    option("--image_size", type=at_least(0), default=0, help="of latents: the run's pixels"),
    option("--size", type=at_least(0), default=0, help="of latents: that of the run's source"),
    option("--split", default="train", help="of tfds"),
    option("--data_dir", default="", help="of tfds; default $TFDS_DATA_DIR"),
    option("--label", default="label", help="of tfds: the class feature"),
    option("--batch", type=at_least(1), default=256, help="images on the devices at once"),
    option("--flip", action="store_true", help="mirror images too; of vectors the mean of both"),
    option("--max_corrupt", type=float, default=0.0, help="share of images that may be broken"),
    option("--replace", action="store_true", help="a column of that name that is there"),
    option("--clusters", type=at_least(0), default=0, help="so many, by k-means of --of"),
    option("--of", default="", metavar="rep:NAME", help="the column to cluster"),
    option("--seed", type=at_least(0), default=0, help="of the clusters"),
    stopped="finished parts are kept: the same command goes on.",
)
def embed(options: argparse.Namespace) -> None:
    """Write what an encoder sees in each image, as a column.

      jaxfdsl embed STORE --encoder runs/contrast --name ours
          rep:ours, a vector an image, with its mean and deviation
      jaxfdsl embed STORE --clusters 1000 --of rep:ours --name ours-k1000
          cluster:ours-k1000, a number an image, by k-means of that column,
          standardised
      jaxfdsl embed STORE --autoencoder sd-vae --name sd --image_size 256 --flip
          latent:sd, what a denoiser reads instead of images (data.latents=sd),
          and of their mirror images: float16, 32 kB an image

    Images are centre-cropped. Columns lie in STORE/rep, STORE/cluster and STORE/latent, or in the
    TFDS data's folder as rep/SPLIT-NAME.npy. The encoder "pixels:8" is the image at 8x8 pixels,
    "oracle" the formula's parameters, of a store that materialise drew.
    """
    from jaxfdsl.representations import command

    command.run(options)


@_verb(
    "jaxfdsl represent flowers --rep dinov2 --by interpolate --count 5000 --out mixed.npz",
    option("store", metavar="STORE", help="or tfds:NAME"),
    option("--rep", required=True, metavar="NAME", help="the column rep:NAME that embed wrote"),
    option("--by", required=True, help="rdm, gaussian, interpolate or perturb"),
    option("--count", type=at_least(1), required=True, help="vectors to make"),
    option("--per_class", action="store_true", help="so many of each class; else as the data"),
    option("--ignore_labels", action="store_true", help="one distribution, vectors without label"),
    option("--index", default="", metavar="NAME", help="only these images of the store"),
    option("--seed", type=at_least(0), default=0),
    option("--out", required=True, metavar="FILE.npz", help="for materialise --recipes"),
    option("--sigma", type=float, help="of perturb, in standard deviations (default .1)"),
    option("--components", type=float, help="of gaussian: a share below 1 (.95), or a number"),
    option("--model", default="", metavar="FILE", help="of rdm: a trained one"),
    option("--steps", type=int, help="of rdm: of sampling (250)"),
    option("--epochs", type=at_least(1), help="of rdm: of training (200)"),
    option("--width", type=at_least(2), help="of rdm (1536)"),
    option("--blocks", type=at_least(1), help="of rdm (12)"),
    option("--dropout", type=float, help="of rdm (0)"),
    option("--batch", type=at_least(1), help="of rdm (512)"),
    option("--learning_rate", type=float, help="of rdm (5.12e-4 at any batch)"),
    option("--split", default="train", help="of tfds:NAME"),
    option("--data_dir", default="", help="of tfds:NAME"),
    stopped="unfinished training of rdm is kept: the same command goes on.",
)
def represent(options: argparse.Namespace) -> None:
    """Make representations that no image has, to make images from.

      rdm          RCG's generator, a diffusion model of the vectors; trained first
                   and kept beside FILE.npz, unless --model names one
      gaussian     a normal distribution a class, in the space of principal axes
      interpolate  between two images of one class
      perturb      an image's vector and noise

    FILE.npz holds column, label, parents (rows of the store, -1: none) and made_by.
    """
    from jaxfdsl.representations import represent as represent_lib

    represent_lib.run(options)


@_verb(
    "jaxfdsl select cc12m --by agreement --model runs/plus --per caption --out best",
    option("store"),
    option("--by", required=True, help="score:NAME, a column of the store, or one below"),
    option("--model", default="", help="of agreement: the workdir of a run that has align"),
    option("--rep", default="", metavar="NAME", help="the column rep:NAME that embed wrote"),
    option("--real", default="", metavar="STORE", help="real images with rep:NAME, or tfds:NAME"),
    option("--real_index", default="", metavar="NAME", help="only these images of --real"),
    option("--split", default="train", help="of tfds:NAME"),
    option("--data_dir", default="", help="of tfds:NAME"),
    option("--k", type=at_least(1), default=5, help="neighbours of label_agreement, density"),
    option("--metric", default="euclidean", help="of the neighbours, or cosine"),
    option("--index", default="", metavar="NAME", help="choose among these images only"),
    option("--keep", type=float, default=0.5, help="share of the images"),
    option("--per", default="all", help="of each class, caption or recipe the same share, or all"),
    option("--worst", action="store_true", help="as many of the worst, to compare with"),
    option("--random", type=at_least(0), metavar="SEED", help="as many, whatever their score"),
    option("--out", required=True, help="the name of the index list"),
    stopped="finished parts of the score are kept: the same command goes on.",
)
def select(options: argparse.Namespace) -> None:
    """List the best images of a store by a score.

    Writes STORE/index/OUT.npy, for store_source(path, index=OUT), and OUT.png with the best and
    the worst images. Scores that are made here are kept as columns, score:agreement or
    score:NAME-novelty, and not made twice:

      agreement        cosine of an image's and its caption's embeddings (--model)
      faithfulness     cosine of rep:NAME and rep:asked, which conditioned the image,
                       standardised
      label_agreement  share of its k nearest real images that have its label
      density          minus the mean distance to its k nearest real images
      novelty          distance to the nearest real image: against copies
      duplicates       distance to the nearest other image of the store
    """
    from jaxfdsl.select import command

    command.run(options)


@_verb(
    "jaxfdsl judge made --real flowers --rep dinov2 --real_index trained_on",
    option("store", help="the made images, with the column rep:NAME"),
    option("--real", required=True, metavar="STORE", help="images trained on, or tfds:NAME"),
    option("--rep", required=True, metavar="NAME", help="the column rep:NAME that embed wrote"),
    option("--held_out", default="", metavar="STORE", help="not trained on, or tfds:NAME"),
    option("--index", default="", metavar="NAME", help="only these images of the store"),
    option("--real_index", default="", metavar="NAME", help="trained on: the others are held out"),
    option("--split", default="train", help="of --real tfds:NAME"),
    option("--held_out_split", default="test", help="of --held_out tfds:NAME"),
    option("--data_dir", default="", help="of tfds:NAME"),
    option("--k", type=at_least(1), default=3, help="neighbours of precision and recall"),
    option("--k_density", type=at_least(1), default=5, help="of density, coverage, labels"),
    option("--per_class", action="store_true", help="within each class too"),
)
def judge(options: argparse.Namespace) -> None:
    """Measure how near a made set is to real images.

    Frechet and kernel distance, precision, recall, density, coverage, label agreement and distances
    to the nearest image trained on, in the space of one encoder; held-out real images are measured
    beside it. Printed, and kept in STORE/judge.json under NAME or NAME@INDEX.
    """
    from jaxfdsl.judge import command

    command.run(options)
