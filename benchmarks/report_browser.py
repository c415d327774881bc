"""Does a run report look right in a real browser, on a phone and on a desktop, by day and by night?

    python3 -m venv browser && browser/bin/pip install playwright && apt-get install chromium
    jaxfdsl report runs/a runs/b --out report.html
    browser/bin/python benchmarks/report_browser.py report.html

opens each page in headless Chromium at 390 and 1440 pixels, light and dark, and asks of each: no
console message, no request but for the page itself, nothing wider than the screen or cut off,
values under the mouse, fewer than 5 MB. It prints one table, writes screenshots and one JSON to
--out, and ends with status 1 where an answer is no. Playwright brings no browser of its own here:
Chromium is that of the system (Debian's package `chromium`), or what --chromium names.
"""

import argparse
import json
import pathlib
import shutil
import sys
from typing import Any

from playwright.sync_api import Browser, sync_playwright

WIDTHS = {390: 844, 1440: 900}  # a phone's and a desktop's window
LIMIT = 5_000_000
# What stands outside the window, or is hidden by a box that does not scroll, outside what scrolls.
CUT_OFF = """() => {
  const found = [];
  const wide = document.documentElement.clientWidth;
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest(".scroll, nav, details:not([open])")) continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > wide + 0.5 || box.left < -0.5)) found.push(element.outerHTML);
    const hides = getComputedStyle(element).overflowX == "hidden";
    if (hides && element.scrollWidth > element.clientWidth + 1) found.push(element.outerHTML);
  }
  for (const text of document.querySelectorAll("svg text")) {
    const box = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
    if (box.left < all.left - 0.5 || box.right > all.right + 0.5) found.push(text.outerHTML);
  }
  return found.map((html) => html.slice(0, 120));
}"""
SIZES = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
IMAGES = "() => [...document.images].every((image) => image.complete && image.naturalWidth)"


def looked_at(
    browser: Browser, page_path: pathlib.Path, width: int, scheme: str, out: pathlib.Path
) -> dict[str, Any]:
    """What one window shows of a page, with a screenshot of all of it in `out`."""
    phone = width < 700
    context = browser.new_context(
        viewport={"width": width, "height": WIDTHS[width]},
        color_scheme=scheme,
        device_scale_factor=2 if phone else 1,
        is_mobile=phone,
        has_touch=phone,
    )
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    address = page_path.resolve().as_uri()
    page.goto(address)
    outside = [url for url in requests if url != address and not url.startswith("data:")]
    scroll_width, client_width = page.evaluate(SIZES)
    found = {
        "page": page_path.name,
        "width": width,
        "scheme": scheme,
        "bytes": page_path.stat().st_size,
        "console": messages,
        "requests": outside,
        "scroll_width": scroll_width,
        "client_width": client_width,
        "cut_off": page.evaluate(CUT_OFF),
        "images_shown": page.evaluate(IMAGES),
    }
    shot = out / f"{page_path.stem}-{width}-{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    charts = page.locator(".chart svg")
    found["values_under_mouse"] = None
    if charts.count():
        charts.first.hover()
        found["values_under_mouse"] = page.locator(".at").first.text_content()
    found["console"] = list(messages)
    context.close()
    return found


def faults(found: dict[str, Any]) -> list[str]:
    """The questions that a window answers with no."""
    checks = {
        "console": not found["console"],
        "request": not found["requests"],
        "wide": found["scroll_width"] <= found["client_width"],
        "cut off": not found["cut_off"],
        "images": found["images_shown"],
        "size": found["bytes"] < LIMIT,
        "values": found["values_under_mouse"] != "",
    }
    return [name for name, holds in checks.items() if not holds]


def main() -> int:
    """Looks at every page in every window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/report_browser"))
    parser.add_argument("--chromium", default="", help="its program; default: the system's")
    options = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    program = options.chromium or next(filter(None, map(shutil.which, names)), None)
    if not program:
        print("No Chromium is here: apt-get install chromium, or type --chromium PROGRAM.")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        version = browser.version
        for page in options.pages:
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    found.append(looked_at(browser, page, width, scheme, options.out))
        browser.close()
    print(f"Chromium {version}")
    print("| page | bytes | window | scroll width | console | requests | cut off | faults |")
    print("|---|---|---|---|---|---|---|---|")
    for window in found:
        cells = (
            window["page"], f"{window['bytes']:,}", f"{window['width']} {window['scheme']}",
            window["scroll_width"], len(window["console"]), len(window["requests"]),
            len(window["cut_off"]), ", ".join(faults(window)) or "none",
        )  # fmt: skip
        print("|", " | ".join(map(str, cells)), "|")
    report = {"chromium": version, "windows": found}
    (options.out / "report_browser.json").write_text(json.dumps(report, indent=2) + "\n")
    return int(any(map(faults, found)))


if __name__ == "__main__":
    sys.exit(main())
