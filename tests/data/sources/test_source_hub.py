"""Reading from the Hub: end to end against a miniature Hub, and from local folders in the repositories' layout."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from fake_hub import COMMIT, fake_hub
from source_files import write_parquet

from tlm.data import sources
from tlm.data.sources import hub_access
from tlm.data.sources.wikipedia import drawn_shards
from tlm.errors import UserError
from tlm.study.sources import AgNewsSource, DbpediaSource, FewRelSource, HubSource, WikipediaSource

PROGRAM = """
import json, sys
from pydantic import TypeAdapter
from tlm.data import sources
from tlm.errors import UserError
from tlm.study.sources import Source
for line in json.loads(sys.argv[1]):
    try:
        source = TypeAdapter(Source).validate_python(line)
        sources.preflight(source, "")
        read = sources.read(source, "")
        print(json.dumps([read.table.to_pydict(), read.label_names, dict(read.facts)]))
    except UserError as error:
        print(json.dumps(str(error)))
"""


def classes(place: Path, text_column: str, names: list[str], texts: list[str], labels: list[int]) -> None:
    import datasets

    place.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({text_column: datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict({text_column: texts, "label": labels}, features=features).to_parquet(place)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Repositories in the exact layout of the Hub's."""
    root = tmp_path / "hub"
    for shard in drawn_shards(WikipediaSource()):
        write_parquet(
            root / f"wikimedia/wikipedia/20231101.en/train-{shard:05d}-of-00041.parquet",
            id=[f"{shard}1", f"{shard}2"],
            url=["u", "v"],
            title=["a", "b"],
            text=[f"Article of {shard}.", " "],
        )
    news = ["World", "Sports", "Business", "Sci/Tech"]
    classes(root / "fancyzhx/ag_news/data/train-00000-of-00001.parquet", "text", news, ["goal", "profit"], [1, 2])
    classes(root / "fancyzhx/ag_news/data/test-00000-of-00001.parquet", "text", news, ["chip"], [3])
    folder = root / "fancyzhx/dbpedia_14/dbpedia_14"
    for split in ("train", "test"):
        classes(folder / f"{split}-00000-of-00001.parquet", "content", ["Company", "School"], [f"A {split} firm"], [0])
    write_parquet(
        root / "thunlp/few_rel/default/train_wiki/0000.parquet",
        relation=["P9", "P10"],
        tokens=[["x", "borders"], ["a", "."]],
        names=[["border", "d"], ["", ""]],
    )
    classes(root / "me/mine/train.parquet", "body", ["no", "yes"], ["good", "bad"], [1, 0])
    classes(root / "me/mine/test.parquet", "body", ["no", "yes"], ["hidden"], [-1])
    return root


def run(place: Path, endpoint: str, queries: list[dict[str, object]], **more: str) -> list[object]:
    """In a process of its own: huggingface_hub and datasets read their environment once."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(place), **more}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(queries)],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in '["']


@pytest.mark.slow
def test_every_hub_source_loads_from_a_hub_and_then_offline(hub: Path, tmp_path: Path) -> None:
    queries: list[dict[str, object]] = [
        {"kind": "wikipedia", "revision": COMMIT},
        {"kind": "ag_news", "revision": COMMIT},
        {"kind": "dbpedia_14", "revision": COMMIT},
        {"kind": "few_rel"},
        {"kind": "hub", "repo": "me/mine", "revision": COMMIT, "text_column": "body", "label_column": "label"},
        {"kind": "hub", "repo": "me/mine", "revision": COMMIT, "text_column": "body", "test_split": "test"},
    ]
    refused: list[dict[str, object]] = [
        {"kind": "hub", "repo": "me/none", "revision": COMMIT},
        {"kind": "hub", "repo": "me/mine", "revision": "nowhere"},
        {"kind": "hub", "repo": "me/mine", "revision": COMMIT, "train_split": "validation"},
        {**queries[-1], "label_column": "label"},
        {"kind": "wikipedia", "revision": COMMIT, "shard_seed": 1},
    ]
    with fake_hub(hub) as endpoint:
        results = run(tmp_path / "home", endpoint, queries + refused)
    good, bad = results[: len(queries)], results[len(queries) :]
    wikipedia, news, dbpedia, few_rel, mine, both = good
    shards = drawn_shards(WikipediaSource())
    assert wikipedia[0]["item_id"] == [f"{shard}1" for shard in shards]  # type: ignore[index]
    assert wikipedia[2] == {"commit": COMMIT, "shards": ",".join(map(str, shards)), "empty_left_out": 2}  # type: ignore[index]
    assert news[0]["split"] == ["train", "train", "test"] and news[0]["label"] == [1, 2, 3]  # type: ignore[index]
    assert news[1] == ["World", "Sports", "Business", "Sci/Tech"]  # type: ignore[index]
    assert dbpedia[0]["text"] == ["A train firm", "A test firm"]  # type: ignore[index]
    assert few_rel[0]["text"] == ["a .", "x borders"] and few_rel[1] == ["P10", "border"]  # type: ignore[index]
    assert few_rel[2] == {"commit": COMMIT}  # type: ignore[index]
    assert mine[0]["label"] == [1, 0] and mine[0]["split"] == ["all", "all"]  # type: ignore[index]
    assert both[0]["split"] == ["train", "train", "test"] and both[1] is None  # type: ignore[index]
    for message, fragment in zip(
        bad,
        ["no dataset 'me/none'", "no revision 'nowhere'", "validation", "label is missing", "has no file"],
        strict=True,
    ):
        assert isinstance(message, str) and fragment in message, message

    offline = run(tmp_path / "home", "http://127.0.0.1:9", queries, HF_HUB_OFFLINE="1")
    assert offline == good
    others = [{**queries[1], "revision": "f" * 40}, {**queries[4], "revision": "f" * 40}]
    for message in run(tmp_path / "home", "http://127.0.0.1:9", others, HF_HUB_OFFLINE="1"):
        # Never the rows of another revision, which load_dataset would return here.
        assert isinstance(message, str) and "ffff" in message and "HF_HUB_OFFLINE" in message, message
    (message,) = run(tmp_path / "empty", "http://127.0.0.1:9", queries[:1], HF_HUB_OFFLINE="1")
    assert isinstance(message, str) and "HF_HUB_OFFLINE" in message


def test_sources_that_name_a_local_folder_are_not_hub_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "owner/name/train.parquet", text=["secret"])
    monkeypatch.chdir(tmp_path)
    for repo in ("owner/name", str(tmp_path), "../x", "a/../b", "hf://datasets/a/b"):
        with pytest.raises(UserError, match="not the id of a Hub repository"):
            sources.read(HubSource(repo=repo, revision=COMMIT), "").table


def served(monkeypatch: pytest.MonkeyPatch, table: pa.Table, names: dict[str, tuple[str, ...]] | None = None) -> None:
    monkeypatch.setattr(hub_access, "load", lambda *args, **kwargs: (table, names or {}, COMMIT))


def test_hub_rows_are_checked_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fragment: str, table: pa.Table, **fields: str) -> None:
        served(monkeypatch, table)
        with pytest.raises(UserError, match=fragment):
            sources.read(HubSource(repo="me/mine", revision=COMMIT, **fields), "").table

    refuse("no column 'text'; it has 'body'", pa.table({"body": ["a"]}))
    refuse("row 2: the text is empty", pa.table({"text": ["a", " "]}))
    refuse(
        "row 1: the label is missing", pa.table({"text": ["a"], "y": pa.array([None], pa.string())}), label_column="y"
    )
    refuse("not strings", pa.table({"text": [1]}))
    refuse("no item", pa.table({"text": pa.array([], pa.string())}))


def test_identity_of_hub_sources_is_their_pin_and_needs_no_network() -> None:
    assert sources.identity(WikipediaSource(shards=3), "")["shards"] == drawn_shards(WikipediaSource(shards=3))
    assert sources.identity(AgNewsSource(), "") != sources.identity(AgNewsSource(revision="main"), "")
    assert sources.identity(FewRelSource(), "") != sources.identity(FewRelSource(file="val_wiki.json"), "")
    assert sources.identity(DbpediaSource(), "nowhere") == sources.identity(DbpediaSource(), "")
    assert sources.count_hint(WikipediaSource(), "") is None


def test_drawn_shards_are_nested_distinct_and_follow_the_seed() -> None:
    drawn = [set(drawn_shards(WikipediaSource(shards=n))) for n in range(1, 42)]
    assert all(len(shards) == n for n, shards in enumerate(drawn, start=1))
    assert all(small < large for small, large in zip(drawn, drawn[1:], strict=False))
    assert drawn[-1] == set(range(41))
    assert drawn_shards(WikipediaSource(shards=5)) != drawn_shards(WikipediaSource(shards=5, shard_seed=1))


def test_a_refused_connection_is_a_user_error_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    start = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached.*TLM_DATA_ROOT"):
        sources.preflight(WikipediaSource(), "")
    assert time.monotonic() - start < 10


@pytest.mark.slow
def test_a_hub_that_never_answers_is_a_user_error_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UserError, match="cannot be reached"):
            hub_access.ensure_reachable("owner/name", "main")
        assert time.monotonic() - start < 10


def test_the_check_ends_even_if_the_request_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when name resolution hangs, which no socket timeout ends."""
    import huggingface_hub

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub_access, "TOTAL_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *args, **kwargs: time.sleep(5))
    start = time.monotonic()
    with pytest.raises(UserError, match="no answer in 0.2 s"):
        hub_access.ensure_reachable("owner/name", "main")
    assert time.monotonic() - start < 3


def test_offline_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub_access.ensure_reachable("owner/name", "main") is None
    sources.preflight(WikipediaSource(), "")
