"""The server's application: every address, every limit, every status; hostile requests; 100 clients at once."""

import asyncio
import base64
import concurrent.futures
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from support.threshold_predictor import ByRed

testclient = pytest.importorskip("fastapi.testclient", reason="needs the extra serve")
from deeplab.serving import app as application  # noqa: E402


class Named(ByRed):
    def __init__(self):
        super().__init__()
        self.set_classes(("ground", "disc", "leaf"), ())


def client_of(predictors=(), **given):
    app = application.create({"model": "made", **given}, list(predictors) or [Named()])
    return testclient.TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client():
    with client_of([Named(), ByRed()], max_megapixels=0.01, max_request_mb=0.05, max_queue=200) as made:
        yield made


PIXELS = np.zeros((8, 9, 3), np.uint8)
PIXELS[2:5, 3:6, 0] = 255
LABELS = (PIXELS[..., 0] > 0).astype(int)


def encoded(pixels=PIXELS, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def test_health_models_and_page(client):
    assert client.get("/health").json()["models"] == ["deeplab", "deeplab-2"]
    models = client.get("/models").json()
    assert [one["name"] for one in models[0]["classes"]] == ["ground", "disc", "leaf"]
    page = client.get("/")
    assert "text/html" in page.headers["content-type"] and "http" not in page.text.replace("http-equiv", "")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("page.js", "page.css", "interactive_page.css", "icon.svg"):
        text = client.get(f"/static/{name}").text
        assert text and "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert client.get("/static/../app.py").status_code == 404


def file_of(height, width):
    return {"b64": base64.b64encode(encoded(np.zeros((height, width, 3), np.uint8))).decode()}


MANY = {"instances": [file_of(60, 60)] * 3, "signature_name": "serving_png"}  # each is within the limit


@pytest.mark.parametrize("form", ["body", "multipart", "MULTIPART"])
def test_segment(client, form):
    sent = {"content": encoded()} if form == "body" else {"files": {"image": ("../../etc/passwd", encoded())}}
    if form == "MULTIPART":
        text = (
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + encoded() + b"\r\n--x--\r\n"
        )
        sent = {"content": text, "headers": {"Content-Type": "Multipart/Form-Data; boundary=x"}}
    answer = client.post("/segment", **sent)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    mask = Image.open(io.BytesIO(answer.content))
    assert mask.mode == "P" and (np.asarray(mask) == LABELS).all()
    found = client.post("/segment?output=json&polygons=true&model=deeplab-2", **sent).json()
    assert found["model"] == "deeplab-2" and found["classes"][1]["fraction"] == pytest.approx(9 / 72)
    assert found["polygons"][0]["points"]


def test_tensorflow_serving(client):
    state = client.get("/v1/models/deeplab").json()["model_version_status"]
    assert state == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    assert client.get("/v1/models/deeplab/versions/1").json()["model_version_status"] == state
    signatures = client.get("/v1/models/deeplab/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "serving_bytes", "serving_png"}
    request = {"instances": [PIXELS.tolist(), PIXELS[:, :5].tolist()]}
    rows = client.post("/v1/models/deeplab:predict", json=request).json()["predictions"]
    assert [row["SemanticPredictions"] for row in rows] == [LABELS.tolist(), LABELS[:, :5].tolist()]
    file = {"b64": base64.b64encode(encoded()).decode()}
    request = {"inputs": {"image_bytes": [file]}, "signature_name": "serving_bytes"}
    outputs = client.post("/v1/models/deeplab/versions/1:predict", json=request).json()["outputs"]
    assert outputs["SemanticPredictions"] == [LABELS.tolist()]
    assert np.shape(outputs["SemanticProbabilities"]) == (1, 8, 9, 3)
    request = {"instances": [file], "signature_name": "serving_png"}
    (mask,) = client.post("/v1/models/deeplab:predict", json=request).json()["predictions"]
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(mask["b64"])))) == LABELS).all()


@pytest.mark.parametrize(
    "method, address, sent, status, code",
    [
        ("POST", "/segment", {}, 400, "unreadable-image"),
        ("POST", "/segment", {"content": b"/etc/passwd"}, 400, "unreadable-image"),
        ("POST", "/segment", {"content": b"http://127.0.0.1/a.png"}, 400, "unreadable-image"),
        ("POST", "/segment", {"content": encoded()[:-30]}, 400, "unreadable-image"),
        ("POST", "/segment", {"content": encoded(np.zeros((200, 200, 3), np.uint8))}, 413, "image-too-large"),
        ("POST", "/segment", {"content": bytes(60_000)}, 413, "request-too-large"),
        ("POST", "/v1/models/deeplab:predict", {"json": MANY}, 413, "image-too-large"),
        ("POST", "/segment?model=other", {"content": encoded()}, 404, "unknown-name"),
        ("POST", "/segment?output=exe", {"content": encoded()}, 400, "bad-request"),
        ("POST", "/segment", {"files": {"other": encoded()}}, 400, "bad-request"),
        ("POST", "/segment", {"data": {"image": "text"}}, 400, "unreadable-image"),
        ("GET", "/segment", {}, 405, "bad-request"),
        ("GET", "/nothing", {}, 404, "bad-request"),
        ("GET", "/v1/models/other", {}, 404, "unknown-name"),
        ("GET", "/v1/models/deeplab/versions/2", {}, 404, "unknown-name"),
        ("GET", "/v1/models/deeplab/versions/x", {}, 400, "bad-request"),
        ("POST", "/v1/models/deeplab:predict", {"content": b"{"}, 400, "bad-request"),
        ("POST", "/v1/models/deeplab/versions/2:predict", {"content": b"{}"}, 404, "unknown-name"),
        ("POST", "/v1/models/deeplab:predict", {"json": {"instances": [{"b64": "/etc/passwd"}]}}, 400, "bad-request"),
    ],
)
def test_what_is_refused(client, method, address, sent, status, code):
    answer = client.request(method, address, **sent)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["error"]


def statuses_of(app, receive):
    """The status of a request whose body comes from `receive`, past the test client, which collects bodies first."""
    scope = {
        "type": "http", "method": "POST", "path": "/segment", "raw_path": b"/segment", "query_string": b"",
        "headers": [], "http_version": "1.1", "scheme": "http", "server": ("a", 1), "client": ("b", 2), "root_path": "",
    }  # fmt: skip
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))
    return [message["status"] for message in sent if message["type"] == "http.response.start"]


def test_a_body_without_a_length_is_limited_too():
    async def endless():
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    app = application.create({"model": "made", "max_request_mb": 0.05}, [Named()])
    assert statuses_of(app, endless) == [413]


def test_a_body_that_never_arrives_is_given_up():
    async def nothing():
        await asyncio.sleep(3600)

    app = application.create({"model": "made", "timeout_secs": 0.1}, [Named()])
    assert statuses_of(app, nothing) == [408]


def test_the_key():
    with client_of(api_key="secret") as client:
        assert client.get("/health").status_code == client.get("/").status_code == 200
        assert client.get("/static/page.js").status_code == 200
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic secret"}, {"X-API-Key": "s"}):
            for method, address in (("POST", "/segment"), ("GET", "/metrics"), ("GET", "/v1/models/deeplab")):
                answer = client.request(method, address, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        for headers in ({"Authorization": "Bearer secret"}, {"X-API-Key": "secret"}):
            assert client.post("/segment", content=encoded(), headers=headers).status_code == 200


def test_the_key_of_the_environment(monkeypatch):
    monkeypatch.setenv("DEEPLAB_API_KEY", "other")
    with client_of() as client:
        assert client.get("/models").status_code == 401
        assert client.get("/models", headers={"X-API-Key": "other"}).status_code == 200


class Slow(Named):
    """Predicts when it is allowed to."""

    def __init__(self):
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()

    def _predict(self, image, probabilities):
        self.entered.set()
        assert self.gate.wait(60)
        return super()._predict(image, probabilities)


def test_a_full_queue_and_a_slow_model():
    slow = Slow()
    settings = {"max_queue": 1, "max_batch": 1, "timeout_secs": 60}
    with client_of([slow], **settings) as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = pool.submit(client.post, "/segment", content=encoded())
        assert slow.entered.wait(60)
        waiting = pool.submit(client.post, "/segment", content=encoded())
        while len(client.app.state.served["deeplab"].batcher) < 1:
            time.sleep(0.01)
        refused = client.post("/segment", content=encoded())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert client.get("/health").status_code == 200  # it answers at any load
        assert 'deeplab_queue_length{model="deeplab"} 1.0' in client.get("/metrics").text
        slow.gate.set()
        assert running.result(60).status_code == waiting.result(60).status_code == 200
    slow = Slow()
    with client_of([slow], timeout_secs=0.2) as client:
        late = client.post("/segment", content=encoded())
        assert (late.status_code, late.json()["code"]) == (504, "timeout")
        slow.gate.set()


def test_images_beyond_the_memory_wait_for_their_turn():
    slow = Slow()
    half = encoded(np.zeros((80, 80, 3), np.uint8))
    settings = {"max_megapixels": 0.01, "timeout_secs": 60}
    with client_of([slow], **settings) as client, concurrent.futures.ThreadPoolExecutor(3) as pool:
        queue = client.app.state.served["deeplab"].batcher
        try:
            first = pool.submit(client.post, "/segment", content=half)
            assert slow.entered.wait(60)
            second = pool.submit(client.post, "/segment", content=half)
            time.sleep(0.2)
            small = pool.submit(client.post, "/segment", content=encoded())
            until = time.monotonic() + 60
            while len(queue) < 1 and time.monotonic() < until:  # the small one: there is room for it
                time.sleep(0.01)
            assert len(queue) == 1 and not second.done()
        finally:
            slow.gate.set()
        assert [one.result(60).status_code for one in (first, second, small)] == [200] * 3


def test_json_that_would_be_too_large():
    body = {"instances": [file_of(90, 90)], "signature_name": "serving_bytes"}
    with client_of([ByRed(8)], max_megapixels=0.01) as client:
        refused = client.post("/v1/models/deeplab:predict", json=body)
        assert (refused.status_code, refused.json()["code"]) == (413, "result-too-large")
        assert client.post("/v1/models/deeplab:predict", json=body | {"signature_name": "serving_png"}).is_success


def test_json_that_is_being_sent_uses_the_memory_until_then(client):
    body = {"instances": [file_of(50, 49)], "signature_name": "serving_bytes"}
    for _ in range(9):  # a leak would leave no room after four
        found = client.post("/v1/models/deeplab:predict", json=body)
        assert found.status_code == 200 and np.shape(found.json()["predictions"][0]["SemanticPredictions"]) == (50, 49)


def test_an_error_of_the_model_is_an_answer():
    class Broken(Named):
        def _predict(self, image, probabilities):
            raise RuntimeError("secret /path")

    with client_of([Broken()]) as client:
        answer = client.post("/segment", content=encoded())
        assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
        assert "secret" not in answer.text
        assert client.post("/segment", content=encoded()).status_code == 500  # the thread is still there
        numbers = client.get("/metrics").text
        assert 'deeplab_failed_batches_total{code="internal-error",model="deeplab"} 2.0' in numbers


def test_many_clients_get_their_own_masks(client):
    def ask(width):
        image = np.zeros((8, 5 + width % 3, 3), np.uint8)
        image[:, : 1 + width % 4, 0] = 255
        answer = client.post("/segment", content=encoded(image))
        return (np.asarray(Image.open(io.BytesIO(answer.content))) == (image[..., 0] > 0)).all()

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(100)))
    text = client.get("/metrics").text
    assert 'deeplab_requests_total{path="/segment",status="200"}' in text
    assert "deeplab_images_total" in text and "/nothing" not in text  # addresses of clients make no series


def test_the_description_names_every_answer(client):
    content = client.get("/openapi.json").json()
    assert {"/segment", "/health", "/models", "/metrics", "/v1/models/{name}:predict"} <= set(content["paths"])
    assert {"400", "401", "413", "503", "504"} <= set(content["paths"]["/segment"]["post"]["responses"])
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere
