"""The server: rounds with whoever is connected, over TCP on loopback."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import digits
from wire import HELLO, SECONDS, receive, send

import deltamask

DATA = Path(__file__).parents[2] / "fedsim" / "data" / "digits.npz"


def joined(listener: socket.socket, server: deltamask.Server) -> tuple[int, socket.socket]:
    """The next client, which says who it is and at which round, and gets what it lacks."""
    while True:
        peer, _ = listener.accept()
        peer.settimeout(SECONDS)
        try:
            client, known = HELLO.unpack(receive(peer, HELLO.size))
            send(peer, server.message(known))
        except (OSError, ValueError) as error:
            print(f"refused: {error}", flush=True)
            peer.close()
            continue
        return client, peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(DATA), help="npz file of digits; its test split measures the accuracy")
    parser.add_argument("--port", type=int, default=0, help="of loopback; 0: any that is free, which is printed")
    parser.add_argument("--clients", type=int, default=2, help="to wait for, before each round")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    net, test = digits.network(), digits.samples(arguments.data, "test")
    server = deltamask.Server(digits.probabilities(net.size), seed=digits.SEED, codec=digits.CODEC)
    peers: dict[int, socket.socket] = {}
    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        listener.settimeout(SECONDS)
        print(f"port {listener.getsockname()[1]}", flush=True)
        while server.round <= arguments.rounds:
            while len(peers) < arguments.clients:
                client, peer = joined(listener, server)
                if client in peers:
                    peers[client].close()
                peers[client] = peer
            uplink = 0
            for client, peer in list(peers.items()):
                try:
                    upload = receive(peer)
                    server.accept(client, upload)
                    uplink += len(upload)
                except (OSError, ValueError) as error:  # PayloadError is one: of this client, this round goes without
                    print(f"client {client} is out: {error}", flush=True)
                    peers.pop(client).close()
            server.step()
            accuracy = digits.accuracy(net, server.theta_d, test)
            print(f"round {server.round - 1}: accuracy {accuracy:.3f}, uplink {uplink} bytes", flush=True)
            for client, peer in list(peers.items()):
                try:
                    send(peer, server.message(server.round - 1) if server.round <= arguments.rounds else b"")
                except OSError:
                    peers.pop(client).close()
    for peer in peers.values():
        peer.close()


if __name__ == "__main__":
    main()
