"""The `train` command: the training of 02 by several processes that share each batch, started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from lib.errors import RefusedError, UserError
from lib.files import CHECKPOINT_NAME, search_path
from lib.granted import num_cores
from lib.progress import silent, to_stdout
from lib.records.schema import TRAIN, ParameterValue
from lib.series.jobs import plan_jobs
from lib.series.preflight import check_data, check_training, load_given
from lib.series.rundir import claimed, prepare_run_dir
from lib.training.group import ALONE, choose_device, device_name, joined, under_torchrun
from lib.training.loop import epoch_line, train

LOG = "torchrun.log"  # in the run folder


def train_together(given: dict[str, str], out: str, num_processes: int) -> int:
    """Train as 02 does with these parameters, and leave a checkpoint and a state that 02 goes on from.

    Args:
        out: the run folder.
        num_processes: on this host; 1 under a torchrun that the user has started, which has its own.

    Raises:
        UserError: bad input; nothing has been started or written then.
        RefusedError: a process was lost.
    """
    if "run_dir" in given:
        raise UserError("choose the run folder with --out")
    (job,) = plan_jobs([TRAIN], given, [])
    values = job.values
    if values["seeds"] != 1:
        raise UserError("`train` trains one network; several seeds are `sweep 02 -p seed 0,1,2`")
    check_training(values, num_processes)
    folder = prepare_run_dir(out)
    if num_processes == 1:
        _train(values, folder)
        return 0
    check_data([job], to_stdout)
    threads = int(values["num_threads"]) or max(1, num_cores() // num_processes)
    parameters = {**given, "num_threads": str(threads)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost"]
    command += ["--nproc-per-node", str(num_processes), "-m", "lib", "train", "--out", str(folder)]
    command += [part for name, value in parameters.items() for part in ("-p", name, value)]
    environ = {**os.environ, "PYTHONPATH": search_path(), "OMP_NUM_THREADS": str(threads)}
    with (folder / LOG).open("w+", encoding="utf-8") as log, subprocess.Popen(command, stderr=log, env=environ) as run:
        status = run.wait()
        log.seek(0)
        errors = [line.removeprefix("error: ").strip() for line in log if line.startswith("error: ")]
    if status:
        reason = errors[0] if errors else f"a process was lost; see {folder / LOG}, and go on with -p resume true"
        raise RefusedError(reason)
    return 0


def _train(values: dict[str, ParameterValue], folder: Path) -> None:
    """What each process does."""
    device = choose_device(str(values["device"]))
    with joined(device) if under_torchrun() else nullcontext(ALONE) as group:
        first = group.rank == 0
        progress = to_stdout if first else silent
        here = int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun() else 1
        threads = int(values["num_threads"]) or max(1, num_cores() // here)
        data = load_given(values, progress)
        progress(f"{device_name(device)}{group.words}; threads of each process: {threads}")
        with claimed(folder) if first else nullcontext():
            trained = train(
                str(values["recipe"]),
                data,
                profile=str(values["profile"]),
                num_epochs=int(values["num_epochs"]),
                seed=int(values["seed"]),
                num_threads=threads,
                device=str(values["device"]),
                shards=int(values["shards"]),
                group=group,
                run_dir=folder if first else None,
                resume=bool(values["resume"]),
                on_epoch=lambda epoch, total: progress(epoch_line(epoch, total)),
            )
            if first:
                sha256 = trained.save(folder / CHECKPOINT_NAME)
                progress(f"{trained.device}\n{folder / CHECKPOINT_NAME}: {sha256}")
