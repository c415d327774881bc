#!/bin/sh
# Representation-conditioned diffusion from end to end, on a set that is small enough for a few
# minutes of CPU: embed, train, materialise, select, classify.
#
#     sh examples/representation_conditioned.sh runs/repdiff_example
#
# The "real" images are 640 fractals of 10 categories, so that nothing is downloaded; with a store of
# your own in their place (jaxfdsl store import) leave the first step out. Steps that are done are
# not done again: after a kill, type the same command.
set -eu
out=${1:-runs/repdiff_example}
here=$(dirname "$0")
run() { # the part of the recipe, its workdir, and what else is set
    part=$1 workdir=$2
    shift 2
    python -m jaxfdsl.main --config="$here/representation_conditioned.py:$part" \
        --workdir="$workdir" "$@"
}

# 1. The real images.
jaxfdsl materialise fractaldb-1k --to store --classes 10 --instances 64 --size 16 \
    --option weights=uniform --option pattern=point --option num_points=1000 --option pad=1 \
    --out "$out/real"

# 2. An encoder that sees no label, and its vector of each image. Published weights are one word:
#    --encoder dinov2:PATH, dinov3:PATH, clip:PATH or siglip:PATH.
run encoder "$out/encoder" --config.data.sources.real.path="$out/real"
jaxfdsl embed "$out/real" --encoder "$out/encoder" --name ours

# 3. A denoiser that is told this vector.
run denoiser "$out/denoiser" --config.data.sources.real.path="$out/real"

# 4. Four images of each vector: image i is of vector i % 640 with seed i // 640. For vectors that no
#    image has, --recipes takes the file of
#    jaxfdsl represent "$out/real" --rep ours --by interpolate --count 640 --out mixed.npz
jaxfdsl materialise "$out/denoiser" --to store --recipes "$out/real" --images 2560 \
    --out "$out/made"

# 5. The better half of each class: samples whose own vector is nearest to the one asked for.
jaxfdsl embed "$out/made" --encoder "$out/encoder" --name ours
jaxfdsl select "$out/made" --by faithfulness --rep ours --per class --keep 0.5 --out best
jaxfdsl judge "$out/made" --real "$out/real" --rep ours --index best

# 6. The same classifier, trained on made images alone and on the real ones; both are tested on
#    pictures that nobody was trained on.
run classifier "$out/on_made" --config.data.sources.real.path="$out/made" \
    --config.data.sources.real.index=best
run classifier "$out/on_real" --config.data.sources.real.path="$out/real"
