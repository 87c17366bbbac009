"""The data sets: one file each, found by being here. Importing this package imports no torch.

The command line, the choices of the parameter `dataset`, the workflow's options and the tests follow from it.
"""

from __future__ import annotations

from functools import cache

from lib.data.dataset import DataSet, registered
from lib.errors import unknown
from lib.files import import_modules


@cache
def all_datasets() -> list[DataSet]:
    """Every data set, by `order` and name."""
    import_modules(__name__, __path__)
    return sorted(registered().values(), key=lambda dataset: (dataset.order, dataset.name))


def dataset_names() -> list[str]:
    """Names of all data sets, in order."""
    return [dataset.name for dataset in all_datasets()]


def fetchable_names() -> list[str]:
    """Names of those that a machine without any images can load: they are made on the spot, or have archives."""
    return [dataset.name for dataset in all_datasets() if dataset.archives or not dataset.reads_files]


def get_dataset(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        UserError: there is none.
    """
    if name not in dataset_names():
        raise unknown("data set", name, dataset_names())
    return registered()[name]
