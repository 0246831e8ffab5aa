"""The page in headless Chromium: with mouse and keyboard, narrow and wide, light and dark, and without a network."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from dassl.app import uploads

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytest.importorskip("gradio", reason="needs gradio: pip install -r requirements-app.txt")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install -r requirements-browser.txt"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
# Every text that is shown: its contrast with the first opaque background below it, and its content.
CONTRAST = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const luminance = colour => { const [r, g, b] = colour.slice(0, 3).map(v => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = node => { for (; node; node = node.parentElement) {
    const colour = parse(getComputedStyle(node).backgroundColor); if (colour[3] > 0.9) return colour; }
    return [255, 255, 255, 1]; };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), parent = walker.currentNode.parentElement;
    if (!text || !parent.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (["STYLE", "SCRIPT"].includes(parent.tagName) || parent.getClientRects().length === 0) continue;
    const a = luminance(parse(getComputedStyle(parent).color)), b = luminance(ground(parent));
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text]);
  }
  return found;
}"""
UNNAMED = """() => [...document.querySelectorAll('button, input, textarea, select, a, [role=button], [role=listbox]')]
  .filter(each => each.checkVisibility() && !(each.ariaLabel || each.title || each.labels?.length
    || each.textContent.trim() || each.closest('label')?.textContent.trim()))
  .map(each => each.outerHTML.slice(0, 200))"""
EVIL = '<img src=x onerror="document.title=1">${document.title=2}{{value}}'


@pytest.fixture(scope="module")
def driver():
    """Playwright, whose event loop must not be there for other tests."""
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture
def opened(served, driver, tmp_path):
    """Opens the page in a new browser; what it asked other servers, and failed requests, are mistakes."""

    @contextmanager
    def open_page(width=1440, scheme="light"):
        browser = driver.chromium.launch_persistent_context(
            tmp_path / f"profile-{width}-{scheme}",
            executable_path=CHROMIUM,
            args=[
                *QUIET.split(),
                "--disable-component-update",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
        )
        page, asked, wrong = browser.pages[0], [], []
        page.on("request", lambda request: asked.append(urlsplit(request.url).hostname))
        page.on("response", lambda response: response.status >= 400 and wrong.append(response.url))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        try:
            page.goto(served.url)
            page.wait_for_selector("#picture input[type=file]", state="attached")
            yield page
            assert {*asked} <= {"127.0.0.1", None}
            assert wrong == []
        finally:
            browser.close()

    return open_page


def drop(page, path, expected=".softcpt-run"):
    """Give the page a file and wait for what must appear."""
    page.set_input_files("#picture input[type=file]", path)
    page.wait_for_selector(expected)


def edit(page, names):
    """Type other class names of the task "tool" and use them with the keyboard."""
    page.get_by_role("button", name="Other class names").click()
    page.get_by_label("Task", exact=True).click()
    page.get_by_role("option", name="tool").click()
    box = page.get_by_label("Class names of tool")
    box.fill("\n".join(names))
    box.press("Shift+Enter")


def texts(page, selector):
    """The texts of the elements that a selector finds."""
    return page.locator(selector).all_inner_texts()


def test_a_picture_is_answered_and_class_names_are_changed(opened, photo, served):
    with opened() as page:
        drop(page, photo)
        assert texts(page, ".softcpt-run h2") == ["soft", "res", "tuned.safetensors"]
        assert texts(page, ".softcpt-run h3") == ["pet_kind", "tool"] * 3
        assert page.locator("#preview img").get_attribute("alt") == photo.name
        assert served.uploads() == []
        edit(page, ["spade", EVIL])
        page.wait_for_selector("#message [role=status]")
        soft, res = page.locator(".softcpt-run").nth(0), page.locator(".softcpt-run").nth(1)
        assert sorted(soft.locator("ol").nth(1).locator(".name").all_inner_texts()) == sorted(["spade", EVIL])
        assert "TaskRes" in res.locator(".softcpt-quiet").first.inner_text()
        assert page.title() == "SoftCPT: try a run"
        page.get_by_role("radio", name="soft", exact=True).click()
        page.wait_for_function("document.querySelectorAll('.softcpt-run').length == 1")
        page.get_by_role("button", name="The run's own").click()
        page.wait_for_function("!document.querySelector('#answers').textContent.includes('spade')")
        assert "spade" not in page.get_by_label("Class names of tool").input_value()
        page.get_by_role("radio", name="res", exact=True).click()
        page.wait_for_function("document.querySelector('.softcpt-run h2').textContent == 'res'")
        page.get_by_label("Class names of tool").fill("spade\nrake")
        page.get_by_role("button", name="Use these names").click()
        page.wait_for_selector("#message [role=alert]")
        assert "TaskRes" in page.locator("#message").inner_text()


def test_a_wrong_file_is_said(opened, photo, tmp_path, served):
    letter = tmp_path / "letter.pdf"
    letter.write_bytes(b"%PDF-1.7 no picture")
    with opened() as page:
        drop(page, photo)
        drop(page, letter, "#message [role=alert]")
        assert "cannot read image letter.pdf" in page.locator("#message").inner_text()
        assert page.locator(".softcpt-run").count() == page.locator("#preview img").count() == 0
        drop(page, photo)
        assert page.locator("#message [role=alert]").count() == 0
        assert served.uploads() == []


def test_a_large_file_is_said(opened, tmp_path, served):
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * (uploads.MOST_BYTES + 50_000))
    with opened() as page:
        drop(page, large, "[data-testid=toast-body]")
        assert "maximum" in page.locator("[data-testid=toast-body]").inner_text()
        assert served.uploads() == []


def test_the_keyboard_is_enough(opened, photo):
    with opened() as page:
        chosen = []
        page.on("filechooser", lambda chooser: chosen.append(chooser))
        for _ in range(40):  # the page may still be built anew
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#picture') !== null"):
                page.keyboard.press("Enter")
                page.wait_for_timeout(300)
            if chosen:
                break
        chosen[0].set_files(photo)
        page.wait_for_selector(".softcpt-run")
        page.get_by_role("radio", name="All side by side").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.wait_for_function("document.querySelectorAll('.softcpt-run').length == 1")
        slider = page.get_by_role("slider")
        slider.focus()
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function("document.querySelectorAll('.softcpt-run li').length == 2")
        assert page.evaluate(UNNAMED) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_at_every_width(opened, photo, scheme):
    long = "a very long class name " * 4 + "Donaudampfschifffahrtsgesellschaftskapitaensmuetze" * 2
    with opened(390, scheme) as page:
        drop(page, photo)
        edit(page, [long, "x" * 200])
        page.wait_for_selector("#message [role=status]")
        for width in (320, 390, 768, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for bar in page.locator(".softcpt-run").all():
                assert bar.evaluate("each => each.scrollWidth <= each.clientWidth")
        page.wait_for_timeout(300)  # colours that fade in
        faint = [(round(ratio, 1), text) for ratio, text in page.evaluate(CONTRAST) if ratio < 4.5]
        assert faint == []
