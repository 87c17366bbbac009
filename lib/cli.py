"""The command line: `python -m lib COMMAND`. Bad input ends in one line and exit status 2."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from lib.ci.commands import add_commands
from lib.errors import RefusedError, UserError
from lib.progress import to_stdout
from lib.variables import KEEP_VARIABLE, remove_tuning, written

OK, FAILED, USAGE, INVESTIGATE, INTERRUPTED = 0, 1, 2, 3, 130


_PAIRS: dict[str, Any] = {"nargs": 2, "action": "append", "default": []}


class _Parser(argparse.ArgumentParser):
    """Reports usage errors like every other bad input."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see `{self.prog} --help`")


def _remove_tuning() -> None:
    """Neither this process nor a notebook that it starts computes as the user's shell says."""
    if removed := remove_tuning():
        print(
            f"note: ignored, as they change how fast or how exactly libraries compute: {written(removed)} "
            f"(to use one all the same, name it in {KEEP_VARIABLE})",
            file=sys.stderr,
        )


def _launch(arguments: argparse.Namespace) -> int:
    from lib.series.launcher import launch

    given = _once(arguments.parameters)
    out = arguments.out
    if "run_dir" in given:
        if out:
            raise UserError("give either --out or -p run_dir, not both")
        out = given.pop("run_dir")
    return launch(arguments.notebooks, given, arguments.backends, out, **_limits(arguments))


def _sweep(arguments: argparse.Namespace) -> int:
    from lib.series.sweep import Plan, read_plan, split_values, sweep

    given, file = _once(arguments.parameters), arguments.notebooks[0]
    if file.endswith(".toml"):
        if given or arguments.backends or len(arguments.notebooks) > 1:
            raise UserError(f"{file} says what the sweep runs; give no notebooks, -p or --backends beside it")
        plan = read_plan(file)
    else:
        values = {name: split_values(name, text) for name, text in given.items()}
        plan = Plan(arguments.notebooks, values, arguments.backends)
    return sweep(
        plan,
        arguments.out,
        engine=arguments.engine,
        num_jobs=arguments.jobs,
        at=arguments.at,
        only=arguments.only,
        network_of=arguments.network_of,
        again=arguments.again,
        limits=_limits(arguments),
    )


def _once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name.

    Raises:
        UserError: one is given twice.
    """
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            twice = f"parameter {name!r} is given twice: {given[name]!r} and {value!r}"
            raise UserError(f"{twice}; `sweep` takes both in one, as -p {name} A,B")
        given[name] = value
    return given


def _limits(arguments: argparse.Namespace) -> dict[str, int | None]:
    return {"cell_limit_s": arguments.cell_limit, "notebook_limit_s": arguments.notebook_limit}


def _params(arguments: argparse.Namespace) -> int:
    from lib.series.parameters import load_schema, notebook_names

    status = OK
    for number, name in enumerate([arguments.notebook] if arguments.notebook else notebook_names()):
        try:
            schema = load_schema(name)
        except UserError as error:
            _report(f"error: {error}")
            status = USAGE
            continue
        print(("\n" if number else "") + schema.notebook)
        width = max(map(len, schema), default=0)
        for parameter in schema.values():
            default = json.dumps(parameter.default)
            print(f"  {parameter.name:<{width}}  {parameter.type:<5}  {default:<15}  {parameter.help}")
            if parameter.choices or parameter.low is not None or parameter.high is not None:
                print(f"  {'':<{width}}  {'':<5}  {'':<15}  allowed: {parameter.allowed}")
    return status


def _backends(arguments: argparse.Namespace) -> int:
    from lib.backends import all_backends

    found = all_backends()
    if arguments.json:
        fields = ("name", "precision", "architectures", "extra", "default", "title")
        print(json.dumps([{field: getattr(backend, field) for field in fields} for backend in found], indent=1))
        return OK
    width = max(len(backend.name) for backend in found)
    print("* measured by a run that names no backends")
    for backend in found:
        print(f"{'*' if backend.default else ' '} {backend.name:<{width}}  {backend.title}")
        if reason := backend.unavailable():
            print(f"  {'':<{width}}  not here: {reason}")
    return OK


def _prove(arguments: argparse.Namespace) -> int:
    from lib.bench.prove import prove
    from lib.files import project_path

    out = project_path(arguments.out)
    proved = prove(arguments.backends, arguments.checkpoint, arguments.num_threads, out, to_stdout)
    print(f"what ran in every layer: {out}")
    return OK if proved else FAILED


def _selfcheck(arguments: argparse.Namespace) -> int:
    from lib.bench.loads import load_check
    from lib.bench.selfcheck import selfcheck
    from lib.files import project_path

    out = project_path(arguments.out)
    if arguments.loads:
        load_check(arguments.loads, arguments.num_threads, arguments.seconds, out, to_stdout)
    else:
        selfcheck(arguments.runs, arguments.profile, out, to_stdout, neighbour=arguments.neighbour)
    return OK


def _render(arguments: argparse.Namespace) -> int:
    from lib.series.rerender import rerender

    for path in rerender(Path(arguments.directory)):
        print(path)
    return OK


def _folds(arguments: argparse.Namespace) -> int:
    from lib.analysis.folds import folds_lines, load_folds

    folds = load_folds(arguments.directory)
    other = load_folds(arguments.other) if arguments.other else None
    for line in folds_lines(folds, other):
        print(line)
    return OK


def _bench_train(arguments: argparse.Namespace) -> int:
    from lib.bench.training import cost_lines, measure_training
    from lib.data import load_data
    from lib.progress import to_stderr
    from lib.training.recipes import choose_recipe

    recipe = choose_recipe(arguments.recipe, "fast")
    data = load_data(arguments.dataset, data_root=arguments.data_root, image_size=recipe.image_size, progress=to_stderr)
    cost = measure_training(recipe, data, seconds=arguments.seconds, num_threads=arguments.num_threads)
    for line in cost_lines(cost):
        print(line)
    return OK


def _drawn_signs(arguments: argparse.Namespace) -> int:
    from lib.bench.drawn_signs import measure_drawn
    from lib.files import project_path, write_atomic
    from lib.progress import to_stderr
    from lib.report.train import worst_pairs_png

    found, images = measure_drawn(
        arguments.recipe,
        arguments.images,
        arguments.data_root,
        seeds=arguments.seeds,
        num_epochs=arguments.num_epochs,
        generations=arguments.generations,
        progress=to_stderr,
    )
    out = project_path(arguments.out)
    write_atomic(out, json.dumps(found, indent=1) + "\n")
    if worst := found["by_seed"][0]["judging"]["confusions"]:
        write_atomic(out.with_suffix(".png"), worst_pairs_png(images, worst))
    print(f"written: {arguments.out}, and the worst pairs as a picture beside it")
    return OK


def _train(arguments: argparse.Namespace) -> int:
    from lib.series.together import train_together

    return train_together(_once(arguments.parameters), arguments.out, arguments.nproc)


def _prune(arguments: argparse.Namespace) -> int:
    from lib.series.rundir import prune

    for line in prune(arguments.keep):
        print(line)
    return OK


def _verify(arguments: argparse.Namespace) -> int:
    from lib.release.verifying import authenticity, verify

    release, holds = verify(arguments.release)
    for line in holds:
        print(f"ok  {line}")
    if arguments.key:
        from lib.release.signing import check_signature

        print(f"ok  {check_signature(release, arguments.key)}")
    print(f"{release.name} {release.version}, digest {release.digest}")
    print(authenticity(release, arguments.key))
    return OK


def _sign(arguments: argparse.Namespace) -> int:
    from lib.release.signing import sign_release
    from lib.release.verifying import verify

    release, _ = verify(arguments.release)
    print(sign_release(release, arguments.key))
    return OK


def _predict(arguments: argparse.Namespace) -> int:
    from lib.release.predicting import predict_files

    for line in predict_files(arguments.release, arguments.images, arguments.model):
        print(line)
    return OK


def _demo(arguments: argparse.Namespace) -> int:
    from lib.release.demo import write_demo

    print(write_demo(arguments.release, arguments.out))
    return OK


def _data(arguments: argparse.Namespace) -> int:
    from lib.data.download import fetch
    from lib.files import project_path

    root = project_path(arguments.data_root)
    fetch(arguments.dataset, root, progress=to_stdout)
    print(f"{arguments.dataset} is in {root}; use it with -p dataset {arguments.dataset} -p data_root {root}")
    return OK


def _data_add(arguments: argparse.Namespace) -> int:
    from lib.data import load_data
    from lib.data.store import add
    from lib.files import project_path
    from lib.progress import to_stderr

    data = load_data(arguments.dataset, data_root=arguments.data_root, progress=to_stderr)
    extra, new = add(project_path(arguments.directory), data, to_stderr)
    print(
        f"{extra.words}; {'use them' if new else 'they were there already, use them'} with -p extra_data {extra.hash}"
    )
    return OK


def _data_show(arguments: argparse.Namespace) -> int:
    from lib.data.store import all_extras, list_store, store_dir, verify_store

    if not all_extras():
        print(f"no extra data in {store_dir()}")
    for line in list_store() if arguments.action == "list" else verify_store():
        print(line)
    return OK


def _data_remove(arguments: argparse.Namespace) -> int:
    from lib.data.store import find_extra, remove
    from lib.release.reader import trained_with
    from lib.series.rundir import RUNS

    extra = find_extra(arguments.hash)
    releases = trained_with(extra.hash, RUNS)
    if releases and not arguments.yes:
        raise UserError(f"trained with these images: {', '.join(releases)}; add --yes to remove them all the same")
    print(f"removed {extra.hash}: {remove(extra):,} images that nothing else names", *releases, sep="\n")
    return OK


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from lib.serving.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lib."):
            raise
        raise UserError(
            f"{error.name} is not installed; `make EXTRAS=serve .venv` installs what serving needs"
        ) from None
    serve(arguments.release, arguments.host, arguments.port, arguments.num_threads, arguments.window)
    return OK


def _drift(arguments: argparse.Namespace) -> int:
    from lib.analysis.drift import find_drift, is_drift
    from lib.release import Release
    from lib.report.drift_words import drift_lines

    release = Release.load(arguments.release)
    drift = find_drift(release.validation(), release.window(arguments.window), release.labels)
    for line in drift_lines(drift):
        print(line)
    return INVESTIGATE if is_drift(drift) else OK


def _promote(arguments: argparse.Namespace) -> int:
    from lib.promotion.pointer import promote

    print(promote(arguments.to, arguments.current))
    return OK


def _names(text: str) -> list[str]:
    from lib.backends import split_names

    return split_names(text)


def _add_notebooks(parser: argparse.ArgumentParser, nargs: str, default: str, value: str, out: str) -> None:
    """What `run` and `sweep` have in common."""
    parser.add_argument("notebooks", nargs=nargs, metavar="NOTEBOOK", help=f"such as 03_benchmark or 03{default}")
    parser.add_argument("-p", dest="parameters", **_PAIRS, metavar=("NAME", value), help="see `python -m lib params`")
    parser.add_argument("--backends", type=_names, default=[], metavar="A,B", help="what 03 measures")
    parser.add_argument("--out", default=out, metavar="DIR")
    for what, usual in (("cell", "2700, or as the recipe has it"), ("notebook", "900 more than a cell")):
        limit = f"seconds per {what} (default: {usual}; more on an emulated CPU)"
        parser.add_argument(f"--{what}-limit", type=_at_least_one, metavar="S", help=limit)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m lib", description="GTSRB from data to a decision on a CPU inference backend.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, function: Callable[[argparse.Namespace], int], about: str, where: str = "") -> Any:
        added = commands.add_parser(name, help=about, epilog=f"DIR is {where}." if where else None)
        added.set_defaults(function=function)
        return added

    where = "the run folder; by default a new one, or the latest where 02 is not run"
    run = add("run", _launch, "execute the series, or some of its notebooks", where)
    _add_notebooks(run, "*", "; default: all", "VALUE", "")

    where = "a folder for the table sweep.csv and a run folder for each combination; by default runs/sweep"
    sweep = add("sweep", _sweep, "run notebooks for every combination of parameter values", where)
    _add_notebooks(sweep, "+", "; or a file that ends in .toml", "A,B", "runs/sweep")
    sweep.add_argument(
        "--network-of", default="", metavar="RUN", help="run folder whose checkpoint 03 measures in every combination"
    )
    sweep.add_argument("--again", action="store_true", help="also run the combinations that are done already")
    sweep.add_argument("--engine", default="local", metavar="NAME", help="local (default), ray or slurm: docs/scale.md")
    several = "combinations at a time on one node, which share its cores (default 1)"
    sweep.add_argument("--jobs", type=_at_least_one, default=1, metavar="N", help=several)
    sweep.add_argument("--at", default="", metavar="WHERE", help="HOST:PORT for ray; options for slurm")
    sweep.add_argument("--only", default="", metavar="FOLDER", help="of the combination that alone is run now")

    params = add("params", _params, "list the parameters of the notebooks")
    params.add_argument("notebook", nargs="?", default="", metavar="NOTEBOOK")

    backends = add("backends", _backends, "list the backends; imports no runtime")
    backends.add_argument("--json", action="store_true", help="for scripts")

    prove = add("prove", _prove, "show which kernels every backend runs on this machine; times nothing")
    prove.add_argument("--backends", type=_names, default=[], metavar="A,B", help="default: all that are installed")
    prove.add_argument("--checkpoint", default="", metavar="FILE", help="default: a network with random weights")
    prove.add_argument("--num-threads", type=_at_least_one, default=1, metavar="N", help="default: 1")
    prove.add_argument("--out", default="build/proof.json", metavar="FILE", help="default: build/proof.json")

    selfcheck = add("selfcheck", _selfcheck, "measure what is known, to see whether the harness is honest")
    selfcheck.add_argument("--runs", type=_at_least_one, default=20, metavar="N", help="of each kind (default 20)")
    selfcheck.add_argument("--profile", default="full", choices=["smoke", "fast", "full"])
    selfcheck.add_argument("--neighbour", action="store_true", help="with another process that burns a core in bursts")
    loads = "instead: by how much planted loads move the ratios of these backends"
    selfcheck.add_argument("--loads", type=_names, default=[], metavar="A,B", help=loads)
    seconds = "of --loads, for each backend and scenario (default 210)"
    selfcheck.add_argument("--seconds", type=float, default=210.0, metavar="S", help=seconds)
    selfcheck.add_argument(
        "--num-threads", type=_at_least_one, default=0, metavar="N", help="of --loads (default: all cores)"
    )
    selfcheck.add_argument("--out", default="build/selfcheck", metavar="DIR", help="default: build/selfcheck/")

    render = add("render", _render, "make the pages and the index of a run again")
    render.add_argument("directory", metavar="DIR", help="a run folder, such as runs/latest")

    cost = add("bench-train", _bench_train, "what a training costs: stages of a step, epochs of learning_path")
    cost.add_argument("--recipe", default="auto", metavar="NAME", help="default: auto, which is minute")
    cost.add_argument("--dataset", default="synthetic", metavar="NAME", help="default: synthetic")
    cost.add_argument("--data-root", default="", metavar="DIR", help="default: data")
    cost.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of steps in turns (default 30)")
    cost.add_argument("--num-threads", type=_at_least_one, default=0, metavar="N", help="default: all cores")

    drawn = add("drawn-signs", _drawn_signs, "train on drawn signs alone, read real ones")
    drawn.add_argument("--recipe", default="minute", metavar="NAME", help="default: minute")
    drawn.add_argument("--images", type=_at_least_one, default=45_000, metavar="N", help="drawn (default 45000)")
    drawn.add_argument("--num-epochs", type=int, default=0, metavar="N", help="default: as the recipe has it")
    drawn.add_argument("--seeds", type=_at_least_one, default=1, metavar="N", help="trainings (default 1)")
    drawn.add_argument("--generations", type=int, default=0, metavar="N", help="of the search (default 0: none)")
    drawn.add_argument("--data-root", default="", metavar="DIR", help="of the official images (default: data)")
    drawn.add_argument("--out", default="build/drawn.json", metavar="FILE", help="default: build/drawn.json")

    train = add("train", _train, "train as 02 does, in several processes that share each batch")
    train.add_argument("-p", dest="parameters", **_PAIRS, metavar=("NAME", "VALUE"), help="of 02, see `params 02`")
    train.add_argument("--nproc", type=_at_least_one, default=1, metavar="N", help="processes here (default 1)")
    train.add_argument("--out", default="runs/train", metavar="DIR", help="the run folder (default runs/train)")

    folds = add("folds", _folds, "accuracy over all folds of a sweep, and the tracks that are doubtful")
    folds.add_argument("directory", metavar="DIR", help="of `sweep 02 -p fold 1,2,3,4,5`")
    folds.add_argument("other", nargs="?", default="", metavar="OTHER", help="compared with, track by track")

    runs = add("runs", _prune, "remove old runs")
    runs.add_argument("action", choices=["prune"])
    runs.add_argument("--keep", type=_at_least_one, default=10, metavar="N", help="of the newest (default 10)")

    verify = add("verify", _verify, "check the hashes and relations of a release, from its files alone")
    sign = add("sign", _sign, "sign a release in which every link holds")
    predict = add("predict", _predict, "read signs with a release, on ONNX Runtime alone")
    demo = add("demo", _demo, "put the network of a release into one HTML file that reads signs")
    for reader in (verify, sign, predict, demo):
        reader.add_argument("release", metavar="RELEASE", help="its folder, or that of a run that has one")
    verify.add_argument("--key", default="", metavar="FILE", help="public key (PEM) that must have signed it")
    sign.add_argument("--key", required=True, metavar="FILE", help="private key (PEM)")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="files that each show one sign")
    predict.add_argument("--model", default="onnx/model.onnx", metavar="FILE", help="default: onnx/model.onnx")

    demo.add_argument("out", nargs="?", default="build/demo.html", metavar="OUT", help="default: build/demo.html")

    data = commands.add_parser("data", help="the real images, and extra ones for training")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, function, about in (
        ("get", _data, "fetch the real images"),
        ("add", _data_add, "keep the images of a folder as extra training images"),
        ("list", _data_show, "the extra images that are kept"),
        ("remove", _data_remove, "remove extra images"),
        ("verify", _data_show, "check that all extra images are there and unchanged"),
    ):
        action = actions.add_parser(name, help=about)
        action.set_defaults(function=function)
        if name == "add":
            action.add_argument("directory", metavar="DIR", help="class folders, or a csv with boxes as GTSRB's")
        if name == "remove":
            action.add_argument("hash", metavar="HASH", help="as `data list` shows it")
            action.add_argument("--yes", action="store_true", help="also where releases were trained with them")
        if name in ("get", "add"):
            action.add_argument("--data-root", default="data", metavar="DIR", help="of the real images (default: data)")
            action.add_argument("--dataset", default="gtsrb", metavar="NAME", help="default: gtsrb")

    serve = add("serve", _serve, "answer images over HTTP with a release")
    serve.add_argument("release", metavar="RELEASE", help="a release folder, or a run folder with one")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1, this machine alone")
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0: any that is free")
    serve.add_argument(
        "--num-threads", type=_at_least_one, default=0, metavar="N", help="of the network (default: all cores but one)"
    )

    serve.add_argument("--window", type=_at_least_one, default=0, metavar="N", help="last answers kept for GET /window")

    drift = add("drift", _drift, "do a server's answers differ from those to the validation images? status 3: yes")
    drift.add_argument("window", metavar="WINDOW", help="what GET /window of the server gave")
    drift.add_argument("release", metavar="RELEASE", help="the one that it serves")

    promote = add("promote", _promote, "let servers of a link answer with another release, later or earlier")
    promote.add_argument("--to", required=True, metavar="RELEASE", help="its folder, or that of a run that has one")
    promote.add_argument("--current", default="runs/current", metavar="LINK", help="default: runs/current")

    add_commands(commands)
    return parser


def _prepare_terminal() -> None:
    """Print on whatever there is, and end only where the caller wants it.

    In a locale without UTF-8 a letter that it does not have is shown as `?`; a closed stream takes everything. Signals
    that the caller ignores, as `nohup` does, stay ignored.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # lives as long as we do
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: object) -> None:
    """End as by Ctrl-C, so that the running notebook is ended too."""
    raise KeyboardInterrupt


def _report(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _silence(stream: TextIO, probe: str = "") -> bool:
    """Whether nothing can be written to a stream; if so, Python does not try again at its end."""
    try:
        stream.write(probe)
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("at least 1")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 bad input, 3 to be looked at, 130 interrupted."""
    _prepare_terminal()
    try:
        arguments = _parser().parse_args(argv)
        if arguments.function in (_launch, _sweep, _prove, _selfcheck):
            _remove_tuning()
        status: int = arguments.function(arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        _report(f"error: {error}")
        return FAILED if isinstance(error, RefusedError) else USAGE
    except KeyboardInterrupt:
        _report("interrupted; a run folder keeps what had finished")
        return INTERRUPTED
    except OSError as error:
        if not _silence(sys.stdout, "\n"):  # unbuffered, it has forgotten what it could not write
            raise
        if isinstance(error, BrokenPipeError):  # `python -m lib params | head`: the reader is gone
            return OK
        _report(f"error: cannot write to standard output: {error.strerror}")
        return USAGE
    finally:
        _silence(sys.stderr)
