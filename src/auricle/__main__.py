"""The `auricle` command."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from auricle.cli.parser import build_parser
from auricle.errors import AuricleError

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_TERMINATED = 143  # 128 + SIGTERM
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    `argv` holds the arguments after the program's name; None takes those of the process.
    The status is 0, 1 for an error that the library raises on purpose, 130 when interrupted, 141
    when the reader of standard output went away. Usage errors leave through argparse with 2.
    """
    version: str = import_module("auricle").__version__
    arguments = build_parser(version).parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        # Flushed here, so that a reader that went away is noticed inside this function.
        sys.stdout.flush()
    except AuricleError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("auricle: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except ImportError as error:
        # A package that is required, not optional, is missing or does not fit the others.
        return _fail(
            f"a package that auricle requires cannot be imported ({error}); `pip check` shows what "
            "does not fit, and installing auricle again brings it"
        )
    except OSError as error:
        # What is left are the streams themselves: output sent to a full disk, for one.
        _silence_stdout()
        return _fail(str(error))
    return status


def _fail(message: str) -> int:
    sys.stderr.write(f"auricle: error: {' '.join(message.split())}\n")
    return EXIT_FAILURE


def _silence_stdout() -> None:
    """Send what is still buffered nowhere; the interpreter would complain about it at exit."""
    with suppress(io.UnsupportedOperation):  # not a stream of the system, so not buffered by it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def program() -> int:
    """Run as a program, whose standard error also shows what the library warns of.

    What a scheduler sends to end it ends it in order, with the status that shells count.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    logging.basicConfig(format="auricle: warning: %(message)s")
    return main()


if __name__ == "__main__":
    sys.exit(program())
