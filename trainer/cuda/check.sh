#!/bin/sh
# Checks and measures training on the GPU of this machine, in less than ten minutes:
#
#     ./check.sh [--rehearse] [RESULTS.json]
#
# It runs in the folder that pack.sh makes, and needs no Rust and no network. PyTorch, if python3 (or $PYTHON) has it, trains
# the same model beside. Each part has a status of its own, and one that fails does not stop the others:
#
#     device     the GPU, its driver and clocks
#     kernels    every kernel against the CPU's operations, and the engine against the CPU's and candle's
#     reference  ten steps of the engine against PyTorch's bf16 run in golden/bf16, within the noise of bf16
#     candle     the engine through candle, in f32, against PyTorch's values in golden/
#     bench      time by kernel beside the prediction; ten steps of smollm2-70m at context 8,192: tokens/s and MFU
#     pytorch    ten steps of the same with torch.compile, scaled_dot_product_attention and fused AdamW
#
# RESULTS.json (results.json unless given) has all of it; logs/ has what each part said. With --rehearse, the same parts run
# on the CPU with small sizes: the kernels in the emulator, where the binary has it. The exit status is 1 if a part failed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
train=$here/thimble-train
python=${PYTHON:-python3}

# The text as a JSON string.
quoted() {
  printf '"%s"' "$(printf '%s' "$1" | tr '\n\t\r' '   ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

# part NAME SECONDS COMMAND...: runs it within that time and what is left of the limit. What it prints, one JSON value, is the
# part's result.
part() {
  name=$1 most=$2
  shift 2
  left=$((limit - ($(date +%s) - begin)))
  [ "$most" -le "$left" ] || most=$left
  out=$here/logs/$name.json log=$here/logs/$name.log
  : > "$out"
  start=$(date +%s)
  if [ "$most" -lt 5 ]; then
    status=skipped why="no time was left of $limit seconds"
  else
    timeout -k 5 "$most" "$@" > "$out" 2> "$log"
    code=$?
    why=
    case $code in
      0) status=passed ;;
      77) status=skipped why=$(tail -n 1 "$log") ;;
      124 | 137) status=failed why="it took longer than $most seconds" ;;
      *) status=failed why="exit status $code: $(grep -m 1 '^error' "$log" || tail -n 1 "$log")" ;;
    esac
  fi
  [ "$status" != failed ] || failed=1
  seconds=$(($(date +%s) - start))
  printf '%-10s %-8s %4ss  %s\n' "$name" "$status" "$seconds" "$why"
  value=null
  # A comparison that does not hold still has its figures.
  if [ "$(head -c 1 "$out")" = "{" ] && [ "$(tail -c 2 "$out" | tr -d '\n')" = "}" ]; then value=$(cat "$out"); fi
  parts="$parts${parts:+,}
\"$name\": {\"status\": \"$status\", \"seconds\": $seconds, \"why\": $(quoted "$why"), \"result\": $value}"
}

# One line of nvidia-smi, or nothing.
smi() {
  command -v nvidia-smi >/dev/null 2>&1 || return 0
  nvidia-smi --query-gpu="$1" --format=csv,noheader | head -n 1
}

device() {
  said=$("$train" device --device "$1") || return 1
  printf '{"device": %s, "gpu": %s, "driver": %s, "clocks": %s}\n' "$(quoted "$said")" "$(quoted "$(smi name)")" \
    "$(quoted "$(smi driver_version)")" "$(quoted "$(smi clocks.sm,clocks.mem,clocks.max.sm,power.limit)")"
}

# With the arguments of thimble-train that run in the emulator.
emulated() {
  if ! "$train" device --device emulator >/dev/null 2>&1; then
    echo "the binary has no emulator: build it with trainer/cuda/build.sh --features emulator" >&2
    return 77
  fi
  "$train" "$@"
}

# With the options of train_pytorch.py.
pytorch() {
  case " $* " in
    *" cuda "*) needed='import torch; assert torch.cuda.is_available()' ;;
    *) needed='import torch' ;;
  esac
  if ! "$python" -c "$needed" 2>/dev/null; then
    echo "$python has no PyTorch for this device" >&2
    return 77
  fi
  "$python" "$here/train_pytorch.py" "$@"
}

# timeout runs programs and not functions, so the script calls itself for these.
case ${CHECK_PART:-} in
  device) device "$1"; exit ;;
  emulated) emulated "$@"; exit ;;
  pytorch) pytorch "$@"; exit ;;
esac

limit=${CHECK_SECONDS:-570}
rehearse=
results=$here/results.json
for argument in "$@"; do
  case $argument in
    --rehearse) rehearse=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    -*) echo "check.sh: expected --rehearse or a file name, found $argument" >&2; exit 2 ;;
    *) results=$argument ;;
  esac
done

# cuBLAS and cuRAND of PyTorch's wheels, for a system that has none.
if [ -z "${THIMBLE_CUDA_LIBS:-}" ] &&
  found=$("$python" -c 'import nvidia; print(":".join(path + "/*/lib" for path in nvidia.__path__))' 2>/dev/null); then
  export THIMBLE_CUDA_LIBS="$found"
fi

[ -x "$train" ] || { echo "check.sh: expected $train, found none: make this folder with pack.sh" >&2; exit 2; }
command -v timeout >/dev/null 2>&1 || { echo "check.sh: expected the command timeout (coreutils), found none" >&2; exit 2; }
mkdir -p "$here/logs"
begin=$(date +%s)
failed=0
parts=

case $results in
  /*) ;;
  *) results=$PWD/$results ;;
esac
cd "$here" || exit 2
if [ -n "$rehearse" ]; then
  part device 30 env CHECK_PART=device "$here/check.sh" cpu
  part kernels 240 env CHECK_PART=emulated "$here/check.sh" bench --parity --rehearse --json
  part reference 120 env CHECK_PART=emulated "$here/check.sh" parity golden/bf16 --device emulator --json
  part candle 120 "$train" parity golden --device candle --json
  part bench 240 env CHECK_PART=emulated "$here/check.sh" bench --rehearse --json
  part pytorch 120 env CHECK_PART=pytorch "$here/check.sh" --steps 2 --warmup 1 --layers 2 --batch 2 --context 64
else
  part device 30 env CHECK_PART=device "$here/check.sh" cuda
  # A kernel that fails is named only if nothing is launched behind it.
  part kernels 90 env CUDA_LAUNCH_BLOCKING=1 "$train" bench --parity --json
  part reference 60 "$train" parity golden/bf16 --device cuda --json
  part candle 60 "$train" parity golden --device cuda --json
  part bench 150 "$train" bench smollm2-70m --steps 10 --json
  # The peak that the bench found, for the MFU beside.
  peak=$(sed -n 's/.*"peak_tflops": *\([0-9.]*\).*/\1/p' logs/bench.json | head -n 1)
  part pytorch 300 env CHECK_PART=pytorch "$here/check.sh" --device cuda --dtype bf16 --compile --hidden 384 --layers 32 \
    --heads 6 --kv-heads 2 --head-dim 64 --ffn 1024 --vocab 49152 --batch 4 --accumulate 8 --context 8192 --steps 10 --warmup 3 \
    ${peak:+--peak-tflops "$peak"}
fi

printf '{"rehearsal": %s, "seconds": %s, "parts": {%s\n}}\n' "$([ -n "$rehearse" ] && echo true || echo false)" \
  "$(($(date +%s) - begin))" "$parts" > "$results.partial" && mv "$results.partial" "$results"
echo "results: $results"
exit "$failed"
