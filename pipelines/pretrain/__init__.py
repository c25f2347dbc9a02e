"""The recipe of the embedded backbone: ``python -m pipelines.pretrain``."""
