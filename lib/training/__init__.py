"""Recipes, the training loop, augmentation and evaluation."""

from lib.training.augmentation import Augmentation, augment_batch
from lib.training.estimate import Estimate
from lib.training.evaluation import Evaluation, evaluate, evaluate_splits, predict_logits
from lib.training.loop import Trained, ensure_checkpoint, epoch_line, train
from lib.training.recipes import RECIPES, Recipe

__all__ = [
    "RECIPES",
    "Augmentation",
    "Estimate",
    "Evaluation",
    "Recipe",
    "Trained",
    "augment_batch",
    "ensure_checkpoint",
    "epoch_line",
    "evaluate",
    "evaluate_splits",
    "predict_logits",
    "train",
]
