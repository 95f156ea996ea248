"""``aiops ask``."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.core.errors import AiopsError, TransientError

if TYPE_CHECKING:
    from aiops.cli.client import Api

app = group_of()
PATH = "/api/v1/ask"
PROMPT = "aiops> "


@app.command()
def ask(
    question: Annotated[list[str] | None, typer.Argument(help="The question; quotes are not needed.")] = None,
    conversation: Annotated[str, typer.Option(help="Id of a conversation to go on with.")] = "",
    zone: Annotated[str, typer.Option(help="IANA time zone of the answer; default is the service's.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show the plan as well: what was understood.")] = False,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Ask a question in words; the answer shows its queries, figures, window and a chart.

    Without a question it is a conversation, in which "and per host?" or "why?" go on from the answer before; an empty
    line ends it. A question may also come from standard input.

    Example: aiops ask which hosts are low on disk?
    """
    from aiops.cli.client import connect

    text = " ".join(question or ())
    if not text and not sys.stdin.isatty():
        text = sys.stdin.read(10_000).strip()
        if not text:
            raise typer.BadParameter("There is no question. Example: aiops ask which hosts are low on disk?")
    body = {"conversation": conversation, "zone": zone}
    with connect(settings_of(config, data_dir, url, api_key)) as api:
        if text:
            _show(_answered(api, body | {"question": text}, quiet=json), json=json, explain=explain)
        else:
            _converse(api, body | {"conversation": conversation or uuid.uuid4().hex[:12]}, json=json, explain=explain)


def _converse(api: Api, body: dict[str, str], *, json: bool, explain: bool) -> None:
    while True:
        try:
            text = input(PROMPT).strip()
        except EOFError:
            print()
            return
        if not text:
            return
        try:
            answer = _answered(api, body | {"question": text}, quiet=json)
        except TransientError:
            raise
        except AiopsError as error:  # a question that cannot be read does not end the conversation
            print(f"aiops: {error}", file=sys.stderr)
            continue
        _show(answer, json=json, explain=explain)


def _answered(api: Api, body: dict[str, str], *, quiet: bool) -> dict[str, Any]:
    """The answer; what is being done meanwhile is shown on a terminal."""
    from rich.console import Console

    sent = {name: value for name, value in body.items() if value}
    shown = Console(stderr=True)
    with shown.status("asking", spinner="dots") as status:
        for event, data in api.events(PATH, sent):
            if event == "answer":
                return dict(data)
            if event == "progress" and not quiet:
                status.update(str(data.get("text", ""))[: max(20, shown.width - 10)])
    raise TransientError("The service gave no answer.")


def _show(answer: dict[str, Any], *, json: bool, explain: bool) -> None:
    from aiops.cli.answers import print_answer, print_plan
    from aiops.cli.output import print_json

    if json:
        print_json(answer)
        return
    print_answer(answer)
    if explain:
        print_plan(answer)
