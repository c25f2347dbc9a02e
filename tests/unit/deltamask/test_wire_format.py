"""Bytes that were once sent must decode for ever: messages of every kind and codec, in a committed file.

A change that is meant gets a new version of the frame or a new kind, and new entries beside the old ones:
``python -m tests.unit.deltamask.test_wire_format`` adds the missing ones, and changes none.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

import deltamask as dm
from deltamask import codecs, payload
from deltamask.uploads import add_weight, pack_relay, split_weight, unpack_relay

FILE = Path(__file__).with_name("wire_format.json")
D, SEED, CLIENT = 600, 17, 5
KEY = dm.reference_key(SEED, 1, CLIENT)


def uniform(name):
    return dm.uniform_bits(dm.stream_key(name), D).astype(np.float64) / 2**32


THETA_G_D = (0.05 + 0.9 * uniform("theta")).astype(np.float32)
THETA_K_D = np.clip(THETA_G_D + 0.3 * (uniform("moved") - 0.5), 0, 1).astype(np.float32)


def posterior():
    return dm.BetaPosterior(D, theta_init=0.9, prior=2.0, reset_every=3)


def coupled():
    return dm.CoupledDifference(D, theta_init=0.9, momentum=0.5)


KINDS = {"posterior": posterior, "coupled": coupled}
OPTIONS = {"seed": SEED, "codec": "range", "max_weight": 100}


def moved(make, rounds=1):
    """Global probabilities after some rounds of one client, and the sums of the last."""
    probabilities = make()
    for index in range(rounds):
        masks = [uniform(f"{what} {index}") < 0.8 for what in ("mask", "reference")]
        probabilities.observe(*masks, 3)
        observed = probabilities.round_sums
        probabilities.step()
    return probabilities, observed


def ends(make):
    server, client = dm.Server(make(), head=b"head", relay=True, **OPTIONS), dm.Client(CLIENT, make(), **OPTIONS)
    first = server.message()
    client.receive(first)
    theta_d = np.clip(client.theta_d - 0.2 * uniform("moved"), 0, 1).astype(np.float32)
    upload = client.upload(theta_d, weight=7).payload
    server.accept(CLIENT, upload)
    return server, client, first, upload


def digest(*parts):
    """A checksum of decoded bytes and arrays."""
    value = 0
    for part in parts:
        value = zlib.crc32(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes(), value)
    return f"{value:08x}"


def codec_cases():
    for name in codecs.CODECS:
        for what, theta_k_d in (("some", THETA_K_D), ("none", THETA_G_D)):
            sent = dm.encode(theta_k_d, THETA_G_D, KEY, kappa=0.7, codec=name).payload

            def read(data, name=name):
                return digest(dm.decode(data, THETA_G_D, KEY, codec=name).flips)

            yield f"{name}, {what}", sent, read


def broadcast_cases():
    for name, make in KINDS.items():
        after, _ = moved(make, 2)

        def read_state(data, make=make):
            received = make()
            dm.unpack_state(data, received)
            return digest(received.theta_d, *received.state().values())

        yield f"state of {name}", dm.pack_state(after, make().state()), read_state
        before, (_, sums) = moved(make)[0], moved(make, 2)

        def read_sums(data, before=before):
            found = dm.unpack_sums(data, before)
            return digest(found.sums_d, bytes([found.total]))

        yield f"sums of {name}", dm.pack_sums(before, sums), read_sums


def session_cases():
    yield "weighted", add_weight(b"upload", 1000), lambda data: repr(split_weight(data, True))
    yield "relay", pack_relay(3, [(0, b"one"), (9, b"three")]), lambda data: repr(unpack_relay(data))
    for name, make in KINDS.items():
        server, client, first, upload = ends(make)
        saved_server, saved_client = server.to_bytes(), client.to_bytes()

        def read_upload(data, make=make):
            server = dm.Server(make(), **OPTIONS)
            server.accept(CLIENT, data)
            server.step()
            return digest(server.theta_d)

        def read_messages(data, make=make, saved=saved_client):
            client = dm.Client(CLIENT, make(), **OPTIONS)
            if data[HEADER : HEADER + 4] != bytes(4):
                client.restore(saved)
            client.receive(data)
            return digest(client.theta_d, client.head, bytes([client.round]))

        def read_server(data, make=make):
            server = dm.Server(make(), **OPTIONS)
            server.restore(data)
            server.step()
            return digest(server.theta_d, server.head, bytes([server.round]))

        def read_client(data, make=make):
            client = dm.Client(CLIENT, make(), **OPTIONS)
            client.restore(data)
            return digest(client.theta_d, client.head, bytes([client.round]))

        yield f"upload to a server of {name}", upload, read_upload
        yield f"saved server of {name}", saved_server, read_server
        yield f"saved client of {name}", saved_client, read_client
        yield f"first message of {name}", first, read_messages
        server.step()
        yield f"next message of {name}", server.message(1), read_messages
        yield f"whole message of {name}", server.message(), read_messages


HEADER = payload.HEADER_BYTES
CASES = {name: (sent, read) for cases in (codec_cases, broadcast_cases, session_cases) for name, sent, read in cases()}
GOLDEN = json.loads(FILE.read_text()) if FILE.exists() else {}


def test_every_case_is_committed():
    assert CASES.keys() == GOLDEN.keys()


@pytest.mark.parametrize("name", CASES)
def test_committed_bytes_decode_to_what_they_did(name):
    assert CASES[name][1](bytes.fromhex(GOLDEN[name]["hex"])) == GOLDEN[name]["decoded"]


@pytest.mark.parametrize("name", [name for name in CASES if "+png" not in name])  # its bytes are those of a zlib
def test_the_same_bytes_are_sent(name):
    assert CASES[name][0].hex() == GOLDEN[name]["hex"]


if __name__ == "__main__":
    new = {name: {"hex": sent.hex(), "decoded": read(sent)} for name, (sent, read) in CASES.items()}
    FILE.write_text(json.dumps(new | GOLDEN, indent=1) + "\n")
