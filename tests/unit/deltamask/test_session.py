"""Servers and clients across messages: the same numbers as by hand, after missed rounds and after a restart."""

import numpy as np
import pytest

import deltamask as dm
from deltamask import payload
from deltamask.uploads import add_weight

SIZE, SEED = 3000, 5
KINDS = {
    "posterior": (lambda: dm.BetaPosterior(SIZE, reset_every=2), {"codec": "fuse8+png"}),
    "coupled": (lambda: dm.CoupledDifference(SIZE, momentum=0.5), {"codec": "range", "max_weight": 50}),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def server_of(kind, **options):
    return dm.Server(kind[0](), seed=SEED, **kind[1], **options)


def client_of(kind, client):
    return dm.Client(client, kind[0](), seed=SEED, **kind[1])


def trained(theta_d, client, round_index):
    moved_d = np.random.default_rng((client, round_index)).normal(0, 0.05, SIZE).astype(np.float32)
    return np.clip(theta_d + moved_d, 0, 1).astype(np.float32)


def upload(client, weight=1):
    theta_d = trained(client.theta_d, client.client, client.round)
    return client.upload(theta_d, kappa=0.5, weight=weight if client.weighted else 1).payload


def run(server, clients, rounds):
    for _ in range(rounds):
        for client in clients:
            client.receive(server.message(client.round))
            server.accept(client.client, upload(client, 1 + client.client))
        server.step()


def same(one, other):
    ours, theirs = one.probabilities.state(), other.probabilities.state()
    return one.round == other.round and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("relay", [False, True])
def test_rounds_are_those_of_the_parts_by_hand(kind, relay):
    make, options = kind
    server, clients = server_of(kind, relay=relay, head=b"head"), [client_of(kind, k) for k in (0, 3)]
    run(server, clients, 3)
    probabilities = make()
    for round_index in (1, 2, 3):
        for k in (3, 0):
            key = dm.stream_key(SEED, "reference", round_index, k)
            theta_d = trained(probabilities.theta_d, k, round_index)
            update = dm.encode(theta_d, probabilities.theta_d, key, kappa=0.5, codec=options["codec"])
            decoded = dm.decode(update.payload, probabilities.theta_d, key, codec=options["codec"])
            probabilities.observe(decoded.mask_d, decoded.reference_d, 1 + k if "max_weight" in options else 1)
        probabilities.step()
    assert np.array_equal(server.theta_d, probabilities.theta_d)
    for client in clients:
        assert (client.round, client.head) == (3, b"head")
        client.receive(server.message(client.round))
        assert same(client, server)


@pytest.mark.parametrize("relay", [False, True])
def test_whoever_missed_rounds_gets_the_shortest_message_that_leads_there(kind, relay):
    server, regular, late = server_of(kind, relay=relay), client_of(kind, 1), client_of(kind, 2)
    late.receive(server.message())
    starts = set()
    for _ in range(4):
        run(server, [regular], 1)
        message = server.message(late.round)
        assert len(message) <= len(server.message())
        starts.add(int.from_bytes(message[12:16], "little"))
        copied = client_of(kind, 2)
        copied.restore(late.to_bytes())
        copied.receive(message)
        assert same(copied, server)
    assert late.round in starts  # and 0, which is a whole state, where that is shorter
    late.receive(server.message(late.round))
    assert same(late, server)
    before = late.theta_d
    late.receive(server.message(late.round))  # nothing new
    assert np.array_equal(late.theta_d, before)


def test_an_end_goes_on_from_its_bytes_in_the_middle_of_a_round(kind):
    server, clients = server_of(kind, head=b"h"), [client_of(kind, k) for k in range(3)]
    run(server, clients, 2)
    late = clients.pop()
    for client in clients:
        client.receive(server.message(client.round))
    server.accept(0, upload(clients[0]))
    again, client = server_of(kind), client_of(kind, 1)
    again.restore(server.to_bytes())
    client.restore(clients[1].to_bytes())
    assert (again.accepted, again.head, client.head) == ([0], b"h", b"h")
    assert again.message(late.round) == server.message(late.round)
    sent = upload(clients[1])
    assert upload(client) == sent
    for each in (server, again):
        each.accept(1, sent)
        each.step()
    assert same(again, server)
    assert again.to_bytes() == server.to_bytes()


def test_uploads_of_another_round_client_or_seed_are_refused_and_change_nothing(kind):
    server, client = server_of(kind), client_of(kind, 1)
    client.receive(server.message())
    early = upload(client)
    run(server, [client], 1)
    before = server.to_bytes()
    stranger = dm.Client(1, kind[0](), seed=SEED + 1, **kind[1])
    with pytest.raises(dm.PayloadError):
        stranger.receive(server.message())
    client.receive(server.message(client.round))
    sent = upload(client)
    for data in (early, b"", sent[:-1], sent[:-1] + bytes([sent[-1] ^ 1])):
        with pytest.raises(dm.PayloadError):
            server.accept(1, data)
    with pytest.raises(dm.PayloadError):
        server.accept(2, sent)
    assert server.to_bytes() == before
    server.accept(1, sent)
    with pytest.raises(ValueError, match=r"client: found 1, allowed: those that have not sent in round 2"):
        server.accept(1, sent)
    with pytest.raises(ValueError, match="client: found -1"):
        server.accept(-1, sent)


def test_messages_that_do_not_follow_are_refused_and_change_nothing(kind):
    server, client, other = server_of(kind), client_of(kind, 1), client_of(kind, 2)
    first = server.message()
    run(server, [client], 2)
    message = server.message(client.round)
    with pytest.raises(dm.PayloadError, match="expected one from round 0 or 0 on, found one from 2 to 3"):
        other.receive(message)
    before = client.to_bytes()
    with pytest.raises(dm.PayloadError, match="found one from 0 to 1"):
        client.receive(first)  # an old one, again
    for position in range(0, len(message), 7):
        with pytest.raises(dm.PayloadError):
            client.receive(message[:position] + bytes([message[position] ^ 4]) + message[position + 1 :])
    body = bytearray(payload.unpack(message, payload.MESSAGE, SIZE, server._context))
    body[8] ^= 1  # the checksum of the probabilities that it leads to
    with pytest.raises(dm.PayloadError, match="expected probabilities of checksum"):
        client.receive(payload.pack(payload.MESSAGE, SIZE, body, server._context))
    assert client.to_bytes() == before
    client.receive(message)
    assert same(client, server)


def test_saved_states_of_others_are_refused(kind):
    server, client = server_of(kind), client_of(kind, 1)
    run(server, [client], 1)
    for end, data in ((client_of(kind, 2), client.to_bytes()), (client, server.to_bytes()), (server, b"")):
        before = end.to_bytes()
        with pytest.raises(dm.PayloadError):
            end.restore(data)
        assert end.to_bytes() == before


def test_a_weight_is_within_its_bounds():
    server, client = server_of(KINDS["coupled"]), client_of(KINDS["coupled"], 1)
    with pytest.raises(ValueError, match="round: found 0, allowed: at least 1"):
        client.upload(client.theta_d)
    client.receive(server.message())
    with pytest.raises(ValueError, match="weight: found 51, allowed: 1 to 50"):
        client.upload(client.theta_d, weight=51)
    key = dm.reference_key(SEED, 1, 1)
    bare = dm.encode(trained(client.theta_d, 1, 1), client.theta_d, key, codec="range").payload
    with pytest.raises(dm.PayloadError, match="weight: expected at most 50"):
        server.accept(1, add_weight(bare, 51))
    with pytest.raises(dm.PayloadError):
        server.accept(1, bare)
    server.accept(1, add_weight(bare, 50))
    with pytest.raises(ValueError, match="known: found 2, allowed: 0 to 1"):
        server.message(2)
    with pytest.raises(ValueError, match="max_weight: found 0"):
        dm.Server(dm.BetaPosterior(SIZE), seed=0, max_weight=0)
