"""``aiops questions``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched

app = group_of("Earlier questions: what was asked, whether it helped, and questions kept under a name.")
SAVED, ANSWERS = "/api/v1/saved-questions", "/api/v1/answers"
Name = Annotated[str, typer.Argument(help="Name of the saved question.")]
AnswerId = Annotated[str, typer.Argument(help="Id of the answer, such as ans_1a2b.")]


class Verdict(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"


@app.command()
def history(
    limit: Annotated[int, typer.Option(help="Most questions to show.", min=1, max=500)] = 20,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """What you asked, the newest first."""
    from aiops.cli.output import console, rows_of, table, when

    found = fetched(settings_of(config, data_dir, url, api_key), ANSWERS, json, limit=limit)
    if found is None:
        return
    rows = [
        (str(a["id"]), when(a["asked_ms"]), str(a["question"]), str(a["first_line"]), "yes" if a["sure"] else "no")
        for a in rows_of(found, "answers")
    ]
    if rows:
        console().print(table(("id", "asked", "question", "answer", "sure"), rows))
    else:
        print("Nothing was asked yet.")


@app.command()
def show(
    id: AnswerId,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """An earlier answer with its plan."""
    from aiops.cli.answers import print_answer, print_plan

    found = fetched(settings_of(config, data_dir, url, api_key), f"{ANSWERS}/{id}", json)
    if found is not None:
        print_answer(found)
        print_plan(found)


@app.command()
def mark(
    id: AnswerId,
    verdict: Annotated[Verdict, typer.Argument(help="right or wrong.")],
    because: Annotated[str, typer.Option(help="Why.")] = "",
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Say whether an answer was right."""
    body = {"helpful": verdict is Verdict.RIGHT, "note": because}
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, f"{ANSWERS}/{id}/feedback", body, False, lambda _: f"{id} is marked as {verdict.value}.")


@app.command("list")
def list_saved(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Questions kept under a name."""
    from aiops.cli.output import console, rows_of, table

    found = fetched(settings_of(config, data_dir, url, api_key), SAVED, json)
    if found is None:
        return
    rows = [(str(q["name"]), str(q["question"]), str(q["author"])) for q in rows_of(found, "questions")]
    if rows:
        console().print(table(("name", "question", "author"), rows))
    else:
        print("No question is saved. Keep one with `aiops questions save NAME QUESTION`.")


@app.command()
def save(
    name: Name,
    question: Annotated[list[str], typer.Argument(help="The question.")],
    zone: Annotated[str, typer.Option(help="IANA time zone of its answers.")] = "",
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Keep a question under a name."""
    from aiops.cli.client import connect

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        api.put(f"{SAVED}/{name}", {"question": " ".join(question), "zone": zone})
    print(f"Saved. Ask it with `aiops questions run {name}`.")


@app.command()
def run(
    name: Name,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Ask a saved question now."""
    from aiops.cli.answers import print_answer
    from aiops.cli.client import connect
    from aiops.cli.output import print_json

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        saved = api.get(f"{SAVED}/{name}")
        body = {"question": saved["question"], **({"zone": saved["zone"]} if saved["zone"] else {})}
        answer = api.post("/api/v1/ask", body)
    if json:
        print_json(answer)
    else:
        print_answer(answer)


@app.command()
def delete(
    name: Name,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Forget a saved question."""
    from aiops.cli.client import connect

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        api.delete(f"{SAVED}/{name}")
    print(f"Forgot {name}.")
