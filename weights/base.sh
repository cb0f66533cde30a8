#!/usr/bin/env bash
# How version 11 of the weights `base` was made: 21 trainings, each going on from the one before, nine hours on one core.
#
#   weights/base.sh EVENTS NOISE EVENTS2 NOISE2 BUSY EXCLUDE
#
# The first four are datasets in SeisBench's format, with the splits train and dev; the last two are unscreened noise, and a list of noise
# to leave out. Parts 1 to 12 know the first two, 11 and 12 simulated earthquakes as well, 18 to 21 simulated icequakes.
#
# Each part ran with the code of its commit, whose options it has: check that out, install it, and run the part. Between parts 4, 5, 6, 8, 9,
# 11 and the next, weights are the mean of those that the part began from and of its best ones (of part 8, a quarter and three quarters).
# Between parts 16 and 17, they are the mean of those that part 16 began from and of its last average, in `last.ckpt`. Parts 18 and 19 both begin from part 17,
# part 20 from the last average of part 18, and part 21 from the mean of those of part 19, a quarter, and of part 20. Of part 6, what denoises was kept.
# Before part 4, the stem got inputs of zero weight:
#   weights["network.stem.weight"] = torch.nn.functional.pad(weights["network.stem.weight"], (0, 0, 0, 99))
set -euo pipefail
events=$1 noise=$2 events2=$3 noise2=$4 busy=$5 exclude=$6 previous=

part() { # number, commit, options
    local number=$1 commit=$2
    shift 2
    echo "part $number, commit $commit" >&2
    cdiffsd train --events $events --noise "$noise" --precision bf16-mixed --threads 1 --out "runs/part$number" ${previous:+--init-from "$previous"} "$@"
    previous=runs/part$number/model
}
masked() { echo --loss log-ratio=1 spectrum=10 picks:volpick=8 "mask=$1"; }
odds="--batch-size 48 --loss log-ratio=1 spectrum=0 mask=0"
later="warmup=50 presence=1 augmentations.coda=0.25"

part 1 9586354 --steps 8000 --loss log-ratio=1 spectrum=10 picks:volpick=8 --kernel-rate 0.006
part 2 f249a92 --steps 11000 $(masked 6) --kernel-rate 0.005 --learning-rate 0.0008 --seed 1 # stopped after 5000
part 3 87d12fe --steps 5000 $(masked 15) --kernel-rate 0.003 --learning-rate 0.0005 --seed 2
part 4 7a7fdcc --steps 7000 $(masked 15) --kernel-rate 0.005 --learning-rate 0.0008 --seed 3
part 5 9fda13c --steps 2000 --validate-every 400 $(masked 15) --kernel-rate 0.004 --learning-rate 0.0006 --seed 4 --set warmup=50 augmentations.coda=0.5 augmentations.untouched=0.1
part 6 a8fda78 --steps 1600 --validate-every 400 $(masked 15) --kernel-rate 0.003 --learning-rate 0.001 --seed 6 --set $later augmentations.noise_only=0.25
part 7 d0342ce --steps 1200 --validate-every 1200 $odds --learning-rate 0.002 --threads 2 --seed 7 --set only=network.presence averaging=0.99 $later augmentations.noise_only=0.4
part 8 eea0366 --steps 4500 --validate-every 500 $(masked 15) --kernel-rate 0.004 --learning-rate 0.0008 --seed 8 --set $later augmentations.noise_only=0.25
part 9 9a781c5 --steps 1500 --validate-every 500 $(masked 15) --kernel-rate 0.003 --learning-rate 0.0008 --seed 9 --set $later augmentations.noise_only=0.3
part 10 9a781c5 --steps 800 --validate-every 400 $odds --learning-rate 0.001 --seed 10 --set only=network.presence averaging=0.99 $later augmentations.noise_only=0.4

# Half of the earthquakes of parts 11 and 12 are simulated, by the code of commit 51725a5, and half of all are resampled by 0.35 to 3.
python benchmarks/simulation.py runs/simulated
events="$events runs/simulated"
part 11 51725a5 --steps 2500 --validate-every 500 $(masked 15) --kernel-rate 0.003 --learning-rate 0.001 --seed 41 --set memory=20.0 $later augmentations.noise_only=0.2 "augmentations.stretch_range=[0.35,3.0]"
part 12 51725a5 --steps 800 --validate-every 400 $odds --learning-rate 0.001 --threads 2 --seed 42 --set memory=20.0 only=network.presence averaging=0.99 $later augmentations.noise_only=0.4 "augmentations.stretch_range=[0.35,3.0]"

# Bursts: unscreened noise and earthquakes, reversed in time, are noise to learn. Three more datasets, and windows that hold icequakes left out.
cat >runs/bursts.toml <<END
steps = 6000
kernel_rate = 0.003
warmup = 50
precision = "bf16-mixed"
threads = 1
memory = 20.0
loss = { log_ratio = 1.0, spectrum = 10.0, mask = 15.0, picks = { volpick = 8.0 } }
augmentations = { coda = 0.25, noise_only = 0.25, stretch_range = [0.35, 3.0] }
events = [{ dataset = "$1" }, { dataset = "$events2", weight = 0.6 }, { dataset = "runs/simulated", weight = 0.9 }]
noise = [{ dataset = "$noise", exclude = "$exclude" }, { dataset = "$noise2", weight = 0.4 }, { dataset = "$busy", weight = 0.3, reversed = true },
    { dataset = "$1", weight = 0.25, reversed = true }, { dataset = "$events2", weight = 0.15, reversed = true }]
END
bursts() { # number, options
    cdiffsd train runs/bursts.toml --init_from "$previous" --out "runs/part$1" "${@:2}" # commit 5f36fc0
    previous=runs/part$1/model
}
bursts 13 --seed 91 --validate_every 500 # stopped after 1500
bursts 14 --seed 92 --validate_every 1000 --steps 3000
bursts 15 --seed 93 --validate_every 900 --steps 900 --only network.presence --batch_size 48 --averaging 0.99 --loss.spectrum 0 --loss.mask 0 --loss.picks.volpick 0 --augmentations.noise_only 0.4

# Earthquakes that a window cuts off, and impulsive ones: they had been taken for bursts. For the odds, fewer reversed earthquakes.
sed 's/{ coda = 0.25,/{ coda = 0.5, onset = [-10.0, 3.0], impulsive = 0.2,/' runs/bursts.toml >runs/cut_off.toml
sed 's/weight = 0.25, reversed/weight = 0.15, reversed/; s/weight = 0.15, reversed = true }\]/weight = 0.1, reversed = true }]/' runs/cut_off.toml >runs/odds.toml
cut_off() { # number, config, options
    cdiffsd train "runs/$2.toml" --init_from "$previous" --out "runs/part$1" "${@:3}" # commit 148de75
    previous=runs/part$1/model
}
cut_off 16 cut_off --seed 101 --validate_every 500 --steps 2500
cut_off 17 odds --seed 103 --validate_every 700 --steps 700 --only network.presence --batch_size 48 --averaging 0.99 --loss.spectrum 0 --loss.mask 0 --loss.picks.volpick 0 --augmentations.noise_only 0.4

# Icequakes: their P, one or two cycles on Z, had been taken for a spike.
python benchmarks/simulation.py runs/icequakes --count 4000 --icequake
sed -e 's/{ coda = 0.25,/{ coda = 0.4, onset = [-10.0, 3.0], impulsive = 0.1,/' -e 's/weight = 0.25, reversed/weight = 0.2, reversed/; s/weight = 0.15, reversed = true }\]/weight = 0.12, reversed = true }]/' \
    -e 's#{ dataset = "runs/simulated", weight = 0.9 }#&, { dataset = "runs/icequakes", weight = 0.35 }#' runs/bursts.toml >runs/icequakes.toml
sed 's/kernel_rate = 0.003/kernel_rate = 0.002/; s/impulsive = 0.1,/& glitches = 0.05,/; s/weight = 0.35 }/weight = 0.7 }/' runs/icequakes.toml >runs/more_icequakes.toml
sed 's/weight = 0.2, reversed/weight = 0.15, reversed/; s/weight = 0.12, reversed/weight = 0.1, reversed/; s/weight = 0.35 }/weight = 0.5 }/' runs/icequakes.toml >runs/icequake_odds.toml
icequakes() { # number, config, options
    cdiffsd train "runs/$2.toml" --init_from "$previous" --out "runs/part$1" "${@:3}" # commit 2d1081b
}
icequakes 18 icequakes --seed 201 --validate_every 600 --steps 1800
icequakes 19 icequakes --seed 202 --validate_every 400 --steps 1600
previous=runs/part18/model
icequakes 20 more_icequakes --seed 203 --validate_every 450 --steps 1800
previous=runs/part20/model
icequakes 21 icequake_odds --seed 204 --validate_every 300 --steps 900 --only network.presence --batch_size 48 --averaging 0.99 --loss.spectrum 0 --loss.mask 0 --loss.picks.volpick 0 --augmentations.noise_only 0.4
