"""The page at `/docs` on a phone and on a desk, by day and by night: in Chromium, as the gateway serves it."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.processes import started

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not both installed"),
]

PHONE, TABLET, DESK = 390, 820, 1440  # CSS pixels
# What is wider than the screen, or can be scrolled sideways; code blocks may be.
TOO_WIDE = """
return [...document.body.querySelectorAll('*')].filter(element => {
  if (element.closest('pre, .skip')) return element.matches('pre') && element.getBoundingClientRect().right > innerWidth
  const scrolls = element.scrollWidth > element.clientWidth && getComputedStyle(element).overflowX !== 'visible'
  return scrolls || element.getBoundingClientRect().right > innerWidth + 1
}).map(element => element.outerHTML.slice(0, 200))
"""
# Texts whose contrast is less than WCAG 2.2 wants (1.4.3, AA), each with what it is.
TOO_PALE = """
const parts = colour => colour.match(/[\\d.]+/g).map(Number)
const light = colour => {
  const [r, g, b] = parts(colour).map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  return .2126 * r + .7152 * g + .0722 * b
}
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor
    if (parts(colour)[3] !== 0) return colour
  }
  return 'rgb(255, 255, 255)'
}
return [...document.body.querySelectorAll('*')].filter(element => {
  if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) return false
  const [paler, darker] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a)
  return (paler + .05) / (darker + .05) < 4.5
}).map(element => [element.outerHTML.slice(0, 100), getComputedStyle(element).color, behind(element)])
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("demo")
    with started("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(directory / "data")) as demo:
        yield demo.said["docs:"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def show(chromium: webdriver.Chrome, address: str, width: int, scheme: str = "light") -> None:
    """Open the page anew on a screen of that width, for a reader of that colour scheme."""
    screen = {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width == PHONE}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    preferred = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)
    chromium.get("about:blank")
    chromium.get(address)


def told(chromium: webdriver.Chrome, script: str) -> Any:
    return chromium.execute_script(script)


@pytest.mark.parametrize("width", [PHONE, TABLET, DESK])
def test_nothing_but_code_blocks_scrolls_sideways(width: int, chromium: webdriver.Chrome, address: str) -> None:
    show(chromium, address, width)
    told(chromium, "for (const details of document.querySelectorAll('details')) details.open = true")
    assert told(chromium, "return innerWidth") == width
    assert told(chromium, "return document.documentElement.scrollWidth") <= width
    assert told(chromium, TOO_WIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(scheme: str, chromium: webdriver.Chrome, address: str) -> None:
    for width in (PHONE, DESK):
        show(chromium, address, width, scheme)
        assert told(chromium, "return getComputedStyle(document.body).backgroundColor") == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(13, 17, 23)",
        }.get(scheme)
        assert told(chromium, TOO_PALE) == []


def test_a_browser_finds_nothing_to_complain_of(chromium: webdriver.Chrome, address: str) -> None:
    log: Callable[[str], list[dict[str, str]]] = chromium.get_log
    log("browser")
    show(chromium, address, DESK)
    complaints = [line["message"] for line in log("browser")]
    assert [line for line in complaints if "/favicon.ico" not in line] == []


def test_the_contents_stand_beside_the_text_on_a_desk_and_before_it_on_a_phone(
    chromium: webdriver.Chrome, address: str
) -> None:
    for width, beside in ((DESK, True), (PHONE, False)):
        show(chromium, address, width)
        contents, text = (chromium.find_element(By.TAG_NAME, name).rect for name in ("nav", "main"))
        assert (contents["x"] + contents["width"] <= text["x"]) is beside
        assert contents["height"] <= 850
        link = chromium.find_element(By.CSS_SELECTOR, "nav a[href='#post_api']")
        assert link.is_displayed() is beside


def test_all_can_be_reached_with_the_keyboard(chromium: webdriver.Chrome, address: str) -> None:
    show(chromium, address, DESK)

    def press(key: str) -> Any:
        chromium.switch_to.active_element.send_keys(key)
        return chromium.switch_to.active_element

    first = press(Keys.TAB)
    assert first.text == "Skip to the text"
    assert first.rect["x"] >= 0
    press(Keys.ENTER)
    reached = [press(Keys.TAB) for _ in range(12)]
    assert "pre" in [element.tag_name for element in reached]  # or nobody without a mouse could scroll it
    summary = next(element for element in reached if element.tag_name == "summary")
    summary.send_keys(Keys.ENTER)
    assert told(chromium, "return document.querySelector('details').open")
    assert told(chromium, "return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_link_to_a_part_shows_that_part(chromium: webdriver.Chrome, address: str) -> None:
    for name in ("post_static_list", "schema-Numbers", "Partner-REST-API-errors"):
        show(chromium, f"{address}#{name}", PHONE)
        assert 0 <= told(chromium, f"return document.getElementById('{name}').getBoundingClientRect().top") < 400
