"""The page itself, made with Gradio, and the local server that it runs on."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.errors import AuricleError, OutputError
from auricle.explore.choices import (
    NO_LAYERS,
    describe_choice,
    examine,
    list_choices,
    list_layers,
    must_be_downloaded,
)
from auricle.optional import optional

HOST = "127.0.0.1"
FIRST_PORT = 7860
NUM_PORTS = 100
NUM_MODELS = 3
NONE = ""
"""Value for no second or third model, and for the default layer."""

MAX_FILE = "500mb"
MAX_WAITING = 30
"""Most requests in the queue; one is drawn at a time, on all cores."""

FORGET_SECONDS = 3600
"""Age at which files are deleted; when the server stops, all of them are."""

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        # Gradio's own scripts are inline and compile templates; nothing comes from elsewhere.
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        b"media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
        b"worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

INTRODUCTION = """\
## Explore representations of speech
Upload or record speech, choose up to three encoders, and draw. All audio stays on this machine.
"""

VIEWER = "<p class='hint'>Pictures appear here.</p><p class='notice' role='alert'></p>"
"""HTML that viewer.js fills."""


@contextmanager
def serve(port: int | None = None) -> Iterator[str]:
    """Serve the page on the loopback interface while the context is entered; yields its address.

    Args:
        port: Port to listen on; None for the first free one from 7860.

    Raises:
        MissingExtraError: Gradio or matplotlib is not installed.
        OutputError: The port is not free.
    """
    from auricle.plotting.figures import check_matplotlib

    check_matplotlib()
    if port is not None:
        _check_free(port)
    with tempfile.TemporaryDirectory(prefix="auricle-explore-") as folder:
        gradio = _import_gradio(folder)
        blocks = build(gradio, Path(folder))
        try:
            _, address, _ = blocks.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                quiet=True,
                inbrowser=False,
                prevent_thread_lock=True,
                show_error=True,
                max_file_size=MAX_FILE,
                ssr_mode=False,
                footer_links=[],
                enable_monitoring=False,
                theme=_theme(gradio),
                app_kwargs={"middleware": _middleware()},
                **_without_history(blocks),
            )
        except OSError as error:
            raise _no_port(port or FIRST_PORT, error) from error
        # The first picture needs torch, which takes seconds to import: the page is up already.
        threading.Thread(target=import_module, args=("auricle.explore.drawing",)).start()
        try:
            yield str(address)
        finally:
            blocks.close(verbose=False)


def _check_free(port: int) -> None:
    """Refuse a port that is in use before Gradio is imported, which takes seconds."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise _no_port(port, error) from error


def _no_port(port: int, error: OSError) -> OutputError:
    return OutputError(f"cannot listen on {HOST}, port {port}: {error}; pass another --port")


def build(gradio: Any, folder: Path) -> Any:
    """Build the page as Gradio blocks; files for users are written to `folder`."""
    with gradio.Blocks(
        title="auricle explore",
        analytics_enabled=False,
        delete_cache=(FORGET_SECONDS, FORGET_SECONDS),
    ) as blocks:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column(scale=1, min_width=340):
                inputs = _inputs(gradio, blocks, folder)
            with gradio.Column(scale=3):
                viewer = _viewer(gradio)
                with gradio.Row():
                    picture = gradio.DownloadButton("Download picture", visible=False)
                    features = gradio.DownloadButton("Download features", visible=False)
        outputs = [viewer, picture, features]

        def draw(*values: Any, progress: Any = gradio.Progress()) -> list[Any]:  # noqa: B008 - Gradio's way
            progress(0.1, desc="encoding and drawing")
            try:
                view, files = _draw(values, folder)
            except AuricleError as error:
                raise _toast(gradio, error) from error
            return [
                json.dumps(view),
                *(gradio.DownloadButton(value=str(file), visible=True) for file in files),
            ]

        inputs["button"].click(
            draw,
            inputs=inputs["values"],
            outputs=outputs,
            concurrency_limit=1,
            api_visibility="private",
        )
    blocks.queue(max_size=MAX_WAITING)
    return blocks


def _inputs(gradio: Any, blocks: Any, folder: Path) -> dict[str, Any]:
    """Build the controls: the button, and the components whose values are passed to `_draw`."""
    audio = gradio.Audio(
        label="Speech: a file or a recording",
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=["download"],
        elem_id="speech",
    )
    sample = gradio.Button("Take the speech that ships with auricle", size="sm")
    too_long = gradio.Markdown(elem_id="too-long", visible=False)

    def lend_sample() -> str:
        """Copy it, for files are served from the page's own folder alone."""
        from auricle.audio.inputs import sample_paths

        return str(shutil.copy(sample_paths()[0], folder))

    sample.click(
        lend_sample,
        outputs=audio,
        api_visibility="private",
        queue=False,
    )
    choices = [_model_inputs(gradio, blocks, number) for number in range(NUM_MODELS)]
    models, layers = zip(*choices, strict=True)
    allowed = gradio.Checkbox(label="Download weights that are not on this machine", value=False)
    with gradio.Accordion("Section and labels", open=False) as part:
        with gradio.Row():
            start = gradio.Number(label="From, s", value=0, info="Only the section is encoded.")
            end = gradio.Number(label="To, s (0: the end)", value=0)
        labels = gradio.File(
            label="Labels such as phones (.tsv of start, end, label; .ctm; .TextGrid)",
            file_types=[".tsv", ".txt", ".ctm", ".TextGrid"],
            height=140,
        )
    button = gradio.Button("Draw", variant="primary", elem_id="draw")

    def look_at(recording: str | None) -> list[Any]:
        try:
            excess = "" if recording is None else examine(Path(recording))
        except AuricleError as error:
            raise _toast(gradio, _without_paths(error, recording)) from error
        unfolded = gradio.Accordion(open=True) if excess else gradio.skip()
        # Reset the section: it was chosen for another recording.
        return [gradio.Markdown(excess, visible=bool(excess)), unfolded, 0, 0]

    audio.change(
        look_at,
        audio,
        [too_long, part, start, end],
        api_visibility="private",
        show_progress="hidden",
    )

    def look_at_labels(file: str | None) -> None:
        from auricle.corpus.labels import check_labels

        try:
            if file is not None:
                check_labels(Path(file))
        except AuricleError as error:
            raise _toast(gradio, _without_paths(error, file)) from error

    labels.change(look_at_labels, labels, None, api_visibility="private", show_progress="hidden")
    return {"button": button, "values": [audio, labels, start, end, allowed, *models, *layers]}


def _model_inputs(gradio: Any, blocks: Any, number: int) -> tuple[Any, Any]:
    """Build the controls of one model and its layer, with a line about where its weights are."""
    name = DEFAULT_MODEL if number == 0 else NONE
    none = [] if number == 0 else [("none", NONE)]
    with gradio.Group():
        model = gradio.Dropdown(
            [*none, *list_choices()],
            value=name,
            label=f"Encoder {number + 1}",
            elem_id=f"model-{number + 1}",
        )
        layer = gradio.Dropdown(
            [("default", NONE)],
            value=NONE,
            label="Layer",
            visible=bool(name),
            elem_id=f"layer-{number + 1}",
        )
    about = gradio.Markdown(elem_id=f"about-{number + 1}", visible=bool(name))

    def choose(chosen: str) -> list[Any]:
        try:
            return [
                _layer_choices(gradio, chosen),
                gradio.Markdown(describe_choice(chosen) if chosen else "", visible=bool(chosen)),
            ]
        except AuricleError as error:
            raise _toast(gradio, error) from error

    gradio.on(
        [model.change, blocks.load],
        choose,
        model,
        [layer, about],
        api_visibility="private",
        show_progress="hidden",
    )
    return model, layer


def _layer_choices(gradio: Any, name: str) -> Any:
    layers = list_layers(name) if name else NO_LAYERS
    choices = [
        (f"{layer} (default)" if layer == layers.default else layer, layer)
        for layer in layers.names
    ]
    return gradio.Dropdown(
        choices=choices or [("default", NONE)], value=layers.default, visible=bool(name)
    )


def _toast(gradio: Any, error: AuricleError) -> Exception:
    """Convert an error to a message of the page that stays until it is closed."""
    toast: Exception = gradio.Error(str(error), duration=None, print_exception=False)
    return toast


def _without_paths(error: AuricleError, *paths: str | None) -> AuricleError:
    """Replace paths in the message of an error by file names.

    Users know their files by name, not by their path on this server.
    """
    message = str(error)
    for path in filter(None, paths):
        message = message.replace(path, Path(path).name)
    return AuricleError(message)


def _draw(values: tuple[Any, ...], folder: Path) -> tuple[dict[str, Any], tuple[Path, Path]]:
    """Draw the values of the controls: data for the viewer, and the files to download.

    Raises:
        AuricleError: A value is missing or wrong; the message is shown to the user.
    """
    from auricle.explore.drawing import DrawRequest, draw

    audio, labels, start, end, is_allowed = values[:5]
    models, layers = values[5 : 5 + NUM_MODELS], values[5 + NUM_MODELS :]
    if audio is None:
        raise AuricleError(
            "There is no speech yet: upload a file, record, or use the bundled speech. (Without a "
            "microphone, or without the permission to use it, the recording is empty.)"
        )
    wanted = [(model, layer or None) for model, layer in zip(models, layers, strict=True) if model]
    if len(set(wanted)) < len(wanted):
        raise AuricleError("The same encoder and layer are chosen twice: change one of them.")
    for model, _ in wanted:
        if must_be_downloaded(model) and not is_allowed:
            raise AuricleError(
                f"{describe_choice(model)} Tick the box that allows downloads, or choose a bundled "
                "encoder."
            )
    request = DrawRequest(
        audio=Path(audio),
        name=Path(audio).name,
        models=tuple(wanted),
        labels=None if labels is None else Path(labels),
        start=start or 0.0,
        end=end or None,
    )
    try:
        drawn = draw(request, Path(tempfile.mkdtemp(prefix="result-", dir=folder)))
    except AuricleError as error:
        raise _without_paths(error, audio, labels) from error
    return drawn.view, (drawn.picture, drawn.features)


def _viewer(gradio: Any) -> Any:
    assets = resources.files("auricle.explore")
    return gradio.HTML(
        value="",
        html_template=VIEWER,
        css_template=assets.joinpath("viewer.css").read_text(encoding="utf-8"),
        js_on_load=assets.joinpath("viewer.js").read_text(encoding="utf-8"),
        elem_id="viewer",
    )


def _theme(gradio: Any) -> Any:
    """Gradio's base theme with system fonts, so that none is downloaded."""
    return gradio.themes.Base(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def _without_history(blocks: Any) -> dict[str, bool]:
    """Option that hides the history of runs; releases before 6.24 lack it."""
    has_option = "run_history" in inspect.signature(blocks.launch).parameters
    return {"run_history": False} if has_option else {}


def _middleware() -> list[Any]:
    with optional("starlette", "the explore page"):  # Gradio brings it
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    return [
        # Rejects requests of other host names: DNS rebinding.
        Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
        Middleware(SecurityHeaders),
    ]


class SecurityHeaders:
    """ASGI middleware that adds `SECURITY_HEADERS` to every response."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Forward a request, and add the headers to its response."""

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _import_gradio(folder: str) -> Any:
    """Import gradio, set to store files in `folder` and to send no telemetry."""
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with optional("gradio", "the explore page"):
        return import_module("gradio")
