#!/usr/bin/env bash
# One training on two hosts, as docs/running.md shows it: two network namespaces, joined by a cable and by nothing else.
# It ends with status 0 if they train the network that one process trains. It needs root, ip and two cores.
#
#     sudo tests/two_hosts.sh [python]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
out=$(mktemp -d)
trap 'ip netns del gtsrb0; ip netns del gtsrb1; rm -rf "$out"' EXIT
given=(-p recipe tiny -p num_images 1100 -p num_epochs 10 -p shards 4 -p num_threads 1 -p device cpu)

for host in 0 1; do
    ip netns add "gtsrb$host"
    ip -n "gtsrb$host" link set lo up
done
ip link add cable0 netns gtsrb0 type veth peer name cable1 netns gtsrb1
for host in 0 1; do
    ip -n "gtsrb$host" addr add "10.77.0.$((host + 1))/24" dev "cable$host"
    ip -n "gtsrb$host" link set "cable$host" up
done

"$python" -m lib train "${given[@]}" --out "$out/one"
for host in 0 1; do
    ip netns exec "gtsrb$host" "$python" -m torch.distributed.run --nnodes 2 --node-rank "$host" --nproc-per-node 1 \
        --master-addr 10.77.0.1 --master-port 29500 -m lib train "${given[@]}" --out "$out/two$host" &
    pids[host]=$!
done
wait "${pids[0]}"
wait "${pids[1]}"
cmp "$out/one/checkpoint.safetensors" "$out/two0/checkpoint.safetensors"
echo "two hosts train the network of one"
