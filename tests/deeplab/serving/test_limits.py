"""The limits of requests as a bare ASGI middleware; `test_app.py` has them in front of the server."""

import asyncio
import json

import pytest

from deeplab.serving.limits import SECURITY_HEADERS, RequestLimits


async def application(scope, receive, send):
    """Reads the whole body, and sends its size."""
    if scope["type"] != "http":
        scope["seen"] = True
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"kept")]})
    await send({"type": "http.response.body", "body": b"%d" % size})


async def hasty(scope, receive, send):
    """Starts the response before it reads the body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await application(scope, receive, send)


def ask(parts=(b"",), headers=(), path="/segment", app=application, api_key="", pause=0.0, max_bytes=10):
    """The status, the headers and the body of the response to a body in parts, and the statuses reported."""
    left, sent, reported = list(parts), [], []

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    limits = RequestLimits(app, max_bytes, 0.2, api_key, lambda scope, status, seconds: reported.append(status))
    scope = {"type": "http", "path": path, "headers": [(name.encode(), value.encode()) for name, value in headers]}
    asyncio.run(limits(scope, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"], reported


def test_a_request_within_the_limits_passes_and_gets_security_headers():
    status, headers, body, reported = ask([b"12345", b"67890"], [("Content-Length", "10")])
    assert (status, body, reported) == (200, b"10", [200]) and headers[b"x-own"] == b"kept"
    assert {name.encode(): value.encode() for name, value in SECURITY_HEADERS.items()}.items() <= headers.items()


@pytest.mark.parametrize(
    "parts, stated",
    [([bytes(11)], "11"), ([bytes(6), bytes(5)], None), ([bytes(11)], "x"), ([b""], "9" * 5000), ([bytes(11)], "3")],
)
def test_a_body_above_the_limit_is_refused(parts, stated):
    status, headers, body, reported = ask(parts, [("content-length", stated)] if stated else [])
    assert (status, json.loads(body)["code"], reported) == (413, "request-too-large", [413])
    assert headers[b"connection"] == b"close" and headers[b"x-content-type-options"] == b"nosniff"


def test_a_body_that_arrives_slowly_is_refused():
    status, _, body, reported = ask([b"1"] * 9, pause=0.06)
    assert (status, json.loads(body)["code"], reported) == (408, "timeout", [408])


@pytest.mark.parametrize("parts, pause, code", [([bytes(11)], 0.0, "request-too-large"), ([b"1"], 0.5, "timeout")])
def test_a_response_that_has_started_is_not_followed_by_another(parts, pause, code):
    with pytest.raises(Exception, match="the request") as caught:
        ask(parts, app=hasty, pause=pause)
    assert getattr(caught.value, "code", "") == code


@pytest.mark.parametrize(
    "header, path, status",
    [
        (("Authorization", "Bearer secret"), "/segment", 200),
        (("authorization", "bearer  secret "), "/segment", 200),
        (("X-API-Key", "secret"), "/segment", 200),
        (("Authorization", "Bearer secre"), "/segment", 401),
        (("Authorization", "Basic secret"), "/segment", 401),
        (("Authorization", "secret"), "/segment", 401),
        (("X-API-Key", ""), "/metrics", 401),
        (("X-Other", "secret"), "/static", 401),
        (("X-Other", ""), "/static/page.js", 200),
        (("X-Other", ""), "/health", 200),
    ],
)
def test_the_key(header, path, status):
    found, headers, _, reported = ask(headers=[header], path=path, api_key="secret")
    assert found == status and reported == [status]
    assert (headers.get(b"www-authenticate") == b"Bearer") == (status == 401)


def test_what_is_no_request_passes():
    scope = {"type": "lifespan"}
    asyncio.run(RequestLimits(application, 0, 0.1, "secret")(scope, None, None))
    assert scope["seen"]


def test_bodies_of_all_requests_together_are_limited():
    limits = RequestLimits(application, 10, 60, "")
    held, statuses = asyncio.Event(), []

    async def request(number):
        async def receive():
            if number < 8:  # has sent its body but for the end
                first = not waiting[number]
                waiting[number] = True
                if not first:
                    await held.wait()
                return {"type": "http.request", "body": bytes(10) if first else b"", "more_body": first}
            return {"type": "http.request", "body": b"1", "more_body": False}

        async def send(message):
            if message["type"] == "http.response.start":
                statuses.append((number, message["status"]))

        await limits({"type": "http", "path": "/segment", "headers": []}, receive, send)

    async def all_of_them():
        tasks = [asyncio.create_task(request(number)) for number in range(8)]
        while not all(waiting):
            await asyncio.sleep(0)
        await request(8)
        held.set()
        await asyncio.gather(*tasks)
        await request(9)

    waiting = [False] * 8
    asyncio.run(all_of_them())
    assert statuses[0] == (8, 503) and statuses[-1] == (9, 200)
    assert sorted(statuses[1:-1]) == [(number, 200) for number in range(8)]


@pytest.mark.parametrize("reads", [True, False])
def test_a_response_is_sent_in_pieces_that_the_client_must_take(reads):
    sent = []

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2_500_000)})

    async def send(message):
        if sent and not reads:
            await asyncio.sleep(3600)
        sent.append(message)

    asyncio.run(RequestLimits(large, 10, 0.2, "")({"type": "http", "path": "/", "headers": []}, None, send))
    sizes = [(len(one["body"]), one.get("more_body", False)) for one in sent[1:]]
    assert sizes == ([(1 << 20, True), (1 << 20, True), (2_500_000 - (2 << 20), False)] if reads else [])
