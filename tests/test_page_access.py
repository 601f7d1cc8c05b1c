"""The page for everybody: by keyboard alone, with a screen reader, with a thumb on a small screen."""

import re
from typing import Any

import pytest
from page import DESKTOP, PHONE, eventually, lay_task, open_task, photos_of, says, watched
from serving import Client

pytestmark = pytest.mark.flaky(reruns=1)  # a browser on a busy machine may come too late once

LABELS = ("bolt", "leaf", "tomato")
PROBLEMS = """() => {
  const found = [];
  const shown = it => it.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const said = it => it.tagName + ' ' + (it.id || it.className?.baseVal || it.className || it.textContent).slice(0, 40);
  const named = it => Boolean((it.getAttribute('aria-label') || it.textContent || it.title || '').trim()
    || [...it.querySelectorAll('img[alt]')].some(img => img.alt) || [...(it.labels || [])].some(label => label.textContent.trim()));
  for (const it of document.querySelectorAll('input, select, textarea, button, a[href], meter, progress, [role]'))
    if (shown(it) && !it.closest('[aria-hidden=true]') && !named(it) && !it.hasAttribute('aria-labelledby') && it.role !== 'status')
      found.push('has no name: ' + said(it));
  for (const it of document.querySelectorAll('img')) if (!it.hasAttribute('alt')) found.push('has no alt: ' + said(it));
  for (const it of document.querySelectorAll('dialog')) if (!it.hasAttribute('aria-labelledby')) found.push('unnamed dialog');
  for (const it of document.querySelectorAll('video')) if (it.controls) found.push('video with controls');
  const ids = [...document.querySelectorAll('[id]')].map(it => it.id);
  if (new Set(ids).size !== ids.length) found.push('an id twice');
  if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
  if (document.querySelectorAll('main').length !== 1) found.push('not one main');
  if (!document.documentElement.lang) found.push('no language');
  if (!document.title.includes('qprompt-edge')) found.push('no title');
  const levels = [...document.querySelectorAll('h1, h2, h3')].filter(shown).map(it => Number(it.tagName[1]));
  levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) found.push('a heading skips a level'); });
  for (const it of document.querySelectorAll('[aria-labelledby], [aria-describedby]'))
    for (const id of (it.getAttribute('aria-labelledby') || it.getAttribute('aria-describedby')).split(' '))
      if (!document.getElementById(id)) found.push('names what is not there: ' + id);
  const target = document.querySelector('dialog[open]') || document;
  for (const it of target.querySelectorAll('button, a[href], label.button, label.round, label.chip, input:not(.unseen)')) {
    if (!shown(it) || it.closest('.unseen, .skip') || it.classList.contains('skip')) continue;
    const box = it.getBoundingClientRect();
    const label = it.closest('label')?.getBoundingClientRect();
    if (Math.min(Math.max(box.height, label?.height || 0), Math.max(box.width, label?.width || 0)) < 44) found.push('too small for a thumb: ' + said(it) + ' ' + box.width + 'x' + box.height);
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push('wider than the window');
  return found;
}"""
"""What tools like axe look for, as far as it can go wrong here; and WCAG's 44 pixels for a thumb."""
FOCUSED = "() => { const it = document.activeElement; return (it.getAttribute('aria-label') || it.labels?.[0]?.textContent || it.textContent || '').trim(); }"


def tab_to(page: Any, name: str) -> None:
    """Press Tab until the keyboard is at something of that name; it has to be seen where it is."""
    for _ in range(60):
        if page.evaluate(FOCUSED) == name:
            assert page.evaluate("() => document.activeElement.matches(':focus-visible')")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {name!r}")


def choose(page: Any, choosers: list[Any], paths: list[str]) -> None:
    """Open the browser's choice of files by key, and choose."""
    page.keyboard.press("Enter")
    eventually(page, lambda: bool(choosers))
    choosers.pop().set_files(paths)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_can_be_read_and_used_by_everybody(
    browser: Any, server: Client, size: dict[str, Any], scheme: Any, request: pytest.FixtureRequest
) -> None:
    task = f"Views {request.node.callspec.id}"
    with watched(browser, server.url, color_scheme=scheme, reduced_motion="reduce", **size) as page:
        page.get_by_role("heading", level=1).wait_for()
        assert page.evaluate(PROBLEMS) == []
        lay_task(server.data, task, LABELS, 8)
        open_task(page, task, "teach")
        page.get_by_role("button", name="Teach it", exact=True).click()
        page.get_by_role("heading", name="Version 1").wait_for()
        assert page.evaluate(PROBLEMS) == []
        open_task(page, task, "check")
        page.get_by_role("button", name="Check the photos").click()
        page.get_by_role("heading", name="Are there enough photos?").wait_for()
        assert page.evaluate(PROBLEMS) == []
        open_task(page, task, "try")
        page.get_by_label("Choose a photo").set_input_files(photos_of("leaf", 20, 21))
        page.locator(".answer:not(.waiting)").wait_for()
        assert page.evaluate(PROBLEMS) == []
        open_task(page, task, "review")
        page.get_by_role("heading", name="Nothing to review").wait_for()
        assert page.evaluate(PROBLEMS) == []
        open_task(page, task)
        page.locator(".tile img").first.wait_for()
        assert page.evaluate(PROBLEMS) == []
        page.locator(".tile").nth(1).click()
        assert page.evaluate(PROBLEMS) == []
        for name in ("Move to…", "Look"):
            page.get_by_role("button", name=name).click()
            page.get_by_role("dialog").wait_for()
            assert page.evaluate(PROBLEMS) == []
            page.keyboard.press("Escape")
            page.get_by_role("dialog").wait_for(state="detached")
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keyboard shortcuts").wait_for()
        assert page.evaluate(PROBLEMS) == []


def test_the_whole_way_by_keyboard_alone(browser: Any, server: Client) -> None:
    with watched(browser, server.url, **DESKTOP) as page:
        choosers: list[Any] = []
        page.on("filechooser", lambda chooser: choosers.append(chooser))
        page.get_by_role("heading", level=1).wait_for()
        first = page.get_by_role("textbox").evaluate("it => it.labels[0].innerText")
        tab_to(page, first)
        page.keyboard.type("By keyboard")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name="By keyboard").wait_for()
        for label in LABELS:
            tab_to(page, "Name of the class")
            page.keyboard.type(label)
            page.keyboard.press("Enter")
            page.locator(".class .label", has_text=label).wait_for()
        page.locator("h1").click()
        for i, label in enumerate(LABELS, 1):
            page.keyboard.press(str(i))
            page.get_by_role("heading", level=2, name=label).wait_for()
            tab_to(page, "Add files")
            choose(page, choosers, photos_of(label, 0, 12))
            page.locator(".class", has_text=label).get_by_text("12 photos", exact=True).wait_for()
        page.locator(".tile img").first.wait_for()
        tab_to(page, "tomato, photo 1 of 12")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        page.locator(".selection strong", has_text=re.compile("^2 selected$")).wait_for()
        page.keyboard.press("1")
        says(page, "2 photos moved to “bolt”.")
        page.keyboard.press("Control+z")
        page.get_by_role("heading", level=2, name="tomato 12").wait_for()
        page.keyboard.press("Alt+3")
        page.get_by_role("button", name="Teach it", exact=True).wait_for()
        tab_to(page, "Teach it")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Version 1").wait_for()
        page.keyboard.press("Alt+4")
        page.get_by_label("Choose a photo").wait_for(state="attached")
        tab_to(page, "Choose a photo")
        choose(page, choosers, photos_of("leaf", 20, 21))
        page.locator(".answer:not(.waiting)").wait_for()
        page.keyboard.press("2")
        says(page, "Kept as a photo of “leaf”.")
        tab_to(page, "Learn it now")
        page.keyboard.press("Enter")
        says(page, "Learned. Version 2 is in use.")


def test_a_dialog_keeps_the_keyboard_and_gives_it_back(browser: Any, server: Client) -> None:
    lay_task(server.data, "Dialogs", LABELS, 1)
    with watched(browser, server.url, **DESKTOP) as page:
        open_task(page, "Dialogs")
        page.locator(".class").first.wait_for()
        tab_to(page, "More for bolt")
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        for _ in range(8):
            page.keyboard.press("Tab")
            inside = "() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
            assert page.evaluate(inside)
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert page.evaluate(FOCUSED) == "More for bolt"
