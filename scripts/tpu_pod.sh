#!/bin/bash
# One run on a Cloud TPU slice of spot machines, from this machine, until it has finished:
#   scripts/tpu_pod.sh NAME ZONE TYPE --config=configs/vitb_exfractal.py --workdir=gs://BUCKET/vitb
# such as fdsl us-west4-a v5litepod-32. It asks for the slice, installs, trains on all hosts, and
# asks again when the slice was taken away; the run is in the workdir. Delete the slice yourself:
#   gcloud compute tpus queued-resources delete NAME --zone=ZONE --force
# SOURCE is what is installed there, IMAGE the machines' software.
set -u
name="$1" zone="$2" type="$3"
shift 3
source="${SOURCE:-jaxfdsl[tpu,gcs] @ git+https://github.com/OWNER/REPO}"
image="${IMAGE:-v2-alpha-tpuv5-lite}"
# The images' own Python is older than 3.11.
install="curl -LsSf https://astral.sh/uv/install.sh | sh \
  && ~/.local/bin/uv venv -q --clear --python 3.12 ~/fdsl \
  && ~/.local/bin/uv pip install -q --python ~/fdsl/bin/python '$source'"
train="$(printf '%q ' fdsl/bin/python -u -m jaxfdsl.main "$@")"

on_all() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

state() {
  gcloud compute tpus queued-resources describe "$name" --zone="$zone" \
    --format='value(state.state)' 2>/dev/null || echo NONE
}

ask() {
  gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet 2>/dev/null
  gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
    --accelerator-type="$type" --runtime-version="$image" --spot || return 1
  until [ "$(state)" = ACTIVE ]; do
    if [ "$(state)" = FAILED ]; then
      echo "$name could not be had: gcloud compute tpus queued-resources describe $name" >&2
      return 1
    fi
    sleep 60
  done
  on_all "$install"
}

said="$(mktemp)"
trap 'rm -f "$said"' EXIT
while true; do
  if [ "$(state)" != ACTIVE ]; then
    ask || exit 1
  fi
  on_all "$train" 2>&1 | tee "$said"
  status="${PIPESTATUS[0]}"
  if grep -q "Stopped at step .*, saved; the same command continues" "$said"; then
    continue # it was asked to stop, and has steps left
  fi
  [ "$status" = 0 ] && exit 0
  sleep 60 # until a slice that was taken away is known to be
  if [ "$(state)" = ACTIVE ]; then
    echo "$name is still there and the run ended with status $status: not tried again." >&2
    exit "$status"
  fi
done
