"""The result tables: columns, types and meaning. Accuracy is a fraction in [0, 1], times are seconds."""

from __future__ import annotations

import pyarrow as pa

#: Values of ``runs.status``.
STATUSES = ("running", "finished", "interrupted", "stopped", "failed")

_TIME = pa.timestamp("us", tz="UTC")
_TEXT, _INT, _REAL = pa.string(), pa.int64(), pa.float64()


def _table(**columns: tuple[pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"description": text}) for name, (kind, text) in columns.items()])


#: One row a run.
RUNS = _table(
    run_id=(_TEXT, "name of the run, derived from its resolved configuration"),
    status=(_TEXT, "one of: " + ", ".join(STATUSES) + "; stopped: early, by a sweep"),
    method=(_TEXT, "federated method"),
    dataset=(_TEXT, "dataset"),
    backbone=(_TEXT, "frozen backbone"),
    weights=(_TEXT, "where the backbone's weights came from: embedded, package, hub, checkpoint or random"),
    partition=(_TEXT, "how training samples were split over clients"),
    alpha=(_REAL, "Dirichlet concentration; null for partitions without one"),
    clients=(_INT, "registered clients"),
    participation=(_REAL, "share of the clients in a round's cohort"),
    rounds=(_INT, "training rounds asked for, the head's round not counted"),
    seed=(_INT, "seed of the run"),
    masked_parameters=(_INT, "parameters that methods may change, d; every bpp is per this number"),
    linear_probe_accuracy=(_REAL, "accuracy after the head's round, on the unchanged backbone"),
    final_accuracy=(_REAL, "accuracy at the last evaluation"),
    best_accuracy=(
        _REAL,
        "test accuracy of best_round, at the last evaluation without validation samples (in version 0.1: the highest)",
    ),
    best_round=(_INT, "round of highest validation accuracy, then lowest loss; 0: the head alone; null without them"),
    validation_accuracy=(_REAL, "validation accuracy of best_round"),
    uplink_bpp=(_REAL, "bits of one client-round's upload / d, mean over the rounds from 1 on"),
    uplink_bytes=(_INT, "bytes sent by all clients in all rounds, the head's included, and message headers"),
    downlink_bytes=(_INT, "bytes sent to all clients in all rounds, the head's included, and message headers"),
    wall_seconds=(_REAL, "sum of round_seconds"),
    trial=(_TEXT, "values that a sweep's search tried in the run, JSON; null for runs of no search"),
    sweep=(_TEXT, "name of the sweep that computed the run; null for single runs"),
    search=(
        _TEXT,
        "what the search of trial was: objectives (columns, max or min), point (values of the sweep's grid) and space "
        "(of the keys in trial), JSON; null likewise",
    ),
    config=(_TEXT, "resolved configuration, JSON"),
    version=(_TEXT, "version of fedsim"),
    git_commit=(_TEXT, "commit of the source checkout, null when installed from a package"),
    command=(_TEXT, "command line that started the run"),
    machine=(_TEXT, "processor, cores, GPU and library versions of the server"),
    started_at=(_TIME, "start of the run, first attempt"),
    finished_at=(_TIME, "end of the run, null while it runs"),
    error=(_TEXT, "what failed, null otherwise"),
    warnings=(_TEXT, "what was tolerated, such as images that cannot be decoded; null when nothing was"),
)

#: One row a round; round 0 is the federated round that fits the head.
ROUNDS = _table(
    run_id=(_TEXT, "run"),
    round=(_INT, "0 for the head's round, then 1, 2, ..."),
    participants=(_INT, "clients whose updates were aggregated"),
    lost_clients=(_INT, "clients of the cohort whose updates are missing from the aggregate"),
    staleness=(_REAL, "rounds that the state of a participant was old, mean; 0 where the server waits for all"),
    retries=(_INT, "client updates that were computed again because a worker was lost"),
    accuracy=(
        _REAL,
        "test accuracy of the model to keep; of mask methods as method.deployed says: theta > 0.5, or theta * w; null "
        "in rounds without evaluation",
    ),
    loss=(_REAL, "test cross-entropy of the same model, nats"),
    validation_accuracy=(_REAL, "its accuracy on the training samples that no client has; null without any"),
    validation_loss=(_REAL, "its cross-entropy on them, nats"),
    accuracy_expected=(_REAL, "test accuracy with weights theta * w, of mask methods if evaluate.also says so"),
    accuracy_sampled=(_REAL, "test accuracy with one sampled mask, likewise"),
    client_accuracy_mean=(
        _REAL,
        "mean of client_accuracy over the clients that count; null where none has it, as without evaluate.clients",
    ),
    client_accuracy_worst_tenth=(_REAL, "mean of client_accuracy over the worst tenth of them, at least one client"),
    client_accuracy_spread=(_REAL, "standard deviation of client_accuracy over them, with n"),
    personal_accuracy_mean=(_REAL, "the same of personal_accuracy: mean"),
    personal_accuracy_worst_tenth=(_REAL, "mean of the worst tenth"),
    personal_accuracy_spread=(_REAL, "standard deviation"),
    uplink_bytes=(_INT, "bytes sent by the cohort, headers included"),
    downlink_bytes=(_INT, "bytes sent to the cohort, headers included"),
    uplink_bpp=(_REAL, "8 x uplink_bytes / participants / d"),
    downlink_bpp=(_REAL, "8 x downlink_bytes / participants / d"),
    flips=(
        _INT,
        "mask bits that the server flipped, over all clients, false ones included; null where none are sent",
    ),
    false_flips=(_INT, "flips that no client sent: false positives of the codec; null where no flips are sent"),
    bound_share=(
        _REAL,
        "share of theta at its clipping bounds; near 1 learning has stopped; null without them",
    ),
    prefix_images=(_INT, "images that passed through the frozen prefix before the round; 0 when all were stored"),
    corrupt_images=(_INT, "undecodable images, replaced by grey; known before the first round of a process"),
    prefix_seconds=(_REAL, "preparing prefix features before the round, the longest of all workers"),
    train_seconds=(_REAL, "training, summed over clients"),
    encode_seconds=(_REAL, "encoding of updates, summed over clients"),
    decode_seconds=(_REAL, "decoding of updates, summed over clients"),
    aggregate_seconds=(_REAL, "aggregation by the server, digest and coding of the next broadcast, without decoding"),
    evaluate_seconds=(_REAL, "central evaluation, wall time"),
    round_seconds=(_REAL, "the whole round, wall time"),
    simulated_seconds=(_REAL, "the round in the simulated world, until the server waits no longer; null without one"),
    simulated_clock=(_REAL, "simulated seconds from the start of round 0 to the end of the round; null likewise"),
    epsilon=(
        _REAL,
        "privacy of each sample at privacy.delta, spent from round 1 to the round by the client that spent most; null "
        "without privacy.noise",
    ),
    client_epsilon=(_REAL, "the same of each client; null without privacy.client_noise"),
    state_digest=(_TEXT, "SHA-256 of the server state after the round, first 16 hex digits"),
)

#: One row a client and round.
CLIENTS = _table(
    run_id=(_TEXT, "run"),
    round=(_INT, "round"),
    client=(_INT, "client"),
    samples=(_INT, "training samples of the client"),
    payload_bytes=(_INT, "length of the upload, headers included, also where it came in vain"),
    downlink_bytes=(_INT, "bytes sent to the client, headers included: the state, or what changed since it had it"),
    uplink_bpp=(_REAL, "8 x payload_bytes / d"),
    delta_size=(_INT, "mask bits that differ from the reference mask; null where no flips are sent"),
    sent_size=(_INT, "how many of them were sent; null where no flips are sent"),
    train_loss=(_REAL, "mean training cross-entropy over the local steps, nats"),
    train_seconds=(_REAL, "local training"),
    encode_seconds=(_REAL, "encoding of the update"),
    decode_seconds=(_REAL, "decoding by the server"),
    simulated_download_seconds=(_REAL, "the client's download in the simulated world; null without one"),
    simulated_compute_seconds=(_REAL, "its computation, likewise: see world.compute"),
    simulated_upload_seconds=(_REAL, "its upload, likewise"),
    held_out_samples=(
        _INT,
        "samples that the client holds out of training: evaluate.clients; null in rounds without evaluation, and where "
        "it holds out none",
    ),
    client_accuracy=(
        _REAL,
        "accuracy on them of the global model that the client received, so of the round before; null likewise",
    ),
    client_loss=(_REAL, "cross-entropy on them of the same model, nats"),
    personal_accuracy=(
        _REAL,
        "accuracy on them of the client's own model after its local training; null where the method has none",
    ),
    personal_loss=(_REAL, "cross-entropy on them of that model, nats"),
    staleness=(_INT, "rounds between the state that it trained from and the one that its upload changed: world.buffer"),
    attempt=(_INT, "1, or more when workers were lost under the client"),
    error=(
        _TEXT,
        "why it does not count: what went wrong, and where; of a world, after one of the words dropout, left, "
        "deadline, surplus, too few; null where it counts",
    ),
)

#: One row a class of the dataset: the final model on the test samples. Only runs that did all their rounds have it.
CLASSES = _table(
    run_id=(_TEXT, "run"),
    **{"class": (_INT, "class index, from 0")},
    class_name=(_TEXT, "name of the class"),
    samples=(_INT, "test samples of the class"),
    correct=(_INT, "how many of them the model to keep predicts correctly after the last round"),
    accuracy=(_REAL, "correct / samples; null for a class without test samples"),
)

#: The tables that grow with every round, by name.
GROWING = {"rounds": ROUNDS, "clients": CLIENTS}
#: The tables whose files say in their names which rounds they hold.
PARTED = {**GROWING, "classes": CLASSES}
