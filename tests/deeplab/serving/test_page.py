"""The web page in headless Chromium, through every control. Needs the package playwright and a Chromium."""

import json
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
from support.threshold_predictor import ByRed

sync_api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
from deeplab.inference.predictor import Prediction  # noqa: E402
from deeplab.serving import app as application  # noqa: E402

WAIT = 120_000  # ms; a limit for pages that hang, not for slow machines
sync_api.expect.set_options(timeout=WAIT)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


class Model(ByRed):
    """ByRed with class names; surer in the left half."""

    def __init__(self, shift=0):
        super().__init__()
        self.set_classes(("ground", "disc", "leaf"), ())
        self._shift = shift

    def _predict(self, image, probabilities):
        labels, _ = super()._predict(np.roll(image, self._shift, 1), False)
        scores = np.eye(3, dtype=np.float32)[labels] * 0.4 + 0.2
        scores[:, : image.shape[1] // 2] = np.eye(3, dtype=np.float32)[labels[:, : image.shape[1] // 2]]
        return Prediction(labels, scores if probabilities else None)


def serve(models=(), **given):
    app = application.create({"model": "made", **given}, models or [Model(), Model(5)])
    config = uvicorn.Config(app, log_level="warning", port=0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended"
        time.sleep(0.05)
    return server, thread, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def address():
    server, thread, address = serve()
    yield address
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


def new_page(browser, **options):
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(WAIT)
    return page


@pytest.fixture
def page(browser, address):
    """The page, which must ask no other server and report no error."""
    page = new_page(browser, accept_downloads=True, viewport={"width": 1200, "height": 900})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.on(
        "request", lambda asked: problems.append(asked.url) if not asked.url.startswith((address, "blob:")) else None
    )
    page.goto(address)
    sync_api.expect(page.locator("#model option")).to_have_count(2)
    yield page
    page.context.close()
    assert [line for line in problems if "status of 400" not in line] == []  # an answer that the page shows


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """80x60 pixels: a red disc on the left, a green square on the right."""
    image = np.full((60, 80, 3), 40, np.uint8)
    cv2.circle(image, (20, 30), 12, (200, 40, 40), -1)
    cv2.rectangle(image, (50, 20), (70, 40), (40, 200, 40), -1)
    path = tmp_path_factory.mktemp("photo") / "holiday.png"
    cv2.imwrite(str(path), image[..., ::-1])
    return path, image


def pixel_of(page, x, y, canvas="view"):
    script = f"([x, y]) => [...document.getElementById('{canvas}').getContext('2d').getImageData(x, y, 1, 1).data]"
    return page.evaluate(script, [x, y])[:3]


def choose(page, *paths):
    page.set_input_files("#file", [str(path) for path in paths])
    sync_api.expect(page.locator("#status")).to_contain_text("ground")


def text_of(page, selector):
    return page.locator(selector).inner_text()


def test_an_image_and_its_overlay(page, photo):
    path, image = photo
    choose(page, path)
    ground, disc, leaf = np.bincount(Model().predict(image).labels.ravel()) / 48
    assert text_of(page, "#classes li:nth-child(1)").split() == ["ground", f"{ground:.1f}", "%"]
    areas = [text_of(page, f"#classes li:nth-child({place}) .area") for place in (2, 3)]
    assert sorted(areas) == sorted([f"{disc:.1f} %", f"{leaf:.1f} %"])
    page.locator("#opacity").fill("100")
    assert text_of(page, "#opacity-value") == "100 %"
    assert pixel_of(page, 20, 30) == [128, 0, 0] and pixel_of(page, 60, 30) == [0, 128, 0]
    page.locator("#opacity").fill("0")
    assert pixel_of(page, 20, 30) == [200, 40, 40]
    page.locator("#opacity").fill("100")
    page.get_by_label("disc").uncheck()
    assert pixel_of(page, 20, 30) == [200, 40, 40] and pixel_of(page, 60, 30) == [0, 128, 0]
    page.get_by_role("button", name="hide all").click()
    assert pixel_of(page, 60, 30) == [40, 200, 40]
    page.get_by_role("button", name="show all").click()
    assert pixel_of(page, 20, 30) == [128, 0, 0]


def test_class_and_probability_by_pointer_and_keyboard(page, photo):
    choose(page, photo[0])
    box = page.locator("#view").bounding_box()

    def hover(x, y):
        page.mouse.move(box["x"] + (x + 0.5) / 80 * box["width"], box["y"] + (y + 0.5) / 60 * box["height"])

    pixel = sync_api.expect(page.locator("#pixel"))
    hover(20, 30)
    pixel.to_have_text("(20, 30) disc, probability 1.00")
    hover(60, 30)
    pixel.to_have_text("(60, 30) leaf, probability 0.60")
    page.locator("#view").focus()
    page.keyboard.press("ArrowRight")
    pixel.to_contain_text("(41, 30)")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowUp")
    pixel.to_contain_text("(37, 29)")
    for _ in range(30):
        page.keyboard.press("Shift+ArrowDown")
    pixel.to_contain_text("(37, 59)")  # not beyond the edge


def test_two_models_side_by_side(page, photo):
    choose(page, photo[0])
    page.get_by_label("Compare with").select_option("deeplab-2")
    sync_api.expect(page.locator("#second")).to_be_visible()
    assert "deeplab and deeplab-2 agree on" in text_of(page, "#agreement")
    page.locator("#opacity").fill("100")
    assert pixel_of(page, 10, 30) == [128, 0, 0] and pixel_of(page, 10, 30, "second-view") != [128, 0, 0]
    page.locator("#second-view").hover(position={"x": 5, "y": 5})
    sync_api.expect(page.locator("#pixel")).to_contain_text("deeplab-2: ground")
    page.get_by_label("Compare with").select_option("")
    sync_api.expect(page.locator("#second")).to_be_hidden()
    page.locator("#model").select_option("deeplab-2")
    sync_api.expect(page.locator("#caption")).to_contain_text("deeplab-2")


class ManyClasses(Model):
    """300 classes, of which the discs have number 299 and the leaves 43, which 8 bits would confuse with it."""

    def __init__(self):
        super().__init__()
        self.num_classes = 300
        self.set_classes(("ground", *(f"thing {index}" for index in range(1, 300))), ())

    def _predict(self, image, probabilities):
        labels, _ = ByRed()._predict(image, False)
        labels = np.array([0, 299, 43], np.int32)[labels]
        return Prediction(labels, np.eye(300, dtype=np.float32)[labels] if probabilities else None)


def test_more_classes_than_a_byte_holds(browser, photo):
    server, thread, address = serve([ManyClasses()])
    page = new_page(browser, accept_downloads=True)
    page.goto(address)
    sync_api.expect(page.locator("#model option")).to_have_count(1)
    choose(page, photo[0])
    rows = [text.split("\n")[0].strip() for text in page.locator("#classes li").all_inner_texts()]
    assert len(rows) == 4 and rows[0].startswith("ground") and rows[3] == "297 other classes are not in the image"
    assert {row[:9].strip() for row in rows[1:3]} == {"thing 299", "thing 43"}
    colors = ManyClasses().colors[[299, 43]].tolist()
    page.locator("#opacity").fill("100")
    assert [pixel_of(page, 20, 30), pixel_of(page, 60, 30)] == colors
    page.locator("#view").focus()
    page.keyboard.press("ArrowRight")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator("#pixel")).to_contain_text("thing 43, probability 1.00")
    page.get_by_role("button", name="hide all").click()
    assert pixel_of(page, 20, 30) == [200, 40, 40]
    page.get_by_role("button", name="show all").click()
    assert pixel_of(page, 20, 30) == colors[0]
    with page.expect_download() as saved:
        page.locator("#save-mask").click()
    mask = cv2.imread(str(saved.value.path()), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint16 and (mask[30, 20], mask[30, 60], mask[0, 0]) == (299, 43, 0)
    page.context.close()
    server.should_exit = True
    thread.join()


def test_two_models_with_other_classes(browser, photo):
    """The second calls the discs trees and the leaves discs."""
    other = Model()
    other.set_classes(("ground", "tree", "disc"), ())
    server, thread, address = serve([Model(), other])
    page = new_page(browser)
    page.goto(address)
    sync_api.expect(page.locator("#model option")).to_have_count(2)
    choose(page, photo[0])
    page.get_by_label("Compare with").select_option("deeplab-2")
    sync_api.expect(page.locator("#second")).to_be_visible()
    ground, disc, leaf = (f"{each:.1f} %" for each in np.bincount(Model().predict(photo[1]).labels.ravel()) / 48)
    rows = [text.replace("\n", " ") for text in page.locator("#classes li").all_inner_texts()]
    wanted = [f"ground {ground} / {ground}", f"disc {disc} / {leaf}", f"leaf {leaf} / 0.0 %", f"tree 0.0 % / {disc}"]
    assert sorted(rows) == sorted(wanted)
    assert text_of(page, "#agreement") == f"deeplab and deeplab-2 agree on {ground} of the pixels."
    page.locator("#opacity").fill("100")
    page.get_by_label("tree").uncheck()
    assert pixel_of(page, 20, 30, "second-view") == [200, 40, 40] and pixel_of(page, 20, 30) == [128, 0, 0]
    page.context.close()
    server.should_exit = True
    thread.join()


def download(page, name, folder):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_downloads(page, photo, tmp_path):
    path, image = photo
    choose(page, path)
    labels = Model().predict(image).labels
    from PIL import Image

    mask = download(page, "mask", tmp_path)
    assert mask.name == "holiday_mask.png" and (np.asarray(Image.open(mask)) == labels).all()
    page.get_by_label("leaf").uncheck()
    cutout = np.asarray(Image.open(download(page, "cut-out", tmp_path)))
    assert ((cutout[..., 3] == 255) == (labels == 1)).all() and (cutout[labels == 1][:, :3] == image[labels == 1]).all()
    content = json.loads(download(page, "polygons", tmp_path).read_text())
    assert (content["width"], content["height"]) == (80, 60)
    assert sorted(one["class"] for one in content["polygons"]) == ["disc", "leaf"]


FILE = """async ([bytes, kind]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(bytes)], 'sent.png', { type: 'image/png' }));
  const event = kind === 'paste'
    ? new ClipboardEvent('paste', { clipboardData: data, bubbles: true })
    : new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
  document.getElementById('drop').dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_paste_and_drop(page, photo, kind):
    page.evaluate(FILE, [list(photo[0].read_bytes()), kind])
    sync_api.expect(page.locator("#status")).to_contain_text("sent.png: ground")


def test_the_camera(page):
    page.get_by_role("button", name="use the camera").click()
    sync_api.expect(page.locator("#shoot")).to_be_focused()  # it is enabled with the first frame
    page.get_by_role("button", name="take the image").click()
    sync_api.expect(page.locator("#status")).to_contain_text("camera 1.jpg:")
    page.get_by_role("button", name="close the camera").click()
    sync_api.expect(page.locator("#viewfinder")).to_be_hidden()
    sync_api.expect(page.locator("#camera")).to_be_focused()
    sync_api.expect(page.locator("#shoot")).to_be_disabled()


def test_a_camera_that_is_refused(browser, address):
    page = new_page(browser)
    page.add_init_script("navigator.mediaDevices.getUserMedia = async () => { throw new Error('refused'); }")
    page.goto(address)
    page.get_by_role("button", name="use the camera").click()
    sync_api.expect(page.locator("#error")).to_contain_text("The camera cannot be used: refused")
    sync_api.expect(page.locator("#camera")).to_be_enabled()
    page.context.close()


def test_several_images_and_an_unreadable_one(page, photo, tmp_path):
    other = shutil.copy(photo[0], tmp_path / "other.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    choose(page, photo[0], other)
    page.get_by_role("button", name="other.png").click()
    sync_api.expect(page.locator("#status")).to_contain_text("other.png: ground")
    assert page.get_by_role("button", name="other.png").get_attribute("aria-pressed") == "true"
    page.set_input_files("#file", str(broken))
    sync_api.expect(page.locator("#error")).to_contain_text("not an image that can be read")
    sync_api.expect(page.locator("#results")).to_be_hidden()  # they would be those of another image
    page.locator("#opacity").fill("50")
    page.get_by_role("button", name="other.png").click()
    sync_api.expect(page.locator("#results")).to_be_visible()


def test_what_is_shown_stays_usable_while_a_request_runs(page, photo):
    choose(page, photo[0])
    held = []
    page.route("**/segment?*", lambda route: held.append(route))
    page.get_by_label("Compare with").select_option("deeplab-2")
    sync_api.expect(page.locator("#status")).to_contain_text("Segmenting")
    page.locator("#opacity").fill("100")
    page.locator("#view").hover(position={"x": 5, "y": 5})
    sync_api.expect(page.locator("#pixel")).to_contain_text(") ground")
    page.get_by_role("button", name="hide all").click()
    assert pixel_of(page, 20, 30) == [200, 40, 40] and len(held) == 1
    held[0].continue_()
    sync_api.expect(page.locator("#second")).to_be_visible()


def test_a_mask_gets_the_name_of_its_image(page, photo, tmp_path):
    other = shutil.copy(photo[0], tmp_path / "other.png")
    choose(page, photo[0], other)
    sync_api.expect(page.locator("#status")).to_contain_text("holiday.png: ground")
    held = []
    page.route("**/segment?output=png*", lambda route: held.append(route))
    with page.expect_download() as saved:
        page.locator("#save-mask").click()
        page.get_by_role("button", name="other.png").click()
        sync_api.expect(page.locator("#status")).to_contain_text("other.png: ground")
        held[0].continue_()
    assert saved.value.suggested_filename == "holiday_mask.png"


def test_a_server_that_is_gone(browser, photo):
    server, thread, address = serve()
    page = new_page(browser)
    page.goto(address)
    sync_api.expect(page.locator("#model option")).to_have_count(2)
    server.should_exit = True
    thread.join()
    page.set_input_files("#file", str(photo[0]))
    sync_api.expect(page.locator("#error")).to_have_text("The server cannot be reached.")
    page.context.close()


def test_every_control_can_be_reached_by_keyboard_and_has_a_name(page, photo):
    choose(page, photo[0])
    page.locator("body").click(position={"x": 2, "y": 2})
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        script = "() => { const one = document.activeElement; return one.id || one.dataset.name || one.href || ''; }"
        seen.append(page.evaluate(script))
    controls = {"file", "camera", "model", "compare", "opacity", "view", "all", "none", "ground", "disc", "leaf"}
    assert controls | {"save-mask", "save-cutout", "save-polygons"} <= set(seen)
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, input, select, canvas')]
      .filter((one) => !(one.textContent.trim() || one.labels?.length || one.getAttribute('aria-label')))
      .map((one) => one.id)""")
    assert nameless == ["second-view"]  # it is hidden, and named when it is drawn


def contrast(page, selector):
    """The contrast of an element's text with its ground (WCAG 2.1, 1.4.3)."""
    colors = page.evaluate(
        """(selector) => {
          const element = document.querySelector(selector);
          let ground = element;
          while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
          return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
        }""",
        selector,
    )

    def luminance(text):
        parts = [int(part) / 255 for part in text[text.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, colors))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_dark_mode_and_phone_width(page, photo, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    choose(page, photo[0])
    page.locator("#compare").select_option("deeplab-2")
    sync_api.expect(page.locator("#second")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in ("body", "#status", ".small", "#camera", ".button", "footer a"):
        assert contrast(page, selector) >= 4.5, selector


def test_a_server_with_a_key(browser, photo):
    server, thread, address = serve(api_key="secret")
    page = new_page(browser)
    page.goto(address)
    sync_api.expect(page.locator("#error")).to_be_visible()
    page.get_by_label("Key of this server").fill("secret")
    page.keyboard.press("Tab")
    sync_api.expect(page.locator("#model option")).to_have_count(2)
    sync_api.expect(page.locator("#error")).to_be_hidden()
    choose(page, photo[0])
    page.context.close()
    server.should_exit = True
    thread.join()
