"""Tuning a run's own hyperparameters while it trains, by gradients through its best response."""
