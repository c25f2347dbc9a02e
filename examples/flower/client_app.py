"""The client: trains on what its node has, and keeps its state in the node's context between rounds."""

from __future__ import annotations

import digits
import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import deltamask

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A round: the state of the last one, the server's message, the upload."""
    number = int(context.node_config["partition-id"])
    with np.load(str(context.node_config["task"])) as task:
        net = digits.network([task[f"weight{index}"] for index in range(6)])
        own = torch.from_numpy(task[f"x{number}"]), torch.from_numpy(task[f"y{number}"])
    client = deltamask.Client(number, digits.probabilities(net.size), seed=digits.SEED, codec=digits.CODEC)
    if "deltamask" in context.state:
        client.restore(context.state["deltamask"]["state"])
    client.receive(message.content["deltamask"]["message"])
    update = digits.train(net, client, own)
    context.state["deltamask"] = ConfigRecord({"state": client.to_bytes()})
    reply = ConfigRecord({"client": number, "round": client.round, "upload": update.payload})
    return Message(RecordDict({"deltamask": reply}), reply_to=message)
