"""Writes labels as the numbers that training reads (formats.tokens), by task."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.data.label_sets import parse_set
from fairlead.formats.tokens import LABEL_DTYPES, UNKNOWN_LABEL, UNKNOWN_SET
from fairlead.names import CLASSIFICATION, LANGUAGE_MODELING, MULTI_LABEL, REGRESSION, TaskName

# From canonical labels (data.labels) of some rows to an array with one entry a row.
LabelEncoder = Callable[[Sequence[str]], npt.NDArray[Any]]


def label_encoder(task: TaskName, names: Sequence[str]) -> LabelEncoder:
    """The encoder of a task whose classes have these names, by class id."""
    ids = {name: index for index, name in enumerate(names)}

    def classes(labels: Sequence[str]) -> npt.NDArray[Any]:
        return np.asarray([ids.get(label, UNKNOWN_LABEL) for label in labels], LABEL_DTYPES[CLASSIFICATION])

    def sets(labels: Sequence[str]) -> npt.NDArray[Any]:
        targets_NC = np.zeros((len(labels), len(ids)), LABEL_DTYPES[MULTI_LABEL])
        for row, label in enumerate(labels):
            members = parse_set(label)
            known = [ids[name] for name in members if name in ids]
            if len(known) == len(members):
                targets_NC[row, known] = 1
            else:
                targets_NC[row] = UNKNOWN_SET
        return targets_NC

    def numbers(labels: Sequence[str]) -> npt.NDArray[Any]:
        return np.asarray([float(label) for label in labels], LABEL_DTYPES[REGRESSION])

    def nothing(labels: Sequence[str]) -> npt.NDArray[Any]:
        return np.zeros((len(labels), 0), LABEL_DTYPES[LANGUAGE_MODELING])

    encoders: dict[TaskName, LabelEncoder] = {
        CLASSIFICATION: classes,
        MULTI_LABEL: sets,
        REGRESSION: numbers,
        LANGUAGE_MODELING: nothing,
    }
    return encoders[task]
