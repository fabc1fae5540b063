"""The page of a series in Chromium: by keyboard alone it is renamed, merged and deleted."""

from events.tests.support.dashboard import accessible

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def typed(page, label, text):
    """Go to a field by the Tab key, and type into it."""
    tabbed(page, lambda: page.evaluate("document.activeElement.labels?.[0]?.textContent.trim()") == label)
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


def tabbed(page, is_there):
    for _ in range(60):
        page.keyboard.press("Tab")
        if is_there():
            return
    raise AssertionError("the Tab key does not lead there")


def pressed(page, text):
    tabbed(page, lambda: page.evaluate("document.activeElement.textContent.trim()") == text)
    page.keyboard.press("Enter")


def done(page):
    """Wait until the page, which is read anew meanwhile, says no more that steps are taken."""
    page.get_by_text("every answer is as it will be").wait_for(state="detached")


def looked_at(page):
    for viewport in (DESK, PHONE):
        page.set_viewport_size(viewport)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_a_series_is_renamed_merged_and_deleted_by_keyboard_alone(open_page):
    page = open_page("/series/Frontend/signUp")
    looked_at(page)
    typed(page, "New name", "sign-up")
    pressed(page, "Rename")
    page.wait_for_url("**/series/Frontend/sign-up")
    page.get_by_text("nothing came under it since.").wait_for()
    done(page)
    looked_at(page)

    typed(page, "New name", "pageView")
    pressed(page, "Rename")
    page.get_by_text("merge into it.").wait_for()
    looked_at(page)
    tabbed(page, lambda: page.evaluate("document.activeElement.name") == "merge")
    page.keyboard.press("Space")
    typed(page, "To merge, type the present name", "Frontend/sign-up")
    pressed(page, "Rename")
    page.wait_for_url("**/series/Frontend/pageView")

    done(page)
    count = page.locator(".danger").inner_text()
    assert count == f"Delete {page.locator('section p').first.inner_text().split()[0]} events"
    typed(page, "To delete it, type its name", "pageView")
    pressed(page, count)
    page.get_by_text("Type Frontend/pageView to delete it: this can’t be undone.").wait_for()
    looked_at(page)
    typed(page, "To delete it, type its name", "Frontend/pageView")
    pressed(page, count)
    page.get_by_text("It has no events.").wait_for()
    page.get_by_text("has been deleted").wait_for()
    done(page)
    looked_at(page)
    # of the two forms that were refused
    assert [problem for problem in page.problems if "status of 400" in problem] == page.problems
    page.problems.clear()
