"""The meeting of processes: here threads, at ports of this machine. Real trainings: test_connection.py."""

import socket
import threading
import time

import pytest
from support.errors import raises

from deeplab.training import meeting
from deeplab.utils.errors import UserError

WAIT = 60  # seconds; the machine may have other work
SAME = {"version": "1"}


def free_addresses(number, host="127.0.0.1"):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [f"{host}:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return found


def meet(addresses, who, wait=WAIT, facts=lambda index: SAME, pause=0.0):
    """What the meeting gives to each process, started in this order: an error, or None."""
    found = {}

    def take_part(index):
        try:
            for connection in meeting.meet(addresses, index, facts(index), wait).values():
                connection.close()
            found[index] = None
        except UserError as error:
            found[index] = error

    threads = [threading.Thread(target=take_part, args=(index,)) for index in who]
    for thread in threads:
        thread.start()
        time.sleep(pause)
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_all_come_in_any_order(order):
    assert meet(free_addresses(3), order, pause=0.3) == {0: None, 1: None, 2: None}


def test_connections_stay_open_between_the_chief_and_the_others():
    addresses, found = free_addresses(3), {}
    threads = [
        threading.Thread(target=lambda index=index: found.update({index: meeting.meet(addresses, index, SAME, WAIT)}))
        for index in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(found[index]) for index in range(3)] == [[1, 2], [0], [0]]
    for index in (1, 2):
        found[0][index].sendall(b"%d" % index)
        assert found[index][0].recv(9) == b"%d" % index
    for connections in found.values():
        for connection in connections.values():
            connection.close()


def test_ports_are_free_after_a_meeting():
    addresses = free_addresses(2)
    for _ in range(2):
        assert meet(addresses, [0, 1]) == {0: None, 1: None}


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_addresses_of_ipv6():
    assert meet(free_addresses(2, "[::1]"), [0, 1]) == {0: None, 1: None}


def test_all_learn_who_is_missing():
    addresses = free_addresses(3)
    found = meet(addresses, [0, 1], wait=1)
    for index in (0, 1):
        assert (found[index].code, found[index].where) == ("worker-missing", f"worker {index}")
        assert found[index].value == (f"2 ({addresses[2]})",) and "has not come" in found[index].rule


def test_without_a_chief_all_end():
    addresses = free_addresses(3)
    found = meet(addresses, [1, 2], wait=1)
    assert {error.code for error in found.values()} == {"worker-missing"}
    assert found[1].value == found[2].value == (f"0 ({addresses[0]})",)


def test_a_name_that_does_not_exist_is_said_to_be_none():
    found = meet(["no-such-host.invalid:1", *free_addresses(1)], [1], wait=1)
    assert "cannot be found" in found[1].rule


@pytest.mark.parametrize("present", [[1], [1, 2]])
def test_the_result_has_been_sent_when_the_meeting_is_over(present, monkeypatch):
    """The chief may end as soon as its meeting does, which would leave the others without the result."""
    addresses, sent, send = free_addresses(3), [], meeting._send

    def slowly(connection, message):
        if "facts" not in message:
            time.sleep(0.5)
            sent.append(message)
        send(connection, message)

    monkeypatch.setattr(meeting, "_send", slowly)
    others = threading.Thread(target=meet, args=(addresses, present, 3))
    others.start()
    if len(present) < 2:
        with raises("worker-missing"):
            meeting.meet(addresses, 0, SAME, 2)
    else:
        connections = meeting.meet(addresses, 0, SAME, WAIT)
        assert sorted(connections) == present
        for connection in connections.values():
            connection.close()
    assert len(sent) == len(present)
    others.join()


def test_facts_that_differ_end_all():
    found = meet(free_addresses(3), [0, 1, 2], facts=lambda index: {"version": str(index // 2)})
    for error in found.values():
        assert (error.code, error.where, error.value) == ("workers-differ", "worker 2", "version")


def test_a_worker_that_dies_while_it_waits_is_missing():
    addresses = free_addresses(3)
    host, _, port = addresses[0].rpartition(":")
    found = {}
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0], wait=2)))
    chief.start()
    for number in (1, 2):
        for _ in range(200):
            try:
                connection = socket.create_connection((host, int(port)))
                break
            except OSError:
                time.sleep(0.01)
        meeting._send(connection, {"deeplab": number, "addresses": addresses, "facts": SAME})
        if number == 1:
            connection.close()
    chief.join()
    connection.close()
    assert found[0].value == (f"1 ({addresses[1]})",)


def test_a_worker_may_come_again():
    """A worker that was killed while it waited, and was started once more, is counted once."""
    addresses = free_addresses(3)
    found = {}
    threads = [
        threading.Thread(target=lambda who=who: found.update(meet(addresses, who, pause=0.3))) for who in ([0, 1], [1])
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    assert meet(addresses, [2]) == {2: None}
    for thread in threads:
        thread.join(meeting._PATIENCE)
    assert found[0] is None


def test_workers_of_another_training_are_not_counted():
    addresses = free_addresses(2)
    found = {}
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0], wait=2)))
    chief.start()
    other = meet([addresses[0], *free_addresses(2)], [1], wait=1)[1]
    chief.join()
    assert other.code == found[0].code == "worker-missing" and "another training" in other.rule


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"[]\n", b'{"error": 3}\n', b'{"deeplab": "x"}\n'])
def test_strangers_at_a_port(said):
    """A program at the chief's address that is none, and one that calls the chief."""
    addresses = free_addresses(2)
    host, _, port = addresses[0].rpartition(":")
    with socket.create_server((host, int(port))) as server:
        stop = threading.Event()

        def answer():
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    connection = server.accept()[0]
                except TimeoutError:
                    continue
                connection.sendall(said)
                connection.close()

        stranger = threading.Thread(target=answer)
        stranger.start()
        error = meet(addresses, [1], wait=0.5)[1]
        stop.set()
        stranger.join()
    assert error.code == "worker-missing" and error.value == (f"0 ({addresses[0]})",)
    found = {}
    thread = threading.Thread(target=lambda: found.update(meet(addresses, [0, 1], pause=0.2)))
    thread.start()
    for _ in range(3):
        try:
            with socket.create_connection((host, int(port)), timeout=1) as connection:
                connection.sendall(said)
        except OSError:
            time.sleep(0.05)
    thread.join()
    assert found == {0: None, 1: None}


@pytest.mark.parametrize("index", [0, 1])
def test_a_port_in_use(index):
    addresses = free_addresses(2)
    host, _, port = addresses[index].rpartition(":")
    with socket.create_server((host, int(port))), raises("port-in-use", where=addresses[index]):
        meeting.meet(addresses, index, SAME, WAIT)


def test_facts_are_compared_by_name():
    meeting.require_equal([{"a": "1"}, {"a": "1"}])
    with raises("workers-differ", where="worker 1") as info:
        meeting.require_equal([{"a": "1"}, {"a": "1", "b": "2"}])
    assert info.value.value == "b"
