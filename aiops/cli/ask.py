"""``aiops ask``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of

app = group_of()


@app.command()
def ask(
    question: Annotated[list[str], typer.Argument(help="The question; quotes are not needed.")],
    conversation: Annotated[str, typer.Option(help="Id of a conversation to go on with.")] = "",
    zone: Annotated[str, typer.Option(help="IANA time zone of the answer; default is the service's.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Ask a question in words; the answer shows its queries, figures, window and a chart.

    Example: aiops ask which hosts are low on disk?
    """
    from aiops.cli.answers import print_answer
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    body = {"question": " ".join(question)}
    if conversation:
        body["conversation"] = conversation
    if zone:
        body["zone"] = zone
    with connect(settings_of(config, data_dir, url, api_key)) as api:
        answer = api.post("/api/v1/ask", body)
    if json:
        print_json(answer)
    else:
        print_answer(answer)
