"""The folder that runs in a browser: what is in it, where its runtime comes from, and equal masks in Chromium."""

import functools
import hashlib
import http.server
import importlib.util
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image
from support.errors import raises
from support.export_battery import CLASSES, export
from support.golden_recipe import image
from support.small_exports import make_balanced_network, make_settings

from deeplab.config.data_config import ResizeConfig
from deeplab.export.formats import web_page
from deeplab.inference.load import load

MISSING = [name for name in ("onnx", "tf2onnx", "onnxruntime") if not importlib.util.find_spec(name)]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason="the extra onnx is not installed")
RUNTIME = os.environ.get("ONNXRUNTIME_WEB") or (str(web_page._cached()) if web_page._is_cached() else "")
IMAGE = image(50, 61)[0].astype(np.uint8)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The files of the npm package: its own where $ONNXRUNTIME_WEB or the cache has it, else empty ones."""
    if RUNTIME:
        return RUNTIME
    folder = tmp_path_factory.mktemp("package") / "dist"
    folder.mkdir()
    for name in web_page.RUNTIME_FILES:
        (folder / name).write_text("")
    return str(folder.parent)


@pytest.fixture(scope="module")
def page(runtime, tmp_path_factory):
    """An exported folder."""
    folder = tmp_path_factory.mktemp("web")
    export(
        make_balanced_network(IMAGE), folder, formats=("web_page",), parity_images=1, web_runtime=runtime,
    )  # fmt: skip
    return folder / "web_page"


@needs_onnx
def test_the_folder_is_complete_and_a_model_like_any_other(page):
    names = {path.name for path in page.iterdir()}
    page_files = {"index.html", "web.js", "web.css", "interactive_page.css"}
    assert names == {*web_page.RUNTIME_FILES, *page_files, "model.json", "model.onnx"}
    content = json.loads((page / "model.json").read_text())
    assert content["size"] == [65, 97] and [one["name"] for one in content["classes"]] == list(CLASSES.names)
    found = load(str(page))
    assert found.predict(IMAGE).labels.shape == IMAGE.shape[:2] and found.class_names == CLASSES.names
    for name in page_files:
        assert "//" not in (page / name).read_text().replace("// ", "")  # nothing comes from another address


def test_models_that_a_page_cannot_serve(runtime, tmp_path):
    settings = make_settings(resize=ResizeConfig(min_resize_value=65, max_resize_value=65))
    with raises("not-supported", field="formats"):
        export(
            make_balanced_network(IMAGE), tmp_path, settings=settings, formats=("web_page",), parity_images=1,
            web_runtime=runtime,
        )  # fmt: skip


def test_a_given_folder_without_the_files(tmp_path):
    with raises("file-not-found", where=str(tmp_path)) as caught:
        web_page.runtime_folder(str(tmp_path))
    assert "ort.wasm.min.js" in caught.value.rule


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A program called npm that copies an archive, and an empty cache."""
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as file:
        for name in web_page.RUNTIME_FILES:
            content = name.encode()
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text(f'#!/bin/sh\ncp "{archive}" . && echo "$@" >> "{tmp_path}/calls"\n')
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(web_page, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    return programs / "npm"


def test_npm_is_asked_once(npm, tmp_path):
    assert "onnxruntime-web" in web_page.FORMATS.get("web_page").missing()
    for _ in range(2):
        folder = web_page.runtime_folder("")
    assert (folder / "ort.wasm.min.js").read_text() == "ort.wasm.min.js"
    assert (tmp_path / "calls").read_text().count(f"onnxruntime-web@{web_page.VERSION}") == 1
    assert "onnxruntime-web" not in web_page.FORMATS.get("web_page").missing()


def test_npm_fails_or_sends_something_else(npm, tmp_path, monkeypatch):
    monkeypatch.setattr(web_page, "SHA256", "0" * 64)
    with raises("checksum-mismatch"):
        web_page.runtime_folder("")
    npm.write_text("#!/bin/sh\necho offline >&2; exit 1\n")
    with raises("download-failed") as caught:
        web_page.runtime_folder("")
    assert "offline" in caught.value.rule
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with raises("missing-library"):
        web_page.runtime_folder("")
    assert not list((tmp_path / "cache").glob("*/ort*"))


@pytest.mark.slow
@needs_onnx
def test_the_masks_in_chromium_equal_ours(page, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or not RUNTIME:
        pytest.skip("needs Chromium, and the npm package in the cache or in the folder ONNXRUNTIME_WEB")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(page))
    handler.log_message = lambda *_: None
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    Image.fromarray(IMAGE[::-1, ::-1]).save(tmp_path / "other.png")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_api.sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.set_default_timeout(300_000)
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        sync_api.expect(tab.locator("#status")).to_have_text("Ready.", timeout=300_000)
        for name in ("other.png", "photo.png"):  # the second does not wait for the first
            tab.set_input_files("#file", str(tmp_path / name))
        sync_api.expect(tab.locator("#status")).to_contain_text("Done in", timeout=300_000)
        tab.wait_for_function("state.name === 'photo.png'")
        with tab.expect_download() as waiting:
            tab.locator("#save").click()
        assert waiting.value.suggested_filename == "photo_mask.png"
        waiting.value.save_as(tmp_path / "mask.png")
        browser.close()
        server.shutdown()
    mask = np.asarray(Image.open(tmp_path / "mask.png").convert("L"))
    labels, scores = load(str(page)).predict(IMAGE)
    sure = np.sort(scores, -1)
    sure = sure[..., -1] - sure[..., -2] > 1e-4
    assert len(np.unique(labels)) > 1 and sure.mean() > 0.9 and (mask == labels)[sure].all()


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_is_javascript():
    done = subprocess.run(["node", "--check", web_page._PAGE / "web.js"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
