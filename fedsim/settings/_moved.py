"""Keys that have moved."""

#: Keys of earlier versions and where they are now.
MOVED = {
    "data.partition": "partition.name",
    "data.clients": "partition.clients",
    "data.alpha": "partition.alpha",
    "data.labels_per_client": "partition.labels_per_client",
    "data.group_column": "partition.column",
    "model.head": "head.name",
    "model.head_epochs": "head.epochs",
    "model.head_lr": "head.lr",
    "model.head_shrinkage": "head.shrinkage",
}
