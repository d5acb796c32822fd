"""The command line, called inside the test's own process."""

import json
from typing import Any

from click.testing import CliRunner, Result

from edge_embed.cli.main import main


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def added(*arguments: object, status: int = 0) -> Any:
    """What `add` to a.db says, as JSON."""
    result = run("add", "a.db", *arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)
