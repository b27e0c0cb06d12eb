"""How fast the page of `chainrule demo` is in a headless Chromium: python tools/time_demo.py [MODEL]

From the start of loading to the first whole picture, at the speed that the page begins with; then fifty pictures at
full speed, by the page's own controls. The clock counts what others do on the machine as well; processor time does not,
and includes the start of the page's process.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import chainrule as cr
from browser import opened_browser
from chainrule.lab.demo.demo_page import write_page

NUMBER = 50
WATCH = """
globalThis.timed = (done) => new Promise((resolve) => {
  const look = () => (done() ? resolve(performance.now()) : setTimeout(look, 2));
  look();
});
globalThis.first = timed(() => document.querySelector(".picture.whole"));
"""


def main(name: str) -> None:
    """Print the figures of a model's page."""
    with tempfile.TemporaryDirectory() as folder, opened_browser(Path(folder)) as page:
        file = write_page(cr.load(name), name, Path(folder) / "demo.html")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        page.window(1200, 900)
        page.open(file)
        shown = page.run("first") / 1000
        print(f"{name}: first picture whole {shown:.2f} s after loading began ({page.seconds():.2f} s of processor)")
        page.run(f"document.getElementById('number').value = '{NUMBER}'")
        page.run("document.getElementById('speed').value = '0'")
        page.wait("!demo.sheet.running")
        before, began = page.seconds(), page.run("performance.now()")
        page.click("#draw")
        whole = f"timed(() => document.querySelectorAll('#sheet .picture.whole').length === {NUMBER})"
        took = (page.run(whole) - began) / 1000
        used = page.seconds() - before
        print(f"{name}: {NUMBER / took:.1f} pictures a second ({NUMBER / used:.1f} a second of processor)")
        assert not page.complaints, page.complaints


if __name__ == "__main__":
    if len(sys.argv) > 2:
        raise SystemExit("usage: python tools/time_demo.py [MODEL]")
    main(sys.argv[1] if len(sys.argv) == 2 else "pixelcnn-made")
