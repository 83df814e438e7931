"""The page as a visitor sees it: every test clicks in a real browser."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, BrowserContext, Page, expect

import auricle
from auricle.audio.inputs import sample_paths

SPEECH, OTHER = sample_paths()[:2]
PATIENCE_MS = 90_000
ANY = re.compile(".")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots are kept: AURICLE_SCREENSHOTS, or the test's own folder."""
    folder = Path(os.environ.get("AURICLE_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What all visits share, such as the scripts of the page in the browser's cache."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 1000}, accept_downloads=True, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page, freshly opened; nothing is asked of any other host, and no script fails."""
    tab = context.new_page()
    elsewhere: list[str] = []
    broken: list[str] = []
    own = (address, "data:", "blob:")
    tab.on("request", lambda one: None if one.url.startswith(own) else elsewhere.append(one.url))
    tab.on("pageerror", lambda error: broken.append(str(error)))
    tab.goto(address)
    expect(draw_button(tab)).to_be_visible(timeout=PATIENCE_MS)
    # The first choice of layers comes with the page.
    expect(tab.locator("#layer-1 input")).to_have_value(re.compile("\\(default\\)"))
    yield tab
    tab.close()
    assert not elsewhere
    # What Gradio's own player and recorder throw where there is nothing to play or to record with.
    known = re.compile("microphone|decode")
    assert not [message for message in broken if not known.search(message)]


def draw_button(page: Page):
    return page.get_by_role("button", name="Draw", exact=True)


def upload(page: Page, path: Path) -> None:
    page.locator("#speech input[type=file]").set_input_files(path)
    page.locator("#speech").get_by_label("Play", exact=True).wait_for()


def choose(page: Page, place: str, text: str) -> None:
    page.locator(f"#{place} input").click()
    page.get_by_role("option", name=re.compile(f"^{re.escape(text)}( |$)")).click()


def draw(page: Page, text: re.Pattern[str] = ANY) -> None:
    """Draw, and wait for a picture of such a text in place of itself."""
    draw_button(page).click()
    expect(page.locator("#viewer .picture")).to_have_attribute("alt", text, timeout=PATIENCE_MS)
    expect(page.locator("#viewer .picture")).to_be_visible()


def error(page: Page) -> str:
    toast = page.locator(".toast-body.error")
    toast.wait_for()
    return toast.inner_text()


def told(page: Page) -> str:
    return page.locator("#viewer .readout").inner_text()


def point(page: Page, across: float, down: float) -> tuple[float, float]:
    """Move the mouse to a place in the picture, in parts of its width and height."""
    box = page.locator("#viewer .picture").bounding_box()
    assert box is not None
    place = box["x"] + across * box["width"], box["y"] + down * box["height"]
    page.mouse.move(*place)
    return place


def points_and_clicks(page: Page) -> None:
    """Pointing at a picture of apc_mini tells time and frame, and clicking plays from there."""
    places = page.evaluate("""() => {
        const box = document.querySelector('#viewer .picture').getBoundingClientRect();
        const head = document.querySelector('#viewer .head').getBoundingClientRect();
        return {left: (head.left + 1 - box.left) / box.width, top: (head.top - box.top) / box.height};
    }""")
    left, top = places["left"], places["top"]
    assert "Point at the picture" in told(page)
    point(page, left + 0.3, top + 0.01)
    first = told(page)
    assert re.fullmatch(r"\d\.\d{3} s: waveform", first)
    point(page, left + 0.3, 0.35)
    second = told(page)
    match = re.fullmatch(r"(\d\.\d{3}) s, frame (\d+) of (\d+): apc_mini, rnn_3", second)
    assert match is not None, second
    assert match[1] == first.split()[0]
    encoder = auricle.load("apc_mini")
    num_samples = soundfile.info(SPEECH).frames
    assert int(match[3]) == encoder.num_frames(num_samples)
    begin, end = encoder.frame_times(num_samples)[int(match[2])].tolist()
    assert abs((begin + end) / 2 - float(match[1])) <= 0.0051
    page.mouse.click(*point(page, left + 0.3, 0.35))
    seconds = page.locator("#viewer .sound").evaluate(
        "sound => { sound.pause(); return sound.currentTime; }"
    )
    assert float(match[1]) - 0.01 <= seconds <= float(match[1]) + 2
    point(page, 0.01, 0.5)
    assert not page.locator("#viewer .pointer").is_visible()


def test_encoders_are_drawn_pointed_at_played_compared_and_downloaded(
    page: Page, pictures: Path, tmp_path: Path
) -> None:
    upload(page, SPEECH)
    choose(page, "model-1", "apc_mini")
    draw(page)
    points_and_clicks(page)

    choose(page, "model-1", "tera_mini")
    expect(page.locator("#about-1")).to_contain_text("tera_mini: bundled")
    expect(page.locator("#layer-1 input")).to_have_value("layer_3 (default)")
    choose(page, "layer-1", "layer_1")
    choose(page, "model-2", "wav2vec2_mini")
    expect(page.locator("#layer-2 input")).to_have_value(re.compile("\\(default\\)"))
    page.screenshot(path=pictures / "chosen.png", full_page=True)
    draw(page, re.compile(f"^tera_mini, wav2vec2_mini: {SPEECH.name}$"))
    page.screenshot(path=pictures / "compared.png", full_page=True)

    with page.expect_download() as features:
        page.get_by_text("Download features").click()
    arrays = np.load(io.BytesIO(Path(features.value.path()).read_bytes()))
    names = {"tera_mini.layer_1", "wav2vec2_mini.layer_3"}
    assert set(arrays) == names | {f"{name}.seconds" for name in names}
    import torch

    with torch.inference_mode():
        (x,) = auricle.load("tera_mini")([SPEECH], "layer_1")
    np.testing.assert_allclose(arrays["tera_mini.layer_1"], x, atol=1e-4)
    with page.expect_download() as picture:
        page.get_by_text("Download picture").click()
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")

    # The play head follows the sound over the time panels.
    sound, head = page.locator("#viewer .sound"), page.locator("#viewer .head")
    at_first = head.bounding_box()
    sound.evaluate("sound => { sound.muted = true; return sound.play(); }")
    page.wait_for_function("document.querySelector('#viewer .sound').currentTime > 1")
    sound.evaluate("sound => sound.pause()")
    later = head.bounding_box()
    box = page.locator("#viewer .picture").bounding_box()
    assert at_first is not None
    assert later is not None
    assert box is not None
    seconds = sound.evaluate("sound => sound.currentTime")
    duration = sound.evaluate("sound => sound.duration")
    assert duration == pytest.approx(soundfile.info(SPEECH).duration, abs=0.01)
    moved = (later["x"] - at_first["x"]) / box["width"]
    whole = moved / (seconds / duration)  # the panels' part of the picture's width
    assert 0.6 < whole < 0.85
    page.screenshot(path=pictures / "played.png")


def test_speech_is_needed_first_and_leave_to_download(
    page: Page, explore_cache: Path, pictures: Path
) -> None:
    draw_button(page).click()
    assert "There is no speech yet" in error(page)
    page.screenshot(path=pictures / "nothing.png")
    page.get_by_role("button", name="Take the speech that ships with auricle").click()
    page.locator("#speech").get_by_label("Play", exact=True).wait_for()
    draw(page)

    choose(page, "model-1", "tera_960hr")
    about = page.locator("#about-1")
    expect(about).to_contain_text("tera_960hr has to be downloaded")
    expect(about).to_contain_text("85.3 MB of weights")
    page.screenshot(path=pictures / "download.png")
    draw_button(page).click()
    assert "Tick the box that allows downloads" in error(page)
    assert not any(explore_cache.rglob("*.ckpt"))
    page.get_by_label("Download weights that are not on this machine").check()
    draw_button(page).click()
    page.get_by_text("AURICLE_OFFLINE").first.wait_for()


@pytest.mark.whole  # test_choices has the message
def test_a_file_that_is_no_audio_is_named(page: Page, tmp_path: Path, pictures: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"this is no sound" * 100)
    page.locator("#speech input[type=file]").set_input_files(broken)
    message = error(page)  # without a click
    assert "cannot read broken.wav as audio: Format not recognised" in message
    assert str(tmp_path.parent) not in message
    page.screenshot(path=pictures / "broken.png")
    page.locator("#speech").get_by_label("Clear").click()
    upload(page, SPEECH)
    draw(page)
    expect(page.locator(".toast-body.error")).to_have_count(0)  # what is shown hides nothing


def test_a_long_recording_asks_for_a_part(page: Page, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(soundfile.read(SPEECH)[0], 15), 16_000)
    upload(page, long)
    excess = re.compile(r"This is 1 min \d+ s of audio, and one picture holds at most 60 s")
    expect(page.locator("#too-long")).to_have_text(excess)
    draw_button(page).click()
    assert excess.search(error(page))
    page.get_by_label("From, s").wait_for()  # unfolded by itself
    page.wait_for_timeout(500)  # the fields take their first values once they are unfolded
    page.get_by_label("From, s").fill("2")
    page.get_by_label("To, s (0: the end)").fill("4")
    draw(page)
    assert page.locator("#viewer .sound").evaluate("sound => sound.duration") == 2
    point(page, 0.5, 0.35)
    told_at = re.match(r"(\d\.\d{3}) s, frame", told(page))
    assert told_at is not None, told(page)
    assert 2 < float(told_at[1]) < 4  # of the recording, not of the part
    page.locator("#speech").get_by_label("Clear").click()
    upload(page, SPEECH)
    expect(page.get_by_label("From, s")).to_have_value("0")
    expect(page.get_by_label("To, s (0: the end)")).to_have_value("0")


@pytest.mark.whole  # tests of labels name them too
def test_labels_that_are_none_are_named(page: Page, tmp_path: Path) -> None:
    labels = tmp_path / "phones.tsv"
    labels.write_text("0 1 a\n")
    page.get_by_text("Section and labels").click()
    page.locator("input[type=file][accept*='.tsv']").set_input_files(labels)
    assert "phones.tsv, line 1: got blanks between the fields" in error(page)  # without a click


@pytest.mark.whole  # said by the script alone
def test_without_a_microphone_the_page_says_so(page: Page, pictures: Path) -> None:
    page.locator("#speech").get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    notice = page.locator("#viewer .notice")
    expect(notice).to_have_text(re.compile("no microphone: .* or drop a file"))
    page.screenshot(path=pictures / "microphone.png")
    upload_instead = page.locator("#speech").get_by_label("Upload file")
    upload_instead.click()
    upload(page, SPEECH)
    draw(page)
    expect(notice).to_be_hidden()


@pytest.mark.whole  # test_page draws for two visitors at once
def test_two_tabs_at_once_get_their_own(
    context: BrowserContext, address: str, tmp_path: Path
) -> None:
    pages, durations = [], []
    for index, name in enumerate(("apc_mini", "npc_mini")):
        tab = context.new_page()
        tab.goto(address)
        expect(tab.locator("#layer-1 input")).to_have_value(
            re.compile("\\(default\\)"), timeout=PATIENCE_MS
        )
        own = tmp_path / f"{name}_speech.wav"
        samples = soundfile.read(OTHER if index else SPEECH)[0][: 16_000 + 8000 * index]
        soundfile.write(own, samples, 16_000)
        durations.append(len(samples) / 16_000)
        upload(tab, own)
        choose(tab, "model-1", name)
        expect(tab.locator("#about-1")).to_contain_text(name)
        pages.append((name, tab))
    for _, tab in pages:
        draw_button(tab).click()
    for (name, tab), seconds in zip(pages, durations, strict=True):
        tab.bring_to_front()  # those behind it wait with what is not seen
        picture = tab.locator("#viewer .picture")
        expect(picture).to_be_visible(timeout=PATIENCE_MS)
        assert re.fullmatch(rf"{name}, \w+: {name}_speech.wav", picture.get_attribute("alt") or "")
        sound = tab.locator("#viewer .sound")
        tab.wait_for_function("document.querySelector('#viewer .sound').duration > 0")
        assert sound.evaluate("sound => sound.duration") == pytest.approx(seconds, abs=0.001)
        with tab.expect_download() as features:
            tab.get_by_text("Download features").click()
        arrays = np.load(io.BytesIO(Path(features.value.path()).read_bytes()))
        assert {key.split(".")[0] for key in arrays} == {name}
        tab.close()
