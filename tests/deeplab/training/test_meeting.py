"""The meeting of processes: here threads, at ports of this machine. Real trainings: test_connection.py."""

import contextlib
import dataclasses
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


@contextlib.contextmanager
def connected(addresses, index, own=None):
    """A connection to the chief that introduces worker `index`, and then says no more, as if its machine were gone."""
    host, _, port = addresses[0].rpartition(":")
    for _ in range(1000):
        try:
            connection = socket.create_connection((host, int(port)))
            break
        except OSError:
            time.sleep(0.01)
    with connection:
        meeting._send(connection, (own or meeting.Participant.here(addresses, index, SAME)).message())
        yield connection


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
        if "facts" not in message and message != meeting._QUESTION:
            time.sleep(0.5)
            sent.append(message)
        send(connection, message)

    monkeypatch.setattr(meeting, "_send", slowly)
    monkeypatch.setattr(meeting, "_call_own_address", lambda table: None)
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
    found = {}
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0], wait=2)))
    chief.start()
    with connected(addresses, 1):
        pass
    with connected(addresses, 2):
        chief.join()
    assert found[0].value == (f"1 ({addresses[1]})",)


def test_a_worker_that_is_silent_does_not_count(monkeypatch):
    """Its machine is gone, so that its connection has no end."""
    monkeypatch.setattr(meeting, "_FRESH", 0.5)
    monkeypatch.setattr(meeting, "_BETWEEN_QUESTIONS", 0.1)
    addresses = free_addresses(3)
    found = {}
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0], wait=3)))
    chief.start()
    with connected(addresses, 1):
        time.sleep(0.6)
        found |= meet(addresses, [2])
        chief.join()
    assert sorted(found) == [0, 2]
    for error in found.values():
        assert (error.code, error.value) == ("worker-missing", (f"1 ({addresses[1]})",))
        assert "does not respond" in error.rule


def test_a_worker_may_come_again_while_its_old_connection_is_open(monkeypatch):
    monkeypatch.setattr(meeting, "_SILENCE", 1.5)
    monkeypatch.setattr(meeting, "_BETWEEN_QUESTIONS", 0.1)
    addresses = free_addresses(3)
    found = {}
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0])))
    chief.start()
    with connected(addresses, 1) as dead:
        again = threading.Thread(target=lambda: found.update(meet(addresses, [1])))
        again.start()
        dead.settimeout(WAIT)
        while dead.recv(65536):  # until the chief has closed it
            pass
        found |= meet(addresses, [2])
        again.join()
        chief.join()
    assert found == {0: None, 1: None, 2: None}


def test_a_worker_whose_connection_broke_takes_its_own_place():
    addresses = free_addresses(3)
    found, own = {}, meeting.Participant.here(addresses, 1, SAME)
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0])))
    chief.start()
    with connected(addresses, 1, own) as first:
        first.settimeout(WAIT)
        assert first.recv(65536)  # a question: the place is taken
        with connected(addresses, 1, own) as second:
            while first.recv(65536):
                pass
            assert meet(addresses, [2]) == {2: None}
            chief.join()
            second.settimeout(WAIT)
            assert second.recv(65536).endswith(b"{}\n")
    assert found == {0: None}


@pytest.mark.parametrize(("index", "who"), [(1, [0, 1, 1]), (1, [1, 1, 0]), (2, [2, 0, 2]), (0, [0])])
def test_two_workers_of_one_number_end_all(index, who, monkeypatch):
    """A copied TF_CONFIG. The second chief listens at an address that is not its own, as on another machine."""
    here, names = meeting.Participant.here, [f"host-{number}" for number in range(9)]
    monkeypatch.setattr(
        meeting.Participant, "here", lambda *given: dataclasses.replace(here(*given), name=names.pop(0))
    )
    addresses, found = free_addresses(4 if index else 2), {}

    def take_part(place, own):
        with pytest.raises(UserError) as caught:
            meeting.meet(addresses, own, SAME, WAIT)
        found[place] = caught.value

    threads = [threading.Thread(target=take_part, args=(place, own)) for place, own in enumerate(who)]
    if not index:
        other = meeting.Participant.here(addresses, 0, SAME)
        threads.append(threading.Thread(target=lambda: found.update({"chief": called(addresses, other)})))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for error in found.values():
        assert (error.code, error.where) == ("same-worker", f"worker {index}")
        assert len(error.value) == 2 and error.value == found[0].value
        for name in error.value:
            assert name.startswith("host-") and name in error.rule
        assert any(name.endswith(" (127.0.0.1)") for name in error.value)
        assert all(f"{number} = {address}" in error.hint for number, address in enumerate(addresses))


def called(addresses, own):
    """The error that a chief finds which listens at another address than its own."""
    table = meeting._Table(dataclasses.replace(own, addresses=(free_addresses(1)[0], *addresses[1:])))
    table.own = own
    with table:
        meeting._call_own_address(table)
    return table.error


def test_a_worker_at_an_address_of_another_machine_is_told_so():
    addresses = [*free_addresses(1), "192.0.2.1:2222"]  # for documentation, RFC 5737
    error = meeting.missing(addresses, 1, 60, {0: "does not answer"})
    assert "192.0.2.1:2222 is no address of this machine" in error.rule and "its own index" in error.hint
    error = meeting.missing(addresses, 0, 60, {1: "has not come"})
    assert "no address" not in error.rule and "its own index" not in error.hint


def test_a_worker_may_come_again():
    """A worker that was killed while it waited, and was started once more, is counted once."""
    addresses = free_addresses(3)
    found = {}
    chief = threading.Thread(target=lambda: found.update(meet(addresses, [0])))
    chief.start()
    with connected(addresses, 1):
        time.sleep(0.3)
    assert meet(addresses, [1, 2]) == {1: None, 2: None}
    chief.join()
    assert found == {0: None}


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
