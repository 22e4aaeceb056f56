"""Drives the real Open WebUI over Orchestra in a headless Chromium: `make openwebui OPEN_WEBUI=.../bin/open-webui`.

Needs what the project does not bring: Open WebUI 0.12.4 (`pip install open-webui` in an environment of its own, about 3 GB),
a Chromium (CHROMIUM names it; else the one that `playwright install chromium` fetches), and `pip install playwright` here.
Takes about three minutes and 1 GB. Writes result.json and pictures to the folder that --to names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from page import Browser
from scenes import SCENES, Figures, Play
from stage import set_up


def main() -> int:
    """Runs the scenes; 1 where one is not as promised, or a page asked another host."""
    given = _arguments()
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        sys.exit("playwright is needed: pip install playwright")
    given.to.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="openwebui-") as folder, set_up(given.open_webui, Path(folder)) as stage, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=os.environ.get("CHROMIUM") or None, args=["--no-sandbox"])
        browser = Browser(chromium, stage.page)
        if not browser.notices():
            sys.exit("a request to another host would not be noticed")
        play = Play(stage, browser, given.to)
        scenes = {name: _played(SCENES[name], play, Error) for name in given.scenes or SCENES}
        result = {"open_webui": stage.version, "chromium": chromium.version, "ready_s": stage.took, "scenes": scenes}
        result |= {"other_hosts": sorted(browser.outside), "page_errors": browser.errors}
        chromium.close()
    (given.to / "result.json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    print(f"other hosts: {result['other_hosts'] or 'none'}; errors on the pages: {result['page_errors'] or 'none'}")
    return int(bool(result["other_hosts"]) or not all(figures["ok"] for figures in scenes.values()))


def _played(scene: Callable[[Play], Figures], play: Play, broken: type[Exception]) -> Figures:
    began = time.monotonic()
    try:
        figures = scene(play)
    except (broken, TimeoutError, LookupError, httpx.HTTPError):
        traceback.print_exc()
        figures = {"ok": False}
    figures["scene_s"] = round(time.monotonic() - began, 1)
    print(f"{'ok  ' if figures['ok'] else 'FAIL'} {scene.__name__}: {json.dumps(figures, ensure_ascii=False)}", flush=True)
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("build/openwebui"), help="folder of result.json and the pictures")
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"only these: {', '.join(SCENES)}")
    given = parser.parse_args()
    given.open_webui = os.environ.get("OPEN_WEBUI", "")
    if not given.open_webui:
        parser.error("OPEN_WEBUI has to name the command `open-webui`")
    if unknown := set(given.scenes) - set(SCENES):
        parser.error(f"no such scene: {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
