"""A client: trains on its share of the digits and sends the mask bits that changed, until the server ends."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import digits
from server import DATA
from wire import HELLO, SECONDS, receive, send

import deltamask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of the server, on loopback")
    parser.add_argument("client", type=int, help="number of this client, from 0 on")
    parser.add_argument("--clients", type=int, default=2, help="among which the digits are divided")
    parser.add_argument("--data", default=str(DATA), help="npz file of digits")
    parser.add_argument("--state", type=Path, help="file that keeps what this client has, to go on after a restart")
    parser.add_argument("--rounds", type=int, help="after which to leave; none: when the server ends")
    arguments = parser.parse_args()
    net, own = digits.network(), digits.samples(arguments.data, "train", arguments.client, arguments.clients)
    client = deltamask.Client(arguments.client, digits.probabilities(net.size), seed=digits.SEED, codec=digits.CODEC)
    if arguments.state and arguments.state.exists():
        client.restore(arguments.state.read_bytes())
    with socket.create_connection(("127.0.0.1", arguments.port), SECONDS) as peer:
        send(peer, HELLO.pack(arguments.client, client.round))
        rounds = 0
        while rounds != arguments.rounds:
            if not (message := receive(peer)):
                break  # the server has done its rounds
            client.receive(message)
            if arguments.state:
                arguments.state.write_bytes(client.to_bytes())
            update = digits.train(net, client, own)
            send(peer, update.payload)
            print(f"round {client.round}: sent {len(update.payload)} bytes", flush=True)
            rounds += 1


if __name__ == "__main__":
    main()
