"""Writes small runs."""


def add_rounds(store, rounds, value=0.0):
    for index in rounds:
        base = {"run_id": store.run_id, "round": index}
        store.append("clients", index, index, [base | {"client": k, "train_loss": value} for k in range(2)])
        store.append(
            "rounds", index, index, [base | {"accuracy": value, "accuracy_expected": value, "uplink_bpp": 0.1}]
        )


def write_run(store, **columns):
    store.write_run({"run_id": store.run_id, "status": "running", "method": "m", "dataset": "d", "seed": 0} | columns)
