"""Recipes, the training loop, augmentation and evaluation."""

from lib.training.augmentation import Augmentation, augment_batch
from lib.training.evaluation import Evaluation, evaluate, predict_logits
from lib.training.loop import Trained, cpu_has_bf16, ensure_checkpoint, train
from lib.training.recipes import RECIPES, Recipe

__all__ = [
    "RECIPES",
    "Augmentation",
    "Evaluation",
    "Recipe",
    "Trained",
    "augment_batch",
    "cpu_has_bf16",
    "ensure_checkpoint",
    "evaluate",
    "predict_logits",
    "train",
]
