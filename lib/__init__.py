"""German traffic sign recognition on CPUs, from data to a decision.

The map, from the top down. Imports point downwards only, and importing a package imports no inference runtime.

    cli         commands of `python -m lib`
    ci          what the workflows call: settings, collecting, history, summary, gate
    series      the notebooks as a series: parameters, jobs, launcher, run folders, sweep
    executor    one notebook executed in a fork: output limit, memory, outcome, progress
    serving     a release behind HTTP: uploads, batches, metrics, the Open Inference Protocol
    html        an executed notebook becomes a page; the index of a run
    report      what a notebook shows: figures, tables, sentences
    promotion   champion and challenger: both judged on the same images and timed in turns, by rules with limits
    bench       measuring: workers, rounds, parity, proof, peaks, session; and whether the harness is honest
    backends    one file per backend, and their interface
    training    recipes, augmentation, loop, evaluation
    onednn      what oneDNN reports of the kernels that it ran
    model       networks, checkpoint
    release     the measured network as files: written, checked link by link, used without torch
    analysis    numbers from records: statistics, comparison, recommendation, roofline, history, cost
    header      what a checkpoint says about its weights, read without torch
    data        sets of images (one file each), tracks and splits, cache, download, preprocessing
    machine     what this machine is: CPU, flags, BLAS, versions
    records     what a run writes: the schema of its records, and the run folder
    signs       the 43 classes, their artwork, the renderer
    variables   which variables of the shell reach a process
    granted     cores and memory that this process may use
    files       paths, writing atomically, locks
    progress    what long work reports while it runs
    errors      one clear line for a user instead of a traceback
"""

import sys

if sys.platform != "linux":  # here, so that it is the first thing that the command line and every notebook report
    from lib.errors import UserError

    _NEEDED = f"Linux (x86-64 or Arm) is needed, this is {sys.platform}; use a virtual machine, WSL 2 or a container"
    raise UserError(_NEEDED) if "IPython" in sys.modules else SystemExit(f"error: {_NEEDED}")

import lib.granted  # noqa: F401  # before torch is loaded, which may bind this thread to one core
