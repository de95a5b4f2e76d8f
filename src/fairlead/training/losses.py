"""What training minimises and what validation reports.

Cross-entropy with label smoothing s over C classes, for one example with logits z and class y:

    loss = (1 - s) * -log p_y + s / C * sum_c -log p_c,   p = softmax(z)

(Szegedy et al., 2016, "Rethinking the Inception Architecture", section 7.)

Macro F1 is the mean over classes of F1 = 2 TP / (2 TP + FP + FN), over the classes that occur among
the labels or the predictions, as scikit-learn counts it.

Shapes: B rows, C classes.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


def cross_entropy_B(logits_BC: torch.Tensor, labels_B: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """The loss of each example, in float32 whatever the precision of the logits."""
    return F.cross_entropy(logits_BC.float(), labels_B, reduction="none", label_smoothing=label_smoothing)


def scores(
    predicted: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], losses: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Accuracy, macro F1 and mean loss of predictions."""
    num_classes = int(max(predicted.max(), labels.max())) + 1
    hits = np.bincount(labels[predicted == labels], minlength=num_classes)
    seen = np.bincount(labels, minlength=num_classes) + np.bincount(predicted, minlength=num_classes)
    present = seen > 0
    return {
        "accuracy": float((predicted == labels).mean()),
        # 2 TP + FP + FN is the count among labels plus the count among predictions.
        "macro_f1": float((2 * hits[present] / seen[present]).mean()),
        "loss": float(losses.mean()),
    }


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether a validation improved on the best so far; ties do not."""
    if best is None:
        return True
    return value < best if metric == "loss" else value > best
