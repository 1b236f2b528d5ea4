"""Opens pages in a real headless Chromium, in light and dark and at 360 pixels: no error of axe-core, nothing that needs the network or scrolls sideways.

    python tests/page.py PAGE..."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import axe_core_python

LARGEST = 2 << 20
PROBE = """<script>%s</script><script>
axe.run().then(found => {
  const said = {violations: found.violations.map(v => ({id: v.id, impact: v.impact, nodes: v.nodes.map(n => n.target.join(' ')).slice(0, 3)})),
                passes: found.passes.length, wide: document.documentElement.scrollWidth - innerWidth,
                fetched: performance.getEntriesByType('resource').length, dark: matchMedia('(prefers-color-scheme: dark)').matches};
  document.documentElement.innerHTML = '<head></head><body>FOUND' + btoa(unescape(encodeURIComponent(JSON.stringify(said)))) + 'END</body>';
});</script>"""
WAYS = {"light": (1180, 1), "dark": (1180, 0), "phone": (360, 1)}


def look(chromium, page, width, scheme):
    """What the page shows of itself in a window of this width."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--virtual-time-budget=20000",
               f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", page.as_uri()]
    ran = subprocess.run([chromium, *options], capture_output=True, text=True, timeout=600)
    found = re.search("FOUND([A-Za-z0-9+/=]+)END", ran.stdout)
    if not found:
        sys.exit(f"page: Chromium said nothing of {page}\n{ran.stderr[-2000:]}")
    return json.loads(__import__("base64").b64decode(found[1]))


def main():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        sys.exit("page: needs Chromium (apt-get install chromium)")
    axe = next(pathlib.Path(axe_core_python.__file__).parent.rglob("axe.min.js")).read_text()
    passed = failed = 0
    for page in map(pathlib.Path, sys.argv[1:]):
        text = page.read_text()
        assert len(text.encode()) < LARGEST, f"{page} has {len(text)} characters"
        with tempfile.TemporaryDirectory() as folder:
            probe = pathlib.Path(folder) / "page.html"
            probe.write_text(text.replace("</body>", PROBE.replace("%s", axe) + "</body>"))
            for way, (width, scheme) in WAYS.items():
                said = look(chromium, probe, width, scheme)
                wrong = said["violations"] or said["wide"] > 0 or said["fetched"] or said["dark"] != (way == "dark") or said["passes"] < 20
                passed, failed = passed + (not wrong), failed + bool(wrong)
                if wrong:
                    print(f"{page}, {way}: {json.dumps(said)}", file=sys.stderr)
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed) or not passed)


if __name__ == "__main__":
    main()
