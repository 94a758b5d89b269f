"""`assistant` on the command line: catches the one user-facing error, once."""

from __future__ import annotations

import sys

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


def main() -> None:
    """Run the program and exit with its status."""
    from assistant.errors import UserError

    try:
        from assistant.cli import app

        app(standalone_mode=True)
    except UserError as error:
        print(f"assistant: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        print("assistant: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        from assistant.commands.output import write_to_nobody

        write_to_nobody()
        sys.exit(EXIT_ERROR)


if __name__ == "__main__":
    main()
