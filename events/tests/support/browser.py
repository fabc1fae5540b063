"""The browser that the tests of pages drive, where there is one."""

import importlib.util
import shutil
from contextlib import contextmanager

# The first has no windows, nor what only they need, and so takes a fifth less CPU time.
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _PROGRAMS)), None)
IS_THERE = bool(
    CHROMIUM and importlib.util.find_spec("playwright") and importlib.util.find_spec("axe_playwright_python")
)

_PATIENCE_MILLISECONDS = 120_000
# In each new window of the others the popups of the address bar, which nobody sees, would take a second of CPU time, and a
# process stands ready for another site, which no test opens. This switch stands for Playwright's own, so what that says of
# pages is repeated.
_WITHOUT = (
    "AvoidUnnecessaryBeforeUnloadCheckSync,HttpsUpgrades,PaintHolding,SpareRendererForSitePerProcess,ThirdPartyStoragePartitioning,"
    "WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,WebUIOmniboxPopup"
)


@contextmanager
def chromium():
    """A running Chromium. While it runs this thread has an event loop, and Django's ORM refuses to work in it."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=_PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        # root, as in a container, has no sandbox
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--in-process-gpu", f"--disable-features={_WITHOUT}"],
        )
        try:
            yield browser
        finally:
            browser.close()


def new_context(chromium, **options):
    """A window of its own, as patient as what is expected in it."""
    context = chromium.new_context(**options)
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    return context
