"""Recipes, the training loop, augmentation and evaluation. `recipes` alone needs no torch."""
